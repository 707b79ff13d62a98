// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a decoded object says as statements of a source. Pure.

use super::{OwnNode, SOURCE};
use crate::{
    model::NodeName,
    source::{
        kube::{decode::Named, subsets::Subsets},
        object::{Names, Reading},
    },
    store::{Kind, Object, ObjectKey, Update},
};

/// Turns readings of one list into updates.
#[derive(Debug)]
pub(in crate::source::kube) struct Translator {
    kind: Kind,
    node: NodeName,
    /// The names that its readings share.
    pub(in crate::source::kube) names: Names,
    subsets: Subsets,
    /// Whether the list under way has named something.
    has_stated: bool,
}

impl Translator {
    pub(in crate::source::kube) fn new(kind: Kind, node: NodeName) -> Self {
        Self {
            kind,
            node,
            names: Names::default(),
            subsets: Subsets::default(),
            has_stated: false,
        }
    }

    /// A new list begins.
    pub(super) fn list_begins(&mut self) {
        self.has_stated = false;
        self.names.clear();
        self.subsets.list_begins();
    }

    /// The list is complete.
    pub(super) fn list_ends(&mut self) {
        self.subsets.list_ends();
    }

    /// The name of our own node.
    pub(super) fn node(&self) -> &NodeName {
        &self.node
    }

    pub(super) fn has_stated_nothing(&self) -> bool {
        !self.has_stated
    }

    /// What an item of our own node's list says of us.
    pub(super) fn own_node(&self, reading: &Reading) -> Option<OwnNode> {
        (self.kind == Kind::OwnNode && !reading.refused).then(|| own_node(reading))
    }

    /// What an item of a list states. One that was refused is still there: its last good version is kept.
    pub(in crate::source::kube) fn list_item(&mut self, reading: Reading) -> Vec<Update> {
        self.has_stated = true;
        let mut updates = Vec::with_capacity(reading.objects.len() + reading.flaws.len() + 1);
        if reading.refused {
            let keys = self.keys_of(&reading);
            updates.extend(keys.into_iter().map(|key| Update::Kept(SOURCE, key)));
        } else if let Some(service) = &reading.endpoints_of {
            // In a list what is no longer stated is gone with its end.
            self.subsets.stated(service, reading.objects.len());
        }
        self.state(reading, &mut updates);
        updates
    }

    /// What a change in a watch states: an object that is none of ours any more is gone.
    pub(in crate::source::kube) fn changed(&mut self, reading: Reading) -> Vec<Update> {
        let mut updates = Vec::new();
        if let Some(service) = &reading.endpoints_of
            && !reading.refused
        {
            let gone = self.subsets.stated(service, reading.objects.len());
            updates.extend(gone.into_iter().map(|key| Update::Remove(SOURCE, key)));
        } else if reading.objects.is_empty() && !reading.refused {
            let gone = reading.key.clone().map(|key| self.own(key));
            updates.extend(gone.map(|key| Update::Remove(SOURCE, key)));
        }
        self.state(reading, &mut updates);
        updates
    }

    /// The object is gone.
    pub(in crate::source::kube) fn gone(&mut self, named: Named) -> Vec<Update> {
        let keys = match named {
            Named::Object(key) => vec![self.own(key)],
            Named::Endpoints(service) => self.subsets.gone(&service),
        };
        let removals = keys.into_iter().map(|key| Update::Remove(SOURCE, key));
        removals.collect()
    }

    fn state(&mut self, reading: Reading, updates: &mut Vec<Update>) {
        let problems: Vec<_> = reading.problems(self.kind).collect();
        for mut object in reading.objects {
            if let Object::Node(node) = object {
                object = match self.kind {
                    Kind::OwnNode => Object::OwnNode(node),
                    _ => Object::Node(node),
                };
            }
            updates.push(Update::Upsert(SOURCE, object));
        }
        let rejects = problems.into_iter();
        updates.extend(rejects.map(|problem| Update::Reject(SOURCE, problem)));
    }

    fn keys_of(&mut self, reading: &Reading) -> Vec<ObjectKey> {
        match &reading.endpoints_of {
            Some(service) => self.subsets.kept(service),
            None => reading
                .key
                .clone()
                .map(|key| self.own(key))
                .into_iter()
                .collect(),
        }
    }

    /// Our own node has a key of its own.
    fn own(&self, key: ObjectKey) -> ObjectKey {
        match key {
            ObjectKey::Node(name) if self.kind == Kind::OwnNode => ObjectKey::OwnNode(name),
            key => key,
        }
    }
}

/// The zone that a node's label names, and all that could be one.
fn own_node(reading: &Reading) -> OwnNode {
    let node = reading.objects.iter().find_map(|object| match object {
        Object::Node(node) => Some(node),
        _ => None,
    });
    let zone = node.and_then(|node| node.zone.clone());
    OwnNode {
        zone: reading.zone_key.clone().zip(zone),
        labels: node.map(|node| node.labels.clone()).unwrap_or_default(),
    }
}
