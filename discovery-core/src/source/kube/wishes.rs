// SPDX-License-Identifier: MIT OR Apache-2.0
//! By which labels nodes have to be known: those of our zone, and those under which a service wants its endpoints near.
//!
//! In: what is stated of services, and the labels of our own node. Out: label and value of each list of nodes. Pure.

use crate::{
    model::{NodeLabels, Scope, ServiceName, Zone, ZoneKey},
    store::{Kind, Object, ObjectKey, Update},
};
use std::collections::{BTreeMap, BTreeSet};

/// What services name as near, where that is not the zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    scopes: BTreeMap<ServiceName, Scope>,
    /// What the list under way has named.
    named: Option<BTreeSet<ServiceName>>,
}

impl Wishes {
    /// Takes in a statement about services; whether other labels may be wished for than before.
    pub(super) fn observe(&mut self, update: &Update) -> bool {
        match update {
            Update::Reset(_, Kind::Services) => {
                self.named = Some(BTreeSet::new());
                false
            }
            Update::Upsert(_, Object::Service(service)) => {
                self.name(&service.name);
                match &service.scope {
                    Some(scope) if self.scopes.len() < SCOPES_MAX => {
                        let before = self.scopes.insert(service.name.clone(), scope.clone());
                        before.as_ref() != Some(scope)
                    }
                    _ => self.scopes.remove(&service.name).is_some(),
                }
            }
            Update::Kept(_, ObjectKey::Service(service)) => {
                self.name(service);
                false
            }
            Update::Remove(_, ObjectKey::Service(service)) => self.scopes.remove(service).is_some(),
            Update::Synced(_, Kind::Services) => {
                let before = self.scopes.len();
                if let Some(named) = self.named.take() {
                    self.scopes.retain(|service, _| named.contains(service));
                }
                self.scopes.len() != before
            }
            _ => false,
        }
    }

    fn name(&mut self, service: &ServiceName) {
        if let Some(named) = &mut self.named {
            named.insert(service.clone());
        }
    }

    /// The lists of nodes to read: that of the zone first, at most `limit`.
    pub(super) fn selectors(
        &self,
        zone: Option<&(ZoneKey, Zone)>,
        labels: &NodeLabels,
        limit: usize,
    ) -> Vec<(ZoneKey, Zone)> {
        let keys: BTreeSet<_> = self.scopes.values().flat_map(Scope::zone_keys).collect();
        let wished = keys
            .into_iter()
            .filter(|key| zone.is_none_or(|(known, _)| known != *key))
            .filter_map(|key| Some((key.clone(), labels.get(key)?.clone())));
        zone.cloned()
            .into_iter()
            .chain(wished)
            .take(limit)
            .collect()
    }
}

/// Services with a wish of their own; more of them get endpoints of the zone's nodes alone.
const SCOPES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Service, store::SourceId};

    const SOURCE: SourceId = SourceId::Kube;

    fn service(name: &str, key: Option<&str>) -> Update {
        let mut service = Service::new(ServiceName::new("shop", name).unwrap());
        service.scope = key.map(|key| Scope::of(ZoneKey::parse(key).unwrap()));
        Update::Upsert(SOURCE, Object::Service(service))
    }

    fn pair(key: &str, zone: &str) -> (ZoneKey, Zone) {
        (ZoneKey::parse(key).unwrap(), Zone::parse(zone).unwrap())
    }

    fn labels() -> NodeLabels {
        [pair("site", "mall-1"), pair("floor", "2")]
            .into_iter()
            .collect()
    }

    #[test]
    fn nodes_are_known_by_every_label_that_a_service_names_and_we_carry() {
        let (mut wishes, zone) = (Wishes::default(), pair("zone", "z"));
        let selectors = |wishes: &Wishes| wishes.selectors(Some(&zone), &labels(), 9);
        assert_eq!(selectors(&wishes), std::slice::from_ref(&zone));
        assert!(wishes.observe(&service("a", Some("floor"))));
        assert!(!wishes.observe(&service("a", Some("floor"))));
        assert!(wishes.observe(&service("b", Some("unknown"))));
        assert!(wishes.observe(&service("c", Some("zone"))));
        assert!(!wishes.observe(&service("d", None)));
        assert_eq!(selectors(&wishes), [zone.clone(), pair("floor", "2")]);
        assert!(wishes.observe(&service("a", None)));
        assert_eq!(selectors(&wishes), std::slice::from_ref(&zone));
    }

    #[test]
    fn a_list_forgets_what_it_does_not_name() {
        let mut wishes = Wishes::default();
        for name in ["a", "b"] {
            wishes.observe(&service(
                name,
                Some(if name == "a" { "site" } else { "floor" }),
            ));
        }
        wishes.observe(&Update::Reset(SOURCE, Kind::Services));
        let kept = ObjectKey::Service(ServiceName::new("shop", "a").unwrap());
        wishes.observe(&Update::Kept(SOURCE, kept));
        assert!(wishes.observe(&Update::Synced(SOURCE, Kind::Services)));
        assert_eq!(
            wishes.selectors(None, &labels(), 9),
            [pair("site", "mall-1")]
        );
    }
}
