// SPDX-License-Identifier: MIT OR Apache-2.0
//! A slice taken in: packed, compared with the one before, and what the difference means to callers.

use super::{Change, State, Touch};
use crate::{
    model::{ServiceName, Slice, SliceKey, ZonePolicy},
    store::{
        SourceId, ZoneStatus,
        near::Near,
        packed::{EndpointRef, PackedSlice},
    },
};

impl State {
    pub(super) fn upsert_slice(&mut self, source: SourceId, slice: Slice) -> Change {
        let (key, service) = ((slice.key.clone(), source), slice.service.clone());
        let before = self.slices.get(&key);
        let siblings = || self.slices_of.get(&service);
        let sibling = || {
            self.slices
                .get(siblings()?.iter().find(|(_, by)| *by == source)?)
        };
        let now = PackedSlice::pack(slice, source, &mut self.names, before.or_else(sibling));
        let touch = match before {
            Some(before) if *before == now => return Change::Nothing,
            Some(before) if self.is_same_to_callers(&key, before, &now) => {
                self.slices.insert(key, now);
                return Change::Nothing;
            }
            Some(before) if before.is_same_but_for_conditions(&now) => Touch::Conditions,
            _ => Touch::All,
        };
        let before = self.slices.insert(key.clone(), now);
        if let Some(before) = before.as_ref().filter(|before| before.service != service) {
            self.unlink_slice(&key, &before.service);
        }
        self.speakers.insert(source);
        self.slices_of
            .entry(service.clone())
            .or_default()
            .insert(key.clone());
        self.touched.add(service, touch);
        let named = self.end_named(&key);
        let left = before.map_or(Change::Gained, |before| self.leave(&key, &before));
        if self.names.wants_sweep() {
            let leavers = self.grace.all().map(|leavers| &leavers.part);
            self.names.sweep(self.slices.values().chain(leavers));
        }
        named.max(left)
    }

    pub(super) fn unlink_slice(&mut self, key: &(SliceKey, SourceId), service: &ServiceName) {
        if let Some(keys) = self.slices_of.get_mut(service) {
            keys.remove(key);
            if keys.is_empty() {
                self.slices_of.remove(service);
            }
        }
        self.touched.add(service.clone(), Touch::All);
    }

    /// Whether the endpoint is near, or on no node, so that it depends.
    pub(super) fn may_be_near(&self, near: &Near<'_>, endpoint: &EndpointRef<'_>) -> bool {
        let place = endpoint.place.and_then(|place| self.names.place(place));
        let stated = endpoint.zone.and_then(|zone| self.names.zone(zone));
        place.is_none_or(|place| near.locate(place, stated).is_near)
    }

    /// Whether the change is one of conditions in other zones alone. In a big cluster nearly all are, and a service of
    /// thousands of endpoints is not to be built anew for each: of what is far, `strict` looks at no condition.
    fn is_same_to_callers(
        &self,
        key: &(SliceKey, SourceId),
        before: &PackedSlice,
        now: &PackedSlice,
    ) -> bool {
        let ZoneStatus::Known(zone) = self.zone() else {
            return false;
        };
        let is_alike = before.ports == now.ports
            && before.service == now.service
            && before.zone == now.zone
            && before.len() == now.len();
        let choice = self.choice(&now.service);
        let spec = self.spec_of(&now.service, &choice);
        if !is_alike || self.policy_by(spec) != ZonePolicy::Strict {
            return false;
        }
        if self.grace.of(&now.service).next().is_some() {
            return false;
        }
        let near = self.near(&zone, spec);
        let mut pairs = before.endpoints().zip(now.endpoints());
        pairs.all(|(old, new)| {
            if self.may_be_near(&near, &new) {
                old == new && !self.is_stated_twice(key, &now.service, &new)
            } else {
                old.is_same_but_for_conditions(&new)
            }
        })
    }

    /// Whether another slice of the service states the pod or its address too. Then it matters which was written later.
    fn is_stated_twice(
        &self,
        key: &(SliceKey, SourceId),
        service: &ServiceName,
        endpoint: &EndpointRef<'_>,
    ) -> bool {
        let keys = self.slices_of.get(service).into_iter().flatten();
        let others = keys.filter(|other| *other != key);
        let leavers = self.grace.of(service).map(|leavers| &leavers.part);
        let mut endpoints = others
            .filter_map(|key| self.slices.get(key))
            .chain(leavers)
            .flat_map(PackedSlice::endpoints);
        endpoints.any(|other| {
            other.address() == endpoint.address()
                || (other.pod().is_some() && other.pod() == endpoint.pod())
        })
    }
}
