// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs together among the settings, and every default with its reason.

use crate::limits::SourceLimits;
use std::time::Duration;

/// How long and how often an endpoint is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectLimits {
    pub(crate) attempt: Duration,
    pub(crate) total: Duration,
    pub(crate) attempts_max: u32,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            attempt: CONNECT_TIMEOUT,
            total: CONNECT_TOTAL_TIMEOUT,
            attempts_max: CONNECT_ATTEMPTS_MAX,
        }
    }
}

/// How long an established connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayTimeouts {
    pub(crate) idle: Duration,
    pub(crate) half_close: Duration,
    /// How long either side may acknowledge nothing.
    pub(crate) peer: Duration,
    /// How long an endpoint may leave what a client said first without an answer; none where nobody asks.
    pub(crate) answer: Option<Duration>,
}

impl Default for RelayTimeouts {
    fn default() -> Self {
        Self {
            idle: IDLE_TIMEOUT,
            half_close: HALF_CLOSE_TIMEOUT,
            peer: PEER_TIMEOUT,
            answer: Some(ANSWER_TIMEOUT),
        }
    }
}

/// What UDP sessions may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpLimits {
    pub(crate) sessions_max: usize,
    pub(crate) source_sessions_max: u32,
    /// Without a datagram, before the endpoint has answered.
    pub(crate) idle_unreplied: Duration,
    /// Without a datagram, after it has.
    pub(crate) idle_replied: Duration,
}

/// A SYN is sent again after 1 s; an endpoint in the same LAN that needs that long is as good as dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that waits longer mostly has given up itself.
const CONNECT_TOTAL_TIMEOUT: Duration = Duration::from_secs(4);

/// Longer than a reboot of a switch, and than readers that stop for a while: they look the same.
const PEER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The kernel probes at most once a second.
pub(super) const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// Two dead endpoints in a row are common when a node dies; three are an outage that more attempts only prolong.
const CONNECT_ATTEMPTS_MAX: u32 = 3;

/// Long enough for database sessions and consoles; keepalive finds dead peers much sooner.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A peer that finished sending waits for one answer.
const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// `terminationGracePeriodSeconds` is 30 by default.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Twice the 10 s for which DNS answers are kept.
pub(super) const HOLD: Duration = Duration::from_secs(20);

/// More than a NAT gateway with a busy shop behind it has, and a small part of what a process carries.
pub(super) const SOURCES: SourceLimits = SourceLimits {
    connections_max: 1_024,
    rate: 500,
    burst: 1_000,
    sources_max: 65_536,
};

/// One packet of a load balancer that is there already.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// A third of the local ports, and the times of the kernel's connection tracking.
pub(super) const UDP: UdpLimits = UdpLimits {
    sessions_max: 8_192,
    source_sessions_max: 256,
    idle_unreplied: Duration::from_secs(30),
    idle_replied: Duration::from_secs(120),
};

/// Long enough for a download to end; a client that reconnects then finds another endpoint.
pub(super) const ENDPOINT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Longer than an answer takes that somebody waits for, and less than most clients' own patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
