// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where our own zone stands, and what is near for a service.

use super::{OwnNode, State, own_node::known_own_node};
use crate::{
    model::{Node, NodeName, Service, Zone},
    store::{
        Kind, SourceId, ZoneStatus,
        near::{Near, Own},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl State {
    /// Where our own zone stands.
    pub fn zone(&self) -> ZoneStatus {
        if let Some(zone) = self.given_zone() {
            return ZoneStatus::Known(zone.clone());
        }
        if let Some(zone) = self.holds.node().and_then(|node| node.zone.clone()) {
            return ZoneStatus::Known(zone);
        }
        match &self.own_node {
            OwnNode::Unknown => ZoneStatus::Unknown,
            OwnNode::Absent => ZoneStatus::NoNode {
                node: self.config.node.clone(),
            },
            OwnNode::Known(
                _,
                Node {
                    zone: Some(zone), ..
                },
            ) => ZoneStatus::Known(zone.clone()),
            OwnNode::Known(_, node) => ZoneStatus::NoLabel {
                node: node.name.clone(),
                keys: self.config.zone_keys.clone(),
            },
        }
    }

    /// The zone that needs no node to tell it: by configuration, else by the label of our pod.
    pub(super) fn given_zone(&self) -> Option<&Zone> {
        let by_pod = || {
            let keys = &self.config.zone_keys;
            self.config.pod_zone.as_ref().filter(|_| keys.is_standard())
        };
        self.config.zone.as_ref().or_else(by_pod)
    }

    /// Whether zones as slices state them have to do, since nodes may not be read. They are values of the standard key.
    pub(super) fn is_degraded(&self) -> bool {
        !self.stated_by().is_empty()
    }

    /// The sources whose slices have to do for that.
    pub(super) fn stated_by(&self) -> &BTreeSet<SourceId> {
        let nodes = self.denied.get(&Kind::Nodes);
        let nodes = nodes.filter(|_| self.config.zone_keys.is_standard());
        nodes.unwrap_or(&NONE)
    }

    pub(super) fn near<'s>(&'s self, zone: &'s Zone, spec: Option<&'s Arc<Service>>) -> Near<'s> {
        let own = self.known_own_node();
        let own = Own {
            node: &self.config.node,
            zone,
            labels: own.map(|(_, own)| &own.labels),
            keys: &self.config.zone_keys,
            stated: self.stated_by(),
        };
        Near::new(own, spec.and_then(|spec| spec.scope.as_ref()))
    }

    /// The nodes of the zone; of several statements about one name that of the source that goes first.
    pub(super) fn zone_nodes(&self, zone: Option<&Zone>) -> Vec<Node> {
        let of_zone = |node: &&Node| zone.is_some() && node.zone.as_ref() == zone;
        let mut nodes: BTreeMap<&NodeName, (SourceId, &Node)> = BTreeMap::new();
        for ((name, source), node) in self.nodes.iter().filter(|(_, node)| of_zone(node)) {
            let known = nodes.get(name).map(|(by, _)| self.config.merge.rank(*by));
            if known.is_none_or(|rank| self.config.merge.rank(*source) < rank) {
                nodes.insert(name, (*source, node));
            }
        }
        let own = self.known_own_node();
        if let Some((source, node)) = own.filter(|(_, node)| of_zone(node)) {
            nodes.insert(&node.name, (source, node));
        }
        nodes.into_values().map(|(_, node)| node.clone()).collect()
    }

    pub(super) fn known_own_node(&self) -> Option<(SourceId, &Node)> {
        known_own_node(&self.holds, &self.own_node)
    }
}

static NONE: BTreeSet<SourceId> = BTreeSet::new();
