// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Consul has stated so far, and which updates take the store from there to what it states now. Pure.
//!
//! Nothing is told before every service was read once; then the full lists are, and from then on the differences.

use super::translate::Translated;
use crate::{
    model::{Node, NodeName, Service, ServiceName, Slice, SliceKey},
    store::{Kind, Object, ObjectKey, Problem, SourceId, Update},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was stated.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    services: BTreeMap<ServiceName, Held>,
    nodes: BTreeMap<NodeName, HeldNode>,
    /// What is wrong with the list as a whole.
    troubles: BTreeSet<Problem>,
    is_told: bool,
}

#[derive(Debug)]
struct Held {
    translated: Translated,
    service: Service,
    slices: BTreeMap<SliceKey, Slice>,
}

/// A node, and the services with instances on it.
#[derive(Debug)]
struct HeldNode {
    node: Node,
    services: BTreeSet<ServiceName>,
}

impl Ledger {
    /// What the service was read as last.
    pub(super) fn read(&self, service: &ServiceName) -> Option<&Translated> {
        Some(&self.services.get(service)?.translated)
    }

    /// Whether the service has instances.
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        self.read(service).is_some_and(|read| !read.is_empty())
    }

    /// Whether the full lists were told.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// The service is as given now.
    pub(super) fn set(&mut self, name: &ServiceName, translated: Translated) -> Vec<Update> {
        let held = Held {
            service: translated.service(name),
            slices: translated.slices(name),
            translated,
        };
        if self
            .services
            .get(name)
            .is_some_and(|before| before.translated == held.translated)
        {
            return Vec::new();
        }
        let mut updates = self.put_nodes(name, &held.translated);
        if held.translated.is_empty() {
            let was_stated = self.has(name);
            updates.extend(was_stated.then(|| remove(ObjectKey::Service(name.clone()))));
        } else {
            updates.push(upsert(Object::Service(held.service.clone())));
        }
        let before = self.services.get(name).map(|held| &held.slices);
        let is_new =
            |slice: &&Slice| before.and_then(|slices| slices.get(&slice.key)) != Some(slice);
        updates.extend(
            held.slices
                .values()
                .filter(is_new)
                .cloned()
                .map(Object::Slice)
                .map(upsert),
        );
        let keys = before.into_iter().flat_map(BTreeMap::keys);
        let gone = keys.filter(|key| !held.slices.contains_key(key));
        updates.extend(gone.cloned().map(ObjectKey::Slice).map(remove));
        updates.extend(held.translated.problems.iter().cloned().map(reject));
        self.services.insert(name.clone(), held);
        updates.extend(self.drop_nodes(name));
        if self.is_told { updates } else { Vec::new() }
    }

    /// The service is not read any more.
    pub(super) fn remove(&mut self, name: &ServiceName) -> Vec<Update> {
        let updates = self.set(name, Translated::default());
        self.services.remove(name);
        updates
    }

    /// What is wrong with the list as a whole is this now.
    pub(super) fn set_troubles(&mut self, troubles: BTreeSet<Problem>) -> Vec<Update> {
        if self.troubles == troubles {
            return Vec::new();
        }
        let mended = !self.troubles.is_subset(&troubles);
        let new: Vec<_> = troubles.difference(&self.troubles).cloned().collect();
        self.troubles = troubles;
        if mended && self.is_told {
            // Problems of no object go with the next full list.
            return self.list_services();
        }
        if mended {
            let reset = [Update::Reset(SOURCE, Kind::Services)];
            return reset
                .into_iter()
                .chain(self.troubles.iter().cloned().map(reject))
                .collect();
        }
        new.into_iter().map(reject).collect()
    }

    /// Every service was read: the full lists.
    pub(super) fn complete(&mut self) -> Vec<Update> {
        self.is_told = true;
        let nodes = self
            .nodes
            .values()
            .map(|held| Object::Node(held.node.clone()));
        let slices = self.services.values().flat_map(|held| held.slices.values());
        let mut updates = list(Kind::Nodes, nodes.map(upsert));
        updates.extend(self.list_services());
        updates.extend(list(
            Kind::Slices,
            slices.cloned().map(Object::Slice).map(upsert),
        ));
        updates
    }

    fn list_services(&self) -> Vec<Update> {
        let stated = self
            .services
            .values()
            .filter(|held| !held.translated.is_empty());
        let services = stated.map(|held| upsert(Object::Service(held.service.clone())));
        let problems = self
            .services
            .values()
            .flat_map(|held| &held.translated.problems);
        let problems = problems.chain(&self.troubles).cloned().map(reject);
        list(Kind::Services, services.chain(problems))
    }

    /// Notes the nodes of a service; those that are new or differ.
    fn put_nodes(&mut self, service: &ServiceName, translated: &Translated) -> Vec<Update> {
        let mut updates = Vec::new();
        for (name, node) in translated.nodes() {
            let held = self.nodes.entry(name).or_insert_with(|| {
                updates.push(upsert(Object::Node(node.clone())));
                HeldNode {
                    node: node.clone(),
                    services: BTreeSet::new(),
                }
            });
            held.services.insert(service.clone());
            if held.node != node {
                held.node = node.clone();
                updates.push(upsert(Object::Node(node)));
            }
        }
        updates
    }

    /// Drops the nodes that the service had and nobody has any more.
    fn drop_nodes(&mut self, service: &ServiceName) -> Vec<Update> {
        let now = self
            .services
            .get(service)
            .map(|held| held.translated.nodes())
            .unwrap_or_default();
        let mut updates = Vec::new();
        self.nodes.retain(|name, held| {
            if !now.contains_key(name) {
                held.services.remove(service);
            }
            let stays = !held.services.is_empty();
            if !stays {
                updates.push(remove(ObjectKey::Node(name.clone())));
            }
            stays
        });
        updates
    }
}

fn list(kind: Kind, content: impl Iterator<Item = Update>) -> Vec<Update> {
    let (reset, synced) = (Update::Reset(SOURCE, kind), Update::Synced(SOURCE, kind));
    std::iter::once(reset)
        .chain(content)
        .chain([synced])
        .collect()
}

fn upsert(object: Object) -> Update {
    Update::Upsert(SOURCE, object)
}

fn remove(key: ObjectKey) -> Update {
    Update::Remove(SOURCE, key)
}

fn reject(problem: Problem) -> Update {
    Update::Reject(SOURCE, problem)
}

const SOURCE: SourceId = SourceId::Consul;

#[cfg(test)]
mod tests {
    use super::{
        super::{ZoneFrom, select::problem, translate::Dictionary, wire},
        *,
    };
    use crate::{
        model::Zone,
        store::{StateConfig, Writer, channel},
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    /// A service with an instance on each node.
    fn translated(service: &str, nodes: &[&str]) -> Translated {
        let dictionary = Dictionary {
            namespace: "default".into(),
            zone_from: ZoneFrom::Datacenter,
            tag: None,
        };
        let entry = |(number, node): (usize, &&str)| {
            json!({ "Node": { "Node": node, "Address": format!("10.0.0.{number}"), "Datacenter": "dc1" },
                    "Service": { "ID": service, "Port": 80 + i32::from(*node == "c") } })
        };
        let entries: Vec<_> = nodes.iter().enumerate().map(entry).collect();
        let readings = wire::entries(json!(entries).to_string().as_bytes()).unwrap();
        dictionary.translate(&name(service), readings, None)
    }

    fn words(updates: &[Update]) -> Vec<String> {
        let word = |update: &Update| match update {
            Update::Reset(_, kind) => format!("reset {kind}"),
            Update::Synced(_, kind) => format!("synced {kind}"),
            Update::Upsert(_, object) => format!("+ {}", object.key()),
            Update::Remove(_, key) | Update::Absent(_, key) => format!("- {key}"),
            Update::Reject(_, problem) => format!("! {}", problem.object),
            other => format!("{other:?}"),
        };
        updates.iter().map(word).collect()
    }

    #[test]
    fn nothing_is_told_before_the_full_lists() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.set(&name("web"), translated("web", &["a"])), []);
        assert_eq!(
            words(&ledger.complete()),
            [
                "reset nodes",
                "+ Node a",
                "synced nodes",
                "reset services",
                "+ Service default/web",
                "synced services",
                "reset slices",
                "+ EndpointSlice default/web-80",
                "synced slices",
            ]
        );
    }

    #[test]
    fn differences_follow_and_no_difference_says_nothing() {
        let mut ledger = Ledger::default();
        ledger.complete();
        ledger.set(&name("web"), translated("web", &["a", "b"]));
        assert_eq!(ledger.set(&name("web"), translated("web", &["a", "b"])), []);
        ledger.set(&name("api"), translated("api", &["b"]));
        let moved = ledger.set(&name("web"), translated("web", &["c"]));
        assert_eq!(
            words(&moved),
            [
                "+ Node c",
                "+ Service default/web",
                "+ EndpointSlice default/web-81",
                "- EndpointSlice default/web-80",
                "- Node a"
            ],
            "node b is still api's"
        );
        let gone = ledger.remove(&name("web"));
        assert_eq!(
            words(&gone),
            [
                "- Service default/web",
                "- EndpointSlice default/web-81",
                "- Node c"
            ]
        );
        assert_eq!(ledger.remove(&name("web")), []);
    }

    #[test]
    fn a_trouble_is_told_at_once_and_goes_with_the_next_list() {
        let mut ledger = Ledger::default();
        let trouble = || BTreeSet::from([problem("Consul", "ACL", "no right".into())]);
        assert_eq!(words(&ledger.set_troubles(trouble())), ["! Consul"]);
        assert_eq!(ledger.set_troubles(trouble()), []);
        ledger.complete();
        let mended = ledger.set_troubles(BTreeSet::new());
        assert_eq!(words(&mended), ["reset services", "synced services"]);
    }

    fn apply(writer: &mut Writer, updates: Vec<Update>) {
        for update in updates {
            writer.apply(update);
        }
    }

    proptest! {
        /// Told in differences or as a list, the store ends with the same objects.
        #[test]
        fn differences_add_up_to_the_list(history in prop::collection::vec((0..3_usize, 0..6_usize), 1..25),
                                          complete_after in 0..25_usize) {
            let services = ["web", "api", "pay"];
            let nodes: [&[&str]; 6] = [&[], &["a"], &["a", "b"], &["b", "c"], &["c"], &["a", "b", "c"]];
            let zone = Zone::parse("dc1").ok();
            let config = || StateConfig::new(NodeName::parse("a").unwrap()).zone(zone.clone());
            let ((mut writer, _), mut ledger) = (channel(config()), Ledger::default());
            for (turn, (service, on)) in history.iter().enumerate() {
                if turn == complete_after {
                    apply(&mut writer, ledger.complete());
                }
                let (service, on) = (services[*service], nodes[*on]);
                let updates = match on {
                    [] => ledger.remove(&name(service)),
                    _ => ledger.set(&name(service), translated(service, on)),
                };
                apply(&mut writer, updates);
            }
            let (mut whole, _) = channel(config());
            apply(&mut whole, ledger.complete());
            if complete_after >= history.len() {
                apply(&mut writer, ledger.complete());
            }
            prop_assert_eq!(writer.objects_of_zone(), whole.objects_of_zone());
        }
    }
}
