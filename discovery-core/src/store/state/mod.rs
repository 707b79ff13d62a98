// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer's working set: updates in, snapshots out. Pure: no I/O, no clock, no lock.
//!
//! What the sources stated is kept unfiltered; the zone's view is computed from it, so that events may come in any order
//! (a slice before its node, a node before the zone is known) and still end in the same snapshot. What each source states
//! is kept apart: a full list takes back what its own source stated and nothing else, an endpoint is joined with the nodes
//! of its own source, and which source is in force for a service is decided when its view is built ([`MergeRules`]).

mod apply;
mod choice;
mod config;
mod foreign;
mod keep;
mod leave;
mod lists;
mod own_node;
mod slices;
mod versions;
mod views;
mod zone;

pub use config::StateConfig;
pub use keep::Stated;

use super::{
    Choice, Coverage, Generation, Kind, ObjectKey, Overruled, Problem, Snapshot, SourceId, Update,
    grace::Grace, hold::Holds, packed::PackedSlice, places::Names,
};
use crate::model::{Node, NodeName, Service, ServiceName, SliceKey};
use apply::PROBLEMS_MAX;
use foreign::FromDisk;
use lists::List;
use own_node::{NextOwn, OwnNode};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};
use versions::Versions;
use views::SiftedViews;

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
    /// The sources that may not read a kind.
    denied: BTreeMap<Kind, BTreeSet<SourceId>>,
    slices_of: HashMap<ServiceName, BTreeSet<(SliceKey, SourceId)>>,
    /// The sources that have stated a service or slice so far.
    speakers: BTreeSet<SourceId>,
    overruled: BTreeMap<ServiceName, Choice>,
    lists: HashMap<(SourceId, Kind), List>,
    holds: Holds,
    /// What left a slice and may be on its way into another one: it counts for views, and for nothing else.
    grace: Grace,
    problems: BTreeSet<(SourceId, Problem)>,
    from_disk: FromDisk,
    versions: Versions,
    touched: Touched,
    sifted: SiftedViews,
}

/// What the next snapshot has to look at again.
#[derive(Debug, Default)]
struct Touched {
    everything: bool,
    services: HashMap<ServiceName, Touch>,
}

/// How much of a service has to be looked at again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Touch {
    /// What its slices say of the condition of their endpoints.
    Conditions,
    /// Everything.
    All,
}

impl Touched {
    fn add(&mut self, service: ServiceName, touch: Touch) {
        let known = self.services.entry(service).or_insert(touch);
        *known = touch.max(*known);
    }
}

impl State {
    /// The state before anything was read.
    pub fn new(config: StateConfig) -> Self {
        Self {
            holds: Holds::new(config.holds),
            grace: Grace::new(config.grace),
            names: Names::new(config.node.clone()),
            config,
            own_node: OwnNode::default(),
            next_own: None,
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            denied: BTreeMap::new(),
            slices_of: HashMap::new(),
            speakers: BTreeSet::new(),
            overruled: BTreeMap::new(),
            lists: HashMap::new(),
            problems: BTreeSet::new(),
            from_disk: FromDisk::default(),
            versions: Versions::default(),
            touched: Touched::default(),
            sifted: SiftedViews::default(),
        }
    }

    /// A state that takes over from another one: whatever was published has to be looked at again.
    pub(super) fn anew(config: StateConfig) -> Self {
        let mut state = Self::new(config);
        state.touched.everything = true;
        state
    }

    /// Takes one statement in. Costs O(log n) plus the size of the object; a finished list costs O(n).
    pub fn apply(&mut self, update: Update) -> Change {
        match update {
            Update::Reset(source, kind) => self.reset(source, kind),
            Update::Upsert(source, object) => self.upsert(source, object),
            Update::Kept(source, key) => self.kept(source, key),
            Update::Remove(source, key) | Update::Absent(source, key) => self.remove(source, &key),
            Update::WentBack(source, kind) => self.went_back(source, kind),
            Update::Denied(source, kind) => self.deny(source, kind),
            Update::Foreign(source) => self.foreign(source),
            Update::Another(source) => self.another(source),
            Update::Ours(source) => self.ours(source),
            Update::Synced(source, kind) => self.synced(source, kind),
            Update::Reject(source, problem) => self.reject(source, problem),
        }
    }

    /// Gives up what was held back for long enough. Holds begin with the first call after them.
    pub fn tick(&mut self, now: Instant) -> Change {
        let (gone, zone_is_gone) = self.holds.tick(now);
        let released = self.release(&gone, zone_is_gone);
        let left = self.grace.tick(now);
        let left = self.touch_left(left);
        released.max(left).max(self.tick_move(now))
    }

    /// When the next call of [`State::tick`] has something to give up.
    pub fn due(&self) -> Option<Instant> {
        let moves_at = self.next_own.as_ref().and_then(|next| next.until);
        let due = [self.holds.due(), self.grace.due(), moves_at];
        due.into_iter().flatten().min()
    }

    /// Gives up everything that is held back, because a person says that the sources are right.
    pub fn accept(&mut self) -> Change {
        let zone_was_held = self.holds.node().is_some();
        let gone = self.holds.accept();
        let left = self.end_grace(|_, _| true);
        self.release(&gone, zone_was_held).max(left)
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
        self.note_overruled(touched.services.keys());
        let (services, changed_services) = match zone.zone() {
            Some(zone) if serves && everything => self.build_all(zone, previous),
            Some(zone) if serves => self.build_touched(zone, previous, &touched),
            // Fail closed: without a zone, or with half a list, nothing is served.
            _ => {
                self.sifted.clear();
                (HashMap::new(), previous.services.keys().cloned().collect())
            }
        };
        let nodes = self.zone_nodes(zone.zone());
        let held = self.holds.report();
        let overruled = self.overruled();
        let stated = self.problems.iter().map(|(_, problem)| problem.clone());
        let problems: Vec<_> = stated
            .chain(overruled.iter().map(Overruled::problem))
            .take(PROBLEMS_MAX)
            .collect();
        let changed = !changed_services.is_empty()
            || zone != previous.zone
            || coverage != previous.coverage
            || is_degraded != previous.is_degraded
            || moving_to != previous.moving_to
            || missing[..] != previous.missing[..]
            || nodes[..] != previous.nodes[..]
            || held[..] != previous.held[..]
            || overruled[..] != previous.overruled[..]
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
            overruled: overruled.into(),
            is_degraded,
            moving_to,
            changes: previous.changes.then(changed_services),
            wanted: previous.wanted.clone(),
        })
    }

    fn release(&mut self, gone: &[(SourceId, ObjectKey)], zone_is_gone: bool) -> Change {
        let objects = gone
            .iter()
            .map(|(source, key)| self.drop_object(*source, key));
        let objects = objects.max();
        let zone = zone_is_gone.then(|| self.touch_everything());
        objects.max(zone).unwrap_or(Change::Nothing)
    }

    fn touch_everything(&mut self) -> Change {
        self.touched.everything = true;
        Change::Lost
    }
}
