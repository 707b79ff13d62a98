// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may ask: source addresses by prefix. Pure.
//!
//! A responder that answers strangers lends its bandwidth to whoever forges a source address. On loopback addresses only this
//! host asks; on others only networks that no router of the internet leads to, unless the configuration names its own.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network by its prefix.
///
/// ```
/// use dns_sidecar::Network;
///
/// let shop: Network = "10.4.0.0/16".parse()?;
/// assert!(shop.contains("10.4.7.1".parse()?) && shop.contains("::ffff:10.4.7.1".parse()?));
/// assert!(!shop.contains("10.5.0.1".parse()?));
/// assert!("10.4.0.0/33".parse::<Network>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(Prefix);

/// The bits that all addresses of a network share, and the mask over them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Prefix {
    V4 { own: u32, mask: u32 },
    V6 { own: u128, mask: u128 },
}

impl Network {
    /// The network of the address; as many bits as its family has at most.
    const fn new(address: IpAddr, bits: u32) -> Self {
        Self(match address {
            IpAddr::V4(address) => {
                let mask = match u32::MAX.checked_shl(u32::BITS - bits) {
                    Some(mask) => mask,
                    None => 0,
                };
                let own = address.to_bits() & mask;
                Prefix::V4 { own, mask }
            }
            IpAddr::V6(address) => {
                let mask = match u128::MAX.checked_shl(u128::BITS - bits) {
                    Some(mask) => mask,
                    None => 0,
                };
                let own = address.to_bits() & mask;
                Prefix::V6 { own, mask }
            }
        })
    }

    const fn v4(address: [u8; 4], bits: u32) -> Self {
        let [a, b, c, d] = address;
        Self::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits)
    }

    const fn v6(first: u16, bits: u32) -> Self {
        let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0);
        Self::new(IpAddr::V6(address), bits)
    }

    /// Whether the address is in it. One of IPv4 that comes mapped into IPv6 is the IPv4 address that it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.has(address.to_canonical())
    }

    /// The same of an address that is not mapped.
    fn has(&self, canonical: IpAddr) -> bool {
        match (self.0, canonical) {
            (Prefix::V4 { own, mask }, IpAddr::V4(other)) => other.to_bits() & mask == own,
            (Prefix::V6 { own, mask }, IpAddr::V6(other)) => other.to_bits() & mask == own,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    /// Reads `address/bits`, or an address alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no network such as 10.4.0.0/16");
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| refuse())?;
        if bits > most {
            return Err(refuse());
        }
        // An address of IPv4 mapped into IPv6 is the one that it is, as in `contains`.
        Ok(match address {
            IpAddr::V6(v6) if bits >= MAPPED_BITS && v6.to_ipv4_mapped().is_some() => {
                Self::new(address.to_canonical(), bits - MAPPED_BITS)
            }
            _ => Self::new(address, bits),
        })
    }
}

/// `::ffff:0:0/96` (RFC 4291 2.5.5.2).
const MAPPED_BITS: u32 = 96;

/// The networks whose hosts are answered.
#[derive(Clone, Debug)]
pub(crate) struct Access(Vec<Network>);

impl Access {
    /// These and no others; none means this host and private networks.
    pub(crate) fn new(allowed: &[Network]) -> Self {
        Self(if allowed.is_empty() {
            PRIVATE.to_vec()
        } else {
            allowed.to_vec()
        })
    }

    /// Whether a host at this address is answered.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.has(address))
    }
}

/// This host, and what no router of the internet leads to (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291).
const PRIVATE: [Network; 9] = [
    Network::v4([127, 0, 0, 0], 8),
    Network::v4([10, 0, 0, 0], 8),
    Network::v4([172, 16, 0, 0], 12),
    Network::v4([192, 168, 0, 0], 16),
    Network::v4([100, 64, 0, 0], 10),
    Network::v4([169, 254, 0, 0], 16),
    Network::v6(0xfc00, 7),
    Network::v6(0xfe80, 10),
    Network::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_network_has_the_addresses_that_begin_with_its_bits(own in any::<IpAddr>(), bits in 0_u32..=128, other in any::<IpAddr>(), flipped in 0_u8..128) {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let own = own.to_canonical();
            let bits = bits.min(if own.is_ipv4() { 32 } else { 128 });
            let begins = |address: IpAddr| {
                let (own, other) = (octets(own), octets(address.to_canonical()));
                let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
                own.len() == other.len() && (0..bits as usize).all(|at| bit(&own, at) == bit(&other, at))
            };
            // Most addresses are far from each other: one that differs in a bit is near.
            let near: IpAddr = match own {
                IpAddr::V4(own) => Ipv4Addr::from_bits(own.to_bits() ^ (1 << (flipped % 32))).into(),
                IpAddr::V6(own) => Ipv6Addr::from_bits(own.to_bits() ^ (1 << flipped)).into(),
            };
            let network: Network = format!("{own}/{bits}").parse().unwrap();
            let access = Access::new(&[network]);
            for asked in [own, near, other] {
                prop_assert_eq!(network.contains(asked), begins(asked), "{} in {}/{}", asked, own, bits);
                prop_assert_eq!(access.allows(asked), begins(asked));
            }
        }
    }

    #[test]
    fn private_networks_are_answered_unless_others_are_named() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let access = Access::new(&[]);
        for good in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(access.allows(ip(good)), "{good}");
        }
        for bad in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!access.allows(ip(bad)), "{bad}");
        }
        let access = Access::new(&["10.4.0.0/16".parse().unwrap()]);
        assert!(access.allows(ip("10.4.9.9")) && !access.allows(ip("127.0.0.1")));
    }

    #[test]
    fn networks_of_every_length_are_read() {
        for (text, inside) in [
            ("0.0.0.0/0", "8.8.8.8"),
            ("::/0", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::/8", "fdff::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9"),
        ] {
            assert!(
                text.parse::<Network>()
                    .unwrap()
                    .contains(inside.parse().unwrap()),
                "{text}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
