// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures of all rounds as medians with their range, goals as met or missed, and the rows that are written.

use serde_json::{Value, json};
use std::{fs, path::Path};

/// Rows and goals so far; both are printed as they come.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
    goals: Vec<String>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn row(&mut self, suite: &str, target: &str, mut figures: Value) {
        figures["suite"] = suite.into();
        figures["target"] = target.into();
        self.rows.push(figures);
    }

    /// Compares, prints and keeps what came out.
    pub(crate) fn goal(&mut self, what: &str, value: f64, goal: Goal) {
        let (is_met, sign, limit) = match goal {
            Goal::AtLeast(limit) => (value >= limit, '≥', limit),
            Goal::AtMost(limit) => (value <= limit, '≤', limit),
        };
        let word = if is_met { "met" } else { "MISSED" };
        let line = format!("{word:<6} {what}: {value:.3} (goal {sign} {limit})");
        println!("  goal {line}");
        self.row(
            "goal",
            what,
            json!({ "value": rounded(value), "limit": limit, "met": is_met }),
        );
        self.goals.push(line);
    }

    /// Writes the rows if it is wished, and prints every goal once more.
    pub(crate) fn finish(self, is_written: bool) -> anyhow::Result<()> {
        println!("\ngoals");
        for goal in &self.goals {
            println!("  {goal}");
        }
        if is_written {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/dns.jsonl");
            let lines: Vec<_> = self.rows.iter().map(ToString::to_string).collect();
            fs::write(&path, lines.join("\n") + "\n")?;
            println!("written to {}", path.display());
        }
        Ok(())
    }
}

/// The median of some figures and their range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            least: at(0),
            median: at(values.len() / 2),
            most: at(values.len().saturating_sub(1)),
        }
    }

    pub(crate) fn json(self) -> Value {
        json!([
            rounded(self.least),
            rounded(self.median),
            rounded(self.most)
        ])
    }
}

/// Four digits say more than any of it is worth.
pub(crate) fn rounded(value: f64) -> f64 {
    let digits = value.abs().log10().floor();
    let scale = 10_f64.powf(3.0 - digits);
    if value == 0.0 || !scale.is_finite() {
        return value;
    }
    if scale < 1.0 {
        return value.round();
    }
    (value * scale).round() / scale
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds of load")]
pub(crate) fn f64_of(count: u64) -> f64 {
    count as f64
}
