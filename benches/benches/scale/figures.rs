// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was measured, beside its goals: as a table, and as a line of JSON each.

use crate::{CLUSTER, measure::Contender};
use serde_json::json;
use std::{collections::BTreeMap, fmt};

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Figure {
    ReadySeconds,
    RestBytes,
    PeakBytes,
    SyncWireBytes,
    FlipP50Seconds,
    FlipP99Seconds,
    ChurnCpuShare,
    ChurnWireBytesPerSecond,
    ChurnedBytes,
    RelistSeconds,
    RelistPeakBytes,
    RelistedBytes,
}

pub(crate) type Figures = BTreeMap<Figure, f64>;

impl Figure {
    const ALL: [Self; 12] = [
        Self::ReadySeconds,
        Self::RestBytes,
        Self::PeakBytes,
        Self::SyncWireBytes,
        Self::FlipP50Seconds,
        Self::FlipP99Seconds,
        Self::ChurnCpuShare,
        Self::ChurnWireBytesPerSecond,
        Self::ChurnedBytes,
        Self::RelistSeconds,
        Self::RelistPeakBytes,
        Self::RelistedBytes,
    ];

    fn id(self) -> &'static str {
        match self {
            Self::ReadySeconds => "ready_seconds",
            Self::RestBytes => "rest_bytes",
            Self::PeakBytes => "peak_bytes",
            Self::SyncWireBytes => "sync_wire_bytes",
            Self::FlipP50Seconds => "flip_p50_seconds",
            Self::FlipP99Seconds => "flip_p99_seconds",
            Self::ChurnCpuShare => "churn_cpu_share",
            Self::ChurnWireBytesPerSecond => "churn_wire_bytes_per_second",
            Self::ChurnedBytes => "churned_bytes",
            Self::RelistSeconds => "relist_seconds",
            Self::RelistPeakBytes => "relist_peak_bytes",
            Self::RelistedBytes => "relisted_bytes",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::ReadySeconds => "first connection to ready",
            Self::RestBytes => "memory at rest",
            Self::PeakBytes => "memory, peak of the first sync",
            Self::SyncWireBytes => "bytes of the first sync",
            Self::FlipP50Seconds => "own pod flips to pick, p50",
            Self::FlipP99Seconds => "own pod flips to pick, p99",
            Self::ChurnCpuShare => "100 foreign changes/s: share of a core",
            Self::ChurnWireBytesPerSecond => "100 foreign changes/s: bytes/s",
            Self::ChurnedBytes => "memory after these changes",
            Self::RelistSeconds => "cut and forgotten: to the pick that sees it",
            Self::RelistPeakBytes => "memory, peak of that relist",
            Self::RelistedBytes => "memory at rest after that relist",
        }
    }

    /// What the product promises; the rest is told without a promise.
    fn limit(self) -> Option<f64> {
        match self {
            Self::ReadySeconds => Some(5.0),
            Self::RestBytes => Some(40e6),
            Self::PeakBytes | Self::RelistPeakBytes => Some(80e6),
            Self::FlipP99Seconds => Some(0.1),
            Self::ChurnCpuShare => Some(0.05),
            _ => None,
        }
    }

    fn written(self, value: f64) -> String {
        match self.id() {
            id if id.ends_with("p50_seconds") || id.ends_with("p99_seconds") => {
                format!("{:.1} ms", value * 1e3)
            }
            id if id.ends_with("_seconds") => format!("{value:.2} s"),
            id if id.ends_with("share") => format!("{:.1} %", value * 100.0),
            _ => format!("{:.1} MB", value / 1e6),
        }
    }
}

/// The figures of all contenders.
#[derive(Default)]
pub(crate) struct Report {
    measured: Vec<(Contender, Figures)>,
}

impl Report {
    pub(crate) fn add(&mut self, contender: Contender, figures: Figures) {
        self.measured.push((contender, figures));
    }

    /// `{id, value, limit, pass}` and whose, a line for each figure; the limit is the product's own.
    pub(crate) fn json_lines(&self) -> String {
        let mut text = String::new();
        for (contender, figures) in &self.measured {
            for (figure, value) in figures {
                let limit = figure.limit().filter(|_| *contender == Contender::Zonal);
                let line = json!({ "id": format!("scale.{}", figure.id()), "contender": contender.name(),
                    "value": value, "limit": limit, "pass": limit.map(|limit| *value <= limit),
                    "nodes": CLUSTER.zones * CLUSTER.nodes_per_zone, "endpoints": CLUSTER.endpoints() });
                text.push_str(&line.to_string());
                text.push('\n');
            }
        }
        text
    }

    fn value(&self, contender: Contender, figure: Figure) -> Option<f64> {
        let (_, figures) = self.measured.iter().find(|(one, _)| *one == contender)?;
        figures.get(&figure).copied()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (zones, endpoints) = (CLUSTER.zones, CLUSTER.endpoints());
        let nodes = zones * CLUSTER.nodes_per_zone;
        writeln!(f, "{nodes} nodes, {zones} zones, {endpoints} endpoints")?;
        let (figure, zonal, rival) = ("", "zonal", "kube-runtime");
        writeln!(
            f,
            "{figure:<44} {zonal:>10} {rival:>13} {:>7} {:>9}",
            "ratio", "goal"
        )?;
        for figure in Figure::ALL {
            let [ours, theirs] = Contender::ALL.map(|one| self.value(one, figure));
            let text = |value: Option<f64>| value.map_or("-".into(), |value| figure.written(value));
            let ratio = ours.zip(theirs).map_or("-".into(), |(ours, theirs)| {
                format!("{:.2}x", theirs / ours)
            });
            let missed = figure
                .limit()
                .zip(ours)
                .is_some_and(|(limit, ours)| ours > limit);
            writeln!(
                f,
                "{:<44} {:>10} {:>13} {ratio:>7} {:>9}{}",
                figure.describe(),
                text(ours),
                text(theirs),
                text(figure.limit()),
                if missed { "  missed" } else { "" },
            )?;
        }
        Ok(())
    }
}
