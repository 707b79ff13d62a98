// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be set about the proxy; every default is one constant with its reason.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// What to do when a port that a service wants is taken by somebody else.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BusyPort {
    /// Try again after 1 s, then less often, up to every 30 s: clients know the service by this port. The default.
    #[default]
    Retry,
    /// Take the next free one of the 100 ports above it; [`ListenerStatus::port`](crate::ListenerStatus::port) tells
    /// which. For a demonstration on a desk.
    MoveOn,
}

/// What can be set about the proxy.
///
/// ```
/// use lb_proxy::Config;
/// use std::{net::Ipv4Addr, time::Duration};
///
/// let config = Config::default()
///     .bind_addresses(vec![Ipv4Addr::new(192, 168, 7, 2).into()])
///     .idle_timeout(Duration::from_secs(600));
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) bind_addresses: Vec<IpAddr>,
    pub(crate) busy_port: BusyPort,
    pub(crate) connections_max: Option<usize>,
    pub(crate) connect: ConnectLimits,
    pub(crate) relay: RelayTimeouts,
    pub(crate) drain_timeout: Duration,
    pub(crate) hold: Duration,
}

/// How long and how often an endpoint is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectLimits {
    pub(crate) attempt: Duration,
    pub(crate) total: Duration,
    pub(crate) attempts_max: u32,
}

/// How long an established connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayTimeouts {
    pub(crate) idle: Duration,
    pub(crate) half_close: Duration,
}

impl Config {
    /// The addresses on which every port is opened; by default the IPv4 and the IPv6 wildcard, as kube-proxy opens
    /// NodePorts. A host without IPv6 goes without the latter.
    #[must_use]
    pub fn bind_addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.bind_addresses = addresses;
        self
    }

    /// What to do when a port is taken; by default it is tried again.
    #[must_use]
    pub fn busy_port(mut self, busy_port: BusyPort) -> Self {
        self.busy_port = busy_port;
        self
    }

    /// The most connections of all listeners together; by default 45 % of the descriptor limit. One more is accepted and
    /// reset, so that the client goes to another host instead of waiting.
    #[must_use]
    pub fn connections_max(mut self, connections_max: usize) -> Self {
        self.connections_max = Some(connections_max);
        self
    }

    /// How long one endpoint may take to accept; by default 1 s, the first retransmission of a SYN (RFC 6298 2.1).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect.attempt = timeout;
        self
    }

    /// How long all attempts for one connection may take together; by default 4 s.
    #[must_use]
    pub fn connect_total_timeout(mut self, timeout: Duration) -> Self {
        self.connect.total = timeout;
        self
    }

    /// How many endpoints are tried for one connection; by default 3.
    #[must_use]
    pub fn connect_attempts_max(mut self, attempts_max: u32) -> Self {
        self.connect.attempts_max = attempts_max;
        self
    }

    /// How long a connection may be without a byte in either direction; by default 1 h.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.relay.idle = timeout;
        self
    }

    /// How long a connection may be without a byte after one side has finished sending; by default 5 min.
    #[must_use]
    pub fn half_close_timeout(mut self, timeout: Duration) -> Self {
        self.relay.half_close = timeout;
        self
    }

    /// How long the connections of a listener that closes may go on before they are reset; by default 30 s, the grace
    /// period that Kubernetes gives a pod.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long a listener without a usable endpoint stays open, resetting what it accepts; by default 20 s, in which DNS
    /// answers that name this host run out. Then the port closes, and clients are refused, until an endpoint is usable.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind_addresses: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            busy_port: BusyPort::default(),
            connections_max: None,
            connect: ConnectLimits {
                attempt: CONNECT_TIMEOUT,
                total: CONNECT_TOTAL_TIMEOUT,
                attempts_max: CONNECT_ATTEMPTS_MAX,
            },
            relay: RelayTimeouts {
                idle: IDLE_TIMEOUT,
                half_close: HALF_CLOSE_TIMEOUT,
            },
            drain_timeout: DRAIN_TIMEOUT,
            hold: HOLD,
        }
    }
}

/// A SYN is sent again after 1 s; an endpoint in the same LAN that needs that long is as good as dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that waits longer mostly has given up itself.
const CONNECT_TOTAL_TIMEOUT: Duration = Duration::from_secs(4);

/// Two dead endpoints in a row are common when a node dies; three are an outage that more attempts only prolong.
const CONNECT_ATTEMPTS_MAX: u32 = 3;

/// Long enough for database sessions and consoles; keepalive finds dead peers much sooner.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A peer that finished sending waits for one answer.
const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// `terminationGracePeriodSeconds` is 30 by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Twice the 10 s for which DNS answers are kept.
const HOLD: Duration = Duration::from_secs(20);
