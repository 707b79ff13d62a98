// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be set about the proxy; every default is one constant with its reason.

mod defaults;

pub(crate) use defaults::{ConnectLimits, RelayTimeouts, UdpLimits};

use crate::{
    limits::SourceLimits, peers::PeerVisits, proxy_header::Network, register::Registration,
    udp::HandedSessions,
};
use defaults::{
    DRAIN_TIMEOUT, ENDPOINT_DRAIN_TIMEOUT, HEADER_TIMEOUT, HOLD, PEER_TIMEOUT_MIN, SOURCES, UDP,
};
use discovery_core::{model::NodeName, runtime::Sockets};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
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
    pub(crate) node: Option<NodeName>,
    pub(crate) proves_itself: bool,
    pub(crate) peers: Option<PeerVisits>,
    pub(crate) tries_endpoints: bool,
    pub(crate) threads: Option<usize>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) listener_connections_max: Option<usize>,
    pub(crate) sources: SourceLimits,
    pub(crate) pipes_max: Option<usize>,
    pub(crate) registration: Option<Registration>,
    pub(crate) header_from: BTreeMap<NonZeroU16, Vec<Network>>,
    pub(crate) header_timeout: Duration,
    pub(crate) udp: UdpLimits,
    pub(crate) connect: ConnectLimits,
    pub(crate) relay: RelayTimeouts,
    pub(crate) drain_timeout: Duration,
    pub(crate) endpoint_drain_timeout: Duration,
    pub(crate) hold: Duration,
    pub(crate) sockets: Sockets,
    pub(crate) sessions: HandedSessions,
}

impl Config {
    /// The node that this host is. Without it a Service with `externalTrafficPolicy: Local` has no endpoint here.
    #[must_use]
    pub fn node(mut self, node: NodeName) -> Self {
        self.node = Some(node);
        self
    }

    /// Whether each port is proved every 3 s by a connection or datagram to the node's LAN address, which shows that no rule of a
    /// packet filter takes the port away; off by default. It needs [`Config::node`] and the node's addresses.
    #[must_use]
    pub fn self_proof(mut self, proves_itself: bool) -> Self {
        self.proves_itself = proves_itself;
        self
    }

    /// Whether two other hosts of the zone are visited, each of our ports once in so long, a day at most, and this host lets itself be visited;
    /// off by default. Where what two peers send does not come out at our listener although what we send does, a rule for what comes
    /// from outside is in front, and the port counts as [`Hijacked`](crate::ListenerState::Hijacked). It needs
    /// [`Config::self_proof`], [`Config::node`], the addresses of the zone's nodes, and [`Witness::route`](crate::Witness::route)
    /// served at this port of each host.
    #[must_use]
    pub fn visit_peers(mut self, announce_port: u16, every: Duration) -> Self {
        self.peers = Some(PeerVisits {
            announce_port,
            every: every.min(PeerVisits::EVERY_MAX),
        });
        self
    }

    /// Whether endpoints of a TCP port are tried by a connection of our own whenever no client's has reached one for a while; off
    /// by default. A host that reaches none of them in two rounds, 3 s apart, says that it is isolated, leaves Consul to its
    /// peers, and closes the port after [`Config::hold`]. Without it that shows to clients alone.
    #[must_use]
    pub fn try_endpoints(mut self, tries_endpoints: bool) -> Self {
        self.tries_endpoints = tries_endpoints;
        self
    }

    /// Registers this host in the zone's Consul, for each service port that it serves. It needs [`Config::node`].
    #[must_use]
    pub fn register(mut self, registration: Registration) -> Self {
        self.registration = Some(registration);
        self
    }

    /// How many threads carry connections, a runtime each; by default one for each core, at most 4. With 0 the runtime of
    /// the caller does.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The most connections of one listener; by default those of all.
    #[must_use]
    pub fn listener_connections_max(mut self, connections_max: usize) -> Self {
        self.listener_connections_max = Some(connections_max);
        self
    }

    /// The most connections of one client address at a time; by default 1,024. An IPv6 address counts as its /64.
    #[must_use]
    pub fn source_connections_max(mut self, connections_max: u32) -> Self {
        self.sources.connections_max = connections_max;
        self
    }

    /// How many new connections a second one client address may make in the long run, and how many at once; by default 500
    /// and 1,000.
    #[must_use]
    pub fn source_rate(self, rate: u32, burst: u32) -> Self {
        self.source_new_per_second(rate).source_new_at_once(burst)
    }

    /// How many new connections a second one client address may make in the long run; by default 500.
    #[must_use]
    pub fn source_new_per_second(mut self, rate: u32) -> Self {
        self.sources.rate = rate;
        self
    }

    /// How many new connections one client address may make at once; by default 1,000.
    #[must_use]
    pub fn source_new_at_once(mut self, burst: u32) -> Self {
        self.sources.burst = burst;
        self
    }

    /// The most client addresses that are known at a time; by default 65,536. Beyond it the one without a connection that was
    /// not seen for longest is forgotten; where each has one, nobody new is admitted.
    #[must_use]
    pub fn sources_max(mut self, sources_max: usize) -> Self {
        self.sources.sources_max = sources_max;
        self
    }

    /// The most pipes for bulk data, 256 KiB each; by default the smaller of 192 and 1 % of the descriptor limit. With 0 all
    /// bytes are copied.
    #[must_use]
    pub fn pipes_max(mut self, pipes_max: usize) -> Self {
        self.pipes_max = Some(pipes_max);
        self
    }

    /// Expects a PROXY header, version 1 or 2, at the start of each connection to the port, and takes it from these networks
    /// only. Whoever else connects there is reset.
    #[must_use]
    pub fn expect_proxy_header(mut self, port: NonZeroU16, from: Vec<Network>) -> Self {
        self.header_from.insert(port, from);
        self
    }

    /// How long a PROXY header may take to arrive; by default 3 s.
    #[must_use]
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// The most UDP sessions of all listeners together; by default 8,192. Each takes a descriptor and a local port.
    #[must_use]
    pub fn udp_sessions_max(mut self, sessions_max: usize) -> Self {
        self.udp.sessions_max = sessions_max;
        self
    }

    /// The most UDP sessions of one client address; by default 256.
    #[must_use]
    pub fn udp_source_sessions_max(mut self, sessions_max: u32) -> Self {
        self.udp.source_sessions_max = sessions_max;
        self
    }

    /// How long a UDP session may be without a datagram, before its endpoint has answered and after; by default 30 s and
    /// 120 s, as the kernel's connection tracking has it.
    #[must_use]
    pub fn udp_idle_timeouts(self, unreplied: Duration, replied: Duration) -> Self {
        self.udp_unreplied_timeout(unreplied)
            .udp_replied_timeout(replied)
    }

    /// How long a UDP session may be without a datagram before its endpoint has answered; by default 30 s.
    #[must_use]
    pub fn udp_unreplied_timeout(mut self, timeout: Duration) -> Self {
        self.udp.idle_unreplied = timeout;
        self
    }

    /// How long a UDP session may be without a datagram after its endpoint has answered; by default 120 s.
    #[must_use]
    pub fn udp_replied_timeout(mut self, timeout: Duration) -> Self {
        self.udp.idle_replied = timeout;
        self
    }

    /// How long connections to an endpoint that left every list, and still answers, may go on; by default 5 min.
    #[must_use]
    pub fn endpoint_drain_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint_drain_timeout = timeout;
        self
    }

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

    /// The most connections of all listeners together; by default 45 % of the descriptor limit, and 16,384 at most. One more
    /// is accepted and reset, so that the client goes to another host instead of waiting.
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

    /// How long a client or an endpoint may leave bytes, or keepalive probes of an idle connection, unacknowledged before it
    /// counts as lost; by default 5 min, at least 2 s. It also ends who takes no byte of what waits for that long; who reads,
    /// however slowly, stays. An idle connection is probed after 45 to 75 s, each at a time of its own, or after about half of
    /// this where that is less.
    #[must_use]
    pub fn peer_timeout(mut self, timeout: Duration) -> Self {
        self.relay.peer = timeout.max(PEER_TIMEOUT_MIN);
        self
    }

    /// The listening sockets of this process: those of our ports are taken out where it was handed them, and ours are listed as
    /// open. By default nothing was handed.
    #[must_use]
    pub fn sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// The UDP sessions of the proxy before this one; by default there was none.
    #[must_use]
    pub fn sessions(mut self, sessions: HandedSessions) -> Self {
        self.sessions = sessions;
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

    /// How long an endpoint may leave what a client said first without an answer, before that counts against it; by default 10 s,
    /// with none it never does. The connection goes on. An endpoint that left three connections in a row without an answer,
    /// while others of its service answered, is passed over as one that cannot be connected to; at most half of a service's
    /// endpoints at a time.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.relay.answer = timeout;
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
            node: None,
            proves_itself: false,
            peers: None,
            tries_endpoints: false,
            threads: None,
            connections_max: None,
            listener_connections_max: None,
            sources: SOURCES,
            pipes_max: None,
            registration: None,
            header_from: BTreeMap::new(),
            header_timeout: HEADER_TIMEOUT,
            udp: UDP,
            connect: ConnectLimits::default(),
            relay: RelayTimeouts::default(),
            drain_timeout: DRAIN_TIMEOUT,
            endpoint_drain_timeout: ENDPOINT_DRAIN_TIMEOUT,
            hold: HOLD,
            sockets: Sockets::default(),
            sessions: HandedSessions::default(),
        }
    }
}
