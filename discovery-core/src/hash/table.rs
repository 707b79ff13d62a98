// SPDX-License-Identifier: MIT OR Apache-2.0
//! One interface for every placement: members in, and for a key the members in the order in which to try them.

use super::{
    Maglev, Placement, Rendezvous, Ring,
    circle::{self, Circle},
    envoy::{EnvoyRing, Sizes},
    envoy_maglev,
    key::HashKey,
};
use crate::model::Weight;

/// The most members that a placement can hold.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// In place of a member's number: nobody.
pub(super) const NOBODY: u16 = u16::MAX;

/// A member of a placement: what places it, and how much it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member<'m> {
    /// The text whose UTF-8 bytes are hashed: a pod's name, or `ip:port`.
    pub identity: &'m str,
    /// Its weight; of weight 0 it owns nothing.
    pub weight: Weight,
}

impl Table {
    /// Whether both walk one circle: nothing was hashed or sorted for the later one.
    #[cfg(test)]
    pub(crate) fn shares_circle(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Placed::Ring(own), Placed::Ring(other)) => std::ptr::eq(own.circle(), other.circle()),
            _ => false,
        }
    }
}

impl<'m> Member<'m> {
    /// A member of ordinary weight.
    pub fn ordinary(identity: &'m str) -> Self {
        Self {
            identity,
            weight: Weight::ORDINARY,
        }
    }
}

/// Where keys belong, by one of the placements.
///
/// ```
/// use discovery_core::hash::{HashKey, Member, Placement, Table};
///
/// let members = ["web-0", "web-1", "web-2"].map(Member::ordinary);
/// for placement in Placement::ALL {
///     let table = Table::build(placement, &members);
///     let mut order = table.order(HashKey::of(b"customer-17"));
///     order.sort();
///     assert_eq!(order, [0, 1, 2], "{placement}: every member comes once");
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table(Placed);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Placed {
    /// The placement that is asked for is not known here: no key belongs anywhere.
    Unknown,
    Ring(Ring),
    Envoy(EnvoyRing),
    Maglev(Maglev),
    EnvoyMaglev(Maglev),
    Rendezvous(Rendezvous),
}

impl Table {
    /// Places members given in ascending order of the identity bytes, distinct; for those of Envoy in any order.
    ///
    /// # Panics
    /// If there are more than [`MEMBERS_MAX`] members.
    pub fn build(placement: Placement, members: &[Member<'_>]) -> Self {
        Self(match placement {
            Placement::RingV1 => Placed::Ring(Ring::weighted(members)),
            Placement::RendezvousV1 => Placed::Rendezvous(Rendezvous::build(members)),
            Placement::MaglevV1 => Placed::Maglev(Maglev::build(members)),
            Placement::RingEnvoy => Placed::Envoy(EnvoyRing::build(members, Sizes::DEFAULT)),
            Placement::MaglevEnvoy => Placed::EnvoyMaglev(envoy_maglev::build(members)),
        })
    }

    /// The table of a placement that this version does not know: it owns nothing.
    pub fn unknown() -> Self {
        Self(Placed::Unknown)
    }

    /// Places other members by the same placement; a ring takes over what stays.
    #[must_use]
    pub fn rebuild(&self, placement: Placement, members: &[Member<'_>]) -> Self {
        match (&self.0, placement) {
            (Placed::Ring(ring), Placement::RingV1) => Self(Placed::Ring(ring.rebuild(members))),
            _ => Self::build(placement, members),
        }
    }

    /// The placement; none when it is not known here.
    pub fn placement(&self) -> Option<Placement> {
        match self.0 {
            Placed::Unknown => None,
            Placed::Ring(_) => Some(Placement::RingV1),
            Placed::Envoy(_) => Some(Placement::RingEnvoy),
            Placed::Maglev(_) => Some(Placement::MaglevV1),
            Placed::EnvoyMaglev(_) => Some(Placement::MaglevEnvoy),
            Placed::Rendezvous(_) => Some(Placement::RendezvousV1),
        }
    }

    /// From the owner of the key on, the slots of members, with repeats; [`Table::order`] names the members.
    ///
    /// No allocation. A step of a ring or of Maglev is one read; one of rendezvous looks at every member.
    #[inline]
    pub fn walk(&self, key: HashKey) -> Walk<'_> {
        let (at, left) = match self.circle() {
            Some(circle) => (circle.first_at_or_after(key.0), circle.len()),
            None => self.start(key),
        };
        Walk {
            table: self,
            key,
            at: narrow(at),
            left: narrow(left),
        }
    }

    /// The first slot of the walk of a key: what most picks want to know, and no more.
    #[inline]
    pub(crate) fn first(&self, key: HashKey) -> Option<u16> {
        match self.circle() {
            Some(circle) => circle.first_owner(key.0),
            None => self.walk(key).next(),
        }
    }

    /// The first slot of the walk, and the walk of the others. On a ring the first does not wait for its place.
    #[inline]
    pub(crate) fn begin(&self, key: HashKey) -> Option<(u16, Walk<'_>)> {
        let Some(circle) = self.circle() else {
            let mut walk = self.walk(key);
            return walk.next().map(|slot| (slot, walk));
        };
        let (slot, at) = circle.first_with_place(key.0)?;
        let walk = Walk {
            table: self,
            key,
            at: narrow(circle.around(at + 1)),
            left: narrow(circle.len() - 1),
        };
        Some((slot, walk))
    }

    /// Of a ring.
    #[inline]
    fn circle(&self) -> Option<&Circle> {
        match &self.0 {
            Placed::Ring(ring) => Some(ring.circle()),
            Placed::Envoy(ring) => Some(ring.circle()),
            _ => None,
        }
    }

    /// Where a walk of the others begins, and how many steps it has. No part of what every pick is built with.
    fn start(&self, key: HashKey) -> (usize, usize) {
        match &self.0 {
            Placed::Maglev(maglev) => (Maglev::slot(key), maglev.steps()),
            Placed::EnvoyMaglev(maglev) => (envoy_maglev::slot(key), maglev.steps()),
            Placed::Rendezvous(scores) => (0, scores.steps()),
            _ => (0, 0),
        }
    }

    /// The slot at a place of the others, when so many steps are left after it, and the next place.
    fn step(&self, key: HashKey, at: u32, left: u32) -> Option<(u16, u32)> {
        match &self.0 {
            Placed::Maglev(maglev) | Placed::EnvoyMaglev(maglev) => {
                // Once around the table, then those that found no slot in it.
                let rest = maglev.rest();
                match rest.len().checked_sub(left as usize + 1) {
                    Some(number) => rest.get(number).map(|slot| (*slot, at)),
                    None => around(maglev.slots(), at),
                }
            }
            Placed::Rendezvous(scores) => {
                let last = at.checked_sub(1).and_then(|last| u16::try_from(last).ok());
                let member = scores.after(key, last)?;
                Some((member, u32::from(member) + 1))
            }
            _ => None,
        }
    }

    /// The member of each slot that a walk names; none at a slot whose member has left, and 65,535 in its place.
    pub(crate) fn members(&self) -> Vec<u16> {
        let all = |count: usize| (0..count).map(super::slots::number).collect();
        match &self.0 {
            Placed::Unknown => Vec::new(),
            Placed::Ring(ring) => ring.members().to_vec(),
            Placed::Envoy(ring) => all(ring.members()),
            Placed::Maglev(maglev) | Placed::EnvoyMaglev(maglev) => all(maglev.members()),
            Placed::Rendezvous(scores) => all(scores.members()),
        }
    }

    /// The owner of the key: for tests and tools, since it allocates; none when no member has a weight.
    pub fn owner(&self, key: HashKey) -> Option<usize> {
        let members = self.members();
        let member = |slot| {
            members
                .get(usize::from(slot))
                .copied()
                .filter(|member| *member != NOBODY)
        };
        self.walk(key).find_map(member).map(usize::from)
    }

    /// All members with a weight in the order in which to try them for the key: for tests and tools, since it allocates.
    pub fn order(&self, key: HashKey) -> Vec<usize> {
        let members = self.members();
        let mut is_named = vec![false; members.len() + 1];
        let mut order = Vec::new();
        for slot in self.walk(key) {
            let member = members.get(usize::from(slot)).copied().unwrap_or(NOBODY);
            if member != NOBODY && !std::mem::replace(&mut is_named[usize::from(member)], true) {
                order.push(member.into());
            }
        }
        order
    }

    /// The share of all keys that each of `members` members owns; the shares add up to 1.
    pub fn shares(&self, members: usize) -> Vec<f64> {
        match &self.0 {
            Placed::Unknown => vec![0.0; members],
            Placed::Ring(ring) => ring.shares(members),
            Placed::Envoy(ring) => ring.shares(),
            Placed::Maglev(maglev) | Placed::EnvoyMaglev(maglev) => maglev.shares(),
            Placed::Rendezvous(scores) => scores.shares(),
        }
    }

    /// Whether the later table was taken over from the other as it is, without any work.
    pub fn is_taken_over(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Placed::Ring(ring), Placed::Ring(other)) => ring.is_same(other),
            _ => self == other,
        }
    }
}

/// The walk of a key over the slots of a [`Table`]. Small, since it is moved more often than it is walked to its end.
#[derive(Clone, Debug)]
pub struct Walk<'t> {
    table: &'t Table,
    key: HashKey,
    /// The next place on the circle or in the table; of scores one more than the last member, or 0.
    at: u32,
    left: u32,
}

impl Iterator for Walk<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let slot;
        (slot, self.at) = match self.table.circle() {
            Some(circle) => {
                let (entry, next) = around(circle.entries(), self.at)?;
                (circle::owner(entry), next)
            }
            None => self.table.step(self.key, self.at, self.left)?,
        };
        Some(slot)
    }
}

impl Walk<'_> {
    /// The walk of a key that belongs nowhere.
    #[inline]
    pub(crate) fn of_nobody(key: HashKey) -> Self {
        static NOWHERE: Table = Table(Placed::Unknown);
        Self {
            table: &NOWHERE,
            key,
            at: 0,
            left: 0,
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> HashKey {
        self.key
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.left == 0
    }
}

/// What is at the place, and the next one, around the end.
#[inline]
fn around<T: Copy>(circle: &[T], at: u32) -> Option<(T, u32)> {
    let found = *circle.get(at as usize)?;
    let next = if at as usize + 1 == circle.len() {
        0
    } else {
        at + 1
    };
    Some((found, next))
}

/// Tables have less than 2³² slots: 65,535 members of at most 8,192 virtual nodes.
#[inline]
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
