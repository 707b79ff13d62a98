// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of nodes, and the nodes that addresses are named after.

use super::IndexBuilder;
use crate::{
    catalog::{CatalogInstance, CatalogNode, InstanceAddress},
    index::PreparedNode,
    prepare::{Preparer, texts},
    wire::WireName,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

impl IndexBuilder {
    /// Prepares the nodes, in place of those before.
    pub(super) fn take_nodes(&mut self, nodes: &[Arc<CatalogNode>]) {
        let preparer = Preparer::new(&self.naming, &self.config);
        let mut prepared = HashMap::new();
        let mut pointers = BTreeMap::new();
        for node in nodes {
            let Some(name) = WireName::parse(&node.name) else {
                continue;
            };
            if !self.config.profile.is_compat() {
                // A node called `a.b` makes the name `b` exist, without records.
                for stem in name.suffixes().skip(1) {
                    let stem_of = prepared.entry(Box::from(stem));
                    stem_of.or_insert_with(|| PreparedNode {
                        is_stem: true,
                        ..PreparedNode::default()
                    });
                }
            }
            let instance = CatalogInstance::new(node.clone(), 0);
            let chosen: Vec<_> = match node.addresses.get(1..) {
                Some([_, ..]) => node
                    .addresses
                    .iter()
                    .map(|address| CatalogInstance {
                        address: Some(InstanceAddress::OfNode(*address)),
                        ..instance.clone()
                    })
                    .collect(),
                _ => vec![instance],
            };
            let chosen: Vec<_> = chosen.iter().map(|instance| (instance, 0)).collect();
            let made = PreparedNode {
                set: preparer.set("", &chosen, self.config.node_ttl_seconds).0,
                texts: texts(node),
                is_stem: false,
            };
            prepared.insert(Box::from(name.as_bytes()), made);
            if let Some(name) = preparer.node_name(node) {
                let lan = [node.lan.v4, node.lan.v6].into_iter().flatten();
                for address in node.addresses.iter().copied().chain(lan) {
                    pointers.entry(address).or_insert_with(|| name.clone());
                }
            }
        }
        self.prepared_nodes = Arc::new(prepared);
        self.reverse.nodes = Arc::new(pointers);
    }
}
