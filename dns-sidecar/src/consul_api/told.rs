// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is to tell over HTTP, of the same index that DNS answers come from.
//!
//! In: an [`Index`]. Out: nodes, and the instances of a service with those that do not serve, ordered by their names: a
//! reader may lay two lists side by side. Costs the instances of what is asked for. Pure.

use crate::{
    Index,
    catalog::{CatalogInstance, CatalogNode, InstanceAddress, kube},
    index::{Origin, PreparedService},
};
use std::sync::Arc;

/// A service as it is told.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) instances: Vec<Instance>,
}

/// One instance with the words that stand for it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    /// Empty where it is reached at its node's address.
    pub(super) address: String,
    pub(super) of: CatalogInstance,
}

impl Instance {
    fn new(service: &str, of: CatalogInstance) -> Self {
        let address = match &of.address {
            None => String::new(),
            Some(InstanceAddress::Ip(ip) | InstanceAddress::OfNode(ip)) => ip.to_string(),
            Some(InstanceAddress::Name(name)) => name.clone(),
        };
        let id = of
            .id
            .clone()
            .unwrap_or_else(|| format!("{service}:{address}:{}", of.port));
        Self { id, address, of }
    }

    /// The address of its node; of one that is not known its own stands for it.
    pub(super) fn node_address(&self) -> String {
        let told = node_address(&self.of.node);
        if told.is_empty() {
            self.address.clone()
        } else {
            told
        }
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.of.tags.iter().map(|tag| &*tag.name)
    }
}

/// What a node is known by.
pub(super) fn node_address(node: &CatalogNode) -> String {
    let first = node.addresses.first().map(ToString::to_string);
    first.or_else(|| node.host.clone()).unwrap_or_default()
}

/// Every node, by name.
pub(super) fn nodes(index: &Index) -> Vec<Arc<CatalogNode>> {
    let mut nodes: Vec<_> = match &index.origin {
        Origin::Views(hosts) => hosts.values().cloned().collect(),
        Origin::Catalog(catalog) => catalog.nodes.clone(),
    };
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// The service of that name, in any case; none when there is none, or it has no instance.
pub(super) fn service(index: &Index, name: &str) -> Option<Service> {
    match &index.origin {
        Origin::Views(_) => {
            let label = name.to_ascii_lowercase();
            let prepared = index.services().get(label.as_bytes())?;
            of_prepared(index, label, prepared)
        }
        Origin::Catalog(catalog) => {
            let mut services = catalog.services.iter();
            let (name, service) = services.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            finished(name.clone(), service.instances.clone())
        }
    }
}

/// What was prepared under a label; none when it has no instance.
pub(super) fn of_prepared(
    index: &Index,
    label: String,
    prepared: &PreparedService,
) -> Option<Service> {
    let Origin::Views(hosts) = &index.origin else {
        return service(index, &label);
    };
    let instances = prepared.views.iter();
    let instances = instances.flat_map(|view| kube::told(view, hosts)).collect();
    finished(label, instances)
}

fn finished(name: String, instances: Vec<CatalogInstance>) -> Option<Service> {
    let mut instances: Vec<_> = instances
        .into_iter()
        .map(|instance| Instance::new(&name, instance))
        .collect();
    instances.sort_by(|a, b| (&a.of.node.name, &a.id).cmp(&(&b.of.node.name, &b.id)));
    (!instances.is_empty()).then_some(Service { name, instances })
}
