// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sources are in force for a service, and what the service asks for by their word.

use super::State;
use crate::{
    model::{Service, ServiceName, ZonePolicy},
    store::{Choice, Overruled, SourceId},
};
use std::sync::Arc;

impl State {
    /// Whose statements about the service are in force.
    pub(super) fn choice(&self, service: &ServiceName) -> Choice {
        let has_slices = |source: &SourceId| {
            let mut keys = self.slices_of.get(service).into_iter().flatten();
            keys.any(|(_, by)| by == source)
        };
        let states = |source: &SourceId| {
            self.services.contains_key(&(service.clone(), *source)) || has_slices(source)
        };
        let stated_by: Vec<_> = self.speakers.iter().copied().filter(states).collect();
        self.config.merge.choose(service, &stated_by)
    }

    /// What the service asks for, by the first source in force that says it.
    pub(super) fn spec_of(&self, service: &ServiceName, choice: &Choice) -> Option<&Arc<Service>> {
        let mut in_force = choice.in_force.iter();
        in_force.find_map(|source| self.services.get(&(service.clone(), *source)))
    }

    /// The policy of a service that asks for this.
    pub(super) fn policy_by(&self, spec: Option<&Arc<Service>>) -> ZonePolicy {
        let asked = spec.and_then(|service| service.zone_policy);
        asked.unwrap_or(self.config.policy)
    }

    /// Notes of the services that changed which sources are overruled.
    pub(super) fn note_overruled<'c>(&mut self, changed: impl Iterator<Item = &'c ServiceName>) {
        if self.speakers.len() < 2 {
            return;
        }
        for service in changed {
            let choice = self.choice(service);
            if choice.overruled.is_empty() {
                self.overruled.remove(service);
            } else {
                self.overruled.insert(service.clone(), choice);
            }
        }
    }

    pub(super) fn overruled(&self) -> Vec<Overruled> {
        let overruled = |(service, choice): (&ServiceName, &Choice)| Overruled {
            service: service.clone(),
            choice: choice.clone(),
        };
        self.overruled.iter().map(overruled).collect()
    }
}
