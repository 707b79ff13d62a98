// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cluster in a few words, for tests of the store: nodes, pods in slices, and what readers see of them.

#![allow(dead_code, reason = "each test file uses its part")]

use discovery_core::{
    model::{
        Conditions, Hints, Node, NodeLabels, NodeName, Protocol, Reason, Service, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone, ZoneKey,
    },
    pick::Picker,
    store::{
        Change, Kind, Object, ObjectKey, Reader, ServiceView, SourceId, StateConfig, Tier, Update,
        Writer, channel,
    },
};
use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc};

pub(crate) const SOURCE: SourceId = SourceId::Kube;
/// The node that everything is seen from.
pub(crate) const OWN: &str = "edge-a";

/// A state with its reader.
pub(crate) struct Mall {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
}

impl Mall {
    pub(crate) fn new() -> Self {
        Self::with(|config| config)
    }

    pub(crate) fn with(change: impl FnOnce(StateConfig) -> StateConfig) -> Self {
        let (writer, reader) = channel(change(StateConfig::new(name(OWN))));
        // Somebody picks by key, so that the table of each view is built from the one before.
        Picker::new(reader.clone(), "web".parse().unwrap());
        Self { writer, reader }
    }

    /// The own node and others with their zones, all lists complete, nothing in them yet.
    pub(crate) fn of_nodes(nodes: &[(&str, &str)]) -> Self {
        let mut mall = Self::new();
        mall.nodes(nodes);
        mall.synced();
        mall
    }

    pub(crate) fn nodes(&mut self, nodes: &[(&str, &str)]) {
        for (name, zone) in nodes {
            self.node(node(name, zone));
        }
    }

    /// States the node, as our own one, too, when it is.
    pub(crate) fn node(&mut self, node: Node) -> Change {
        let own = (node.name == name(OWN)).then(|| self.apply(Object::OwnNode(node.clone())));
        self.apply(Object::Node(node))
            .max(own.unwrap_or(Change::Nothing))
    }

    pub(crate) fn apply(&mut self, object: Object) -> Change {
        self.writer.apply(Update::Upsert(SOURCE, object))
    }

    pub(crate) fn remove(&mut self, key: ObjectKey) -> Change {
        self.writer.apply(Update::Remove(SOURCE, key))
    }

    pub(crate) fn synced(&mut self) {
        for kind in Kind::ALL {
            self.writer.apply(Update::Synced(SOURCE, kind));
        }
        self.writer.publish();
    }

    pub(crate) fn slice(&mut self, slice: Slice) -> Change {
        let change = self.apply(Object::Slice(slice));
        self.writer.publish();
        change
    }

    pub(crate) fn service(&mut self, change: impl FnOnce(&mut Service)) {
        let mut service = Service::new("web".parse().unwrap());
        change(&mut service);
        self.apply(Object::Service(service));
        self.writer.publish();
    }

    pub(crate) fn web(&mut self) -> Arc<ServiceView> {
        self.writer.publish();
        let web = "web".parse().unwrap();
        self.reader
            .snapshot()
            .service(&web)
            .expect("it is served")
            .clone()
    }

    /// Every endpoint of `web` with its reason, in or out.
    pub(crate) fn reasons(&mut self) -> BTreeMap<String, String> {
        reasons(&self.web())
            .into_iter()
            .map(|(pod, reason)| (pod, reason.to_string()))
            .collect()
    }

    /// The endpoints of `web` that may be picked.
    pub(crate) fn usable(&mut self) -> Vec<String> {
        let view = self.web();
        view.usable().map(|e| e.identity().to_string()).collect()
    }
}

pub(crate) fn reasons(view: &ServiceView) -> BTreeMap<String, Reason> {
    let members = view.tiers().iter().flat_map(Tier::members);
    let members = members.map(|endpoint| (endpoint.identity().to_string(), endpoint.reason()));
    let refused = view.refused().iter();
    members
        .chain(refused.map(|refused| (refused.identity.to_string(), refused.reason)))
        .collect()
}

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

pub(crate) fn zone(text: &str) -> Option<Zone> {
    (!text.is_empty()).then(|| Zone::parse(text).unwrap())
}

pub(crate) fn key(text: &str) -> ZoneKey {
    ZoneKey::parse(text).unwrap()
}

/// A node in the zone; of none when the text is empty.
pub(crate) fn node(text: &str, of: &str) -> Node {
    let label = zone(of).map(|zone| (key(ZoneKey::STANDARD), zone));
    Node::new(name(text), zone(of)).with_labels(label.into_iter().collect())
}

/// The node with these labels beside that of its zone.
pub(crate) fn labelled(node: Node, labels: &[(&str, &str)]) -> Node {
    let more = labels
        .iter()
        .map(|(label, value)| (key(label), Zone::parse(value).unwrap()));
    let all: NodeLabels = node
        .labels
        .iter()
        .map(|(key, zone)| (key.clone(), zone.clone()))
        .chain(more)
        .collect();
    node.with_labels(all)
}

/// A ready pod on the node; on none when the text is empty.
pub(crate) fn pod(text: &str, address: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint {
        target: Some(TargetRef {
            name: text.into(),
            uid: format!("uid-{text}").into(),
        }),
        node: (!node.is_empty()).then(|| name(node)),
        ..SliceEndpoint::new(address.parse().unwrap())
    }
}

pub(crate) fn with_conditions(
    mut endpoint: SliceEndpoint,
    ready: bool,
    serving: bool,
    terminating: bool,
) -> SliceEndpoint {
    endpoint.conditions = Conditions::from_api(Some(ready), Some(serving), Some(terminating));
    endpoint
}

pub(crate) fn unready(endpoint: SliceEndpoint) -> SliceEndpoint {
    with_conditions(endpoint, false, false, false)
}

pub(crate) fn hinted(mut endpoint: SliceEndpoint, zones: &[&str], nodes: &[&str]) -> SliceEndpoint {
    endpoint.hints = Some(Arc::new(Hints {
        zones: zones
            .iter()
            .map(|text| Zone::parse(text).unwrap())
            .collect(),
        nodes: nodes.iter().map(|text| name(text)).collect(),
    }));
    endpoint
}

/// A slice of `web` with the port `http` 8080.
pub(crate) fn slice(text: &str, endpoints: Vec<SliceEndpoint>) -> Slice {
    Slice {
        ports: [port("http", 8080)].into(),
        endpoints,
        ..Slice::new(slice_key(text), "web".parse().unwrap())
    }
}

pub(crate) fn slice_key(text: &str) -> SliceKey {
    SliceKey::new("default", text).unwrap()
}

pub(crate) fn port(name: &str, number: u16) -> SlicePort {
    SlicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(number).unwrap(),
    }
}

/// Pairs as a map of texts, to compare with.
pub(crate) fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
}
