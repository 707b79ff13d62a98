// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry: one place where every metric of a process is made.

use super::{AgentMetrics, DnsMetrics, ProxyMetrics, view::ViewCollector};
use crate::{
    source::SourceStatus,
    store::{GraceCounts, Reader},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    agent: Arc<AgentMetrics>,
    dns: Arc<DnsMetrics>,
    proxy: Arc<ProxyMetrics>,
    propagation: Histogram,
    panics: Counter,
    descriptors: Gauge,
    saves: Outcomes,
    left: Outcomes,
    /// Without labels, and without a series before there was a configuration.
    reload_successful: Family<[(&'static str, &'static str); 0], Gauge>,
    reloaded_at: Family<[(&'static str, &'static str); 0], Gauge>,
}

type Outcomes = Family<[(&'static str, &'static str); 1], Counter>;

impl Metrics {
    /// Makes all metrics; those about the view are read from `reader` and `sources` at each scrape.
    pub fn new(reader: Reader, sources: Vec<Arc<SourceStatus>>) -> Self {
        let mut registry = Registry::with_prefix("zonal");
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        registry.register(
            "build_info",
            "Version of this process; the value is always 1",
            build,
        );
        let panics = Counter::default();
        registry.register(
            "panics",
            "Panics caught; each is a bug to report",
            panics.clone(),
        );
        let descriptors = Gauge::default();
        registry.register(
            "descriptors_max",
            "Descriptors that this process may have open at a time",
            descriptors.clone(),
        );
        let propagation = Histogram::new(PROPAGATION_SECONDS);
        registry.register(
            "propagation_duration_seconds",
            "From the first update of a batch to its visible snapshot",
            propagation.clone(),
        );
        let saves = outcomes(&["saved", "failed"]);
        registry.register(
            "snapshot_saves",
            "Snapshots written to disk, or not; alarm on failed",
            saves.clone(),
        );
        let reload_successful = Family::<_, Gauge>::default();
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration that was read last came into force; alarm on 0",
            reload_successful.clone(),
        );
        let reloaded_at = Family::<_, Gauge>::default();
        registry.register(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read",
            reloaded_at.clone(),
        );
        let left = outcomes(&["moved", "gone", "over-limit"]);
        registry.register(
            "view_left_endpoints",
            "Endpoints that left a slice while they were ready",
            left.clone(),
        );
        registry.register_collector(Box::new(ViewCollector::new(reader, sources)));
        let agent = Arc::new(AgentMetrics::register(&mut registry));
        let dns = Arc::new(DnsMetrics::register(&mut registry));
        let proxy = Arc::new(ProxyMetrics::register(&mut registry));
        Self {
            registry,
            agent,
            dns,
            proxy,
            propagation,
            panics,
            descriptors,
            saves,
            left,
            reload_successful,
            reloaded_at,
        }
    }

    /// Tells that a configuration came into force, and when it was read.
    pub fn config_loaded(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.reload_successful.get_or_create(&[]).set(1);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.reloaded_at.get_or_create(&[]).set(seconds);
    }

    /// Tells how many descriptors this process may have; none is no limit.
    pub fn descriptors_max(&self, limit: Option<u64>) {
        let limit = limit.and_then(|limit| i64::try_from(limit).ok());
        self.descriptors.set(limit.unwrap_or(i64::MAX));
    }

    /// Tells that a configuration was refused; the one before holds.
    pub fn config_refused(&self) {
        self.reload_successful.get_or_create(&[]).set(0);
    }

    /// The counters of the agent's socket.
    pub fn agent(&self) -> &Arc<AgentMetrics> {
        &self.agent
    }

    /// The counters of the DNS responder.
    pub fn dns(&self) -> &Arc<DnsMetrics> {
        &self.dns
    }

    /// The counters of the proxy.
    pub fn proxy(&self) -> &Arc<ProxyMetrics> {
        &self.proxy
    }

    /// Counts a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// The exposition in the OpenMetrics text format.
    pub fn expose(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::from("# EOF\n"),
        }
    }

    pub(crate) fn snapshot_saved(&self, is_saved: bool) {
        let outcome = if is_saved { "saved" } else { "failed" };
        self.saves.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts what has become of endpoints that left a slice while they were ready.
    pub(crate) fn graced(&self, counts: GraceCounts) {
        let GraceCounts {
            moved,
            gone,
            over_limit,
        } = counts;
        for (outcome, count) in [("moved", moved), ("gone", gone), ("over-limit", over_limit)] {
            if count > 0 {
                let counter = self.left.get_or_create(&[("outcome", outcome)]);
                counter.inc_by(count);
            }
        }
    }

    pub(crate) fn propagated(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }
}

/// A counter for each outcome, from the start.
fn outcomes(all: &[&'static str]) -> Outcomes {
    let family = Outcomes::default();
    for outcome in all {
        drop(family.get_or_create(&[("outcome", *outcome)]));
    }
    family
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// From 1 ms, a lone change, to 10 s, a relist of a large cluster.
const PROPAGATION_SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
