// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report as people read it. Pure.

use super::{
    cost::Cost,
    report::{Outcome, Report},
};
use std::fmt::Write as _;

pub(super) fn table(report: &Report) -> String {
    let zone = report.zone.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "zonal doctor {}   node {}   zone {zone}   asked: {}\n\n",
        report.subject, report.node, report.asked
    );
    let ids = report.checks.iter().map(|check| check.id.len());
    let width = ids.max().unwrap_or_default();
    for check in &report.checks {
        let _ = writeln!(
            text,
            "{}  {:<width$}  {}",
            check.outcome, check.id, check.says
        );
        if let Some(next) = &check.next {
            let _ = writeln!(text, "      next: {next}");
        }
    }
    if let Some(cost) = &report.cost {
        let _ = write!(text, "\n{}", costs(cost));
    }
    let _ = writeln!(text, "\n{}", summary(report));
    // What others named may carry control characters; none reaches the terminal.
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

fn costs(cost: &Cost) -> String {
    let selected = cost.selector.as_deref().unwrap_or("any");
    let namespaces = match &cost.namespaces[..] {
        [] => "all".to_owned(),
        names => names.join(", "),
    };
    let api = cost.slice_api.as_deref().unwrap_or("no API yet");
    let mut text = format!("COST  labels: {selected}   namespaces: {namespaces}   slices: {api}\n");
    let columns = [
        "kind",
        "objects",
        "a list, wire",
        "a list, read",
        "wire an hour",
    ];
    row(&mut text, columns.map(str::to_owned));
    for kind in &cost.kinds {
        row(
            &mut text,
            [
                kind.kind.clone(),
                kind.objects.to_string(),
                bytes(kind.list_bytes_wire),
                bytes(kind.list_bytes),
                bytes(kind.bytes_wire_per_hour),
            ],
        );
    }
    let all = bytes(cost.bytes_wire_per_hour);
    let rests_on = if cost.is_estimate {
        format!(": an estimate from {:.0} s", cost.seconds)
    } else {
        String::new()
    };
    let _ = writeln!(text, "      {all} an hour in all{rests_on}");
    text
}

fn row(text: &mut String, [kind, cells @ ..]: [String; 5]) {
    let _ = write!(text, "      {kind:<10}");
    for cell in cells {
        let _ = write!(text, "{cell:>14}");
    }
    text.push('\n');
}

fn summary(report: &Report) -> String {
    let of = |outcome, word| match report.count(outcome) {
        0 => None,
        count => Some(format!("{count} {word}")),
    };
    let parts = [
        of(Outcome::Fail, "failed"),
        of(Outcome::Wait, "not decided yet"),
        of(Outcome::Warn, "to look at"),
        of(Outcome::Pass, "hold"),
        of(Outcome::Skip, "not looked at"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

/// Bytes in thousands, as networks count.
fn bytes(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if bytes >= size {
            return format!("{:.1} {unit}", bytes / size);
        }
    }
    format!("{bytes:.0} B")
}
