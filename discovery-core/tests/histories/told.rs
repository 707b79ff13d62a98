// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a state has been told so far, as plain maps, and which endpoints left a slice a moment ago: the rule for them once
//! more, without packing, tables or order.

use super::{World, is_near, name, number};
use crate::mall::OWN;
use discovery_core::{
    model::{Node, Scope, Slice, SliceEndpoint, Standing, ZonePolicy},
    store::{Kind, Object, ObjectKey, Update, Writer},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

pub(crate) struct Told {
    pub(crate) world: World,
    /// What the list under way has named, by kind.
    listed: [Option<BTreeSet<ObjectKey>>; 4],
    grace: Duration,
    left: Vec<(Instant, Slice)>,
}

impl Told {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            world: World::default(),
            listed: Default::default(),
            grace,
            left: Vec::new(),
        }
    }

    /// Each endpoint that left, as a slice of it alone.
    pub(crate) fn left(&self) -> Vec<Slice> {
        self.left.iter().map(|(_, slice)| slice.clone()).collect()
    }

    pub(crate) fn pass(&mut self, now: Instant) {
        let grace = self.grace;
        self.left.retain(|(since, _)| *since + grace > now);
    }

    /// Hears what the state is told next; `writer` tells which node it takes for its own.
    pub(crate) fn hear(&mut self, update: &Update, writer: &Writer, now: Instant) {
        match update {
            Update::Reset(_, kind) => self.listed[number(*kind)] = Some(BTreeSet::new()),
            Update::Synced(_, kind) => {
                let listed = self.listed[number(*kind)].take().unwrap_or_default();
                for key in self
                    .keys(*kind)
                    .into_iter()
                    .filter(|key| !listed.contains(key))
                {
                    self.forget(&key);
                }
            }
            Update::Upsert(_, object) => self.upsert(object, writer, now),
            Update::Remove(_, key) => {
                let before = match key {
                    ObjectKey::Slice(key) => self.world.slices.get(key).cloned(),
                    _ => None,
                };
                self.forget(key);
                self.leave(before, writer, now);
            }
            other => panic!("no history says {other:?}"),
        }
    }

    fn upsert(&mut self, object: &Object, writer: &Writer, now: Instant) {
        let (key, version) = (object.key(), version(object));
        let kind = number(key.kind());
        if self.listed[kind].is_none() && self.version(&key) > version {
            return;
        }
        if let Some(listed) = &mut self.listed[kind] {
            listed.insert(key);
        }
        match object {
            // Of our own node the other list says the same.
            Object::OwnNode(_) => {}
            Object::Node(node) => drop(self.world.nodes.insert(node.name.clone(), node.clone())),
            Object::Service(service) => {
                let name = service.name.clone();
                self.world.services.insert(name, service.clone());
            }
            Object::Slice(slice) => {
                let before = self.world.slices.insert(slice.key.clone(), slice.clone());
                self.left.retain(|(_, left)| {
                    left.service != slice.service || !speaks(slice, &left.endpoints[0])
                });
                self.leave(before, writer, now);
            }
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        match key {
            ObjectKey::OwnNode(_) => {}
            ObjectKey::Node(name) => {
                self.world.nodes.remove(name);
                self.left
                    .retain(|(_, left)| left.endpoints[0].node.as_ref() != Some(name));
            }
            ObjectKey::Service(name) => {
                self.world.services.remove(name);
                self.left.retain(|(_, left)| left.service != *name);
            }
            ObjectKey::Slice(key) => drop(self.world.slices.remove(key)),
        }
    }

    /// Those of the slice that are in none any more and stay for a moment.
    fn leave(&mut self, before: Option<Slice>, writer: &Writer, now: Instant) {
        let Some(slice) = before.filter(|slice| slice.announces_end && !self.grace.is_zero())
        else {
            return;
        };
        let of_service = |other: &&Slice| other.service == slice.service;
        let slices: Vec<_> = self.world.slices.values().filter(of_service).collect();
        let is_left = |endpoint: &&SliceEndpoint| {
            endpoint.conditions.standing() == Standing::Ready
                && !slices.iter().any(|slice| speaks(slice, endpoint))
        };
        let left: Vec<_> = slice.endpoints.iter().filter(is_left).collect();
        if left.is_empty() {
            return;
        }
        let own = own(writer);
        let matters = |endpoint: &&&SliceEndpoint| self.matters(&slice, endpoint, own.as_ref());
        let left = left.iter().filter(matters).map(|endpoint| {
            let alone = Slice {
                endpoints: vec![(*endpoint).clone()],
                ..slice.clone()
            };
            (now, alone)
        });
        let left: Vec<_> = left.collect();
        self.left.extend(left);
    }

    /// Whether a caller could have been given the endpoint.
    fn matters(&self, slice: &Slice, endpoint: &SliceEndpoint, own: Option<&Node>) -> bool {
        let Some(service) = self.world.services.get(&slice.service) else {
            return false;
        };
        let Some((own, zone)) = own.and_then(|own| Some((own, own.zone.as_ref()?))) else {
            return false;
        };
        let scope: Option<&Scope> = service.scope.as_ref();
        let is_strict = service.zone_policy.unwrap_or_default() == ZonePolicy::Strict;
        let mut world = World {
            nodes: self.world.nodes.clone(),
            ..World::default()
        };
        world.nodes.insert(name(OWN), own.clone());
        let is_near = |node| is_near(&world, own, zone, scope, node);
        !is_strict || endpoint.node.as_ref().is_none_or(is_near)
    }

    fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let World {
            nodes,
            services,
            slices,
            ..
        } = &self.world;
        match kind {
            Kind::OwnNode => Vec::new(),
            Kind::Nodes => nodes.keys().cloned().map(ObjectKey::Node).collect(),
            Kind::Services => services.keys().cloned().map(ObjectKey::Service).collect(),
            Kind::Slices => slices.keys().cloned().map(ObjectKey::Slice).collect(),
        }
    }

    fn version(&self, key: &ObjectKey) -> u64 {
        let known = match key {
            ObjectKey::OwnNode(_) => None,
            ObjectKey::Node(name) => self.world.nodes.get(name).map(|node| node.version),
            ObjectKey::Service(name) => self.world.services.get(name).map(|known| known.version),
            ObjectKey::Slice(key) => self.world.slices.get(key).map(|slice| slice.version),
        };
        known.unwrap_or_default()
    }
}

/// Whether the slice says what has become of an endpoint that left another one.
fn speaks(slice: &Slice, left: &SliceEndpoint) -> bool {
    let pod = |endpoint: &SliceEndpoint| endpoint.target.as_ref().map(|pod| pod.name.clone());
    slice.endpoints.iter().any(|word| {
        let is_same_family = word.address.is_ipv4() == left.address.is_ipv4();
        let is_unready = word.conditions.standing() != Standing::Ready;
        word.address == left.address || pod(word) == pod(left) && (is_same_family || is_unready)
    })
}

/// Our own node as the state has it: one that moves is where it was until the nodes of its new zone are known.
fn own(writer: &Writer) -> Option<Node> {
    let objects = writer.stated().objects.into_iter();
    let mut own = objects.filter_map(|(_, object)| match object {
        Object::OwnNode(node) => Some(node),
        _ => None,
    });
    own.next()
}

fn version(object: &Object) -> u64 {
    match object {
        Object::OwnNode(node) | Object::Node(node) => node.version,
        Object::Service(service) => service.version,
        Object::Slice(slice) => slice.version,
    }
}
