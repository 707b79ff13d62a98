// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes an index of each snapshot, from the one before: a change costs the services that it touched.
//!
//! In: snapshots, or one catalogue. Out: indexes. Pure; what could not be named is returned, for others to tell.

mod catalog;
mod changes;
mod nodes;
mod pointers;
mod services;
mod zone;

use super::{Index, Label, PreparedNode, Queries, Reverse, Services, Unnamed};
use crate::{
    Config, catalog::kube, freshness::Freshness, names::Naming, records::Addresses, words::WordHash,
};
use changes::Known;
use discovery_core::{
    model::{Node, ServiceName, Zone},
    store::{Generation, Mark, ServiceView, Snapshot},
};
use services::Prepared;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Makes an index of each snapshot, and keeps what the next one can take over.
#[derive(Debug)]
pub struct IndexBuilder {
    config: Arc<Config>,
    freshness: Arc<Freshness>,
    naming: Naming,
    zone: Option<Zone>,
    queries: Arc<Queries>,
    nodes: Vec<Node>,
    hosts: Arc<kube::Nodes>,
    prepared_nodes: Arc<HashMap<Box<[u8]>, PreparedNode>>,
    /// The last snapshot; none before the first.
    mark: Option<Mark>,
    /// The services of the last snapshot.
    known: HashMap<ServiceName, Known, WordHash>,
    /// Who wants which name.
    wanted: HashMap<Arc<str>, Vec<Arc<ServiceView>>, WordHash>,
    services: Services,
    ingress: Services,
    reverse: Reverse,
    /// By name, who does not have it.
    unnamed: BTreeMap<String, Vec<Unnamed>>,
}

impl IndexBuilder {
    /// A builder that has made nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            naming: zone::naming(config, None),
            queries: Arc::new(Queries::new(config)),
            config: Arc::new(config.clone()),
            freshness: Arc::default(),
            zone: None,
            nodes: Vec::new(),
            hosts: Arc::default(),
            prepared_nodes: Arc::default(),
            mark: None,
            known: HashMap::default(),
            wanted: HashMap::default(),
            services: Services::default(),
            ingress: Services::default(),
            reverse: Reverse::default(),
            unnamed: BTreeMap::new(),
        }
    }

    /// What its indexes say of their age.
    pub(crate) fn freshness(&self) -> &Arc<Freshness> {
        &self.freshness
    }

    /// The index of a snapshot.
    ///
    /// Costs the preparation of the services that changed, and 100 ns for each that did not where the snapshot cannot tell
    /// which those are ([`Snapshot::changed_since`]); the preparation of all when the zone or one of its nodes changed.
    pub fn build(&mut self, snapshot: &Snapshot) -> Index {
        self.follow_zone(snapshot);
        if !self.config.is_denied {
            let mut prepared = Prepared::default();
            for label in self.changed_labels(snapshot) {
                self.rename(&label, &mut prepared);
            }
        }
        Index {
            coverage: snapshot.is_authoritative().then(|| snapshot.coverage()),
            ..self.index(snapshot.generation())
        }
    }

    fn index(&self, generation: Generation) -> Index {
        let [_, _, _, _, serial @ ..] = generation.0.to_be_bytes();
        Index {
            config: self.config.clone(),
            freshness: self.freshness.clone(),
            generation,
            serial: u32::from_be_bytes(serial),
            coverage: None,
            naming: self.naming.clone(),
            name_server: Addresses::new(self.config.name_servers(), self.config.node_ttl_seconds),
            servers: Vec::new(),
            services: self.services.clone(),
            connect: Arc::default(),
            ingress: self.ingress.clone(),
            nodes: self.prepared_nodes.clone(),
            queries: self.queries.clone(),
            reverse: self.reverse.clone(),
            unnamed: self.unnamed.values().flatten().cloned().collect(),
            #[cfg(feature = "http")]
            origin: super::Origin::Views(self.hosts.clone()),
        }
    }

    /// Begins anew when our zone or one of its nodes is another.
    fn follow_zone(&mut self, snapshot: &Snapshot) {
        let zone = snapshot.zone().zone();
        if zone == self.zone.as_ref() && snapshot.nodes() == self.nodes {
            return;
        }
        *self = Self {
            naming: zone::naming(&self.config, zone),
            zone: zone.cloned(),
            nodes: snapshot.nodes().to_vec(),
            hosts: if self.config.is_denied {
                Arc::default()
            } else {
                Arc::new(kube::nodes(snapshot.nodes(), &self.config))
            },
            freshness: self.freshness.clone(),
            ..Self::new(&self.config)
        };
        if !self.config.is_denied {
            let hosts: Vec<_> = self
                .nodes
                .iter()
                .filter_map(|node| self.hosts.get(&node.name))
                .cloned()
                .collect();
            self.take_nodes(&hosts);
        }
    }
}

fn place(view: &Arc<ServiceView>) -> usize {
    Arc::as_ptr(view) as usize
}

fn lower(text: &str) -> Label {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return text.to_ascii_lowercase().as_bytes().into();
    }
    text.as_bytes().into()
}
