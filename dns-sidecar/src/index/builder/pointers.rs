// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services that an address is named after, where it is not a node's.

use super::{IndexBuilder, lower};
use crate::{
    catalog::kube,
    index::{Label, Labels, Sharded},
};
use discovery_core::{model::NodeName, store::ServiceView};
use std::net::IpAddr;

impl IndexBuilder {
    /// The addresses belong to the service with this label no more.
    pub(super) fn forget_pointers(&mut self, label: &str, addresses: &[IpAddr]) {
        let key = lower(label);
        for address in addresses {
            let table = &mut self.reverse.instances;
            let Some(labels) = table.get(address).filter(|labels| labels.contains(&key)) else {
                continue;
            };
            match labels.without(&key) {
                Some(others) => table.insert(*address, others),
                None => drop(table.remove(address)),
            }
        }
    }
}

/// The addresses of a view's endpoints that are not those of their nodes.
pub(super) fn own_addresses(view: &ServiceView, hosts: &kube::Nodes) -> Vec<IpAddr> {
    let of_node = |node: &NodeName, address: &IpAddr| {
        hosts
            .get(node)
            .is_some_and(|node| node.addresses.contains(address))
    };
    let pairs = view.usable().flat_map(|endpoint| {
        endpoint
            .addresses()
            .iter()
            .map(move |address| (endpoint.node(), *address))
    });
    pairs
        .filter(|(node, address)| !node.is_some_and(|node| of_node(node, address)))
        .map(|(_, address)| address)
        .collect()
}

/// Notes that the addresses belong to the service with this label.
pub(super) fn add(
    table: &mut Sharded<IpAddr, Labels>,
    label: &Label,
    addresses: impl Iterator<Item = IpAddr>,
) {
    // The addresses of a service mostly have the same names: they share them.
    let mut last: Option<(Labels, Labels)> = None;
    for address in addresses {
        let labels = match table.get(&address) {
            Some(known) if known.contains(label) || known.len() >= POINTERS_MAX => continue,
            Some(known) => match &last {
                Some((before, with)) if before == known => with.clone(),
                _ => {
                    let with = known.with(label);
                    last = Some((known.clone(), with.clone()));
                    with
                }
            },
            None => Labels::One(label.clone()),
        };
        table.insert(address, labels);
    }
}

/// Services that one address may be named after; the first in order is told.
const POINTERS_MAX: usize = 16;
