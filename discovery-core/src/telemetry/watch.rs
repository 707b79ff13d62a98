// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the watches of the sources stand, what they cost and why lists were read again, read at each scrape.

use crate::{
    source::{FailureReason, SecondWatch, SourceStatus, WatchState},
    store::Kind,
};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{fmt, sync::Arc};

/// Writes the families about watches. Reasons that never occurred are left out.
pub(super) fn encode(
    sources: &[Arc<SourceStatus>],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    states(sources, encoder)?;
    ages(sources, encoder)?;
    bytes(sources, encoder)?;
    second_watches(sources, encoder)?;
    by_reason(
        sources,
        encoder,
        "relists",
        "Full lists that were read again, by kind and reason",
        SourceStatus::relists,
    )?;
    by_reason(
        sources,
        encoder,
        "lines_rejected",
        "Lines of watches that were refused, by kind and reason",
        SourceStatus::lines_rejected,
    )
}

fn states(sources: &[Arc<SourceStatus>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Whether the watch of a kind is in a state: 1 for the one that it is in";
    let mut family = encoder.encode_descriptor("watch_state", help, None, MetricType::Gauge)?;
    for (source, kind) in kinds(sources) {
        for state in WatchState::ALL {
            let labels = [
                ("source", source.source().as_str()),
                ("kind", kind.as_str()),
                ("state", state.as_str()),
            ];
            let value = i64::from(source.state(kind) == state);
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn ages(sources: &[Arc<SourceStatus>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Seconds since a kind was last heard of";
    let mut family =
        encoder.encode_descriptor("watch_age_seconds", help, None, MetricType::Gauge)?;
    for (source, kind) in kinds(sources) {
        if let Some(age) = source.kind_age(kind) {
            let labels = [
                ("source", source.source().as_str()),
                ("kind", kind.as_str()),
            ];
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn bytes(sources: &[Arc<SourceStatus>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Bytes of answers by kind, as they came over the wire and as they read";
    let mut family = encoder.encode_descriptor("watch_bytes", help, None, MetricType::Counter)?;
    for (source, kind) in kinds(sources) {
        for (layer, bytes) in [
            ("wire", source.bytes_wire(kind)),
            ("decoded", source.bytes(kind)),
        ] {
            let labels = [
                ("source", source.source().as_str()),
                ("kind", kind.as_str()),
                ("layer", layer),
            ];
            ConstCounter::new(bytes).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn second_watches(
    sources: &[Arc<SourceStatus>],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let help = "Watches that were begun beside an overdue one, by kind and outcome";
    let mut family =
        encoder.encode_descriptor("second_watches", help, None, MetricType::Counter)?;
    for (source, kind) in kinds(sources) {
        for outcome in SecondWatch::ALL {
            let count = source.second_watches(kind, outcome);
            if count > 0 {
                let labels = [
                    ("source", source.source().as_str()),
                    ("kind", kind.as_str()),
                    ("outcome", outcome.as_str()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn by_reason(
    sources: &[Arc<SourceStatus>],
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: impl Fn(&SourceStatus, Kind, FailureReason) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (source, kind) in kinds(sources) {
        for reason in FailureReason::ALL {
            let count = count(source, kind, reason);
            if count > 0 {
                let labels = [
                    ("source", source.source().as_str()),
                    ("kind", kind.as_str()),
                    ("reason", reason.as_str()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn kinds(sources: &[Arc<SourceStatus>]) -> impl Iterator<Item = (&SourceStatus, Kind)> {
    let sources = sources.iter();
    sources.flat_map(|source| Kind::ALL.map(|kind| (&**source, kind)))
}
