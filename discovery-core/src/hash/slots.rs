// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers that virtual nodes know their owners by, stable while other members come and go.
//!
//! A member that leaves keeps its slot and its virtual nodes for a while: skipping it on the walk gives the same order as a
//! ring without it, so that its leaving, and its coming back, cost nothing but a new table from slots to members.

use super::{
    key::vnode_positions,
    ring::vnodes_of,
    table::{Member, NOBODY},
};
use std::sync::Arc;

/// Who owns a slot, and how many virtual nodes it has on the circle.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) identity: Arc<str>,
    pub(super) vnodes: usize,
}

/// All slots, those of members that have left too.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) list: Vec<Slot>,
    /// The slots in the order of their identities.
    pub(super) order: Vec<u16>,
}

/// How members stand to the slots that are there.
#[derive(Debug)]
pub(super) struct Match {
    /// The member of each slot, or nobody.
    pub(super) members: Vec<u16>,
    /// Members that have no slot.
    pub(super) new: Vec<usize>,
    /// Slots whose member has another weight now, with the member.
    pub(super) changed: Vec<(u16, usize)>,
    pub(super) gone: Vec<u16>,
}

impl Slots {
    /// The slots of members in the order of their identity bytes.
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        let slot = |member: &Member<'_>| Slot {
            identity: member.identity.into(),
            vnodes: vnodes_of(member.weight),
        };
        Self {
            list: members.iter().map(slot).collect(),
            order: (0..members.len()).map(number).collect(),
        }
    }

    /// Joins the slots with members in the order of their identity bytes: one pass over both.
    pub(super) fn matched(&self, members: &[Member<'_>]) -> Match {
        let mut matched = Match {
            members: vec![NOBODY; self.list.len()],
            new: Vec::new(),
            changed: Vec::new(),
            gone: Vec::new(),
        };
        let mut order = self.order.iter().copied().peekable();
        for (at, member) in members.iter().enumerate() {
            while let Some(slot) = order.next_if(|slot| self.identity(*slot) < member.identity) {
                matched.gone.push(slot);
            }
            let Some(slot) = order.next_if(|slot| self.identity(*slot) == member.identity) else {
                matched.new.push(at);
                continue;
            };
            matched.members[usize::from(slot)] = number(at);
            if self.list[usize::from(slot)].vnodes != vnodes_of(member.weight) {
                matched.changed.push((slot, at));
            }
        }
        matched.gone.extend(order);
        matched
    }

    pub(super) fn identity(&self, slot: u16) -> &str {
        &self.list[usize::from(slot)].identity
    }

    /// The positions of the virtual nodes of a slot with the given numbers, from 0.
    pub(super) fn positions(
        &self,
        slot: u16,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = u64> {
        let positions = vnode_positions(self.identity(slot).as_bytes());
        positions
            .skip(range.start)
            .take(range.len())
            .map(|position| position.0)
    }

    /// Sorts the slots by identity again.
    pub(super) fn reorder(&mut self) {
        let list = &self.list;
        let mut order: Vec<u16> = (0..list.len()).map(number).collect();
        order.sort_unstable_by(|a, b| {
            list[usize::from(*a)]
                .identity
                .cmp(&list[usize::from(*b)].identity)
        });
        self.order = order;
    }
}

pub(super) fn number(at: usize) -> u16 {
    u16::try_from(at).expect("the caller keeps to MEMBERS_MAX")
}
