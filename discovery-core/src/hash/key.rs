// SPDX-License-Identifier: MIT OR Apache-2.0
//! The key of a request and the positions of virtual nodes: XXH3-64 and SplitMix64.

use std::net::{IpAddr, SocketAddr};
use xxhash_rust::{xxh3::xxh3_64, xxh64::xxh64};

/// A point of the 64-bit circle.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position(pub u64);

/// The 64-bit hash of what makes requests belong together: XXH3-64 with seed 0 of the key's bytes.
///
/// About 3 ns for 24 bytes; no allocation. Chosen keys can be crafted to meet at one endpoint: whoever lets strangers
/// choose keys should bound the load.
///
/// ```
/// use discovery_core::hash::HashKey;
///
/// assert_eq!(HashKey::of(b"foo").0, 0xab6e_5f64_077e_7d8a);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HashKey(pub u64);

impl HashKey {
    /// The key of the given bytes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_64(bytes))
    }

    /// The key of a source address without its port: 4 bytes for IPv4, also when it comes mapped into IPv6, else 16.
    pub fn of_source(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of(&v4.octets()),
            IpAddr::V6(v6) => Self::of(&v6.octets()),
        }
    }

    /// The key of a source address and port: the bytes of [`HashKey::of_source`], then the port, big end first.
    pub fn of_source_port(source: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        let length = match source.ip().to_canonical() {
            IpAddr::V4(v4) => {
                bytes[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                bytes[..16].copy_from_slice(&v6.octets());
                16
            }
        };
        bytes[length..length + 2].copy_from_slice(&source.port().to_be_bytes());
        Self::of(&bytes[..length + 2])
    }

    /// The key as Envoy, gRPC and Skipper hash it, for the placement `ring/envoy`: XXH64 with seed 0.
    ///
    /// ```
    /// use discovery_core::hash::HashKey;
    ///
    /// assert_eq!(HashKey::of_envoy(b"foo").0, 0x33bf_00a8_59c4_ba3f);
    /// ```
    pub fn of_envoy(bytes: &[u8]) -> Self {
        Self(xxh64(bytes, 0))
    }

    /// Whether the key belongs to the first `share`/2⁶⁴ of all keys under a salt and an identity's hash. Grows with the
    /// share: a key that belongs to a smaller one belongs to every larger one.
    #[inline]
    pub(crate) fn is_within(self, share: u64, salt: u64, identity: u64) -> bool {
        mix(self.0 ^ identity ^ salt) < share
    }

    /// Where the key lies on the circle.
    #[inline]
    pub fn position(self) -> Position {
        Position(self.0)
    }
}

/// The hash of an identity: XXH3-64 with seed 0 of its bytes.
#[inline]
pub(crate) fn identity_hash(identity: &str) -> u64 {
    xxh3_64(identity.as_bytes())
}

/// The positions of the virtual nodes of an identity: the outputs of a SplitMix64 generator seeded with its XXH3-64.
pub(super) fn vnode_positions(identity: &[u8]) -> impl Iterator<Item = Position> {
    let seed = xxh3_64(identity);
    (1_u64..).map(move |j| Position(mix(seed.wrapping_add(j.wrapping_mul(GOLDEN_RATIO)))))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[inline]
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Each use of `mix` over a key and an identity has a salt of its own, so that none decides for another: without it an
/// endpoint that ramps would refuse exactly the keys for which it has the highest score.
pub(super) const SCORE_SALT: u64 = u64::from_be_bytes(*b"zonal-h1");
/// Salt of the slow start.
pub(crate) const RAMP_SALT: u64 = u64::from_be_bytes(*b"zonal-r1");
/// Salt of the share of keys that spills into the next tier.
pub(crate) const TIER_SALT: u64 = u64::from_be_bytes(*b"zonal-t1");

const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh3_gives_the_golden_values() {
        assert_eq!(HashKey::of(b"").0, 0x2d06_8005_38d3_94c2);
        assert_eq!(HashKey::of(b"a").0, 0xe6c6_32b6_1e96_4e1f);
        assert_eq!(HashKey::of(b"foo").0, 0xab6e_5f64_077e_7d8a);
        assert_eq!(
            HashKey::of(b"user-id:0000000000000001").0,
            0x638f_436f_1326_c68f
        );
    }

    #[test]
    fn mix_gives_the_golden_values() {
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(mix(GOLDEN_RATIO), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn vnodes_have_the_golden_positions() {
        let position =
            |identity: &str, j: usize| vnode_positions(identity.as_bytes()).nth(j - 1).unwrap().0;
        assert_eq!(xxh3_64(b"10.0.0.1:8080"), 0xb655_a4a4_783c_5011);
        assert_eq!(position("10.0.0.1:8080", 1), 0xbf10_454d_827f_86a4);
        assert_eq!(position("10.0.0.1:8080", 2), 0x82e6_b072_8462_2908);
        assert_eq!(position("10.0.0.1:8080", 512), 0x4d04_178f_78e2_858d);
        assert_eq!(xxh3_64(b"10.0.0.2:8080"), 0x0809_65b0_5873_756a);
        assert_eq!(position("10.0.0.2:8080", 1), 0x43a8_2ae4_08bc_fe6e);
        assert_eq!(xxh3_64(b"10.0.0.3:8080"), 0xb147_54ea_ae2a_6aa4);
        assert_eq!(position("10.0.0.3:8080", 1), 0xcfe3_25ce_038b_ce5d);
    }

    #[test]
    fn a_source_with_its_port_is_a_key_of_its_own() {
        let key = |source: &str| HashKey::of_source_port(source.parse().unwrap());
        assert_eq!(key("10.1.2.3:258"), HashKey::of(&[10, 1, 2, 3, 1, 2]));
        assert_eq!(key("[::ffff:10.1.2.3]:258"), key("10.1.2.3:258"));
        assert_ne!(key("10.1.2.3:259"), key("10.1.2.3:258"));
    }

    #[test]
    fn a_mapped_source_is_the_ipv4_source() {
        let plain: IpAddr = "10.1.2.3".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(HashKey::of_source(plain), HashKey::of_source(mapped));
    }
}
