// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes one stream of a kind out of several: nodes under several zone labels, services of several namespaces.
//!
//! In: the updates of each member. Out: the updates of the whole, as one list would state them. An object is there as
//! long as one member has it. A list of one member is stated as a list of all, the others' objects being kept by name, so
//! that whoever guards against mass changes sees a list and not a rain of removals. Pure: no I/O, no clock. Holds each
//! key once, with the members that have it.

use crate::store::{Kind, ObjectKey, Problem, SourceId, Update};
use std::collections::{BTreeMap, BTreeSet};

/// The machine.
#[derive(Debug)]
pub(super) struct Union {
    source: SourceId,
    kind: Kind,
    members: Vec<Member>,
    /// Which members have an object, by their numbers' bits.
    holders: BTreeMap<ObjectKey, u64>,
}

#[derive(Debug, Default)]
struct Member {
    /// The keys that its list under way has named.
    open: Option<BTreeSet<ObjectKey>>,
    has_synced: bool,
    problems: Vec<Problem>,
}

impl Union {
    /// The most members that a union can have.
    pub(super) const MEMBERS_MAX: usize = 64;

    /// A union of so many members, at most [`Self::MEMBERS_MAX`].
    pub(super) fn new(source: SourceId, kind: Kind, members: usize) -> Self {
        Self {
            source,
            kind,
            members: (0..members.min(Self::MEMBERS_MAX))
                .map(|_| Member::default())
                .collect(),
            holders: BTreeMap::new(),
        }
    }

    /// What a member's update says of the whole.
    pub(super) fn take(&mut self, number: usize, update: Update) -> Vec<Update> {
        if number >= self.members.len() {
            return Vec::new();
        }
        match update {
            Update::Reset(..) => self.reset(number),
            Update::WentBack(..) => vec![Update::WentBack(self.source, self.kind)],
            Update::Upsert(_, object) => {
                self.hold(number, object.key());
                vec![Update::Upsert(self.source, object)]
            }
            Update::Kept(_, key) => {
                self.hold(number, key.clone());
                vec![Update::Kept(self.source, key)]
            }
            Update::Remove(_, key) => self.release(number, key, Update::Remove),
            Update::Absent(_, key) => self.release(number, key, Update::Absent),
            Update::Reject(_, problem) => {
                let problems = &mut self.members[number].problems;
                if problems.len() < PROBLEMS_MAX {
                    problems.push(problem.clone());
                }
                vec![Update::Reject(self.source, problem)]
            }
            Update::Foreign(..) => vec![Update::Foreign(self.source)],
            Update::Another(..) => vec![Update::Another(self.source)],
            Update::Ours(..) => vec![Update::Ours(self.source)],
            Update::Denied(..) => vec![Update::Denied(self.source, self.kind)],
            Update::Synced(..) => self.synced(number),
        }
    }

    /// A list of the whole begins, anew if one is under way: it names what others have, and what lists under way named.
    fn reset(&mut self, number: usize) -> Vec<Update> {
        let member = &mut self.members[number];
        member.open = Some(BTreeSet::new());
        member.problems.clear();
        let kept = self.holders.iter().filter(|(key, holders)| {
            self.members
                .iter()
                .enumerate()
                .any(|(number, member)| match &member.open {
                    Some(named) => named.contains(*key),
                    None => *holders & bit(number) != 0,
                })
        });
        let (source, problems) = (self.source, self.members.iter().flat_map(|m| &m.problems));
        [Update::Reset(source, self.kind)]
            .into_iter()
            .chain(kept.map(|(key, _)| Update::Kept(source, key.clone())))
            .chain(problems.map(|problem| Update::Reject(source, problem.clone())))
            .collect()
    }

    fn hold(&mut self, number: usize, key: ObjectKey) {
        if let Some(named) = &mut self.members[number].open {
            named.insert(key.clone());
        }
        *self.holders.entry(key).or_default() |= bit(number);
    }

    fn release(
        &mut self,
        number: usize,
        key: ObjectKey,
        say: impl Fn(SourceId, ObjectKey) -> Update,
    ) -> Vec<Update> {
        if let Some(named) = &mut self.members[number].open {
            named.remove(&key);
        }
        let others = self
            .holders
            .get(&key)
            .map_or(0, |holders| holders & !bit(number));
        if others == 0 {
            self.holders.remove(&key);
            return vec![say(self.source, key)];
        }
        self.holders.insert(key, others);
        Vec::new()
    }

    /// The whole is complete once every member has listed, and no list is under way.
    fn synced(&mut self, number: usize) -> Vec<Update> {
        let member = &mut self.members[number];
        member.has_synced = true;
        if let Some(named) = member.open.take() {
            self.holders.retain(|key, holders| {
                if !named.contains(key) {
                    *holders &= !bit(number);
                }
                *holders != 0
            });
        }
        let is_complete = self
            .members
            .iter()
            .all(|m| m.has_synced && m.open.is_none());
        let synced = Update::Synced(self.source, self.kind);
        is_complete.then_some(synced).into_iter().collect()
    }
}

fn bit(number: usize) -> u64 {
    1 << number
}

/// For one member; the writer has a limit of its own.
const PROBLEMS_MAX: usize = 100;

#[cfg(test)]
mod tests;
