// SPDX-License-Identifier: MIT OR Apache-2.0
//! The figures of one kind of one source, as the status tells them.

use crate::{
    source::{FailureReason, SourceStatus},
    store::Kind,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How one kind of a source fares, and what it has cost since the source began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KindReport {
    /// Which it is: own-node, nodes, services or slices.
    pub kind: String,
    /// How far its watch is: cold, snapshot, listing, live, suspect or stale.
    pub state: String,
    /// Seconds for which it has been in that state; none while it is cold.
    pub state_age_seconds: Option<f64>,
    /// Seconds since it was last heard of; none when it never was.
    pub age_seconds: Option<f64>,
    /// Seconds since its last full list was complete; none when none was.
    pub sync_age_seconds: Option<f64>,
    /// Whether its last request was answered well.
    pub connected: bool,
    /// Full lists that were begun.
    pub lists: u64,
    /// Objects in its last full list; 0 where the source does not count them.
    pub objects: u64,
    /// Watches that were begun.
    pub watches: u64,
    /// Full lists that were read again, by reason; reasons that never occurred are left out, here and below.
    pub relists: BTreeMap<String, u64>,
    /// Requests that failed, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Lines of watches that were refused, by reason.
    pub lines_rejected: BTreeMap<String, u64>,
    /// Why a request failed the last time that one did, however long ago.
    pub last_failure: Option<String>,
    /// Bytes of lists over the wire, compressed as they came; with them what it took to find the API.
    pub list_bytes_wire: u64,
    /// Bytes of lists, decoded.
    pub list_bytes: u64,
    /// Bytes of watches over the wire, compressed as they came.
    pub watch_bytes_wire: u64,
    /// Bytes of watches, decoded.
    pub watch_bytes: u64,
}

impl KindReport {
    pub(super) fn of(source: &SourceStatus, kind: Kind) -> Self {
        let by_reason = |count: fn(&SourceStatus, Kind, FailureReason) -> u64| {
            let counts = FailureReason::ALL.map(|reason| (reason, count(source, kind, reason)));
            let counted = counts.into_iter().filter(|(_, count)| *count > 0);
            counted
                .map(|(reason, count)| (reason.to_string(), count))
                .collect()
        };
        // The parts first: figures go on while they are read, and a whole is never less than its part.
        let (list_bytes_wire, list_bytes) = (source.list_bytes_wire(kind), source.list_bytes(kind));
        Self {
            kind: kind.to_string(),
            state: source.state(kind).to_string(),
            state_age_seconds: source.state_age(kind).map(|age| age.as_secs_f64()),
            age_seconds: source.kind_age(kind).map(|age| age.as_secs_f64()),
            sync_age_seconds: source.sync_age(kind).map(|age| age.as_secs_f64()),
            connected: source.is_kind_connected(kind),
            lists: source.lists(kind),
            objects: source.objects(kind),
            watches: source.watches(kind),
            relists: by_reason(SourceStatus::relists),
            errors: by_reason(SourceStatus::errors),
            lines_rejected: by_reason(SourceStatus::lines_rejected),
            last_failure: source.last_failure(kind).map(|reason| reason.to_string()),
            list_bytes_wire,
            list_bytes,
            watch_bytes_wire: source.bytes_wire(kind).saturating_sub(list_bytes_wire),
            watch_bytes: source.bytes(kind).saturating_sub(list_bytes),
        }
    }
}
