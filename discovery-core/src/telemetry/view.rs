// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the newest snapshot and its sources say, read at each scrape: nothing is kept twice, nothing costs in between.

use super::watch;
use crate::{
    source::{FailureReason, SourceStatus},
    store::{EjectCause, Endpoint, Kind, Overruled, Reader, Snapshot, Tier},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{fmt, sync::Arc};

#[derive(Debug)]
pub(super) struct ViewCollector {
    reader: Reader,
    sources: Vec<Arc<SourceStatus>>,
}

impl ViewCollector {
    pub(super) fn new(reader: Reader, sources: Vec<Arc<SourceStatus>>) -> Self {
        Self { reader, sources }
    }

    fn view(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
        gauge(
            encoder,
            "view_generation",
            "Number of the newest snapshot",
            count(snapshot.generation().0),
        )?;
        let services = snapshot.services().count();
        gauge(
            encoder,
            "view_services",
            "Services in the newest snapshot",
            count(services as u64),
        )?;
        let problems = snapshot.problems().len();
        gauge(
            encoder,
            "view_problems",
            "Objects that were refused and are not mended",
            count(problems as u64),
        )?;
        let held: usize = snapshot.held().iter().map(|held| held.objects).sum();
        gauge(
            encoder,
            "view_held_objects",
            "Objects kept in force although their source states them no longer; alarm on any",
            count(held as u64),
        )?;
        let mut family = encoder.encode_descriptor(
            "view_endpoints",
            "Endpoints in the newest snapshot by zone and state",
            None,
            MetricType::Gauge,
        )?;
        for ((zone, state), endpoints) in endpoint_counts(snapshot) {
            let labels = [("zone", zone), ("state", state)];
            ConstGauge::new(endpoints).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn picks(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("lb_picks", "Picks by outcome", None, MetricType::Counter)?;
        for view in snapshot.services() {
            let (service, picks) = (view.name().to_string(), view.picks());
            for (outcome, count) in [
                ("local", picks.local),
                ("spill", picks.spill),
                ("none", picks.none),
            ] {
                let labels = [("service", service.as_str()), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// What this process knows by itself of the endpoints of a service, and does for it; each series from 0 on.
    fn health(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
        let services: Vec<_> = snapshot
            .services()
            .map(|view| (view.name().to_string(), view))
            .collect();
        let help = "Endpoints ejected for failures that this process has seen, by cause";
        let mut family =
            encoder.encode_descriptor("lb_ejections", help, None, MetricType::Counter)?;
        for ((service, view), cause) in services
            .iter()
            .flat_map(|service| EjectCause::ALL.map(|cause| (service, cause)))
        {
            let labels = [("service", service.as_str()), ("reason", cause.as_str())];
            let count = view.load().ejections_for(cause);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Picks that ignored ejections and failed checks, nobody else being left";
        let mut family =
            encoder.encode_descriptor("lb_panic_picks", help, None, MetricType::Counter)?;
        for (service, view) in &services {
            let count = ConstCounter::new(view.load().panic_picks());
            count.encode(family.encode_family(&[("service", service.as_str())])?)?;
        }
        let help = "Share of the keys that leaves the own zone, which has too little left, 0 to 1";
        let mut family =
            encoder.encode_descriptor("lb_spilled_share_ratio", help, None, MetricType::Gauge)?;
        for (service, view) in &services {
            let share = ConstGauge::new(view.spilled_share());
            share.encode(family.encode_family(&[("service", service.as_str())])?)?;
        }
        Ok(())
    }

    fn sources(&self, encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "source_connected",
            "Whether the source answers",
            None,
            MetricType::Gauge,
        )?;
        for source in &self.sources {
            let connected = i64::from(source.is_connected());
            ConstGauge::new(connected).encode(family.encode_family(&label(source))?)?;
        }
        let help = "Seconds since the source was last heard";
        let mut family =
            encoder.encode_descriptor("source_age_seconds", help, None, MetricType::Gauge)?;
        for source in &self.sources {
            if let Some(age) = source.age() {
                let age = ConstGauge::new(age.as_secs_f64());
                age.encode(family.encode_family(&label(source))?)?;
            }
        }
        let help = "Services of the source that are overruled because another one is in force";
        let mut family =
            encoder.encode_descriptor("view_services_overruled", help, None, MetricType::Gauge)?;
        for source in &self.sources {
            let is_of_source =
                |service: &&Overruled| service.choice.overruled.contains(&source.source());
            let overruled = snapshot.overruled().iter().filter(is_of_source).count();
            ConstGauge::new(count(overruled as u64))
                .encode(family.encode_family(&label(source))?)?;
        }
        let help = "Whether the snapshot on disk was of another cluster, so that it was dropped";
        let mut family =
            encoder.encode_descriptor("source_snapshot_foreign", help, None, MetricType::Gauge)?;
        for source in &self.sources {
            let foreign = i64::from(source.is_disowned());
            ConstGauge::new(foreign).encode(family.encode_family(&label(source))?)?;
        }
        let help =
            "Whether another cluster answers the source, so that what ours said last is kept";
        let mut family =
            encoder.encode_descriptor("source_other_cluster", help, None, MetricType::Gauge)?;
        for source in &self.sources {
            let other = i64::from(source.other_cluster().is_some());
            ConstGauge::new(other).encode(family.encode_family(&label(source))?)?;
        }
        self.source_counters(encoder)
    }

    fn source_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kinds = || {
            let sources = self.sources.iter();
            sources.flat_map(|source| Kind::ALL.map(|kind| (source, kind)))
        };
        let mut lists = encoder.encode_descriptor(
            "source_lists",
            "Full lists read, by kind",
            None,
            MetricType::Counter,
        )?;
        for (source, kind) in kinds() {
            let labels = [
                ("source", source.source().as_str()),
                ("kind", kind.as_str()),
            ];
            ConstCounter::new(source.lists(kind)).encode(lists.encode_family(&labels)?)?;
        }
        let mut errors = encoder.encode_descriptor(
            "source_errors",
            "Failures of the source, by kind and reason",
            None,
            MetricType::Counter,
        )?;
        for ((source, kind), reason) in
            kinds().flat_map(|of| FailureReason::ALL.map(|reason| (of, reason)))
        {
            let labels = [
                ("source", source.source().as_str()),
                ("kind", kind.as_str()),
                ("reason", reason.as_str()),
            ];
            let count = source.errors(kind, reason);
            ConstCounter::new(count).encode(errors.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn label(source: &SourceStatus) -> [(&'static str, &'static str); 1] {
    [("source", source.source().as_str())]
}

impl Collector for ViewCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.reader.load();
        Self::view(&mut encoder, &snapshot)?;
        Self::picks(&mut encoder, &snapshot)?;
        Self::health(&mut encoder, &snapshot)?;
        self.sources(&mut encoder, &snapshot)?;
        watch::encode(&self.sources, &mut encoder)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Endpoints by zone and state, every pair present.
fn endpoint_counts(
    snapshot: &Snapshot,
) -> impl Iterator<Item = ((&'static str, &'static str), i64)> {
    let mut counts = [[0; STATES.len()]; ZONES.len()];
    for view in snapshot.services() {
        for endpoint in view.tiers().iter().flat_map(Tier::members) {
            counts[usize::from(endpoint.is_foreign())][state(endpoint)] += 1;
        }
        let out: usize = view.out().iter().map(|(_, count)| count).sum();
        counts[1][OUT] += count(out as u64);
    }
    ZONES.into_iter().zip(counts).flat_map(|(zone, counts)| {
        let states = STATES.into_iter().zip(counts);
        states.map(move |(state, count)| ((zone, state), count))
    })
}

fn state(endpoint: &Endpoint) -> usize {
    match endpoint.is_usable() {
        false => OUT,
        true if endpoint.load().is_ejected() => EJECTED,
        true => READY,
    }
}

const ZONES: [&str; 2] = ["local", "other"];
const STATES: [&str; 3] = ["ready", "ejected", "out"];
const READY: usize = 0;
const EJECTED: usize = 1;
const OUT: usize = 2;
