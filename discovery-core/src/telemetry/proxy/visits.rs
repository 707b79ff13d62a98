// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted of the visits by which hosts of the zone try ports of ours.

use super::words::PeerVisit;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The counters of the visits to a process's ports.
#[derive(Debug, Default)]
pub(super) struct VisitMetrics(Family<[(&'static str, &'static str); 1], Counter>);

impl VisitMetrics {
    pub(super) fn of(&self, visit: PeerVisit) -> Counter {
        self.0.get_or_create_owned(&[("outcome", visit.as_str())])
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "proxy_peer_visits",
            "Connections and datagrams by which hosts of the zone tried ports of ours, by outcome",
            self.0.clone(),
        );
        // Both are there from the first scrape on.
        for visit in PeerVisit::ALL {
            drop(self.of(visit));
        }
    }
}
