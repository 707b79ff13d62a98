// SPDX-License-Identifier: MIT OR Apache-2.0
//! What callers lose when a slice changes or goes, and what of it stays for a moment (see [`Grace`](crate::store::grace)).

use super::{Change, State, Touch};
use crate::{
    hash::TableHashing,
    model::{ServiceName, SliceKey, Standing, ZonePolicy},
    store::{
        GraceCounts, SourceId, ZoneStatus,
        grace::{Leavers, speaks_of},
        packed::{EndpointRef, PackedSlice},
    },
};
use std::collections::HashSet;

impl State {
    /// The slice is another one now, or none: what left it while it was ready stays for a moment when it may be moved.
    pub(super) fn leave(&mut self, key: &(SliceKey, SourceId), before: &PackedSlice) -> Change {
        let Some(gone) = self.lost(before, self.slices.get(key)) else {
            return Change::Lost;
        };
        let leavers = self.leavers(key, before, &gone);
        let is_all = leavers.len() == gone.len();
        if leavers.is_empty() {
            return if is_all { Change::Gained } else { Change::Lost };
        }
        let part = before.part(|endpoint| leavers.contains(endpoint));
        if self.grace.begin(key.0.clone(), key.1, part) && is_all {
            Change::Gained
        } else {
            Change::Lost
        }
    }

    /// A slice says what has become of endpoints that left another one.
    pub(super) fn end_named(&mut self, key: &(SliceKey, SourceId)) -> Change {
        let slice = self.slices.get(key);
        let worst = slice.and_then(|slice| self.grace.end_named(key.1, slice));
        match worst {
            None => Change::Nothing,
            Some(Standing::Ready) => Change::Gained,
            Some(_) => Change::Lost,
        }
    }

    /// Those that left and of which it is known now that they are gone stay no longer.
    pub(super) fn end_grace(
        &mut self,
        is_gone: impl Fn(&Leavers, &EndpointRef<'_>) -> bool,
    ) -> Change {
        let services = self.grace.end(is_gone);
        self.touch_left(services)
    }

    pub(super) fn touch_left(&mut self, services: Vec<ServiceName>) -> Change {
        if services.is_empty() {
            return Change::Nothing;
        }
        for service in services {
            self.touched.add(service, Touch::All);
        }
        Change::Lost
    }

    /// What has become of the endpoints that left a slice while they were ready, since the last call.
    pub fn take_grace_counts(&mut self) -> GraceCounts {
        self.grace.take_counts()
    }

    /// The endpoints that a caller of the old slice could have been given and that the new one takes away or changes; none
    /// while nobody is given anything.
    fn lost<'b>(
        &self,
        before: &'b PackedSlice,
        now: Option<&PackedSlice>,
    ) -> Option<Endpoints<'b>> {
        let ZoneStatus::Known(zone) = self.zone() else {
            return None;
        };
        let is_of_kind = |now: &&PackedSlice| {
            (&before.ports, &before.service, &before.zone) == (&now.ports, &now.service, &now.zone)
        };
        let (changed, others) = changed(before, now.filter(is_of_kind));
        let choice = self.choice(&before.service);
        let spec = self.spec_of(&before.service, &choice);
        let near = self.near(&zone, spec);
        let is_strict = self.policy_by(spec) == ZonePolicy::Strict;
        let gone = changed.into_iter().filter(|old| !others.contains(old));
        Some(
            gone.filter(|old| !is_strict || self.may_be_near(&near, old))
                .collect(),
        )
    }

    /// Those of what is gone that may be on their way into another slice.
    fn leavers<'b>(
        &self,
        key: &(SliceKey, SourceId),
        before: &PackedSlice,
        gone: &Endpoints<'b>,
    ) -> Endpoints<'b> {
        let source = key.1;
        let service = (before.service.clone(), source);
        // With its Service all slices of a service are deleted.
        if !self.grace.covers(source, before) || !self.services.contains_key(&service) {
            return Endpoints::default();
        }
        let is_ready = |e: &&EndpointRef<'b>| e.conditions().standing() == Standing::Ready;
        let mut leavers: Endpoints<'_> = gone.iter().filter(is_ready).copied().collect();
        let keys = self.slices_of.get(&before.service).into_iter().flatten();
        let others = keys.filter(|other| other.1 == source && *other != key);
        // Mostly it is the slice itself that says what has become of them.
        let keys = std::iter::once(key).chain(others);
        let slices = keys.filter_map(|key| self.slices.get(key));
        for slice in slices.filter(|slice| slice.service == before.service) {
            if leavers.is_empty() {
                break;
            }
            for word in slice.endpoints() {
                leavers.retain(|leaver| !speaks_of(&word, leaver));
            }
        }
        leavers
    }
}

/// The endpoints of the old slice in whose place another one stands or none, and those that stand there. Mostly it is one.
fn changed<'b, 'n>(
    before: &'b PackedSlice,
    now: Option<&'n PackedSlice>,
) -> (Vec<EndpointRef<'b>>, Endpoints<'n>) {
    let mut new = now.into_iter().flat_map(PackedSlice::endpoints);
    let (mut changed, mut others) = (Vec::new(), Endpoints::default());
    for old in before.endpoints() {
        let new = new.next();
        if new != Some(old) {
            changed.push(old);
            others.extend(new);
        }
    }
    others.extend(new);
    (changed, others)
}

type Endpoints<'s> = HashSet<EndpointRef<'s>, TableHashing>;
