// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the newest snapshot and its source say, read at each scrape: nothing is kept twice, nothing costs in between.

use super::watch;
use crate::{
    source::{FailureReason, SourceStatus},
    store::{Kind, Reader, Snapshot, Tier},
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
    source: Arc<SourceStatus>,
}

impl ViewCollector {
    pub(super) fn new(reader: Reader, source: Arc<SourceStatus>) -> Self {
        Self { reader, source }
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

    fn source(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.source.source().as_str();
        let connected = i64::from(self.source.is_connected());
        let mut family = encoder.encode_descriptor(
            "source_connected",
            "Whether the source answers",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(connected).encode(family.encode_family(&[("source", source)])?)?;
        if let Some(age) = self.source.age() {
            let help = "Seconds since the source was last heard";
            let mut family =
                encoder.encode_descriptor("source_age_seconds", help, None, MetricType::Gauge)?;
            ConstGauge::new(age.as_secs_f64())
                .encode(family.encode_family(&[("source", source)])?)?;
        }
        let mut lists = encoder.encode_descriptor(
            "source_lists",
            "Full lists read, by kind",
            None,
            MetricType::Counter,
        )?;
        for kind in Kind::ALL {
            let labels = [("source", source), ("kind", kind.as_str())];
            ConstCounter::new(self.source.lists(kind)).encode(lists.encode_family(&labels)?)?;
        }
        let mut errors = encoder.encode_descriptor(
            "source_errors",
            "Failures of the source, by kind and reason",
            None,
            MetricType::Counter,
        )?;
        for (kind, reason) in Kind::ALL
            .into_iter()
            .flat_map(|kind| FailureReason::ALL.map(|reason| (kind, reason)))
        {
            let labels = [
                ("source", source),
                ("kind", kind.as_str()),
                ("reason", reason.as_str()),
            ];
            let count = self.source.errors(kind, reason);
            ConstCounter::new(count).encode(errors.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for ViewCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.reader.load();
        Self::view(&mut encoder, &snapshot)?;
        Self::picks(&mut encoder, &snapshot)?;
        self.source(&mut encoder)?;
        watch::encode(&self.source, &mut encoder)
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
