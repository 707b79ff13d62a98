// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test has measured, for the scoreboard: a row in `benches/results`, where `ZONAL_RESULTS` is set.

use serde_json::{Value, json};
use std::{fs, io, path::Path, time::Duration};

/// Writes what a requirement took into the results, in place of what stood there.
pub(crate) fn record(id: &str, took: Duration, limit: Duration) -> io::Result<()> {
    let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
    let row = json!({
        "value": seconds(took), "limit": seconds(limit), "unit": "seconds", "pass": took <= limit,
    });
    record_row("thin-link.jsonl", id, &row)
}

/// Writes a row with a value, a limit and whether it passes into a file of the results, in place of the one of this id.
pub(crate) fn record_row(file: &str, id: &str, row: &Value) -> io::Result<()> {
    if std::env::var_os("ZONAL_RESULTS").is_none() {
        return Ok(());
    }
    let mut row = row.clone();
    row["id"] = id.into();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/results");
    let path = folder.join(file);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let is_other =
        |line: &&str| serde_json::from_str::<Value>(line).is_ok_and(|row| row["id"] != id);
    let mut lines: Vec<_> = before.lines().filter(is_other).map(str::to_owned).collect();
    lines.push(row.to_string());
    lines.sort();
    fs::write(path, lines.join("\n") + "\n")?;
    Ok(())
}
