// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a source costs per hour, from what it has cost so far. Pure.
//!
//! A list is paid once, and again whenever it is read again; a watch is paid as long as it stands. The hour is what came by
//! watches and by lists that were read again, over the time in which it came.

use discovery_core::runtime::{KindReport, SourceReport};
use serde::Serialize;

/// The cost of one source.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// The label selector of services and slices; none means all.
    pub(super) selector: Option<String>,
    /// Their namespaces; empty means all.
    pub(super) namespaces: Vec<String>,
    /// The API that slices are read from.
    pub(super) slice_api: Option<String>,
    pub(super) kinds: Vec<KindCost>,
    /// Bytes over the wire, all kinds together.
    pub(super) bytes_wire_per_hour: f64,
    /// The shortest time that a figure rests on.
    pub(super) seconds: f64,
    /// Whether that is less than an hour.
    pub(super) is_estimate: bool,
}

/// The cost of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct KindCost {
    pub(super) kind: String,
    /// Objects in a full list.
    pub(super) objects: u64,
    /// A full list, as it is compressed on the wire.
    pub(super) list_bytes_wire: f64,
    /// A full list, decoded.
    pub(super) list_bytes: f64,
    /// What changes cost, and lists that are read again.
    pub(super) bytes_wire_per_hour: f64,
}

impl Cost {
    /// None while nothing was watched for a second.
    pub(super) fn of(source: &SourceReport) -> Option<Self> {
        let is_watched = |kind: &&KindReport| seconds(source, kind) >= SECONDS_MIN;
        let watched: Vec<_> = source.kinds.iter().filter(is_watched).collect();
        let shortest = watched.iter().map(|kind| seconds(source, kind));
        let shortest = shortest.reduce(f64::min)?;
        let kinds: Vec<_> = watched.iter().map(|kind| cost(source, kind)).collect();
        Some(Self {
            selector: source.selector.clone(),
            namespaces: source.namespaces.clone(),
            slice_api: source.slice_api.clone(),
            bytes_wire_per_hour: kinds.iter().map(|kind| kind.bytes_wire_per_hour).sum(),
            kinds,
            seconds: shortest,
            is_estimate: shortest < HOUR,
        })
    }
}

fn cost(source: &SourceReport, kind: &KindReport) -> KindCost {
    let again = share_read_again(kind);
    let list_bytes_wire = float(kind.list_bytes_wire);
    let bytes = float(kind.watch_bytes_wire) + list_bytes_wire * again;
    KindCost {
        kind: kind.kind.clone(),
        objects: kind.objects,
        list_bytes_wire: (list_bytes_wire * (1.0 - again)).round(),
        list_bytes: (float(kind.list_bytes) * (1.0 - again)).round(),
        bytes_wire_per_hour: (bytes / seconds(source, kind) * HOUR).round(),
    }
}

/// The part of what came by lists that was read again.
fn share_read_again(kind: &KindReport) -> f64 {
    let relists: u64 = kind.relists.values().sum();
    if kind.lists == 0 {
        return 0.0;
    }
    float(relists.min(kind.lists)) / float(kind.lists)
}

/// For how long what is counted was: since its list was complete, or from the beginning where lists were read again.
fn seconds(source: &SourceReport, kind: &KindReport) -> f64 {
    match kind.sync_age_seconds {
        Some(since) if kind.relists.is_empty() => since,
        Some(_) => source.observed_seconds,
        None => 0.0,
    }
}

// Beyond 2^53 bytes a figure is off by a byte.
#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

const HOUR: f64 = 3_600.0;
const SECONDS_MIN: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(kind: &serde_json::Value) -> SourceReport {
        serde_json::from_value(json!({
            "source": "kube", "connected": true, "live": true, "age_seconds": 0.1, "overruled": 0,
            "observed_seconds": 200.0, "kinds": [kind],
        }))
        .unwrap()
    }

    // The figures are whole numbers.
    #[allow(clippy::float_cmp)]
    #[test]
    fn an_hour_is_what_changes_cost_since_the_list() {
        let cost = Cost::of(&source(&json!({
            "kind": "slices", "lists": 1, "objects": 7, "sync_age_seconds": 100.0,
            "list_bytes_wire": 5_000, "list_bytes": 20_000, "watch_bytes_wire": 1_000,
        })))
        .unwrap();
        assert!(cost.is_estimate);
        assert_eq!(cost.seconds, 100.0);
        assert_eq!(cost.bytes_wire_per_hour, 36_000.0);
        assert_eq!(cost.kinds[0].list_bytes_wire, 5_000.0);
        assert_eq!(cost.kinds[0].objects, 7);
    }

    #[allow(clippy::float_cmp)]
    #[test]
    fn lists_that_were_read_again_belong_to_the_hour() {
        let cost = Cost::of(&source(&json!({
            "kind": "slices", "lists": 4, "relists": { "expired": 3 }, "sync_age_seconds": 1.0,
            "list_bytes_wire": 4_000, "list_bytes": 8_000, "watch_bytes_wire": 1_000,
        })))
        .unwrap();
        assert_eq!(cost.seconds, 200.0);
        assert_eq!(cost.kinds[0].list_bytes_wire, 1_000.0);
        assert_eq!(cost.bytes_wire_per_hour, 72_000.0);
    }

    #[test]
    fn nothing_is_told_of_what_was_not_watched() {
        let never = json!({ "kind": "slices", "lists": 1, "list_bytes_wire": 10 });
        assert!(Cost::of(&source(&never)).is_none());
    }
}
