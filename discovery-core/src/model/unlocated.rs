// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of endpoints that name no node: hand-made slices, mirrored Endpoints, addresses outside the cluster.

use super::{ModelError, Zone};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};

/// What becomes of an endpoint without a node whose slice names no zone either.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlocated {
    /// It is out. The default: what is nowhere is in no zone.
    #[default]
    Drop,
    /// It is in, in every zone.
    Include,
    /// The network that its address is in tells the zone; outside of all of them it is out.
    CidrMap(CidrMap),
}

/// Networks and their zones; the longest prefix decides. A look-up is linear in their number, at most
/// [`CidrMap::MAX`].
///
/// ```
/// use discovery_core::model::CidrMap;
///
/// let map = CidrMap::parse([("10.0.0.0/8", "mall-1"), ("10.7.0.0/16", "mall-7")]).unwrap();
/// assert_eq!(map.zone("10.7.0.1".parse().unwrap()).unwrap().as_str(), "mall-7");
/// assert!(map.zone("192.0.2.1".parse().unwrap()).is_none());
/// assert!(CidrMap::parse([("10.0.0.1/8", "mall-1")]).is_err(), "a network, not an address in it");
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, Zone)>", into = "Vec<(String, Zone)>")]
pub struct CidrMap(Arc<[(Network, Zone)]>);

impl TryFrom<Vec<(String, Zone)>> for CidrMap {
    type Error = ModelError;

    fn try_from(pairs: Vec<(String, Zone)>) -> Result<Self, ModelError> {
        let pairs = pairs
            .iter()
            .map(|(net, zone)| (net.as_str(), zone.as_str()));
        Self::parse(pairs)
    }
}

impl From<CidrMap> for Vec<(String, Zone)> {
    fn from(map: CidrMap) -> Self {
        let text =
            |(net, zone): &(Network, Zone)| (format!("{}/{}", net.first, net.prefix), zone.clone());
        map.0.iter().map(text).collect()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Network {
    first: IpAddr,
    prefix: u32,
}

impl CidrMap {
    /// How many networks a map may have.
    pub const MAX: usize = 1_024;

    /// Reads pairs of network and zone; refused when one of them is none, or a network stands twice.
    pub fn parse<'t>(
        pairs: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, ModelError> {
        let mut networks: Vec<(Network, Zone)> = Vec::new();
        for (network, zone) in pairs {
            let known = Network::parse(network)?;
            let refuse = |why| Err(ModelError::new("network", network, why));
            if networks.iter().any(|(other, _)| *other == known) {
                return refuse("it stands in the map twice");
            }
            if networks.len() == Self::MAX {
                return refuse("the map is full: it holds 1024 networks");
            }
            networks.push((known, Zone::parse(zone)?));
        }
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix));
        Ok(Self(networks.into()))
    }

    /// The zone of the address.
    pub fn zone(&self, address: IpAddr) -> Option<&Zone> {
        let (_, zone) = self.0.iter().find(|(network, _)| network.holds(address))?;
        Some(zone)
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, ModelError> {
        let refuse = |why| ModelError::new("network", text, why);
        let (first, prefix) = text
            .split_once('/')
            .ok_or_else(|| refuse("it has no prefix length, such as 10.0.0.0/8"))?;
        let first: IpAddr = first.parse().map_err(|_| refuse("its address is none"))?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(|| refuse("its prefix length is none"))?;
        let network = Self { first, prefix };
        if network.start(first) == first {
            Ok(network)
        } else {
            Err(refuse("its address is not the first of the network"))
        }
    }

    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.start(address) == self.first
    }

    /// The first address of the network of this size that the address is in.
    fn start(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone_of<'m>(map: &'m CidrMap, address: &str) -> Option<&'m str> {
        map.zone(address.parse().unwrap()).map(Zone::as_str)
    }

    #[test]
    fn the_longest_prefix_decides_in_both_families() {
        let map = CidrMap::parse([
            ("0.0.0.0/0", "all"),
            ("10.1.2.3/32", "one"),
            ("10.1.0.0/16", "some"),
            ("fd00::/8", "six"),
        ])
        .unwrap();
        assert_eq!(zone_of(&map, "10.1.2.3"), Some("one"));
        assert_eq!(zone_of(&map, "10.1.2.4"), Some("some"));
        assert_eq!(zone_of(&map, "10.2.0.0"), Some("all"));
        assert_eq!(zone_of(&map, "fd12::1"), Some("six"));
        assert_eq!(zone_of(&map, "2001:db8::1"), None);
    }

    #[test]
    fn what_is_no_network_or_no_zone_is_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "fd00::/129",
            "x/8",
            "10.0.0.1/31",
        ] {
            assert!(CidrMap::parse([(bad, "z")]).is_err(), "{bad:?}");
        }
        assert!(CidrMap::parse([("10.0.0.0/8", "")]).is_err());
        assert!(CidrMap::parse([("10.0.0.0/8", "a"), ("10.0.0.0/8", "b")]).is_err());
    }
}
