// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoints of one preference level, and where keys belong among them.
//!
//! Members are all listed endpoints of the level, also those that are not usable now: usability is a skip during the walk,
//! never a reason to move keys. What a change leaves as it was is taken from the tier before.
//!
//! Where keys belong is worked out before the tier is published if somebody picks by key, else when one is first asked for:
//! of most services of a zone a process never asks, and a ring takes 7 KiB an endpoint.

use super::{Endpoint, Load};
use crate::hash::{HashKey, Member, Placement, Table, Walk};
use std::sync::{Arc, OnceLock};

/// The endpoints of one preference level.
#[derive(Debug)]
pub struct Tier {
    members: Box<[Arc<Endpoint>]>,
    /// None where the placement that is wished for is not known here.
    placement: Option<Placement>,
    placed: OnceLock<Placed>,
    /// The usable members.
    ready: Box<[Hop]>,
    /// The sums of the weights of the usable members up to each; none where all are alike.
    sums: Option<Box<[u32]>>,
}

/// Where keys belong among the members.
#[derive(Debug)]
struct Placed {
    table: Table,
    /// The usable member at each slot of the table, or nobody.
    route: Box<[Option<Hop>]>,
}

impl Placed {
    fn new(table: Table, members: &[Arc<Endpoint>]) -> Self {
        let usable = |endpoint: &&Arc<Endpoint>| endpoint.is_usable();
        let route = table.members().into_iter().map(|member| {
            let endpoint = members.get(usize::from(member)).filter(usable);
            endpoint.map(Hop::new)
        });
        Self {
            route: route.collect(),
            table,
        }
    }

    #[inline]
    fn at_slot(&self, slot: u16) -> Option<&Hop> {
        self.route.get(usize::from(slot))?.as_ref()
    }
}

/// A usable member, with the address of its counters beside its own: a pick fetches both at once, and waits for one.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    endpoint: Arc<Endpoint>,
    load: Arc<Load>,
}

impl Hop {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.clone(),
            load: endpoint.load().clone(),
        }
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    #[inline]
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }
}

impl Tier {
    /// The tier of the members, in ascending order of their identity. They are placed now if that `is_wanted`, or if those of
    /// the tier before were.
    pub(super) fn new(
        members: Box<[Arc<Endpoint>]>,
        placement: Option<Placement>,
        before: Option<&Self>,
        is_wanted: bool,
    ) -> Self {
        let usable = |endpoint: &&Arc<Endpoint>| endpoint.is_usable();
        let ready: Box<[Hop]> = members.iter().filter(usable).map(Hop::new).collect();
        let before = before.filter(|before| before.placed.get().is_some());
        let placed = (is_wanted || before.is_some())
            .then(|| Placed::new(table(placement, &members, before), &members));
        Self {
            placed: placed.map_or_else(OnceLock::new, OnceLock::from),
            sums: sums(&ready),
            ready,
            placement,
            members,
        }
    }

    #[inline]
    fn placed(&self) -> &Placed {
        self.placed.get().unwrap_or_else(|| self.place())
    }

    #[cold]
    fn place(&self) -> &Placed {
        let members = &self.members;
        self.placed
            .get_or_init(|| Placed::new(table(self.placement, members, None), members))
    }

    /// All members in ascending order of their identity; the table numbers them so.
    #[inline]
    pub fn members(&self) -> &[Arc<Endpoint>] {
        &self.members
    }

    /// Where keys belong among the members. Builds it where nobody has asked yet: see [`crate::hash::Ring::build`] for what
    /// that takes.
    pub fn table(&self) -> &Table {
        &self.placed().table
    }

    /// Whether it is built.
    #[cfg(test)]
    pub(crate) fn is_placed(&self) -> bool {
        self.placed.get().is_some()
    }

    /// How many members may be picked.
    #[inline]
    pub fn usable(&self) -> usize {
        self.ready.len()
    }

    /// The members that may be picked.
    pub fn ready(&self) -> impl ExactSizeIterator<Item = &Arc<Endpoint>> {
        self.ready.iter().map(Hop::endpoint)
    }

    /// The share of all keys that each member owns while all are usable.
    pub fn shares(&self) -> Vec<f64> {
        self.table().shares(self.members.len())
    }

    /// The usable members with their counters.
    pub(crate) fn hops(&self) -> &[Hop] {
        &self.ready
    }

    /// The usable member with this number among the usable ones.
    #[inline]
    pub(crate) fn nth_ready(&self, number: usize) -> Option<&Hop> {
        self.ready.get(number)
    }

    /// The usable member that a draw from the sum of all weights falls on: `draw` is a fraction of 2³².
    pub(crate) fn weighted(&self, draw: u32) -> Option<&Hop> {
        let scale = |n: u32| usize::try_from((u64::from(draw) * u64::from(n)) >> 32).unwrap_or(0);
        let number = match &self.sums {
            None => scale(u32::try_from(self.ready.len()).unwrap_or(u32::MAX)),
            Some(sums) => {
                let drawn = scale(sums.last().copied().unwrap_or(0));
                sums.partition_point(|sum| *sum as usize <= drawn)
            }
        };
        self.nth_ready(number)
    }

    /// The slots of the key, from its owner on.
    #[inline]
    pub(crate) fn walk(&self, key: HashKey) -> Walk<'_> {
        self.table().walk(key)
    }

    /// The first of these slots, and the walk of the others.
    #[inline]
    pub(crate) fn begin(&self, key: HashKey) -> Option<(u16, Walk<'_>)> {
        self.table().begin(key)
    }

    /// The owner of the key, where it is usable.
    #[inline]
    pub(crate) fn owner(&self, key: HashKey) -> Option<&Hop> {
        let placed = self.placed();
        placed.at_slot(placed.table.first(key)?)
    }

    /// The usable member at a slot.
    #[inline]
    pub(crate) fn at_slot(&self, slot: u16) -> Option<&Hop> {
        self.placed().at_slot(slot)
    }

    /// How many slots a walk may name.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.placed().route.len()
    }

    /// The weights of all members, and of those that may be picked.
    pub(super) fn weights(&self) -> (u64, u64) {
        let sum = |of: &mut dyn Iterator<Item = &Arc<Endpoint>>| {
            of.map(|endpoint| u64::from(endpoint.weight().hundredths()))
                .sum()
        };
        (sum(&mut self.members.iter()), sum(&mut self.ready()))
    }
}

fn table(placement: Option<Placement>, members: &[Arc<Endpoint>], before: Option<&Tier>) -> Table {
    let Some(placement) = placement else {
        return Table::unknown();
    };
    let same = |before: &&Tier| {
        before.placement == Some(placement)
            && before.members.len() == members.len()
            && before
                .members
                .iter()
                .zip(members)
                .all(|(a, b)| is_placed_alike(a, b))
    };
    if let Some(before) = before.filter(same) {
        return before.table().clone();
    }
    let texts: Vec<String> = if placement.is_of_envoy() {
        members.iter().map(|e| address_text(e)).collect()
    } else {
        Vec::new()
    };
    let placed: Vec<Member<'_>> = (members.iter().enumerate())
        .map(|(at, endpoint)| Member {
            identity: texts
                .get(at)
                .map_or(endpoint.identity().as_str(), String::as_str),
            weight: endpoint.weight(),
        })
        .collect();
    match before {
        Some(before) => before.table().rebuild(placement, &placed),
        None => Table::build(placement, &placed),
    }
}

fn is_placed_alike(a: &Arc<Endpoint>, b: &Arc<Endpoint>) -> bool {
    Arc::ptr_eq(a, b)
        || a.identity() == b.identity() && a.weight() == b.weight() && a.first == b.first
}

fn address_text(endpoint: &Endpoint) -> String {
    let socket = endpoint.socket(None).map(|socket| socket.to_string());
    socket.unwrap_or_else(|| endpoint.identity().to_string())
}

fn sums(ready: &[Hop]) -> Option<Box<[u32]>> {
    let weights = ready.iter().map(|hop| hop.endpoint.weight().hundredths());
    let first = weights.clone().next()?;
    if weights.clone().all(|weight| weight == first) {
        return None;
    }
    let mut sum = 0;
    let sums = weights.map(|weight| {
        sum += weight;
        sum
    });
    Some(sums.collect())
}
