// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted of the pipes through which bulk data goes.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The counters of a process's pipes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PipeMetrics {
    in_use: Gauge,
    pooled: Gauge,
    denied: Counter,
}

impl PipeMetrics {
    /// Says how many pipes are in use and how many wait for it.
    pub fn set(&self, in_use: usize, pooled: usize) {
        self.in_use.set(i64::try_from(in_use).unwrap_or(i64::MAX));
        self.pooled.set(i64::try_from(pooled).unwrap_or(i64::MAX));
    }

    /// Counts a wish for a pipe that was not granted; the bytes are copied instead.
    pub fn denied(&self) {
        self.denied.inc();
    }

    /// How many wishes were not granted so far.
    pub fn denials(&self) -> u64 {
        self.denied.get()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "proxy_pipes_in_use",
            "Pipes through which bulk data goes now",
            self.in_use.clone(),
        );
        registry.register(
            "proxy_pipes_pooled",
            "Empty pipes kept for the next bulk transfer",
            self.pooled.clone(),
        );
        registry.register(
            "proxy_pipes_denied",
            "Times that no pipe was to be had, and bytes were copied",
            self.denied.clone(),
        );
    }
}
