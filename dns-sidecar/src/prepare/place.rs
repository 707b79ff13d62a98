// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where an instance is reached: which of its addresses a question gets, or the host name that stands for them.

use crate::{
    catalog::{CatalogInstance, InstanceAddress},
    wire::WireName,
};
use std::net::IpAddr;

/// Where an instance is reached.
#[derive(Debug)]
pub(super) enum Place {
    /// At its node's address.
    Node {
        address: Option<IpAddr>,
        lan: [Option<IpAddr>; 2],
    },
    /// At an address of its own.
    Ip {
        address: IpAddr,
        lan: [Option<IpAddr>; 2],
    },
    /// At a host name.
    Host(WireName),
}

impl Place {
    pub(super) fn of(instance: &CatalogInstance, own_name: Option<&WireName>) -> Self {
        let node = &instance.node;
        let at_node = || match &node.host {
            Some(host) if node.addresses.is_empty() => WireName::spelled(host).map(Self::Host),
            _ => None,
        };
        let of_node = |address: Option<IpAddr>| Self::Node {
            address,
            lan: [node.lan.v4, node.lan.v6],
        };
        match &instance.address {
            None => at_node().unwrap_or_else(|| of_node(node.addresses.first().copied())),
            Some(InstanceAddress::OfNode(address)) => of_node(Some(*address)),
            Some(InstanceAddress::Ip(address)) => Self::Ip {
                address: *address,
                lan: [instance.lan.v4, instance.lan.v6],
            },
            Some(InstanceAddress::Name(host)) => match WireName::spelled(host) {
                Some(host) if Some(&host.to_lower()) != own_name => Self::Host(host),
                _ => of_node(node.addresses.first().copied()),
            },
        }
    }

    /// Whether an address of another network stands beside its own.
    pub(super) fn is_tagged(&self) -> bool {
        self.parts().1 != [None; 2]
    }

    /// The addresses that questions for one family get.
    pub(super) fn families(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (address, lan) = self.parts();
        let of = |is_v4: bool, tagged: Option<IpAddr>| {
            tagged.or(address.filter(|address| address.is_ipv4() == is_v4))
        };
        [of(true, lan[0]), of(false, lan[1])].into_iter().flatten()
    }

    /// The address that a question for any family gets: a tagged one wins, the IPv6 one first.
    pub(super) fn either(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (address, lan) = self.parts();
        lan[1].or(lan[0]).or(address).into_iter()
    }

    fn parts(&self) -> (Option<IpAddr>, [Option<IpAddr>; 2]) {
        match self {
            Self::Node { address, lan } => (*address, *lan),
            Self::Ip { address, lan } => (Some(*address), *lan),
            Self::Host(_) => (None, [None; 2]),
        }
    }

    pub(super) fn alias(&self) -> Option<&WireName> {
        match self {
            Self::Host(host) => Some(host),
            _ => None,
        }
    }
}
