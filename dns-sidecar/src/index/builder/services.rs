// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has a name, of those who want it, and what the name is answered with.

use super::{IndexBuilder, lower, place, pointers, zone};
use crate::{
    catalog::kube,
    index::{Label, PreparedService, Unnamed},
    prepare::{Preparer, RecordSet},
    wire::LABEL_BYTES_MAX,
    words::WordHash,
};
use discovery_core::{
    model::{ServiceName, Zone, ZonePolicy},
    store::{ServiceView, Tier},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What was prepared for this generation, by the place of the view that it was made from alone: the names of a service say the
/// same, so that they share it.
pub(super) type Prepared = HashMap<usize, Arc<PreparedService>, WordHash>;

impl IndexBuilder {
    /// Settles who has the name, and prepares it.
    pub(super) fn rename(&mut self, label: &str, prepared: &mut Prepared) {
        self.unnamed.remove(label);
        let key = lower(label);
        let Some(wanting) = self
            .wanted
            .get_mut(label)
            .filter(|wanting| !wanting.is_empty())
        else {
            self.wanted.remove(label);
            self.services.remove(&*key);
            self.ingress.remove(&*key);
            return;
        };
        wanting.sort_by(|a, b| age(a).cmp(&age(b)));
        let (holders, others): (Vec<_>, Vec<_>) = if label.len() > LABEL_BYTES_MAX {
            (Vec::new(), wanting.clone())
        } else {
            let shares = kube::is_named_by_wish(&wanting[0]);
            let first = place(&wanting[0]);
            wanting
                .iter()
                .cloned()
                .partition(|view| place(view) == first || (shares && kube::is_named_by_wish(view)))
        };
        if !others.is_empty() {
            let unnamed = others
                .iter()
                .map(|view| unnamed(view, label, holders.first()));
            self.unnamed.insert(label.to_owned(), unnamed.collect());
        }
        for view in others {
            let addresses = pointers::own_addresses(&view, &self.hosts);
            self.forget_pointers(label, &addresses);
        }
        if holders.is_empty() {
            return;
        }
        let preparer = Preparer::new(&self.naming, &self.config);
        let fronts = kube::fronts(&holders[0], &self.hosts);
        if fronts.instances.is_empty() {
            self.ingress.remove(&*key);
        } else {
            let sets = preparer.sets(label, &fronts.instances, fronts.ttl_seconds);
            let made = PreparedService {
                sets,
                ..PreparedService::default()
            };
            self.ingress.insert(key.clone(), Arc::new(made));
        }
        let made = self.prepare_once(&preparer, label, holders, prepared);
        let addresses: Vec<_> = made
            .views
            .iter()
            .flat_map(|view| pointers::own_addresses(view, &self.hosts))
            .collect();
        pointers::add(&mut self.reverse.instances, &key, addresses.into_iter());
        self.services.insert(key, made);
    }

    /// As it was prepared for another name, unless that matters.
    fn prepare_once(
        &self,
        preparer: &Preparer<'_>,
        label: &str,
        views: Vec<Arc<ServiceView>>,
        prepared: &mut Prepared,
    ) -> Arc<PreparedService> {
        let alone = match views.as_slice() {
            // A domain outside that is the service's own name is told as its node: each of its names says another thing.
            [view] if kube::external(view).is_none() => Some(place(view)),
            _ => None,
        };
        let known = alone.and_then(|place| prepared.get(&place));
        if let Some(known) =
            known.filter(|known| known.ttl_seconds == preparer.ttl_seconds(label, ttl(&views)))
        {
            return known.clone();
        }
        let made = Arc::new(self.prepare(preparer, label, views));
        if let Some(place) = alone {
            prepared.insert(place, made.clone());
        }
        made
    }

    fn prepare(
        &self,
        preparer: &Preparer<'_>,
        label: &str,
        views: Vec<Arc<ServiceView>>,
    ) -> PreparedService {
        let (mut instances, mut members) = (Vec::new(), Vec::new());
        for view in &views {
            for located in kube::usable(view, &self.hosts) {
                let start = count(instances.len());
                instances.extend(located.instances);
                members.push((
                    Arc::as_ptr(located.endpoint) as usize,
                    start..count(instances.len()),
                ));
            }
            instances.extend(kube::external(view));
        }
        members.sort_unstable_by_key(|(place, _)| *place);
        let sets = preparer.sets(label, &instances, ttl(&views));
        let zones = views
            .iter()
            .flat_map(|view| self.zones(preparer, label, view, sets.all.ttl_seconds));
        PreparedService {
            zones: zones.collect(),
            ttl_seconds: sets.all.ttl_seconds,
            sets,
            members,
            views,
        }
    }

    /// The sets of other zones that the policy lets be named, by their labels. Two zones of one label are both refused: a
    /// caller could not know whose endpoints it is given.
    fn zones(
        &self,
        preparer: &Preparer<'_>,
        label: &str,
        view: &ServiceView,
        ttl: u32,
    ) -> BTreeMap<Label, Arc<RecordSet>> {
        let mut sets = BTreeMap::new();
        if view.policy() == ZonePolicy::Strict {
            return sets;
        }
        let members = view.tiers().iter().flat_map(Tier::members);
        let zones: BTreeSet<&str> = members
            .filter_map(|member| Some(member.zone()?.as_str()))
            .collect();
        let mut seen = HashSet::new();
        for zone in zones {
            let zone_label = zone::label(&self.config, zone);
            let Ok(zone) = Zone::parse(zone) else {
                continue;
            };
            if !seen.insert(zone_label.clone()) || self.naming.is_ours(zone_label.as_bytes()) {
                sets.remove(zone_label.as_bytes());
                continue;
            }
            let located = kube::of_zone(view, &zone, &self.hosts);
            let instances: Vec<_> = located
                .into_iter()
                .flat_map(|located| located.instances)
                .collect();
            let chosen: Vec<_> = instances
                .iter()
                .map(|instance| (instance, instance.port))
                .collect();
            let (set, _) = preparer.set(label, &chosen, ttl);
            sets.insert(lower(&zone_label), Arc::new(set));
        }
        sets
    }
}

fn ttl(views: &[Arc<ServiceView>]) -> Option<u32> {
    views.iter().find_map(|view| kube::ttl_seconds(view))
}

fn unnamed(view: &ServiceView, label: &str, holder: Option<&Arc<ServiceView>>) -> Unnamed {
    let (service, label) = (view.name().clone(), label.to_owned());
    match holder {
        Some(holder) => Unnamed::Taken {
            service,
            label,
            holder: holder.name().clone(),
        },
        None => Unnamed::TooLong { service, label },
    }
}

/// The older service comes first, then the one with the smaller name; one whose age is not known comes last.
fn age(view: &ServiceView) -> (bool, Option<&str>, &ServiceName) {
    let created = view.spec().and_then(|spec| spec.created.as_deref());
    (created.is_none(), created, view.name())
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
