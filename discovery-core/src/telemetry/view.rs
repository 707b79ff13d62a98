// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the newest snapshot and its sources say, read at each scrape: nothing is kept twice, nothing costs in between.

use super::watch;
use crate::{
    source::{FailureReason, SourceStatus},
    store::{Kind, Overruled, Reader, Snapshot, Tier},
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

/// Endpoints by zone (local, other) and state (ready, out), every pair present.
fn endpoint_counts(snapshot: &Snapshot) -> [((&'static str, &'static str), i64); 4] {
    let mut counts = [
        ("local", "ready"),
        ("local", "out"),
        ("other", "ready"),
        ("other", "out"),
    ]
    .map(|key| (key, 0));
    for view in snapshot.services() {
        for endpoint in view.tiers().iter().flat_map(Tier::members) {
            let other = usize::from(endpoint.is_foreign());
            counts[other * 2 + usize::from(!endpoint.is_usable())].1 += 1;
        }
        let out: usize = view.out().iter().map(|(_, count)| count).sum();
        counts[3].1 += count(out as u64);
    }
    counts
}
