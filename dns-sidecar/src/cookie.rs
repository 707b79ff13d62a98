// SPDX-License-Identifier: MIT OR Apache-2.0
//! DNS cookies (RFC 7873) in the form that servers share (RFC 9018): who shows ours was sent it at that address.
//!
//! In: a client's cookie, its address and the time. Out: the server's part, and whether one that comes back is ours. The
//! secret is made for each run; a client that shows a cookie of the last run is answered like one without, and given a new
//! one. Pure, and without allocation.

use std::{hash::Hasher, net::IpAddr};

/// What a client made up.
pub(crate) const CLIENT_BYTES: usize = 8;
/// What we make of it.
pub(crate) const SERVER_BYTES: usize = 16;

/// Both parts, as they go out.
pub(crate) type Cookie = [u8; CLIENT_BYTES + SERVER_BYTES];

/// What cookies are made with.
#[derive(Clone, Copy)]
pub(crate) struct Secret([u64; 2]);

impl Secret {
    /// One that nobody can know: cookies keep strangers from being believed.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        let flags = rustix::rand::GetRandomFlags::empty();
        (rustix::rand::getrandom(&mut bytes, flags) == Ok(bytes.len())).then(|| Self::of(bytes))
    }

    fn of(bytes: [u8; 16]) -> Self {
        Self(
            bytes
                .as_chunks::<8>()
                .0
                .try_into()
                .map_or([0; 2], |halves: [[u8; 8]; 2]| {
                    halves.map(u64::from_le_bytes)
                }),
        )
    }

    /// The cookie for a client, made now.
    pub(crate) fn cookie(self, client: [u8; CLIENT_BYTES], address: IpAddr, now: u32) -> Cookie {
        let mut cookie = [0; CLIENT_BYTES + SERVER_BYTES];
        cookie[..8].copy_from_slice(&client);
        cookie[8..12].copy_from_slice(&[VERSION, 0, 0, 0]);
        cookie[12..16].copy_from_slice(&now.to_be_bytes());
        let hash = self.hash(&cookie[..16], address);
        cookie[16..].copy_from_slice(&hash);
        cookie
    }

    /// Whether the cookie is one that we made for this address within the hour.
    pub(crate) fn knows(self, cookie: &[u8], address: IpAddr, now: u32) -> bool {
        let Some((head, hash)) = cookie
            .split_at_checked(16)
            .filter(|(_, hash)| hash.len() == 8)
        else {
            return false;
        };
        let [.., VERSION, 0, 0, 0, a, b, c, d] = *head else {
            return false;
        };
        let age = now.wrapping_sub(u32::from_be_bytes([a, b, c, d]));
        // RFC 9018 4.3: an hour back, and five minutes ahead for clocks that differ.
        let is_fresh = age <= AGE_SECONDS_MAX || age.wrapping_neg() <= AHEAD_SECONDS_MAX;
        is_fresh && is_equal(self.hash(head, address), hash)
    }

    #[expect(
        deprecated,
        reason = "the one SipHash-2-4 of the graph; its successor in std does not say which hash it is"
    )]
    fn hash(self, head: &[u8], address: IpAddr) -> [u8; 8] {
        let Self([first, second]) = self;
        let mut hasher = std::hash::SipHasher::new_with_keys(first, second);
        hasher.write(head);
        match address.to_canonical() {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// In the same time for all that differ.
fn is_equal(a: [u8; 8], b: &[u8]) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |differing, (a, b)| differing | (a ^ b))
        == 0
}

/// RFC 9018 4.1.
const VERSION: u8 = 1;
const AGE_SECONDS_MAX: u32 = 3_600;
const AHEAD_SECONDS_MAX: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// RFC 9018 appendix A.1 and A.4.
    #[test]
    fn the_examples_of_the_standard_come_out() {
        for (secret, address, client, time, server) in [
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "198.51.100.100",
                "2464c4abcf10c957",
                1_559_731_985,
                "010000005cf79f111f8130c3eee29480",
            ),
            (
                "445536bcd2513298075a5d379663c962",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                "22681ab97d52c298",
                1_559_741_961,
                "010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let secret = Secret::of(bytes(secret));
            let cookie = secret.cookie(bytes(client), address.parse().unwrap(), time);
            assert_eq!(cookie[8..], bytes::<16>(server), "{address}");
            assert!(secret.knows(&cookie, address.parse().unwrap(), time));
        }
    }

    #[test]
    fn a_cookie_is_known_at_its_address_for_an_hour_and_to_its_maker() {
        let (secret, at) = (Secret::of([7; 16]), "10.0.0.1".parse().unwrap());
        let cookie = secret.cookie([1; 8], at, 10_000);
        for (age, is_known) in [(0, true), (3_600, true), (3_601, false)] {
            assert_eq!(secret.knows(&cookie, at, 10_000 + age), is_known, "{age}");
        }
        assert!(secret.knows(&cookie, at, 9_700) && !secret.knows(&cookie, at, 9_699));
        assert!(secret.knows(&cookie, "::ffff:10.0.0.1".parse().unwrap(), 10_000));
        assert!(!secret.knows(&cookie, "10.0.0.2".parse().unwrap(), 10_000));
        assert!(!Secret::of([8; 16]).knows(&cookie, at, 10_000));
        for length in 0..cookie.len() {
            assert!(!secret.knows(&cookie[..length], at, 10_000), "{length}");
        }
        for at_byte in 0..cookie.len() {
            let mut other = cookie;
            other[at_byte] ^= 1;
            assert!(!secret.knows(&other, at, 10_000), "{at_byte}");
        }
    }
}
