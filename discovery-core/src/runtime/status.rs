// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent says of itself: one data structure for the page, the command line and probes.

use super::kind_report::KindReport;
use crate::{
    clock::Clock,
    source::SourceStatus,
    store::{Coverage, Kind, Overruled, ServiceView, Snapshot, Tier},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How fresh the view is, in the one word that every surface uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Freshness {
    /// Every source is connected and was heard within the limit.
    Live,
    /// The last view of a source that is away.
    Stale,
    /// A view loaded from disk; no source was read since the start.
    Snapshot,
    /// Nothing was ever read.
    Empty,
}

impl Freshness {
    /// The freshness of a snapshot whose sources are all connected or not, and were all heard within `age`.
    pub fn of(snapshot: &Snapshot, connected: bool, age: Option<Duration>) -> Self {
        match snapshot.coverage() {
            Coverage::Partial => Self::Empty,
            Coverage::Disk => Self::Snapshot,
            Coverage::Synced if connected && age.is_some_and(|age| age <= STALE_AFTER) => {
                Self::Live
            }
            Coverage::Synced => Self::Stale,
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "LIVE",
            Self::Stale => "STALE",
            Self::Snapshot => "SNAPSHOT",
            Self::Empty => "EMPTY",
        })
    }
}

/// Whether the process should be given work, and what is missing when not.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Everything is there.
    pub ready: bool,
    /// What is missing, a sentence each.
    pub missing: Vec<String>,
}

impl Readiness {
    /// Ready when the zone is known, every list was read (now or before the last stop) and no drain has begun.
    pub fn of(snapshot: &Snapshot, draining: bool) -> Self {
        let mut missing = Vec::new();
        if draining {
            missing.push("draining".to_owned());
        }
        if snapshot.zone().zone().is_none() {
            missing.push(snapshot.zone().to_string());
        }
        missing.extend(
            snapshot
                .missing()
                .iter()
                .map(|list| format!("{list} not read yet")),
        );
        Self {
            ready: missing.is_empty(),
            missing,
        }
    }

    /// Ready only without these, too.
    pub(super) fn and(mut self, missing: Vec<String>) -> Self {
        self.missing.extend(missing);
        self.ready = self.missing.is_empty();
        self
    }
}

/// One service in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// `namespace/name`.
    pub name: String,
    /// The zone policy in force.
    pub policy: String,
    /// Endpoints that may be picked.
    pub usable: usize,
    /// Endpoints of our zone, usable or not (of all zones under policy any).
    pub local: usize,
    /// Endpoints listed, in or out.
    pub listed: usize,
    /// How many endpoints are out, by reason.
    pub out: BTreeMap<String, usize>,
    /// How many of the usable ones this process has ejected.
    #[serde(default)]
    pub ejected: u32,
    /// Picks so far that ignored ejections and failed checks, since nobody else was left.
    #[serde(default)]
    pub panic_picks: u64,
    /// The share of keys that leaves the own zone although it can serve, 0 to 1.
    #[serde(default)]
    pub spilled_share: f64,
}

impl ServiceReport {
    fn of(view: &ServiceView) -> Self {
        let mut out = BTreeMap::new();
        let members = view.tiers().iter().flat_map(Tier::members);
        let members = members.map(|endpoint| (endpoint.reason(), 1));
        for (reason, count) in members.chain(view.out().iter().copied()) {
            if !reason.is_in() {
                *out.entry(reason.to_string()).or_default() += count;
            }
        }
        Self {
            name: view.name().to_string(),
            policy: view.policy().to_string(),
            usable: view.usable().count(),
            local: view.tiers().first().map_or(0, |tier| tier.members().len()),
            listed: view.listed(),
            out,
            ejected: view.load().ejected(),
            panic_picks: view.load().panic_picks(),
            spilled_share: view.spilled_share(),
        }
    }
}

/// One source in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Which it is: kube, static or consul.
    pub source: String,
    /// Whether its last request was answered well.
    pub connected: bool,
    /// Whether it was heard within the limit, every list of it.
    pub live: bool,
    /// Seconds since it was last heard: of its lists the one heard of longest ago; none when it never was.
    pub age_seconds: Option<f64>,
    /// Services that it states and that are overruled because another source is in force for them.
    pub overruled: usize,
    /// For how many seconds the figures of the kinds have been counted.
    #[serde(default)]
    pub observed_seconds: f64,
    /// The API that endpoints are read from; none before it was chosen, and from sources that have no choice.
    #[serde(default)]
    pub slice_api: Option<String>,
    /// What tells its cluster from others: the UID of the service `default/kubernetes`; none where that is not read.
    #[serde(default)]
    pub cluster_uid: Option<String>,
    /// The UID of another cluster that answers at present; what ours said last is kept. None while ours does.
    #[serde(default)]
    pub other_cluster: Option<String>,
    /// Why what the last run kept on disk of it was dropped: `another-cluster`; none when it was not.
    #[serde(default)]
    pub snapshot_dropped: Option<String>,
    /// The label selector of services and slices; none means all.
    #[serde(default)]
    pub selector: Option<String>,
    /// The namespaces of services and slices; empty means all.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Each kind that it reads.
    #[serde(default)]
    pub kinds: Vec<KindReport>,
}

impl SourceReport {
    fn of(source: &SourceStatus, snapshot: &Snapshot) -> Self {
        let (age, selection) = (source.age(), source.selection());
        let is_of_source =
            |service: &&Overruled| service.choice.overruled.contains(&source.source());
        Self {
            source: source.source().to_string(),
            connected: source.is_connected(),
            live: is_live(source),
            age_seconds: age.map(|age| age.as_secs_f64()),
            overruled: snapshot.overruled().iter().filter(is_of_source).count(),
            observed_seconds: source.observed().as_secs_f64(),
            slice_api: source.slice_api().map(|api| api.to_string()),
            cluster_uid: source.cluster_uid(),
            other_cluster: source.other_cluster(),
            snapshot_dropped: source.is_disowned().then(|| "another-cluster".to_owned()),
            selector: selection.selector.map(|selector| selector.to_string()),
            namespaces: selection.namespaces,
            kinds: Kind::ALL.map(|kind| KindReport::of(source, kind)).into(),
        }
    }
}

/// The whole status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the process.
    pub version: String,
    /// The node it runs for.
    pub node: String,
    /// Its zone; none while it is unknown.
    pub zone: Option<String>,
    /// The zone in words, with the reason when it is unknown.
    pub zone_status: String,
    /// The zone in a word: `known`, `unknown`, `no-label`, `no-node`.
    #[serde(default)]
    pub zone_state: String,
    /// Whether zones are those that slices state, because nodes may not be read.
    #[serde(default)]
    pub is_degraded: bool,
    /// How fresh the view is.
    pub freshness: Freshness,
    /// Seconds since the source was last heard, of several the one heard of longest ago; none when one never was.
    pub age_seconds: Option<f64>,
    /// Seconds since the snapshot on disk was written, while it is served; what its sources said is older by how long
    /// before they were heard, as `age_seconds` tells.
    #[serde(default)]
    pub saved_seconds: Option<f64>,
    /// The source, or the sources with `+` between them: kube, static, consul.
    pub source: String,
    /// Each source; none from an agent of an older version.
    #[serde(default)]
    pub sources: Vec<SourceReport>,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// The number of the snapshot.
    pub generation: u64,
    /// Whether it is ready, and what is missing.
    pub readiness: Readiness,
    /// Every service, by name.
    pub services: Vec<ServiceReport>,
    /// What stays in force although its source states it no longer, a sentence each: an alarm for a person.
    #[serde(default)]
    pub held: Vec<String>,
    /// Whether the last good snapshot is kept on disk; false as well from an agent of an older version.
    #[serde(default)]
    pub keeps_snapshot: bool,
    /// Objects that were refused: object, place, reason.
    pub problems: Vec<[String; 3]>,
    /// What the faces of this process say of themselves: `dns`, `proxy`.
    pub faces: BTreeMap<String, serde_json::Value>,
}

/// What a status needs beside the snapshot.
pub(super) struct StatusContext<'s> {
    pub(super) node: &'s str,
    pub(super) sources: &'s [Arc<SourceStatus>],
    pub(super) clock: &'s dyn Clock,
    pub(super) started: std::time::Instant,
    pub(super) saved_at: Option<SystemTime>,
    pub(super) readiness: Readiness,
    pub(super) keeps_snapshot: bool,
    pub(super) faces: BTreeMap<String, serde_json::Value>,
}

impl StatusContext<'_> {
    pub(super) fn status(self, snapshot: &Snapshot) -> Status {
        let age = age(self.sources);
        let is_live = self.sources.iter().all(|source| is_live(source));
        let names: Vec<_> = self.sources.iter().map(|s| s.source().as_str()).collect();
        let report = |source: &Arc<SourceStatus>| SourceReport::of(source, snapshot);
        let mut services: Vec<_> = snapshot
            .services()
            .map(|view| ServiceReport::of(view))
            .collect();
        let freshness = Freshness::of(snapshot, is_live, age);
        let now = self.clock.wall();
        let saved_at = self.saved_at.filter(|_| freshness == Freshness::Snapshot);
        let saved_age = saved_at.map(|at| now.duration_since(at).unwrap_or_default());
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let problem =
            |p: &crate::store::Problem| [p.object.clone(), p.place.clone(), p.reason.clone()];
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.to_owned(),
            zone: snapshot.zone().zone().map(ToString::to_string),
            zone_status: snapshot.zone().to_string(),
            zone_state: snapshot.zone().word().to_owned(),
            is_degraded: snapshot.is_degraded(),
            freshness,
            age_seconds: age.map(|age| age.as_secs_f64()),
            saved_seconds: saved_age.map(|age| age.as_secs_f64()),
            source: names.join("+"),
            sources: self.sources.iter().map(report).collect(),
            uptime_seconds: (self.clock.now() - self.started).as_secs_f64(),
            generation: snapshot.generation().0,
            readiness: self.readiness,
            services,
            held: snapshot.held().iter().map(ToString::to_string).collect(),
            keeps_snapshot: self.keeps_snapshot,
            problems: snapshot.problems().iter().map(problem).collect(),
            faces: self.faces,
        }
    }
}

/// Whether the source is connected and was heard within the limit.
fn is_live(source: &SourceStatus) -> bool {
    source.is_connected() && source.age().is_some_and(|age| age <= STALE_AFTER)
}

/// How long ago the source heard of longest ago was heard of; none while one never was.
fn age(sources: &[Arc<SourceStatus>]) -> Option<Duration> {
    let ages: Option<Vec<_>> = sources.iter().map(|source| source.age()).collect();
    ages?.into_iter().max()
}

/// Without a word from the source for longer, the view is called stale: a watch is renewed every 45 s at the latest.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(90);
