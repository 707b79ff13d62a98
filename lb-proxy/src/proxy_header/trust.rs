// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks whose PROXY headers are believed.

use std::{net::IpAddr, str::FromStr};

/// A network of addresses, written `10.1.0.0/16`; an address alone is a network of one.
///
/// ```
/// use lb_proxy::Network;
///
/// let network: Network = "10.1.0.0/16".parse().unwrap();
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("10.2.0.0".parse().unwrap()));
/// assert!("10.1.2.3/16".parse::<Network>().is_err(), "bits beyond the prefix");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no network: {why}")]
pub struct NetworkError {
    text: String,
    why: &'static str,
}

impl Network {
    /// Whether the address lies in it; an IPv4 address also when it comes mapped into IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = u128::from(ours.to_bits() ^ theirs.to_bits());
                is_within(differing, 32, self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                is_within(ours.to_bits() ^ theirs.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let refuse = |why| NetworkError {
            text: text.chars().take(80).collect(),
            why,
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse("it has no address"))?;
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .map_err(|_| refuse("its prefix is no number"))?,
            None => width,
        };
        if prefix > width {
            return Err(refuse("its prefix is longer than its address"));
        }
        let host = u32::from(width - prefix);
        if host < 128 && bits & ((1 << host) - 1) != 0 || host == 128 && bits != 0 {
            return Err(refuse("it has bits beyond its prefix"));
        }
        // An address of IPv4 mapped into IPv6 is the one that it is, as in `contains`.
        match address {
            IpAddr::V6(v6) if prefix >= MAPPED_BITS && v6.to_ipv4_mapped().is_some() => Ok(Self {
                address: address.to_canonical(),
                prefix: prefix - MAPPED_BITS,
            }),
            _ => Ok(Self { address, prefix }),
        }
    }
}

/// Whether two addresses of that width, which differ in these bits, share the prefix.
fn is_within(differing: u128, width: u8, prefix: u8) -> bool {
    differing
        .checked_shr(u32::from(width - prefix))
        .unwrap_or(0)
        == 0
}

/// `::ffff:0:0/96` (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_share_its_prefix() {
        let has = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap();
            network.contains(address.parse().unwrap())
        };
        assert!(has("0.0.0.0/0", "255.1.2.3") && !has("0.0.0.0/0", "fd00::1"));
        assert!(has("10.0.0.7", "10.0.0.7") && !has("10.0.0.7", "10.0.0.6"));
        assert!(has("10.0.0.0/8", "::ffff:10.9.9.9"));
        assert!(
            has("::ffff:10.0.0.0/104", "10.9.9.9") && has("::ffff:10.0.0.7", "::ffff:10.0.0.7")
        );
        assert!(!has("::ffff:10.0.0.0/104", "11.9.9.9"));
        assert!(
            has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::1") && has("::/0", "fe80::1")
        );
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.1/8",
            "fd00::/129",
            "::1/0",
            "10.0.0.0/x",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
