// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures of all rounds, and the table of their medians.

use crate::target::Target;
use serde_json::json;
use std::{collections::BTreeMap, fmt};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Connections, exchanges or bytes in a second; of idle connections, KiB of memory for each.
    pub(crate) rate: f64,
    /// Cores that the proxy was busy.
    pub(crate) cpu: f64,
}

/// All measurements.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<(String, Target), Vec<Figure>>);

impl Report {
    pub(crate) fn add(&mut self, target: Target, suite: &str, figure: Figure) {
        self.0
            .entry((suite.to_owned(), target))
            .or_default()
            .push(figure);
    }

    /// One line for each suite and target.
    pub(crate) fn json_lines(&self) -> String {
        let line = |((suite, target), figures): (&(String, Target), &Vec<Figure>)| {
            let rates = spread(figures, |figure| figure.rate);
            let line = json!({
                "suite": suite, "target": target.name(), "rate": rates[1], "least": rates[0], "most": rates[2],
                "cpu": spread(figures, |figure| figure.cpu)[1],
            });
            format!("{line}\n")
        };
        self.0.iter().map(line).collect()
    }

    fn median(&self, suite: &str, target: Target) -> Option<f64> {
        let figures = self.0.get(&(suite.to_owned(), target))?;
        Some(spread(figures, |figure| figure.rate)[1])
    }
}

/// The least, the median and the most.
fn spread(figures: &[Figure], of: impl Fn(&Figure) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(least), Some(most)) => [*least, values[values.len() / 2], *most],
        _ => [0.0; 3],
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((suite, target), figures) in &self.0 {
            let [least, rate, most] = spread(figures, |figure| figure.rate);
            let cpu = spread(figures, |figure| figure.cpu)[1];
            let ours = self.median(suite, Target::Ours).unwrap_or(0.0);
            let name = target.name();
            if suite.starts_with("bulk") {
                let gbit = |bytes: f64| bytes * 8.0 / 1e9;
                let per_gb = if rate > 0.0 { cpu / (rate / 1e9) } else { 0.0 };
                writeln!(
                    f,
                    "{suite:<12} {name:<38} {:>6.1} Gbit/s ({:.1}–{:.1})  {per_gb:.3} s/GB  ours is {:.2}x",
                    gbit(rate),
                    gbit(least),
                    gbit(most),
                    ours / rate,
                )?;
            } else if suite == "idle" {
                writeln!(
                    f,
                    "{suite:<12} {name:<38} {rate:>8.2} KiB each ({least:.2}–{most:.2})  ours is {:.2}x",
                    ours / rate,
                )?;
            } else {
                writeln!(
                    f,
                    "{suite:<12} {name:<38} {rate:>8.0} /s ({least:.0}–{most:.0})  {:.1} µs of CPU  ours is {:.2}x",
                    cpu * 1e6 / rate,
                    ours / rate,
                )?;
            }
        }
        Ok(())
    }
}
