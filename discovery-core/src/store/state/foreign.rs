// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came from disk until its source has stated it itself, and its end when it turns out to be another cluster's.
//!
//! A snapshot on disk serves before anybody can say whose it is. Once a source knows that it is in another cluster, what
//! the disk said in its name is dropped at once and held by nothing: no guard against mass changes is for objects that
//! never were. What the source has stated itself meanwhile stays, and nothing is said not to exist before its lists are
//! read.

use super::{Change, OwnNode, State};
use crate::store::{ObjectKey, SourceId};
use std::collections::BTreeSet;

/// What came from disk.
#[derive(Debug, Default)]
pub(super) struct FromDisk {
    /// The objects that their source has not stated since.
    keys: BTreeSet<(SourceId, ObjectKey)>,
    /// The sources that are in another cluster.
    foreign: BTreeSet<SourceId>,
}

impl FromDisk {
    pub(super) fn forget(&mut self, source: SourceId, key: &ObjectKey) {
        if !self.keys.is_empty() {
            self.keys.remove(&(source, key.clone()));
        }
    }

    /// Whether a list of the source is missing although the disk had it; of no source in particular when any is.
    pub(super) fn is_foreign(&self, source: Option<SourceId>) -> bool {
        match source {
            Some(source) => self.foreign.contains(&source),
            None => !self.foreign.is_empty(),
        }
    }

    fn take(&mut self, source: SourceId) -> Vec<ObjectKey> {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let (taken, left): (Vec<_>, _) = keys.partition(|(by, _)| *by == source);
        self.keys = left.into_iter().collect();
        taken.into_iter().map(|(_, key)| key).collect()
    }
}

impl State {
    /// An object that is stated before any list of its source has begun came from disk.
    pub(super) fn note_origin(&mut self, source: SourceId, key: &ObjectKey) {
        if self.lists.contains_key(&(source, key.kind())) {
            self.from_disk.forget(source, key);
        } else {
            self.from_disk.keys.insert((source, key.clone()));
        }
    }

    pub(super) fn foreign(&mut self, source: SourceId) -> Change {
        self.from_disk.foreign.insert(source);
        for key in self.from_disk.take(source) {
            self.holds.forget(source, &key);
            self.drop_object(source, &key);
            if matches!(key, ObjectKey::OwnNode(_)) {
                // Nobody has asked for it yet in this cluster.
                self.own_node = OwnNode::Unknown;
            }
        }
        self.end_grace(|leavers, _| leavers.source == source);
        self.leave_foreign_zone(source);
        self.touch_everything()
    }

    /// Another cluster answers the source: what it stated stays in force, and a person is told.
    pub(super) fn another(&mut self, source: SourceId) -> Change {
        let services = self.services.keys().filter(|(_, by)| *by == source);
        let slices = self.slices.keys().filter(|(_, by)| *by == source);
        let objects = services.count() + slices.count();
        self.holds.hold_cluster(source, objects);
        Change::Gained
    }

    pub(super) fn ours(&mut self, source: SourceId) -> Change {
        self.holds.release_cluster(source);
        Change::Gained
    }

    /// A zone that is served, or held, because our own node was in it was that of a node in the other cluster.
    fn leave_foreign_zone(&mut self, source: SourceId) {
        if self.holds.own_node().is_some_and(|(by, _)| by == source) {
            self.holds.release_zone();
        }
        if let Some(next) = self.next_own.take_if(|next| next.source == source) {
            self.own_node = OwnNode::Known(next.source, next.node);
        }
    }
}
