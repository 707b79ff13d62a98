// SPDX-License-Identifier: MIT OR Apache-2.0
//! The views of the services: all of them, or those that were touched. A view that says the same as before is the one before.

use super::State;
use crate::{
    model::{ServiceName, Zone},
    store::{
        ServiceView, Snapshot, SourceId,
        build::{BuildContext, build_view},
    },
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

pub(super) type Services = HashMap<ServiceName, Arc<ServiceView>>;

impl State {
    pub(super) fn build_all(&self, zone: &Zone, previous: &Snapshot) -> (Services, bool) {
        let stated = self.services.keys().map(|(name, _)| name);
        let names: BTreeSet<_> = stated.chain(self.slices_of.keys()).collect();
        let services: Services = names
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.build(zone, name, previous)?)))
            .collect();
        let changed = services.len() != previous.services.len()
            || services.iter().any(|(name, view)| {
                previous
                    .services
                    .get(name)
                    .is_none_or(|before| !Arc::ptr_eq(before, view))
            });
        (services, changed)
    }

    pub(super) fn build_touched(
        &self,
        zone: &Zone,
        previous: &Snapshot,
        touched: &HashSet<ServiceName>,
    ) -> (Services, bool) {
        let mut services = previous.services.clone();
        let mut changed = false;
        for name in touched {
            let before = match self.build(zone, name, previous) {
                Some(view) => {
                    let kept = services
                        .get(name)
                        .is_some_and(|before| Arc::ptr_eq(before, &view));
                    changed |= !kept;
                    services.insert(name.clone(), view)
                }
                None => services.remove(name).inspect(|_| changed = true),
            };
            drop(before);
        }
        (services, changed)
    }

    fn build(
        &self,
        zone: &Zone,
        name: &ServiceName,
        previous: &Snapshot,
    ) -> Option<Arc<ServiceView>> {
        let choice = self.choice(name);
        if choice.in_force.is_empty() {
            return None;
        }
        let spec = self.spec_of(name, &choice);
        let keys = self.slices_of.get(name).into_iter().flatten();
        let is_in_force = |source: &SourceId| choice.in_force.contains(source);
        let leavers = self
            .grace
            .of(name)
            .filter(|leavers| is_in_force(&leavers.source));
        let slices: Vec<_> = keys
            .filter(|(_, source)| is_in_force(source))
            .filter_map(|key| self.slices.get(key))
            .chain(leavers.map(|leavers| &leavers.part))
            .collect();
        let context = BuildContext {
            near: self.near(zone, spec),
            names: &self.names,
            policy: self.policy_by(spec),
            addresses: &self.config.addresses,
            unlocated: &self.config.unlocated,
        };
        Some(build_view(
            &context,
            name,
            spec,
            &slices,
            previous.services.get(name),
        ))
    }
}
