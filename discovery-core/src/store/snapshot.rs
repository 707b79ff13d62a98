// SPDX-License-Identifier: MIT OR Apache-2.0
//! The published, immutable view of one moment.

use super::{
    Held, Kind, Mark, Overruled, Problem, ServiceView, SourceId, changes::Changes, wanted::Wanted,
};
use crate::model::{Node, NodeName, ServiceName, Zone, ZoneKeys};
use std::{collections::HashMap, fmt, sync::Arc};

/// The number of a snapshot; it grows with each one that says something new.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of our own zone.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ZoneStatus {
    /// Nobody has told yet.
    Unknown,
    /// It is known.
    Known(Zone),
    /// Our node carries none of these labels, or a value that is no zone.
    NoLabel {
        /// The node that was looked at.
        node: NodeName,
        /// The labels that were looked for.
        keys: ZoneKeys,
    },
    /// The source says that there is no such node.
    NoNode {
        /// The node that was asked for.
        node: NodeName,
    },
}

impl ZoneStatus {
    /// The zone, when it is known.
    pub fn zone(&self) -> Option<&Zone> {
        match self {
            Self::Known(zone) => Some(zone),
            _ => None,
        }
    }

    /// The state in a word, for programs: `known`, `unknown`, `no-label`, `no-node`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Known(_) => "known",
            Self::Unknown => "unknown",
            Self::NoLabel { .. } => "no-label",
            Self::NoNode { .. } => "no-node",
        }
    }
}

impl fmt::Display for ZoneStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("zone unknown: the own node was not read yet"),
            Self::Known(zone) => write!(f, "zone {zone}"),
            Self::NoLabel { node, keys } => {
                write!(
                    f,
                    "zone unknown: node {node} carries no usable label of {keys}"
                )
            }
            Self::NoNode { node } => write!(f, "zone unknown: there is no node {node}"),
        }
    }
}

/// How much of the truth a snapshot rests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coverage {
    /// Some kind was never listed: a missing name proves nothing.
    Partial,
    /// The last good snapshot on disk, and no live source since.
    Disk,
    /// Every kind was listed by a live source at least once.
    Synced,
}

/// A list that was never read in full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MissingList {
    /// Whose list it is; none when any source may give it.
    pub source: Option<SourceId>,
    /// The kind.
    pub kind: Kind,
}

impl fmt::Display for MissingList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(f, "list of {} of source {source}", self.kind),
            None => write!(f, "list of {}", self.kind),
        }
    }
}

/// One immutable view: whole, numbered, shared.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) generation: Generation,
    pub(super) zone: ZoneStatus,
    pub(super) coverage: Coverage,
    pub(super) missing: Box<[MissingList]>,
    pub(super) services: HashMap<ServiceName, Arc<ServiceView>>,
    pub(super) nodes: Arc<[Node]>,
    pub(super) held: Arc<[Held]>,
    pub(super) problems: Arc<[Problem]>,
    pub(super) overruled: Arc<[Overruled]>,
    pub(super) is_degraded: bool,
    pub(super) moving_to: Option<Zone>,
    pub(super) changes: Changes,
    /// Shared by all generations.
    pub(super) wanted: Arc<Wanted>,
}

impl Snapshot {
    /// The snapshot before anything was read.
    pub(super) fn empty() -> Self {
        Self {
            generation: Generation(0),
            zone: ZoneStatus::Unknown,
            coverage: Coverage::Partial,
            missing: Kind::ALL
                .map(|kind| MissingList { source: None, kind })
                .into(),
            services: HashMap::new(),
            nodes: Arc::new([]),
            held: Arc::new([]),
            problems: Arc::new([]),
            overruled: Arc::new([]),
            is_degraded: false,
            moving_to: None,
            changes: Changes::anew(),
            wanted: Arc::default(),
        }
    }

    /// Its number.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What is known of our zone.
    pub fn zone(&self) -> &ZoneStatus {
        &self.zone
    }

    /// How much of the truth it rests on.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// The lists that were never read in full.
    pub fn missing(&self) -> &[MissingList] {
        &self.missing
    }

    /// Whether a name that is not here may be answered with "does not exist": the zone is known and every kind was
    /// listed, now or before the last stop.
    pub fn is_authoritative(&self) -> bool {
        self.zone.zone().is_some() && self.coverage != Coverage::Partial
    }

    /// The view of a service.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.get(name)
    }

    /// Has the tables of the service built now, and from now on before a view of it is published.
    pub(crate) fn want(&self, service: &ServiceName) {
        self.wanted.add(service);
        if let Some(view) = self.service(service) {
            view.tiers().iter().for_each(|tier| {
                tier.table();
            });
        }
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.services.values()
    }

    /// Marks this snapshot, so that a later one can tell what changed since.
    pub fn mark(&self) -> Mark {
        self.changes.mark()
    }

    /// The names of the services that have come, gone or got another view since the snapshot with this mark; one that
    /// changed several times comes several times.
    ///
    /// None when that cannot be told: the mark is eight publications old, one of them changed more than 1,024 services or
    /// began anew, or it is the mark of another writer. Then all services have to be compared, by their place in memory.
    ///
    /// ```
    /// use discovery_core::{model::NodeName, store::{StateConfig, channel}};
    ///
    /// let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
    /// let mark = reader.load().mark();
    /// assert_eq!(reader.load().changed_since(&mark).unwrap().count(), 0);
    /// ```
    pub fn changed_since(
        &self,
        mark: &Mark,
    ) -> Option<impl Iterator<Item = &ServiceName> + use<'_>> {
        self.changes.since(mark)
    }

    /// The nodes of our zone in the order of their names.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What stays in force although its source states it no longer: an alarm for a person.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Whether the zones of endpoints are those that slices state, because nodes may not be read: a change of a node's label
    /// is then not seen before its pods change.
    pub fn is_degraded(&self) -> bool {
        self.is_degraded
    }

    /// The zone that our node has moved to, while the nodes of that zone are not all known and the old view still serves.
    pub fn moving_to(&self) -> Option<&Zone> {
        self.moving_to.as_ref()
    }

    /// Objects that were refused and are not mended yet.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Services that several sources state, with those whose statements are overruled, by name.
    pub fn overruled(&self) -> &[Overruled] {
        &self.overruled
    }
}
