// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent's socket counts: clients, what they were told, and why they were refused or dropped.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The counters of the agent's socket.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    clients: Gauge,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    dropped: Family<[(&'static str, &'static str); 1], Counter>,
    wholes: Counter,
    changes: Counter,
    bytes: Counter,
}

/// Why a client got no connection, or lost it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClientEnd {
    /// Its user is not among those that are allowed.
    Stranger,
    /// As many clients as are allowed are there already.
    Limit,
    /// It did not take what it was told in time.
    Slow,
    /// What it said is no word of ours.
    Protocol,
    /// It ended the connection.
    Gone,
    /// The agent ends.
    Stopped,
}

impl ClientEnd {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Stranger,
        Self::Limit,
        Self::Slow,
        Self::Protocol,
        Self::Gone,
        Self::Stopped,
    ];

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Limit => "limit",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it never got as far as being told anything.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Stranger | Self::Limit)
    }
}

impl AgentMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "agent_clients",
            "Clients on the agent's socket",
            metrics.clients.clone(),
        );
        registry.register(
            "agent_clients_refused",
            "Clients that got no connection, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "agent_clients_ended",
            "Connections of clients that ended, by reason; slow ones come back for a whole view",
            metrics.dropped.clone(),
        );
        registry.register(
            "agent_views_told",
            "Whole views told to clients",
            metrics.wholes.clone(),
        );
        registry.register(
            "agent_changes_told",
            "Changes told to clients",
            metrics.changes.clone(),
        );
        registry.register(
            "agent_told_bytes",
            "Bytes written to clients",
            metrics.bytes.clone(),
        );
        for end in ClientEnd::ALL {
            drop(metrics.of(end).get_or_create(&[("reason", end.as_str())]));
        }
        metrics
    }

    /// Clients that are there.
    pub fn clients(&self) -> i64 {
        self.clients.get()
    }

    /// How many were refused or ended for this reason so far.
    pub fn ended(&self, end: ClientEnd) -> u64 {
        let counter = self.of(end).get_or_create(&[("reason", end.as_str())]);
        counter.get()
    }

    /// Whole views told so far.
    pub fn views_told(&self) -> u64 {
        self.wholes.get()
    }

    /// Changes told so far.
    pub fn changes_told(&self) -> u64 {
        self.changes.get()
    }

    pub(crate) fn came(&self) {
        self.clients.inc();
    }

    pub(crate) fn went(&self) {
        self.clients.dec();
    }

    pub(crate) fn count(&self, end: ClientEnd) {
        let counter = self.of(end).get_or_create(&[("reason", end.as_str())]);
        counter.inc();
    }

    pub(crate) fn told(&self, is_whole: bool) {
        let counter = if is_whole {
            &self.wholes
        } else {
            &self.changes
        };
        counter.inc();
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }

    fn of(&self, end: ClientEnd) -> &Family<[(&'static str, &'static str); 1], Counter> {
        if end.is_refusal() {
            &self.refused
        } else {
            &self.dropped
        }
    }
}
