// SPDX-License-Identifier: MIT OR Apache-2.0
//! The series of one listener and of one connection: atomics that are moved without a lock.

use super::{ByteDirection, ConnectFailure, EjectionCause, ProxyOutcome, durations::Durations};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use std::{sync::Arc, time::Duration};

/// The series of one listener. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct ListenerMetrics(pub(super) Arc<Series>);

impl ListenerMetrics {
    /// Counts an accepted connection; the guard counts its end.
    pub fn accept(&self) -> ConnectionMetrics {
        self.0.accepted.inc();
        self.0.active.inc();
        ConnectionMetrics {
            series: self.0.clone(),
            outcome: ProxyOutcome::Aborted,
        }
    }

    /// Counts a pause of the accept loop.
    pub fn paused(&self) {
        self.0.accept_pauses.inc();
    }

    /// How many bytes of all listeners went from socket to socket inside the kernel.
    pub fn spliced(&self) -> u64 {
        self.0.spliced.get()
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.get()
    }

    /// How many connections ended so far with the outcome.
    pub fn ended(&self, outcome: ProxyOutcome) -> u64 {
        self.0.ended[outcome as usize].get()
    }

    /// How many connects to endpoints failed so far with the reason.
    pub fn connect_failures(&self, failure: ConnectFailure) -> u64 {
        self.0.connect_failures[failure as usize].get()
    }

    /// How many connections were left without an answer in time.
    pub fn unanswered(&self) -> u64 {
        self.0.unanswered.get()
    }

    /// How many times an endpoint was ejected for the cause.
    pub fn ejections(&self, cause: EjectionCause) -> u64 {
        self.0.ejections[cause as usize].get()
    }

    /// How many bytes were delivered so far.
    pub fn bytes(&self, direction: ByteDirection) -> u64 {
        self.0.bytes[direction as usize].get()
    }
}

/// One accepted connection; counts its end once, also when its task is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard counts the connection as aborted"]
pub struct ConnectionMetrics {
    series: Arc<Series>,
    outcome: ProxyOutcome,
}

impl ConnectionMetrics {
    /// Counts bytes delivered.
    pub fn moved(&self, direction: ByteDirection, bytes: u64) {
        self.series.bytes[direction as usize].inc_by(bytes);
    }

    /// Counts an endpoint that could not be connected to.
    pub fn connect_failed(&self, failure: ConnectFailure) {
        self.series.connect_failures[failure as usize].inc();
    }

    /// Counts that the endpoint left the client without an answer for too long.
    pub fn unanswered(&self) {
        self.series.unanswered.inc();
    }

    /// Counts an endpoint that was ejected.
    pub fn ejected(&self, cause: EjectionCause) {
        self.series.ejections[cause as usize].inc();
    }

    /// Counts an established connection to an endpoint, and how long it took.
    pub fn connected(&self, after: Duration) {
        self.series.connect_duration.observe(after);
    }

    /// Counts delivered bytes that went from socket to socket inside the kernel; they count as moved as well.
    pub fn spliced(&self, bytes: u64) {
        self.series.spliced.inc_by(bytes);
    }

    /// Counts a log line that was left out.
    pub fn log_line_dropped(&self) {
        self.series.log_lines_dropped.inc();
    }

    /// Counts the end.
    pub fn end(mut self, outcome: ProxyOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for ConnectionMetrics {
    fn drop(&mut self) {
        let at = self.outcome as usize;
        self.series.ended[at].inc();
        if let Some(rejected) = &self.series.rejected[at] {
            rejected.inc();
        }
        self.series.active.dec();
    }
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) accepted: Counter,
    pub(super) ended: [Counter; ProxyOutcome::ALL.len()],
    pub(super) rejected: [Option<Counter>; ProxyOutcome::ALL.len()],
    pub(super) active: Gauge,
    pub(super) bytes: [Counter; 2],
    pub(super) connect_failures: [Counter; ConnectFailure::ALL.len()],
    pub(super) unanswered: Counter,
    pub(super) ejections: [Counter; EjectionCause::ALL.len()],
    pub(super) accept_pauses: Counter,
    pub(super) connect_duration: Durations,
    pub(super) log_lines_dropped: Counter,
    pub(super) spliced: Counter,
}
