// SPDX-License-Identifier: MIT OR Apache-2.0
//! The views of the services: all of them, or those that were touched. A view that says the same as before is the one before.
//!
//! What was found out about the slices of a service is kept beside the view that was built of them. A change of conditions
//! then costs a look at the endpoints that are near, and none at the thousands that are not.

use super::{State, Touch, Touched};
use crate::{
    model::{ServiceName, Zone, ZonePolicy},
    store::{
        ServiceView, Snapshot, SourceId,
        build::{BuildContext, build_view},
        far::Sifted,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Of each service the view that was built last, and which endpoints of its slices have to be looked at for the next one.
pub(super) type SiftedViews = HashMap<ServiceName, (Arc<ServiceView>, Sifted)>;

pub(super) type Services = HashMap<ServiceName, Arc<ServiceView>>;

type Built = (Arc<ServiceView>, Option<Sifted>);

impl State {
    /// The views of all services, and the names of those that are others than before.
    pub(super) fn build_all(
        &mut self,
        zone: &Zone,
        previous: &Snapshot,
    ) -> (Services, Vec<ServiceName>) {
        let stated = self.services.keys().map(|(name, _)| name);
        let names: BTreeSet<_> = stated.chain(self.slices_of.keys()).collect();
        let built = names.into_iter().filter_map(|name| {
            let built = self.build(zone, name, previous, None)?;
            Some((name.clone(), built))
        });
        let built: Vec<_> = built.collect();
        self.sifted.clear();
        let services: Services = built
            .into_iter()
            .map(|(name, built)| (name.clone(), self.keep(name, built)))
            .collect();
        let is_same = |(name, view): &(&ServiceName, &Arc<ServiceView>)| {
            let before = previous.services.get(*name);
            before.is_some_and(|before| Arc::ptr_eq(before, view))
        };
        let others = services.iter().filter(|service| !is_same(service));
        let known = previous.services.keys();
        let gone = known.filter(|name| !services.contains_key(*name));
        let changed = others.map(|(name, _)| name).chain(gone).cloned().collect();
        (services, changed)
    }

    /// The views of which those that were touched are built, and the names of those that are others than before.
    pub(super) fn build_touched(
        &mut self,
        zone: &Zone,
        previous: &Snapshot,
        touched: &Touched,
    ) -> (Services, Vec<ServiceName>) {
        let mut services = previous.services.clone();
        let mut changed = Vec::new();
        for (name, touch) in &touched.services {
            let sifted = self.sifted.remove(name);
            let holds = |view: &Arc<ServiceView>| {
                let before = previous.services.get(name);
                *touch == Touch::Conditions
                    && before.is_some_and(|before| Arc::ptr_eq(before, view))
            };
            let sifted = sifted
                .filter(|(view, _)| holds(view))
                .map(|(_, sifted)| sifted);
            let before = match self.build(zone, name, previous, sifted) {
                Some(built) => {
                    let view = self.keep(name.clone(), built);
                    let kept = services
                        .get(name)
                        .is_some_and(|before| Arc::ptr_eq(before, &view));
                    if !kept {
                        changed.push(name.clone());
                    }
                    services.insert(name.clone(), view)
                }
                None => services
                    .remove(name)
                    .inspect(|_| changed.push(name.clone())),
            };
            drop(before);
        }
        (services, changed)
    }

    /// Keeps what was found out, where there is something to be spared by it.
    fn keep(&mut self, name: ServiceName, (view, sifted): Built) -> Arc<ServiceView> {
        if let Some(sifted) = sifted {
            self.sifted.insert(name, (view.clone(), sifted));
        }
        view
    }

    fn build(
        &self,
        zone: &Zone,
        name: &ServiceName,
        previous: &Snapshot,
        sifted: Option<Sifted>,
    ) -> Option<Built> {
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
            is_wanted: previous.wanted.has(name),
        };
        let is_alone = self.grace.of(name).next().is_none();
        let is_sifted = is_alone && context.policy == ZonePolicy::Strict;
        let (view, sifted) = build_view(
            &context,
            name,
            spec,
            &slices,
            previous.services.get(name),
            sifted.filter(|_| is_sifted),
        );
        Some((view, is_sifted.then_some(sifted)))
    }
}
