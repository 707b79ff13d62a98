// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted of UDP: datagrams, sessions, and what was dropped.

use super::{ByteDirection, DatagramDrop, SessionEnd};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::Arc;

/// The families of UDP.
#[derive(Debug, Default)]
pub(super) struct UdpFamilies {
    datagrams: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    dropped: Family<Labels, Counter>,
    sessions: Family<Labels, Counter>,
    active: Family<[Label; 2], Gauge>,
}

impl UdpFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "proxy_udp_datagrams",
            "Datagrams passed on, by direction",
            self.datagrams.clone(),
        );
        registry.register(
            "proxy_udp_bytes",
            "Bytes in datagrams passed on, by direction",
            self.bytes.clone(),
        );
        registry.register(
            "proxy_udp_dropped",
            "Datagrams that were not passed on, by reason",
            self.dropped.clone(),
        );
        registry.register(
            "proxy_udp_sessions",
            "Sessions ended, by reason",
            self.sessions.clone(),
        );
        registry.register(
            "proxy_udp_sessions_active",
            "Sessions open now",
            self.active.clone(),
        );
    }

    pub(super) fn listener(&self, labels: &[Label; 2]) -> UdpListenerMetrics {
        let with = |name, word: &str| {
            let [service, port] = labels.clone();
            [service, port, (name, word.into())]
        };
        let ways = |family: &Family<Labels, Counter>| {
            ["up", "down"].map(|way| family.get_or_create_owned(&with("direction", way)))
        };
        let dropped = |why: DatagramDrop| {
            self.dropped
                .get_or_create_owned(&with("reason", why.as_str()))
        };
        let ended = |how: SessionEnd| {
            self.sessions
                .get_or_create_owned(&with("reason", how.as_str()))
        };
        UdpListenerMetrics(Arc::new(Series {
            datagrams: ways(&self.datagrams),
            bytes: ways(&self.bytes),
            dropped: DatagramDrop::ALL.map(dropped),
            ended: SessionEnd::ALL.map(ended),
            active: self.active.get_or_create_owned(labels),
        }))
    }
}

/// The series of one UDP listener. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct UdpListenerMetrics(Arc<Series>);

impl UdpListenerMetrics {
    /// Counts datagrams passed on, and the bytes in them.
    pub fn passed(&self, direction: ByteDirection, datagrams: u64, bytes: u64) {
        self.0.datagrams[direction as usize].inc_by(datagrams);
        self.0.bytes[direction as usize].inc_by(bytes);
    }

    /// Counts a datagram that was not passed on.
    pub fn drop_one(&self, why: DatagramDrop) {
        self.0.dropped[why as usize].inc();
    }

    /// Counts a session that begins.
    pub fn began(&self) {
        self.0.active.inc();
    }

    /// Counts the end of a session.
    pub fn ended(&self, how: SessionEnd) {
        self.0.active.dec();
        self.0.ended[how as usize].inc();
    }

    /// How many datagrams were passed on so far.
    pub fn datagrams(&self, direction: ByteDirection) -> u64 {
        self.0.datagrams[direction as usize].get()
    }

    /// How many datagrams were dropped so far for the reason.
    pub fn dropped(&self, why: DatagramDrop) -> u64 {
        self.0.dropped[why as usize].get()
    }

    /// How many sessions ended so far for the reason.
    pub fn sessions_ended(&self, how: SessionEnd) -> u64 {
        self.0.ended[how as usize].get()
    }

    /// How many sessions are open.
    pub fn active(&self) -> i64 {
        self.0.active.get()
    }
}

#[derive(Debug)]
struct Series {
    datagrams: [Counter; 2],
    bytes: [Counter; 2],
    dropped: [Counter; DatagramDrop::ALL.len()],
    ended: [Counter; SessionEnd::ALL.len()],
    active: Gauge,
}

type Label = (&'static str, Arc<str>);
type Labels = [Label; 3];
