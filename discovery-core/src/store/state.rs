// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer's working set: updates in, snapshots out. Pure: no I/O, no clock, no lock.
//!
//! What the sources stated is kept unfiltered; the zone's view is computed from it, so that events may come in any order
//! (a slice before its node, a node before the zone is known) and still end in the same snapshot.

use super::{
    Coverage, Generation, Kind, Object, ObjectKey, Problem, Snapshot, SourceId, Update, ZoneStatus,
    build::{BuildContext, build_view},
};
use crate::model::{
    AddressRules, Node, NodeName, Service, ServiceName, Slice, SliceKey, Zone, ZoneKeys, ZonePolicy,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What the state has to know before the first update.
#[derive(Clone, Debug)]
pub struct StateConfig {
    pub(super) node: NodeName,
    pub(super) zone: Option<Zone>,
    pub(super) zone_keys: ZoneKeys,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: AddressRules,
}

impl StateConfig {
    /// The configuration of the node with the given name: zone by its label, policy `strict`, no loopback endpoints.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            zone: None,
            zone_keys: ZoneKeys::default(),
            policy: ZonePolicy::default(),
            addresses: AddressRules::default(),
        }
    }

    /// The zone by configuration instead of by label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }

    /// The labels that name the zone; here only for what is told to people, since sources read labels.
    #[must_use]
    pub fn zone_keys(mut self, keys: ZoneKeys) -> Self {
        self.zone_keys = keys;
        self
    }

    /// The policy of services that ask for none.
    #[must_use]
    pub fn policy(mut self, policy: ZonePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Which addresses endpoints may have.
    #[must_use]
    pub fn addresses(mut self, rules: AddressRules) -> Self {
        self.addresses = rules;
        self
    }
}

/// What an update did, and thus how soon it should be published.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Nothing that anybody sees.
    Nothing,
    /// Something was gained: may wait for more to come.
    Gained,
    /// Something may have been lost: publish at once.
    Lost,
}

/// The working set of the one writer.
#[derive(Debug)]
pub struct State {
    config: StateConfig,
    own_node: OwnNode,
    nodes: BTreeMap<NodeName, Node>,
    services: BTreeMap<ServiceName, Arc<Service>>,
    slices: BTreeMap<SliceKey, Slice>,
    slices_of: HashMap<ServiceName, BTreeSet<SliceKey>>,
    lists: HashMap<Kind, List>,
    problems: BTreeSet<(SourceId, Problem)>,
    touched: Touched,
}

#[derive(Debug, Default)]
enum OwnNode {
    #[default]
    Unknown,
    Absent,
    Known(Node),
}

/// How far the list of one kind has come.
#[derive(Debug, Default)]
struct List {
    /// The keys that the list under way has named so far.
    open: Option<HashSet<ObjectKey>>,
    synced_by: Option<SourceId>,
}

/// What the next snapshot has to look at again.
#[derive(Debug, Default)]
struct Touched {
    everything: bool,
    services: HashSet<ServiceName>,
}

impl State {
    /// The state before anything was read.
    pub fn new(config: StateConfig) -> Self {
        Self {
            config,
            own_node: OwnNode::default(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: HashMap::new(),
            lists: HashMap::new(),
            problems: BTreeSet::new(),
            touched: Touched::default(),
        }
    }

    /// Takes one statement in. Costs O(log n) plus the size of the object; a finished list costs O(n).
    pub fn apply(&mut self, update: Update) -> Change {
        match update {
            Update::Reset(source, kind) => self.reset(source, kind),
            Update::Upsert(_, object) => self.upsert(object),
            Update::Kept(_, key) => {
                self.mark_named(&key);
                Change::Nothing
            }
            Update::Remove(_, key) | Update::Absent(_, key) => self.remove(&key),
            Update::Synced(source, kind) => self.synced(source, kind),
            Update::Reject(source, problem) => self.reject(source, problem),
        }
    }

    /// Where our own zone stands.
    pub fn zone(&self) -> ZoneStatus {
        if let Some(zone) = &self.config.zone {
            return ZoneStatus::Known(zone.clone());
        }
        match &self.own_node {
            OwnNode::Unknown => ZoneStatus::Unknown,
            OwnNode::Absent => ZoneStatus::NoNode {
                node: self.config.node.clone(),
            },
            OwnNode::Known(Node {
                zone: Some(zone), ..
            }) => ZoneStatus::Known(zone.clone()),
            OwnNode::Known(node) => ZoneStatus::NoLabel {
                node: node.name.clone(),
                keys: self.config.zone_keys.clone(),
            },
        }
    }

    /// The snapshot that follows `previous`, or none when it would say the same.
    ///
    /// Costs O(services) pointer copies plus the rebuild of the services that were touched; all of them when the zone or
    /// its nodes changed.
    pub fn snapshot(&mut self, previous: &Snapshot) -> Option<Snapshot> {
        let zone = self.zone();
        let (coverage, missing) = self.coverage();
        let serves = coverage != Coverage::Partial;
        let served_before = previous.coverage != Coverage::Partial;
        let touched = std::mem::take(&mut self.touched);
        let everything = touched.everything || zone != previous.zone || serves != served_before;
        let (services, services_changed) = match zone.zone() {
            Some(zone) if serves && everything => self.build_all(zone, previous),
            Some(zone) if serves => self.build_touched(zone, previous, &touched.services),
            // Fail closed: without a zone, or with half a list, nothing is served.
            _ => (HashMap::new(), !previous.services.is_empty()),
        };
        let nodes = self.zone_nodes(zone.zone());
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|(_, problem)| problem.clone())
            .collect();
        let changed = services_changed
            || zone != previous.zone
            || coverage != previous.coverage
            || missing[..] != previous.missing[..]
            || nodes[..] != previous.nodes[..]
            || problems[..] != previous.problems[..];
        changed.then(|| Snapshot {
            generation: Generation(previous.generation.0 + 1),
            zone,
            coverage,
            missing: missing.into(),
            services,
            nodes: nodes.into(),
            problems: problems.into(),
        })
    }

    /// What has to be on disk to serve again without any source: the zone's nodes, the services and the endpoints that
    /// callers of this zone may be given.
    pub(super) fn objects_of_zone(&self) -> Vec<Object> {
        let zone = self.zone();
        let own = match &self.own_node {
            OwnNode::Known(node) => Some(Object::OwnNode(node.clone())),
            _ => None,
        };
        let nodes = self.zone_nodes(zone.zone());
        let names: HashSet<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
        let slices = self.slices.values().map(|slice| {
            let mut slice = slice.clone();
            if self.policy_of(&slice.service) == ZonePolicy::Strict {
                slice
                    .endpoints
                    .retain(|e| e.node.as_ref().is_some_and(|node| names.contains(node)));
            }
            Object::Slice(slice)
        });
        own.into_iter()
            .chain(nodes.iter().cloned().map(Object::Node))
            .chain(
                self.services
                    .values()
                    .map(|service| Object::Service(Service::clone(service))),
            )
            .chain(slices)
            .collect()
    }

    fn reset(&mut self, source: SourceId, kind: Kind) -> Change {
        self.lists.entry(kind).or_default().open = Some(HashSet::new());
        let before = self.problems.len();
        self.problems
            .retain(|(by, problem)| (*by, problem.kind) != (source, kind));
        if self.problems.len() == before {
            Change::Nothing
        } else {
            Change::Gained
        }
    }

    fn upsert(&mut self, object: Object) -> Change {
        let key = object.key();
        self.mark_named(&key);
        let mended = self.forget_problems_of(&key);
        let change = match object {
            Object::OwnNode(node) => self.upsert_own_node(node),
            Object::Node(node) => self.upsert_node(&node),
            Object::Service(service) => self.upsert_service(service),
            Object::Slice(slice) => self.upsert_slice(slice),
        };
        change.max(if mended {
            Change::Gained
        } else {
            Change::Nothing
        })
    }

    /// The list under way, if there is one, has named the key.
    fn mark_named(&mut self, key: &ObjectKey) {
        let list = self.lists.get_mut(&key.kind());
        if let Some(named) = list.and_then(|list| list.open.as_mut()) {
            named.insert(key.clone());
        }
    }

    fn upsert_own_node(&mut self, node: Node) -> Change {
        let zone = self.zone();
        self.own_node = OwnNode::Known(node);
        if self.zone() == zone {
            Change::Gained
        } else {
            self.touch_everything()
        }
    }

    fn upsert_node(&mut self, node: &Node) -> Change {
        match self.nodes.insert(node.name.clone(), node.clone()) {
            Some(before) if before == *node => Change::Nothing,
            _ => self.touch_everything(),
        }
    }

    fn upsert_service(&mut self, service: Service) -> Change {
        let name = service.name.clone();
        if self
            .services
            .get(&name)
            .is_some_and(|before| **before == service)
        {
            return Change::Nothing;
        }
        self.services.insert(name.clone(), Arc::new(service));
        self.touched.services.insert(name);
        Change::Gained
    }

    fn upsert_slice(&mut self, slice: Slice) -> Change {
        let (key, service) = (slice.key.clone(), slice.service.clone());
        let before = self.slices.insert(key.clone(), slice);
        let now = &self.slices[&key];
        let change = match &before {
            Some(before) if before == now => return Change::Nothing,
            Some(before) if loses(before, now) => Change::Lost,
            _ => Change::Gained,
        };
        if let Some(before) = before.filter(|before| before.service != service) {
            self.unlink_slice(&key, &before.service);
        }
        self.slices_of
            .entry(service.clone())
            .or_default()
            .insert(key);
        self.touched.services.insert(service);
        change
    }

    fn remove(&mut self, key: &ObjectKey) -> Change {
        let mended = self.forget_problems_of(key);
        let removed = match key {
            ObjectKey::OwnNode(_) => {
                let was_absent = matches!(self.own_node, OwnNode::Absent);
                self.own_node = OwnNode::Absent;
                !was_absent && self.touch_everything() == Change::Lost
            }
            ObjectKey::Node(name) => {
                self.nodes.remove(name).is_some() && self.touch_everything() == Change::Lost
            }
            ObjectKey::Service(name) => {
                self.services.remove(name).is_some() && self.touched.services.insert(name.clone())
            }
            ObjectKey::Slice(key) => match self.slices.remove(key) {
                Some(slice) => {
                    self.unlink_slice(key, &slice.service);
                    true
                }
                None => false,
            },
        };
        match (removed, mended) {
            (true, _) => Change::Lost,
            (false, true) => Change::Gained,
            (false, false) => Change::Nothing,
        }
    }

    fn unlink_slice(&mut self, key: &SliceKey, service: &ServiceName) {
        if let Some(keys) = self.slices_of.get_mut(service) {
            keys.remove(key);
            if keys.is_empty() {
                self.slices_of.remove(service);
            }
        }
        self.touched.services.insert(service.clone());
    }

    fn synced(&mut self, source: SourceId, kind: Kind) -> Change {
        let list = self.lists.entry(kind).or_default();
        let first = list.synced_by.replace(source) != Some(source);
        let Some(seen) = list.open.take() else {
            return Change::Gained;
        };
        let gone: Vec<_> = self
            .keys_of(kind)
            .filter(|key| !seen.contains(key))
            .collect();
        let change = gone
            .iter()
            .map(|key| self.remove(key))
            .max()
            .unwrap_or(Change::Nothing);
        change.max(if first {
            Change::Gained
        } else {
            Change::Nothing
        })
    }

    fn reject(&mut self, source: SourceId, problem: Problem) -> Change {
        if self.problems.len() >= PROBLEMS_MAX || !self.problems.insert((source, problem)) {
            return Change::Nothing;
        }
        Change::Gained
    }

    fn forget_problems_of(&mut self, key: &ObjectKey) -> bool {
        if self.problems.is_empty() {
            return false;
        }
        let (before, object) = (self.problems.len(), key.to_string());
        self.problems
            .retain(|(_, problem)| problem.object != object);
        self.problems.len() != before
    }

    fn keys_of(&self, kind: Kind) -> Box<dyn Iterator<Item = ObjectKey> + '_> {
        match kind {
            Kind::OwnNode => match &self.own_node {
                OwnNode::Known(node) => {
                    Box::new(Some(ObjectKey::OwnNode(node.name.clone())).into_iter())
                }
                _ => Box::new(std::iter::empty()),
            },
            Kind::Nodes => Box::new(self.nodes.keys().cloned().map(ObjectKey::Node)),
            Kind::Services => Box::new(self.services.keys().cloned().map(ObjectKey::Service)),
            Kind::Slices => Box::new(self.slices.keys().cloned().map(ObjectKey::Slice)),
        }
    }

    fn touch_everything(&mut self) -> Change {
        self.touched.everything = true;
        Change::Lost
    }

    fn coverage(&self) -> (Coverage, Vec<Kind>) {
        let synced_by = |kind| self.lists.get(&kind).and_then(|list| list.synced_by);
        // A configured zone needs no node to tell it.
        let needed = |kind: &Kind| *kind != Kind::OwnNode || self.config.zone.is_none();
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(needed).collect();
        let missing: Vec<_> = kinds
            .iter()
            .copied()
            .filter(|kind| synced_by(*kind).is_none())
            .collect();
        let coverage = match missing.is_empty() {
            false => Coverage::Partial,
            true if kinds
                .iter()
                .any(|kind| synced_by(*kind) == Some(SourceId::Disk)) =>
            {
                Coverage::Disk
            }
            true => Coverage::Synced,
        };
        (coverage, missing)
    }

    fn zone_nodes(&self, zone: Option<&Zone>) -> Vec<Node> {
        let of_zone = |node: &&Node| zone.is_some() && node.zone.as_ref() == zone;
        let mut nodes: BTreeMap<&NodeName, &Node> = self
            .nodes
            .values()
            .filter(of_zone)
            .map(|node| (&node.name, node))
            .collect();
        if let OwnNode::Known(node) = &self.own_node
            && of_zone(&node)
        {
            nodes.insert(&node.name, node);
        }
        nodes.into_values().cloned().collect()
    }

    fn policy_of(&self, service: &ServiceName) -> ZonePolicy {
        let asked = self
            .services
            .get(service)
            .and_then(|service| service.zone_policy);
        asked.unwrap_or(self.config.policy)
    }

    fn build_all(&self, zone: &Zone, previous: &Snapshot) -> (Services, bool) {
        let names: BTreeSet<_> = self.services.keys().chain(self.slices_of.keys()).collect();
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

    fn build_touched(
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
    ) -> Option<Arc<super::ServiceView>> {
        let spec = self.services.get(name);
        let keys = self.slices_of.get(name);
        if spec.is_none() && keys.is_none() {
            return None;
        }
        let slices: Vec<_> = keys
            .into_iter()
            .flatten()
            .filter_map(|key| self.slices.get(key))
            .collect();
        let context = BuildContext {
            zone,
            zone_of: &|node| self.zone_of(node),
            policy: self.policy_of(name),
            addresses: &self.config.addresses,
        };
        Some(build_view(
            &context,
            name,
            spec,
            &slices,
            previous.services.get(name),
        ))
    }

    fn zone_of(&self, node: &NodeName) -> Option<&Zone> {
        match &self.own_node {
            OwnNode::Known(own) if own.name == *node => own.zone.as_ref(),
            _ => self.nodes.get(node)?.zone.as_ref(),
        }
    }
}

type Services = HashMap<ServiceName, Arc<super::ServiceView>>;

/// Whether a caller of the old slice could have been given an endpoint that the new one takes away.
fn loses(before: &Slice, now: &Slice) -> bool {
    before.ports != now.ports
        || before.service != now.service
        || before
            .endpoints
            .iter()
            .any(|old| !now.endpoints.contains(old))
}

/// Problems kept for people; more of them say nothing new.
const PROBLEMS_MAX: usize = 1_000;
