// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the read-only part of Consul's HTTP interface counts. Names and addresses are never labels.

use super::labels::{Grid, Label, labels, register_row};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

labels! {
    /// What was asked for.
    ConsulApiEndpoint, "endpoint", {
        /// The list of services.
        Services => "services",
        /// The instances of a service.
        Service => "service",
        /// The list of nodes.
        Nodes => "nodes",
        /// The instances of a service with their checks.
        HealthService => "health-service",
        /// Checks.
        HealthState => "health-state",
        /// Who answers, who leads, which datacenters there are.
        Agent => "agent",
        /// What is not offered.
        Other => "other",
    }
}

labels! {
    /// What became of a request.
    ConsulApiOutcome, "outcome", {
        /// It was answered.
        Answered => "answered",
        /// It is malformed, of something that is not offered, or would write.
        Refused => "refused",
        /// Nothing is known yet, or not of that datacenter.
        Unknown => "unknown",
        /// As many requests were open as may be.
        Full => "full",
    }
}

labels! {
    /// Why a connection was not taken, or had to wait.
    ConsulApiTurnedAway, "reason", {
        /// From a network that is not to be answered.
        Denied => "denied",
        /// From a source that has as many connections as it may.
        Connections => "connections",
        /// All places are taken; it waits.
        Full => "connections-full",
        /// The system could not accept; it waits.
        AcceptFailed => "accept-failed",
    }
}

/// The counters of the interface.
pub struct ConsulApiMetrics {
    requests: Grid<{ ConsulApiEndpoint::COUNT }, { ConsulApiOutcome::COUNT }>,
    turned_away: [Counter; ConsulApiTurnedAway::COUNT],
    waiting: Gauge,
}

impl ConsulApiMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let waiting = Gauge::default();
        registry.register(
            "consul_api_waiting",
            "Requests to the Consul interface that wait for a change",
            waiting.clone(),
        );
        Self {
            requests: Grid::register::<ConsulApiEndpoint, ConsulApiOutcome>(registry, REQUESTS),
            turned_away: register_row::<ConsulApiTurnedAway, _>(registry, TURNED_AWAY),
            waiting,
        }
    }

    /// Counts a request that ended.
    pub fn answered(&self, endpoint: ConsulApiEndpoint, outcome: ConsulApiOutcome) {
        self.requests.count(endpoint as usize, outcome as usize, 1);
    }

    /// Counts a connection that was not taken, or had to wait.
    pub fn turned_away(&self, reason: ConsulApiTurnedAway) {
        self.turned_away[reason as usize].inc();
    }

    /// Counts a request as waiting until what is returned is dropped.
    pub fn wait(&self) -> ConsulApiWaiting {
        self.waiting.inc();
        ConsulApiWaiting(self.waiting.clone())
    }

    /// How many requests wait.
    pub fn waiting(&self) -> i64 {
        self.waiting.get()
    }

    /// The requests to an endpoint that ended so.
    pub fn requests(&self, endpoint: ConsulApiEndpoint, outcome: ConsulApiOutcome) -> u64 {
        self.requests.get(endpoint as usize, outcome as usize)
    }
}

/// One request that waits.
#[derive(Debug)]
pub struct ConsulApiWaiting(Gauge);

impl Drop for ConsulApiWaiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

const REQUESTS: (&str, &str) = (
    "consul_api_requests",
    "Requests to the Consul interface by what became of them",
);
const TURNED_AWAY: (&str, &str) = (
    "consul_api_turned_away",
    "Connections to the Consul interface that were not taken, or had to wait",
);
