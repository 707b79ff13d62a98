// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams: a session per client address and port, with a connected socket of its own towards one endpoint.
//!
//! In: datagrams of clients and replies of endpoints. Out: the same, whole or not at all. The kernel then sorts replies, and
//! tells the right session what ICMP says of its endpoint. A session stays with its endpoint as long as that may be used,
//! and no longer: that a client goes on sending keeps nothing alive. Tables ([`table`]) are pure; sockets wrap them.

mod batch;
mod handed;
mod listed;
mod listener;
mod session;
mod table;

pub use handed::{
    HandOver, HandedSessions, SessionFacts, SessionFactsError, SessionGiver, UdpSession,
};
pub use listed::SessionStatus;
pub(crate) use listed::SessionTable;
pub(crate) use listener::UdpListener;

use crate::{
    config::UdpLimits,
    endpoints::{CONNECTS, SharedEjections},
    limits::{SharedSources, SourceLimits, Sources},
    sockets::OwnSockets,
};
use discovery_core::telemetry::ProxyMetrics;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What all UDP listeners of a process share.
#[derive(Debug)]
pub(crate) struct Fleet {
    limits: UdpLimits,
    permits: Arc<Semaphore>,
    sources: SharedSources,
    ejections: SharedEjections,
    own: OwnSockets,
    metrics: Arc<ProxyMetrics>,
    /// From the proxy before this one.
    handed: HandedSessions,
    /// To the one after it.
    hand_over: HandOver,
}

impl Fleet {
    pub(crate) fn new(
        limits: UdpLimits,
        metrics: Arc<ProxyMetrics>,
        handed: HandedSessions,
        hand_over: HandOver,
    ) -> Self {
        let sources = SourceLimits {
            connections_max: limits.source_sessions_max,
            // The cap bounds how many there are; a client may change its port as fast as it likes.
            rate: u32::MAX,
            burst: u32::MAX,
            sources_max: SOURCES_MAX.max(limits.sessions_max),
        };
        Self {
            limits,
            permits: Arc::new(Semaphore::new(
                limits.sessions_max.min(Semaphore::MAX_PERMITS),
            )),
            sources: SharedSources::new(Sources::new(sources)),
            ejections: SharedEjections::new(CONNECTS),
            own: OwnSockets::default(),
            metrics,
            handed,
            hand_over,
        }
    }

    /// The sockets on which this process receives datagrams of clients.
    pub(crate) fn own(&self) -> &OwnSockets {
        &self.own
    }
}

/// As many as there are sessions by default, and half as many again that were there before.
const SOURCES_MAX: usize = 12_288;
