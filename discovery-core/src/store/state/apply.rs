// SPDX-License-Identifier: MIT OR Apache-2.0
//! One statement of a source about one object: taken in, or taken back.
//!
//! In: the statement. Out: the [`Change`] that it made. A statement within a list under way is told with the list's end.

use super::{Change, OwnNode, State, Touch};
use crate::{
    model::{Node, Service},
    store::{Object, ObjectKey, Problem, SourceId, grace::Leavers},
};
use std::sync::Arc;

impl State {
    pub(super) fn upsert(&mut self, source: SourceId, mut object: Object) -> Change {
        let key = object.key();
        if self.is_late(source, &key, &mut object) {
            return Change::Nothing;
        }
        self.holds.forget(source, &key);
        self.note_origin(source, &key);
        let change = self.take_in(source, object, &key);
        match self.open_list(source, key.kind()) {
            Some(open) => {
                open.seen.insert(key);
                open.change = open.change.max(change);
                Change::Nothing
            }
            None => change,
        }
    }

    /// The list under way, if there is one, has named the key.
    pub(super) fn kept(&mut self, source: SourceId, key: ObjectKey) -> Change {
        if let Some(open) = self.open_list(source, key.kind()) {
            open.seen.insert(key);
        }
        Change::Nothing
    }

    pub(super) fn remove(&mut self, source: SourceId, key: &ObjectKey) -> Change {
        self.holds.forget(source, key);
        if matches!(key, ObjectKey::OwnNode(_)) {
            self.hold_zone(source);
        }
        let ObjectKey::Slice(slice) = key else {
            return self.drop_object(source, key);
        };
        let slice = (slice.clone(), source);
        let before = self.slices.get(&slice).cloned();
        let change = self.drop_object(source, key);
        before.map_or(change, |before| self.leave(&slice, &before))
    }

    pub(super) fn reject(&mut self, source: SourceId, problem: Problem) -> Change {
        if self.problems.len() >= PROBLEMS_MAX || !self.problems.insert((source, problem)) {
            return Change::Nothing;
        }
        Change::Gained
    }

    fn take_in(&mut self, source: SourceId, object: Object, key: &ObjectKey) -> Change {
        let mended = self.forget_problems_of(source, key);
        let change = match object {
            Object::OwnNode(node) => self.upsert_own_node(source, node),
            Object::Node(node) => self.upsert_node(source, node),
            Object::Service(service) => self.upsert_service(source, service),
            Object::Slice(slice) => self.upsert_slice(source, slice),
        };
        change.max(if mended {
            Change::Gained
        } else {
            Change::Nothing
        })
    }

    fn upsert_node(&mut self, source: SourceId, node: Node) -> Change {
        let key = (node.name.clone(), source);
        if self.nodes.get(&key) == Some(&node) {
            return Change::Nothing;
        }
        let is_new = self.nodes.insert(key.clone(), node).is_none();
        let has_moved = self.place_again(&key.0, source);
        let arrived = self.arrive();
        let change = match (has_moved, is_new) {
            (false, _) => Change::Gained,
            (true, true) => self.touch_everything().min(Change::Gained),
            (true, false) => self.touch_everything(),
        };
        change.max(arrived)
    }

    fn upsert_service(&mut self, source: SourceId, service: Service) -> Change {
        let (name, key) = (service.name.clone(), (service.name.clone(), source));
        if self
            .services
            .get(&key)
            .is_some_and(|before| **before == service)
        {
            return Change::Nothing;
        }
        self.speakers.insert(source);
        self.services.insert(key, Arc::new(service));
        self.touched.add(name, Touch::All);
        Change::Gained
    }

    pub(super) fn drop_object(&mut self, source: SourceId, key: &ObjectKey) -> Change {
        let mended = self.forget_problems_of(source, key);
        self.from_disk.forget(source, key);
        self.versions.forget(source, key);
        let removed = match key {
            ObjectKey::OwnNode(_) => self.remove_own_node(source),
            ObjectKey::Node(name) => {
                let place = self.names.place_of(name, source);
                self.end_grace(|_, leaver| leaver.place.is_some() && leaver.place == place);
                let is_known = self.nodes.remove(&(name.clone(), source)).is_some();
                is_known && {
                    self.place_again(name, source);
                    self.touch_everything() == Change::Lost
                }
            }
            ObjectKey::Service(name) => {
                let is_of =
                    |leavers: &Leavers| leavers.source == source && leavers.part.service == *name;
                self.end_grace(|leavers, _| is_of(leavers));
                let is_known = self.services.remove(&(name.clone(), source)).is_some();
                if is_known {
                    self.touched.add(name.clone(), Touch::All);
                }
                is_known
            }
            ObjectKey::Slice(key) => {
                let key = (key.clone(), source);
                let slice = self.slices.remove(&key);
                slice
                    .inspect(|slice| self.unlink_slice(&key, &slice.service))
                    .is_some()
            }
        };
        match (removed, mended) {
            (true, _) => Change::Lost,
            (false, true) => Change::Gained,
            (false, false) => Change::Nothing,
        }
    }

    fn remove_own_node(&mut self, source: SourceId) -> bool {
        self.next_own.take_if(|next| next.source == source);
        match &self.own_node {
            OwnNode::Absent => false,
            OwnNode::Known(by, _) if *by != source => false,
            _ => {
                self.own_node = OwnNode::Absent;
                self.touch_everything() == Change::Lost
            }
        }
    }

    /// Keeps the zone that our own node has told so far.
    pub(super) fn hold_zone(&mut self, source: SourceId) {
        if let OwnNode::Known(by, node) = &self.own_node
            && *by == source
        {
            self.holds.hold_zone(source, node);
        }
    }

    fn forget_problems_of(&mut self, source: SourceId, key: &ObjectKey) -> bool {
        if self.problems.is_empty() {
            return false;
        }
        let (before, object) = (self.problems.len(), key.to_string());
        self.problems
            .retain(|(by, problem)| *by != source || problem.object != object);
        self.problems.len() != before
    }
}

/// Problems kept for people; more of them say nothing new.
pub(super) const PROBLEMS_MAX: usize = 1_000;
