// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lists of each source and kind: how far they have come, what a complete one leaves out, and what is still missing.
//!
//! A list takes back what its own source stated and nothing else. Whether its losses are believed is said by
//! [`Holds`](crate::store::hold::Holds).

use super::{Change, OwnNode, State};
use crate::store::{
    Coverage, Kind, MissingList, ObjectKey, SourceId, hold::Loss, packed::PackedSlice,
};
use std::collections::HashSet;

/// How far the list of one kind of one source has come.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) open: Option<OpenList>,
    pub(super) is_synced: bool,
}

/// A list under way. Nothing that it says is worth a publication of its own before it is complete.
#[derive(Debug)]
pub(super) struct OpenList {
    /// The keys that it has named so far.
    pub(super) seen: HashSet<ObjectKey>,
    pub(super) change: Change,
    went_back: bool,
}

impl State {
    pub(super) fn reset(&mut self, source: SourceId, kind: Kind) -> Change {
        let list = self.lists.entry((source, kind)).or_default();
        // What an abandoned list has changed is still to be told.
        let change = list.open.take().map_or(Change::Nothing, |open| open.change);
        list.open = Some(OpenList {
            seen: HashSet::new(),
            change,
            went_back: false,
        });
        let before = self.problems.len();
        self.problems
            .retain(|(by, problem)| (*by, problem.kind) != (source, kind));
        if self.problems.len() == before {
            Change::Nothing
        } else {
            Change::Gained
        }
    }

    pub(super) fn went_back(&mut self, source: SourceId, kind: Kind) -> Change {
        if let Some(open) = self.open_list(source, kind) {
            open.went_back = true;
        }
        Change::Nothing
    }

    pub(super) fn open_list(&mut self, source: SourceId, kind: Kind) -> Option<&mut OpenList> {
        self.lists.get_mut(&(source, kind))?.open.as_mut()
    }

    pub(super) fn deny(&mut self, source: SourceId, kind: Kind) -> Change {
        if self.denied.entry(kind).or_default().insert(source) {
            self.touch_everything()
        } else {
            Change::Nothing
        }
    }

    fn allow(&mut self, source: SourceId, kind: Kind) {
        let denied = self.denied.get_mut(&kind);
        if denied.is_some_and(|sources| sources.remove(&source)) {
            self.touch_everything();
        }
    }

    pub(super) fn synced(&mut self, source: SourceId, kind: Kind) -> Change {
        self.allow(source, kind);
        let list = self.lists.entry((source, kind)).or_default();
        let is_first = !std::mem::replace(&mut list.is_synced, true);
        let Some(open) = list.open.take() else {
            return self.arrive().max(Change::Gained);
        };
        let first = if is_first {
            Change::Gained
        } else {
            Change::Nothing
        };
        let loss = self.loss(source, kind, &open, is_first);
        let gone = self.holds.judge(source, kind, loss);
        let changes = gone.iter().map(|key| self.drop_object(source, key));
        let lost = changes.max().unwrap_or(Change::Nothing);
        lost.max(open.change).max(first).max(self.arrive())
    }

    pub(super) fn coverage(&self) -> (Coverage, Vec<MissingList>) {
        let any = || Kind::ALL.map(|kind| MissingList { source: None, kind });
        let of_source = |(source, kind): &(SourceId, Kind)| MissingList {
            source: Some(*source),
            kind: *kind,
        };
        let mut needed: Vec<_> = match &self.config.lists[..] {
            [] => any().into(),
            lists => lists.iter().map(of_source).collect(),
        };
        needed.retain(|list| match list.kind {
            // A given zone needs no node to tell it.
            Kind::OwnNode => self.given_zone().is_none(),
            Kind::Nodes => match list.source {
                Some(source) => !self.stated_by().contains(&source),
                None => !self.is_degraded(),
            },
            Kind::Services | Kind::Slices => true,
        });
        needed.retain(|list| !self.is_live(*list));
        let is_empty = needed.is_empty();
        needed.retain(|list| {
            !self.is_synced(SourceId::Disk, list.kind) || self.from_disk.is_foreign(list.source)
        });
        let coverage = match (is_empty, needed.is_empty()) {
            (true, _) => Coverage::Synced,
            (false, true) => Coverage::Disk,
            (false, false) => Coverage::Partial,
        };
        (coverage, needed)
    }

    pub(super) fn is_synced(&self, source: SourceId, kind: Kind) -> bool {
        self.lists
            .get(&(source, kind))
            .is_some_and(|list| list.is_synced)
    }

    fn is_live(&self, list: MissingList) -> bool {
        let live = SourceId::ALL
            .into_iter()
            .filter(|source| *source != SourceId::Disk);
        match list.source {
            Some(source) => self.is_synced(source, list.kind),
            None => live
                .into_iter()
                .any(|source| self.is_synced(source, list.kind)),
        }
    }

    /// What the complete list leaves out of what its source stated before.
    fn loss(&self, source: SourceId, kind: Kind, list: &OpenList, is_first: bool) -> Loss {
        let mut loss = Loss {
            gone: Vec::new(),
            lost: 0,
            known: 0,
            left: list.seen.len(),
            went_back: list.went_back,
            was_restored: is_first,
        };
        for key in self.keys_of(source, kind) {
            let weight = self.weight(source, &key);
            loss.known += weight;
            if !list.seen.contains(&key) {
                loss.lost += weight;
                loss.gone.push(key);
            }
        }
        loss
    }

    /// Endpoints of a slice; none for a node of another zone, which a list of our own zone leaves out once we have moved;
    /// one for anything else.
    fn weight(&self, source: SourceId, key: &ObjectKey) -> usize {
        match key {
            ObjectKey::Slice(key) => {
                let slice = self.slices.get(&(key.clone(), source));
                slice.map_or(0, PackedSlice::len)
            }
            ObjectKey::Node(name) if self.next_own.is_some() => {
                let node = self.nodes.get(&(name.clone(), source));
                let next = self.next_own.as_ref().map(|next| &next.node.zone);
                usize::from(node.map(|node| &node.zone) == next)
            }
            _ => 1,
        }
    }

    /// What the source states of a kind.
    fn keys_of(&self, source: SourceId, kind: Kind) -> Box<dyn Iterator<Item = ObjectKey> + '_> {
        fn of<K: Clone>(
            keys: impl Iterator<Item = (K, SourceId)>,
            source: SourceId,
        ) -> impl Iterator<Item = K> {
            keys.filter(move |(_, by)| *by == source)
                .map(|(key, _)| key)
        }
        match kind {
            Kind::OwnNode => match &self.own_node {
                OwnNode::Known(by, node) if *by == source => {
                    Box::new(Some(ObjectKey::OwnNode(node.name.clone())).into_iter())
                }
                _ => Box::new(std::iter::empty()),
            },
            Kind::Nodes => Box::new(of(self.nodes.keys().cloned(), source).map(ObjectKey::Node)),
            Kind::Services => {
                Box::new(of(self.services.keys().cloned(), source).map(ObjectKey::Service))
            }
            Kind::Slices => Box::new(of(self.slices.keys().cloned(), source).map(ObjectKey::Slice)),
        }
    }
}
