// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer's working set: updates in, snapshots out. Pure: no I/O, no clock, no lock.
//!
//! What the sources stated is kept unfiltered; the zone's view is computed from it, so that events may come in any order
//! (a slice before its node, a node before the zone is known) and still end in the same snapshot. What each source states
//! is kept apart: a full list takes back what its own source stated and nothing else, an endpoint is joined with the nodes
//! of its own source, and which source is in force for a service is decided when its view is built ([`MergeRules`]).

mod own_node;

use super::{
    Choice, Coverage, Generation, HeldBack, HoldRule, Kind, MergeRules, MissingList, Object,
    ObjectKey, Problem, Snapshot, SourceId, Update, ZoneStatus,
    build::{BuildContext, build_view},
    hold::{Holds, Loss},
    near::{Near, Own},
    packed::{EndpointRef, PackedSlice},
    places::Names,
};
use crate::model::{
    AddressRules, Node, NodeName, Scope, Service, ServiceName, Slice, SliceKey, Unlocated, Zone,
    ZoneKey, ZoneKeys, ZonePolicy,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

/// What the state has to know before the first update.
#[derive(Clone, Debug)]
pub struct StateConfig {
    pub(super) node: NodeName,
    pub(super) zone: Option<Zone>,
    pub(super) pod_zone: Option<Zone>,
    pub(super) zone_keys: ZoneKeys,
    pub(super) unlocated: Unlocated,
    pub(super) policy: ZonePolicy,
    pub(super) addresses: AddressRules,
    pub(super) holds: HoldRule,
    pub(super) lists: Vec<(SourceId, Kind)>,
    pub(super) merge: MergeRules,
}

impl StateConfig {
    /// The configuration of the node with the given name: zone by its label, policy `strict`, no loopback endpoints.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            zone: None,
            pod_zone: None,
            zone_keys: ZoneKeys::default(),
            unlocated: Unlocated::default(),
            policy: ZonePolicy::default(),
            addresses: AddressRules::default(),
            holds: HoldRule::default(),
            lists: Vec::new(),
            merge: MergeRules::default(),
        }
    }

    /// The zone by configuration instead of by label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }

    /// The zone that the label `topology.kubernetes.io/zone` of our own pod names, which Kubernetes copies from the node
    /// when it binds the pod (1.35 and newer). It counts where the zone is first looked for under that key, goes before the
    /// own node, and does not follow it: after a node has moved its pods have to be made anew.
    #[must_use]
    pub fn pod_zone(mut self, zone: Option<Zone>) -> Self {
        self.pod_zone = zone;
        self
    }

    /// What becomes of endpoints that are on no node.
    #[must_use]
    pub fn unlocated(mut self, policy: Unlocated) -> Self {
        self.unlocated = policy;
        self
    }

    /// The labels that name the zone; sources read them, and services may name others.
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

    /// How long what a source loses in mass stays in force; zero switches a hold off.
    #[must_use]
    pub fn holds(mut self, rule: HoldRule) -> Self {
        self.holds = rule;
        self
    }

    /// The lists that have to be read before anything is served, of every source that is configured. By default each kind
    /// by any source.
    #[must_use]
    pub fn lists(mut self, lists: impl IntoIterator<Item = (SourceId, Kind)>) -> Self {
        self.lists = lists.into_iter().collect();
        self
    }

    /// What is done where several sources state one service.
    #[must_use]
    pub fn merge(mut self, rules: MergeRules) -> Self {
        self.merge = rules;
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
    /// Our node as it is stated now, while its new zone is not all known and the old one still serves.
    next_own: Option<NextOwn>,
    nodes: BTreeMap<(NodeName, SourceId), Node>,
    services: BTreeMap<(ServiceName, SourceId), Arc<Service>>,
    slices: BTreeMap<(SliceKey, SourceId), PackedSlice>,
    names: Names,
    denied: BTreeSet<Kind>,
    slices_of: HashMap<ServiceName, BTreeSet<(SliceKey, SourceId)>>,
    /// The sources that have stated a service or slice so far.
    speakers: BTreeSet<SourceId>,
    held_back: BTreeMap<ServiceName, Choice>,
    lists: HashMap<(SourceId, Kind), List>,
    holds: Holds,
    problems: BTreeSet<(SourceId, Problem)>,
    touched: Touched,
}

/// Our node in another zone than the one that is served.
#[derive(Debug)]
struct NextOwn {
    source: SourceId,
    node: Node,
    /// When the new zone is taken as it is; set by the first tick.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
enum OwnNode {
    #[default]
    Unknown,
    Absent,
    Known(SourceId, Node),
}

/// How far the list of one kind of one source has come.
#[derive(Debug, Default)]
struct List {
    open: Option<OpenList>,
    is_synced: bool,
}

/// A list under way. Nothing that it says is worth a publication of its own before it is complete.
#[derive(Debug)]
struct OpenList {
    /// The keys that it has named so far.
    seen: HashSet<ObjectKey>,
    change: Change,
    went_back: bool,
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
            holds: Holds::new(config.holds),
            config,
            own_node: OwnNode::default(),
            next_own: None,
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            names: Names::default(),
            denied: BTreeSet::new(),
            slices_of: HashMap::new(),
            speakers: BTreeSet::new(),
            held_back: BTreeMap::new(),
            lists: HashMap::new(),
            problems: BTreeSet::new(),
            touched: Touched::default(),
        }
    }

    /// Takes one statement in. Costs O(log n) plus the size of the object; a finished list costs O(n).
    pub fn apply(&mut self, update: Update) -> Change {
        match update {
            Update::Reset(source, kind) => self.reset(source, kind),
            Update::Upsert(source, object) => self.upsert(source, object),
            Update::Kept(source, key) => self.kept(source, key),
            Update::Remove(source, key) | Update::Absent(source, key) => self.remove(source, &key),
            Update::WentBack(source, kind) => self.went_back(source, kind),
            Update::Denied(_, kind) => self.deny(kind),
            Update::Synced(source, kind) => self.synced(source, kind),
            Update::Reject(source, problem) => self.reject(source, problem),
        }
    }

    /// Gives up what was held back for long enough. Holds begin with the first call after them.
    pub fn tick(&mut self, now: Instant) -> Change {
        let (gone, zone_is_gone) = self.holds.tick(now);
        let released = self.release(&gone, zone_is_gone);
        released.max(self.tick_move(now))
    }

    /// When the next call of [`State::tick`] has something to give up.
    pub fn due(&self) -> Option<Instant> {
        let moves_at = self.next_own.as_ref().and_then(|next| next.until);
        self.holds.due().into_iter().chain(moves_at).min()
    }

    /// Gives up everything that is held back, because a person says that the sources are right.
    pub fn accept(&mut self) -> Change {
        let zone_was_held = self.holds.node().is_some();
        let gone = self.holds.accept();
        self.release(&gone, zone_was_held)
    }

    fn release(&mut self, gone: &[(SourceId, ObjectKey)], zone_is_gone: bool) -> Change {
        let objects = gone
            .iter()
            .map(|(source, key)| self.drop_object(*source, key));
        let objects = objects.max();
        let zone = zone_is_gone.then(|| self.touch_everything());
        objects.max(zone).unwrap_or(Change::Nothing)
    }

    /// Where our own zone stands.
    pub fn zone(&self) -> ZoneStatus {
        if let Some(zone) = self.given_zone() {
            return ZoneStatus::Known(zone.clone());
        }
        if let Some(zone) = self.holds.node().and_then(|node| node.zone.clone()) {
            return ZoneStatus::Known(zone);
        }
        match &self.own_node {
            OwnNode::Unknown => ZoneStatus::Unknown,
            OwnNode::Absent => ZoneStatus::NoNode {
                node: self.config.node.clone(),
            },
            OwnNode::Known(
                _,
                Node {
                    zone: Some(zone), ..
                },
            ) => ZoneStatus::Known(zone.clone()),
            OwnNode::Known(_, node) => ZoneStatus::NoLabel {
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
        let is_degraded = self.is_degraded();
        let moving_to = self.next_own.as_ref();
        let moving_to = moving_to.and_then(|next| next.node.zone.clone());
        let everything = touched.everything || zone != previous.zone || serves != served_before;
        if everything {
            self.place_own();
        }
        self.hold_back(&touched.services);
        let (services, services_changed) = match zone.zone() {
            Some(zone) if serves && everything => self.build_all(zone, previous),
            Some(zone) if serves => self.build_touched(zone, previous, &touched.services),
            // Fail closed: without a zone, or with half a list, nothing is served.
            _ => (HashMap::new(), !previous.services.is_empty()),
        };
        let nodes = self.zone_nodes(zone.zone());
        let held = self.holds.report();
        let held_back = self.held_back();
        let stated = self.problems.iter().map(|(_, problem)| problem.clone());
        let problems: Vec<_> = stated
            .chain(held_back.iter().map(HeldBack::problem))
            .take(PROBLEMS_MAX)
            .collect();
        let changed = services_changed
            || zone != previous.zone
            || coverage != previous.coverage
            || is_degraded != previous.is_degraded
            || moving_to != previous.moving_to
            || missing[..] != previous.missing[..]
            || nodes[..] != previous.nodes[..]
            || held[..] != previous.held[..]
            || held_back[..] != previous.held_back[..]
            || problems[..] != previous.problems[..];
        changed.then(|| Snapshot {
            generation: Generation(previous.generation.0 + 1),
            zone,
            coverage,
            missing: missing.into(),
            services,
            nodes: nodes.into(),
            held: held.into(),
            problems: problems.into(),
            held_back: held_back.into(),
            is_degraded,
            moving_to,
        })
    }

    /// What has to be on disk to serve again without any source: the nodes that are near for any service, the services,
    /// and the endpoints that callers of this zone may be given, each with the source that states it.
    pub(super) fn objects_of_zone(&self) -> Vec<(SourceId, Object)> {
        let zone = self.zone();
        let own = self.known_own_node();
        let own = own.map(|(source, node)| (source, Object::OwnNode(node.clone())));
        let keys = self.keys_of_services();
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, node)| self.is_worth_keeping(node, &keys));
        let slices = zone.zone().into_iter().flat_map(|zone| {
            let near_part = |((key, source), slice): (&(SliceKey, SourceId), &PackedSlice)| {
                (*source, Object::Slice(self.near_part(zone, key, slice)))
            };
            self.slices.iter().map(near_part)
        });
        let services = self.services.iter();
        own.into_iter()
            .chain(nodes.map(|((_, source), node)| (*source, Object::Node(node.clone()))))
            .chain(
                services.map(|((_, source), service)| {
                    (*source, Object::Service(Service::clone(service)))
                }),
            )
            .chain(slices)
            .collect()
    }

    /// The slice without the endpoints that nobody here may be given.
    fn near_part(&self, zone: &Zone, key: &SliceKey, slice: &PackedSlice) -> Slice {
        let choice = self.choice(&slice.service);
        let near = self.near(zone, self.spec_of(&slice.service, &choice));
        let is_strict = self.policy_of(&slice.service) == ZonePolicy::Strict;
        slice.unpack(key, &self.names, |endpoint| {
            !is_strict || self.may_be_near(&near, endpoint)
        })
    }

    /// The label keys by which some service finds what is near.
    fn keys_of_services(&self) -> BTreeSet<&ZoneKey> {
        let scopes = self.services.values().filter_map(|s| s.scope.as_ref());
        scopes.flat_map(Scope::zone_keys).collect()
    }

    /// Whether the node is of our zone, or shares with ours a label that some service goes by.
    fn is_worth_keeping(&self, node: &Node, keys: &BTreeSet<&ZoneKey>) -> bool {
        let zone = self.zone();
        let is_of_zone = zone.zone().is_some() && node.zone.as_ref() == zone.zone();
        let own = self.known_own_node().map(|(_, own)| &own.labels);
        let shares = |key: &&ZoneKey| {
            let label = node.labels.get(key);
            label.is_some() && label == own.and_then(|own| own.get(key))
        };
        is_of_zone || keys.iter().any(shares)
    }

    fn reset(&mut self, source: SourceId, kind: Kind) -> Change {
        let list = self.lists.entry((source, kind)).or_default();
        // What an abandoned list has changed is still to be told.
        let change = list.open.take().map_or(Change::Nothing, |open| open.change);
        list.open = Some(OpenList {
            seen: HashSet::new(),
            change,
            went_back: false,
        });
        let before = self.problems.len();
        self.problems
            .retain(|(by, problem)| (*by, problem.kind) != (source, kind));
        if self.problems.len() == before {
            Change::Nothing
        } else {
            Change::Gained
        }
    }

    fn went_back(&mut self, source: SourceId, kind: Kind) -> Change {
        if let Some(open) = self.open_list(source, kind) {
            open.went_back = true;
        }
        Change::Nothing
    }

    fn open_list(&mut self, source: SourceId, kind: Kind) -> Option<&mut OpenList> {
        self.lists.get_mut(&(source, kind))?.open.as_mut()
    }

    fn upsert(&mut self, source: SourceId, object: Object) -> Change {
        let key = object.key();
        self.holds.forget(source, &key);
        let change = self.take_in(source, object, &key);
        match self.open_list(source, key.kind()) {
            Some(open) => {
                open.seen.insert(key);
                open.change = open.change.max(change);
                Change::Nothing
            }
            None => change,
        }
    }

    fn take_in(&mut self, source: SourceId, object: Object, key: &ObjectKey) -> Change {
        let mended = self.forget_problems_of(source, key);
        let change = match object {
            Object::OwnNode(node) => self.upsert_own_node(source, node),
            Object::Node(node) => self.upsert_node(source, node),
            Object::Service(service) => self.upsert_service(source, service),
            Object::Slice(slice) => self.upsert_slice(source, slice),
        };
        change.max(if mended {
            Change::Gained
        } else {
            Change::Nothing
        })
    }

    /// The list under way, if there is one, has named the key.
    fn kept(&mut self, source: SourceId, key: ObjectKey) -> Change {
        if let Some(open) = self.open_list(source, key.kind()) {
            open.seen.insert(key);
        }
        Change::Nothing
    }

    fn upsert_node(&mut self, source: SourceId, node: Node) -> Change {
        let key = (node.name.clone(), source);
        if self.nodes.get(&key) == Some(&node) {
            return Change::Nothing;
        }
        let is_new = self.nodes.insert(key.clone(), node).is_none();
        let has_moved = self.place_again(&key.0, source);
        let arrived = self.arrive();
        let change = match (has_moved, is_new) {
            (false, _) => Change::Gained,
            (true, true) => self.touch_everything().min(Change::Gained),
            (true, false) => self.touch_everything(),
        };
        change.max(arrived)
    }

    fn upsert_service(&mut self, source: SourceId, service: Service) -> Change {
        let (name, key) = (service.name.clone(), (service.name.clone(), source));
        if self
            .services
            .get(&key)
            .is_some_and(|before| **before == service)
        {
            return Change::Nothing;
        }
        self.speakers.insert(source);
        self.services.insert(key, Arc::new(service));
        self.touched.services.insert(name);
        Change::Gained
    }

    fn upsert_slice(&mut self, source: SourceId, slice: Slice) -> Change {
        let (key, service) = ((slice.key.clone(), source), slice.service.clone());
        if self.is_late(source, &slice) {
            return Change::Nothing;
        }
        let siblings = self.slices_of.get(&service);
        let like = siblings.and_then(|keys| self.slices.get(keys.first()?));
        let now = PackedSlice::pack(slice, source, &mut self.names, like);
        let before = self.slices.get(&key);
        let change = match before {
            Some(before) if *before == now => return Change::Nothing,
            Some(before) if self.is_same_to_callers(before, &now) => {
                self.slices.insert(key, now);
                return Change::Nothing;
            }
            Some(before) if self.loses(before, &now) => Change::Lost,
            _ => Change::Gained,
        };
        let before = self.slices.insert(key.clone(), now);
        if let Some(before) = before.filter(|before| before.service != service) {
            self.unlink_slice(&key, &before.service);
        }
        self.speakers.insert(source);
        self.slices_of
            .entry(service.clone())
            .or_default()
            .insert(key);
        self.touched.services.insert(service);
        if self.names.wants_sweep() {
            self.names.sweep(self.slices.values());
        }
        change
    }

    /// Whether a later version of the slice is here already. A list may go back in time, since it is a new beginning; a
    /// single event may not.
    fn is_late(&self, source: SourceId, slice: &Slice) -> bool {
        let list = self.lists.get(&(source, Kind::Slices));
        let is_listing = list.is_some_and(|list| list.open.is_some());
        let known = self.slices.get(&(slice.key.clone(), source));
        !is_listing && slice.version != 0 && known.is_some_and(|k| k.version > slice.version)
    }

    /// Whether the change is one of conditions in other zones alone. In a big cluster nearly all are, and a service of
    /// thousands of endpoints is not to be built anew for each: of what is far, `strict` looks at no condition.
    fn is_same_to_callers(&self, before: &PackedSlice, now: &PackedSlice) -> bool {
        let ZoneStatus::Known(zone) = self.zone() else {
            return false;
        };
        let is_alike = before.ports == now.ports
            && before.service == now.service
            && before.zone == now.zone
            && before.len() == now.len();
        if !is_alike || self.policy_of(&now.service) != ZonePolicy::Strict {
            return false;
        }
        let choice = self.choice(&now.service);
        let near = self.near(&zone, self.spec_of(&now.service, &choice));
        let mut pairs = before.endpoints().zip(now.endpoints());
        pairs.all(|(old, new)| {
            old.is_same_but_for_conditions(&new) && !self.may_be_near(&near, &new)
        })
    }

    /// Whether a caller of the old slice could have been given an endpoint that the new one takes away.
    fn loses(&self, before: &PackedSlice, now: &PackedSlice) -> bool {
        let ZoneStatus::Known(zone) = self.zone() else {
            return true;
        };
        if before.ports != now.ports || before.service != now.service || before.zone != now.zone {
            return true;
        }
        let choice = self.choice(&before.service);
        let near = self.near(&zone, self.spec_of(&before.service, &choice));
        let is_strict = self.policy_of(&before.service) == ZonePolicy::Strict;
        let kept: HashSet<EndpointRef<'_>> = now.endpoints().collect();
        let mut gone = before.endpoints().filter(|old| !kept.contains(old));
        gone.any(|old| !is_strict || self.may_be_near(&near, &old))
    }

    /// Whether the endpoint is near, or on no node, so that it depends.
    fn may_be_near(&self, near: &Near<'_>, endpoint: &EndpointRef<'_>) -> bool {
        let place = endpoint.place.and_then(|place| self.names.place(place));
        let stated = endpoint.zone.and_then(|zone| self.names.zone(zone));
        place.is_none_or(|place| near.locate(place, stated).is_near)
    }

    /// Keeps the zone that our own node has told so far.
    fn hold_zone(&mut self, source: SourceId) {
        if let OwnNode::Known(by, node) = &self.own_node
            && *by == source
        {
            self.holds.hold_zone(source, node);
        }
    }

    fn remove(&mut self, source: SourceId, key: &ObjectKey) -> Change {
        self.holds.forget(source, key);
        if matches!(key, ObjectKey::OwnNode(_)) {
            self.hold_zone(source);
        }
        self.drop_object(source, key)
    }

    fn drop_object(&mut self, source: SourceId, key: &ObjectKey) -> Change {
        let mended = self.forget_problems_of(source, key);
        let removed = match key {
            ObjectKey::OwnNode(_) => self.remove_own_node(source),
            ObjectKey::Node(name) => {
                let is_known = self.nodes.remove(&(name.clone(), source)).is_some();
                is_known && {
                    self.place_again(name, source);
                    self.touch_everything() == Change::Lost
                }
            }
            ObjectKey::Service(name) => {
                self.services.remove(&(name.clone(), source)).is_some()
                    && self.touched.services.insert(name.clone())
            }
            ObjectKey::Slice(key) => {
                let key = (key.clone(), source);
                let slice = self.slices.remove(&key);
                slice
                    .inspect(|slice| self.unlink_slice(&key, &slice.service))
                    .is_some()
            }
        };
        match (removed, mended) {
            (true, _) => Change::Lost,
            (false, true) => Change::Gained,
            (false, false) => Change::Nothing,
        }
    }

    fn remove_own_node(&mut self, source: SourceId) -> bool {
        self.next_own.take_if(|next| next.source == source);
        match &self.own_node {
            OwnNode::Absent => false,
            OwnNode::Known(by, _) if *by != source => false,
            _ => {
                self.own_node = OwnNode::Absent;
                self.touch_everything() == Change::Lost
            }
        }
    }

    fn unlink_slice(&mut self, key: &(SliceKey, SourceId), service: &ServiceName) {
        if let Some(keys) = self.slices_of.get_mut(service) {
            keys.remove(key);
            if keys.is_empty() {
                self.slices_of.remove(service);
            }
        }
        self.touched.services.insert(service.clone());
    }

    fn deny(&mut self, kind: Kind) -> Change {
        if self.denied.insert(kind) {
            self.touch_everything()
        } else {
            Change::Nothing
        }
    }

    fn synced(&mut self, source: SourceId, kind: Kind) -> Change {
        if self.denied.remove(&kind) {
            self.touch_everything();
        }
        let list = self.lists.entry((source, kind)).or_default();
        let is_first = !std::mem::replace(&mut list.is_synced, true);
        let Some(open) = list.open.take() else {
            return self.arrive().max(Change::Gained);
        };
        let first = if is_first {
            Change::Gained
        } else {
            Change::Nothing
        };
        let loss = self.loss(source, kind, &open, is_first);
        let gone = self.holds.judge(source, kind, loss);
        let changes = gone.iter().map(|key| self.drop_object(source, key));
        let lost = changes.max().unwrap_or(Change::Nothing);
        lost.max(open.change).max(first).max(self.arrive())
    }

    /// What the complete list leaves out of what its source stated before.
    fn loss(&self, source: SourceId, kind: Kind, list: &OpenList, is_first: bool) -> Loss {
        let mut loss = Loss {
            gone: Vec::new(),
            lost: 0,
            known: 0,
            left: list.seen.len(),
            went_back: list.went_back,
            was_restored: is_first,
        };
        for key in self.keys_of(source, kind) {
            let weight = self.weight(source, &key);
            loss.known += weight;
            if !list.seen.contains(&key) {
                loss.lost += weight;
                loss.gone.push(key);
            }
        }
        loss
    }

    /// Endpoints of a slice; none for a node of another zone, which a list of our own zone leaves out once we have moved;
    /// one for anything else.
    fn weight(&self, source: SourceId, key: &ObjectKey) -> usize {
        match key {
            ObjectKey::Slice(key) => {
                let slice = self.slices.get(&(key.clone(), source));
                slice.map_or(0, PackedSlice::len)
            }
            ObjectKey::Node(name) if self.next_own.is_some() => {
                let node = self.nodes.get(&(name.clone(), source));
                let next = self.next_own.as_ref().map(|next| &next.node.zone);
                usize::from(node.map(|node| &node.zone) == next)
            }
            _ => 1,
        }
    }

    fn reject(&mut self, source: SourceId, problem: Problem) -> Change {
        if self.problems.len() >= PROBLEMS_MAX || !self.problems.insert((source, problem)) {
            return Change::Nothing;
        }
        Change::Gained
    }

    fn forget_problems_of(&mut self, source: SourceId, key: &ObjectKey) -> bool {
        if self.problems.is_empty() {
            return false;
        }
        let (before, object) = (self.problems.len(), key.to_string());
        self.problems
            .retain(|(by, problem)| *by != source || problem.object != object);
        self.problems.len() != before
    }

    /// What the source states of a kind.
    fn keys_of(&self, source: SourceId, kind: Kind) -> Box<dyn Iterator<Item = ObjectKey> + '_> {
        fn of<K: Clone>(
            keys: impl Iterator<Item = (K, SourceId)>,
            source: SourceId,
        ) -> impl Iterator<Item = K> {
            keys.filter(move |(_, by)| *by == source)
                .map(|(key, _)| key)
        }
        match kind {
            Kind::OwnNode => match &self.own_node {
                OwnNode::Known(by, node) if *by == source => {
                    Box::new(Some(ObjectKey::OwnNode(node.name.clone())).into_iter())
                }
                _ => Box::new(std::iter::empty()),
            },
            Kind::Nodes => Box::new(of(self.nodes.keys().cloned(), source).map(ObjectKey::Node)),
            Kind::Services => {
                Box::new(of(self.services.keys().cloned(), source).map(ObjectKey::Service))
            }
            Kind::Slices => Box::new(of(self.slices.keys().cloned(), source).map(ObjectKey::Slice)),
        }
    }

    fn touch_everything(&mut self) -> Change {
        self.touched.everything = true;
        Change::Lost
    }

    /// The zone that needs no node to tell it: by configuration, else by the label of our pod.
    fn given_zone(&self) -> Option<&Zone> {
        let by_pod = || {
            let keys = &self.config.zone_keys;
            self.config.pod_zone.as_ref().filter(|_| keys.is_standard())
        };
        self.config.zone.as_ref().or_else(by_pod)
    }

    /// Whether zones as slices state them have to do, since nodes may not be read. They are values of the standard key.
    fn is_degraded(&self) -> bool {
        self.denied.contains(&Kind::Nodes) && self.config.zone_keys.is_standard()
    }

    fn coverage(&self) -> (Coverage, Vec<MissingList>) {
        let any = || Kind::ALL.map(|kind| MissingList { source: None, kind });
        let of_source = |(source, kind): &(SourceId, Kind)| MissingList {
            source: Some(*source),
            kind: *kind,
        };
        let mut needed: Vec<_> = match &self.config.lists[..] {
            [] => any().into(),
            lists => lists.iter().map(of_source).collect(),
        };
        needed.retain(|list| match list.kind {
            // A given zone needs no node to tell it.
            Kind::OwnNode => self.given_zone().is_none(),
            Kind::Nodes => !self.is_degraded(),
            Kind::Services | Kind::Slices => true,
        });
        needed.retain(|list| !self.is_live(*list));
        let is_empty = needed.is_empty();
        needed.retain(|list| !self.is_synced(SourceId::Disk, list.kind));
        let coverage = match (is_empty, needed.is_empty()) {
            (true, _) => Coverage::Synced,
            (false, true) => Coverage::Disk,
            (false, false) => Coverage::Partial,
        };
        (coverage, needed)
    }

    fn is_live(&self, list: MissingList) -> bool {
        let live = SourceId::ALL
            .into_iter()
            .filter(|source| *source != SourceId::Disk);
        match list.source {
            Some(source) => self.is_synced(source, list.kind),
            None => live
                .into_iter()
                .any(|source| self.is_synced(source, list.kind)),
        }
    }

    fn is_synced(&self, source: SourceId, kind: Kind) -> bool {
        self.lists
            .get(&(source, kind))
            .is_some_and(|list| list.is_synced)
    }

    /// The nodes of the zone; of several statements about one name that of the source that goes first.
    fn zone_nodes(&self, zone: Option<&Zone>) -> Vec<Node> {
        let of_zone = |node: &&Node| zone.is_some() && node.zone.as_ref() == zone;
        let mut nodes: BTreeMap<&NodeName, (SourceId, &Node)> = BTreeMap::new();
        for ((name, source), node) in self.nodes.iter().filter(|(_, node)| of_zone(node)) {
            let known = nodes.get(name).map(|(by, _)| self.config.merge.rank(*by));
            if known.is_none_or(|rank| self.config.merge.rank(*source) < rank) {
                nodes.insert(name, (*source, node));
            }
        }
        let own = self.known_own_node();
        if let Some((source, node)) = own.filter(|(_, node)| of_zone(node)) {
            nodes.insert(&node.name, (source, node));
        }
        nodes.into_values().map(|(_, node)| node.clone()).collect()
    }

    /// Whose statements about the service are in force.
    fn choice(&self, service: &ServiceName) -> Choice {
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

    /// Notes of the services that changed which sources are passed over.
    fn hold_back(&mut self, changed: &HashSet<ServiceName>) {
        if self.speakers.len() < 2 {
            return;
        }
        for service in changed {
            let choice = self.choice(service);
            if choice.held_back.is_empty() {
                self.held_back.remove(service);
            } else {
                self.held_back.insert(service.clone(), choice);
            }
        }
    }

    fn held_back(&self) -> Vec<HeldBack> {
        let held_back = |(service, choice): (&ServiceName, &Choice)| HeldBack {
            service: service.clone(),
            choice: choice.clone(),
        };
        self.held_back.iter().map(held_back).collect()
    }

    /// What the service asks for, by the first source in force that says it.
    fn spec_of(&self, service: &ServiceName, choice: &Choice) -> Option<&Arc<Service>> {
        let mut in_force = choice.in_force.iter();
        in_force.find_map(|source| self.services.get(&(service.clone(), *source)))
    }

    fn policy_of(&self, service: &ServiceName) -> ZonePolicy {
        let asked = self
            .spec_of(service, &self.choice(service))
            .and_then(|service| service.zone_policy);
        asked.unwrap_or(self.config.policy)
    }

    fn build_all(&self, zone: &Zone, previous: &Snapshot) -> (Services, bool) {
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
        let choice = self.choice(name);
        if choice.in_force.is_empty() {
            return None;
        }
        let spec = self.spec_of(name, &choice);
        let keys = self.slices_of.get(name).into_iter().flatten();
        let slices: Vec<_> = keys
            .filter(|(_, source)| choice.in_force.contains(source))
            .filter_map(|key| self.slices.get(key))
            .collect();
        let asked = spec.and_then(|spec| spec.zone_policy);
        let context = BuildContext {
            near: self.near(zone, spec),
            names: &self.names,
            policy: asked.unwrap_or(self.config.policy),
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

    fn near<'s>(&'s self, zone: &'s Zone, spec: Option<&'s Arc<Service>>) -> Near<'s> {
        let own = self.known_own_node();
        let own = Own {
            node: &self.config.node,
            zone,
            labels: own.map(|(_, own)| &own.labels),
            keys: &self.config.zone_keys,
            is_stated: self.is_degraded(),
        };
        Near::new(own, spec.and_then(|spec| spec.scope.as_ref()))
    }

    fn known_own_node(&self) -> Option<(SourceId, &Node)> {
        known_own_node(&self.holds, &self.own_node)
    }
}

/// Our own node as it is, or as it was when its zone is held.
fn known_own_node<'s>(holds: &'s Holds, own: &'s OwnNode) -> Option<(SourceId, &'s Node)> {
    let known = match own {
        OwnNode::Known(source, node) => Some((*source, node)),
        _ => None,
    };
    holds.own_node().or(known)
}

type Services = HashMap<ServiceName, Arc<super::ServiceView>>;

/// Problems kept for people; more of them say nothing new.
const PROBLEMS_MAX: usize = 1_000;
