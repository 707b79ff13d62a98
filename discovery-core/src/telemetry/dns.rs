// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the DNS responder counts.
//!
//! In: one call per event, with values of closed enums. Out: counters that the registry exposes. Every label pair exists
//! from the start, so that counting is one atomic add: no lock, no allocation, no lookup. Addresses and asked names are
//! never labels.
//!
//! The sum holds at any quiet moment: requests = responses + dropped + shed.

use super::{
    ConsulApiMetrics,
    labels::{Grid, Label, labels, register_row},
};
use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};
use std::{fmt, time::Duration};

labels! {
    /// How a question came.
    DnsTransport, "transport", {
        /// As a datagram.
        Udp => "udp",
        /// Over a connection.
        Tcp => "tcp",
        /// Over a connection with TLS.
        Dot => "dot",
        /// Over HTTPS.
        Doh => "doh",
    }
}

labels! {
    /// What type of record was asked for.
    DnsQueryType, "qtype", {
        /// IPv4 addresses.
        A => "a",
        /// IPv6 addresses.
        Aaaa => "aaaa",
        /// Targets and ports.
        Srv => "srv",
        /// Everything that there is.
        Any => "any",
        /// The start of authority.
        Soa => "soa",
        /// The name servers.
        Ns => "ns",
        /// Names of addresses.
        Ptr => "ptr",
        /// Texts.
        Txt => "txt",
        /// Service bindings, which browsers ask for.
        Https => "https",
        /// Any other type.
        Other => "other",
        /// The message was not read as far as its question.
        Unread => "unread",
    }
}

labels! {
    /// The response code of an answer (RFC 1035 4.1.1, RFC 6891 6.1.3).
    DnsRcode, "rcode", {
        /// The name exists.
        NoError => "noerror",
        /// The message is malformed.
        FormErr => "formerr",
        /// Nothing is known yet.
        ServFail => "servfail",
        /// There is no such name.
        NxDomain => "nxdomain",
        /// The operation is not offered.
        NotImp => "notimp",
        /// The name or class is not ours.
        Refused => "refused",
        /// The signature of the request is by nobody that we know.
        NotAuth => "notauth",
        /// Any other, from a server that was asked for the client.
        Other => "other",
        /// The EDNS version is unknown.
        BadVers => "badvers",
    }
}

labels! {
    /// Why a message gets no answer, by rule.
    DnsDrop, "reason", {
        /// Shorter than a header.
        Short => "short",
        /// Itself a response: answering it makes a loop.
        Response => "response",
        /// From port 0, an unspecified, a broadcast or a multicast address.
        Source => "source",
        /// From a network that is not to be answered.
        Denied => "denied",
        /// From a network that asks more than it may.
        Rate => "rate",
        /// From a source that has as many connections as it may.
        Connections => "connections",
        /// It did not shake hands for TLS, or not in time.
        Handshake => "handshake",
    }
}

labels! {
    /// Why a finished answer was not delivered.
    DnsShed, "reason", {
        /// The socket's send buffer is full.
        SendBlocked => "send-blocked",
        /// The system refused to send.
        SendFailed => "send-failed",
        /// As many questions as may be are open at other servers.
        UpstreamFull => "upstream-full",
    }
}

labels! {
    /// What became of a question to another server.
    DnsUpstream, "outcome", {
        /// It replied: with an answer, or that there is no such name.
        Answered => "answered",
        /// It replied that it does not know or may not say.
        Refused => "refused",
        /// It did not reply in time, or could not be reached.
        Silent => "silent",
        /// What came was no reply to the question; it was waited on.
        Unwanted => "unwanted",
        /// It was not asked: another client's question was the same.
        Joined => "joined",
        /// It was not asked: its last reply still holds.
        Kept => "kept",
    }
}

labels! {
    /// Why no connection is accepted for a while.
    DnsPause, "reason", {
        /// The limit on connections is reached.
        ConnectionsFull => "connections-full",
        /// The system could not accept; most often it is out of descriptors.
        AcceptFailed => "accept-failed",
    }
}

impl DnsTransport {
    /// Whether replies come whole and in order, however long they are.
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }

    /// Whether others on the way see no more than lengths.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Dot | Self::Doh)
    }
}

impl DnsQueryType {
    /// The label of a type number of the wire.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::A,
            2 => Self::Ns,
            6 => Self::Soa,
            12 => Self::Ptr,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            65 => Self::Https,
            255 => Self::Any,
            _ => Self::Other,
        }
    }
}

impl DnsRcode {
    /// The number on the wire; above 15 it needs EDNS.
    pub fn code(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::NotAuth => 9,
            Self::Other => 15,
            Self::BadVers => 16,
        }
    }
}

/// The sums over all labels, for tests and status pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct DnsTotals {
    /// Messages received.
    pub requests: u64,
    /// Answers delivered to the system.
    pub responses: u64,
    /// Messages left unanswered by rule.
    pub dropped: u64,
    /// Answers that could not be delivered.
    pub shed: u64,
    /// Delivered answers that were cut to the client's size.
    pub truncated: u64,
    /// Delivered answers from a snapshot that no live source has confirmed.
    pub stale: u64,
    /// Datagrams that the system dropped before they were received; none of the requests.
    pub overflowed: u64,
}

/// The counters of the DNS responder.
///
/// [`DnsMetrics::default`] counts for itself; a process exposes those of [`Metrics::dns`](super::Metrics::dns).
pub struct DnsMetrics {
    requests: Grid<{ DnsTransport::COUNT }, { DnsQueryType::COUNT }>,
    responses: Grid<{ DnsTransport::COUNT }, { DnsRcode::COUNT }>,
    dropped: Grid<{ DnsTransport::COUNT }, { DnsDrop::COUNT }>,
    shed: Grid<{ DnsTransport::COUNT }, { DnsShed::COUNT }>,
    truncated: Counter,
    stale: Counter,
    overflowed: Counter,
    untold: Counter,
    pauses: [Counter; DnsPause::COUNT],
    upstream: [Counter; DnsUpstream::COUNT],
    duration: Histogram,
    consul_api: ConsulApiMetrics,
}

impl DnsMetrics {
    /// Makes the counters and has them exposed.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let truncated = counter("dns_truncated", "DNS answers cut to the client's size");
        let stale = counter(
            "dns_stale_answers",
            "DNS answers from a snapshot on disk that no live source has confirmed",
        );
        let overflowed = counter(
            "dns_overflows",
            "DNS datagrams that the system dropped since a socket's receive buffer was full",
        );
        let untold = counter(
            "dns_log_dropped",
            "DNS questions that the log should have told and had no room for",
        );
        let duration = Histogram::new(DURATION_SECONDS);
        registry.register(
            "dns_request_duration_seconds",
            "From receipt to delivery of a DNS answer; one datagram in 64 is timed",
            duration.clone(),
        );
        Self {
            requests: Grid::register::<DnsTransport, DnsQueryType>(registry, REQUESTS),
            responses: Grid::register::<DnsTransport, DnsRcode>(registry, RESPONSES),
            dropped: Grid::register::<DnsTransport, DnsDrop>(registry, DROPPED),
            shed: Grid::register::<DnsTransport, DnsShed>(registry, SHED),
            truncated,
            stale,
            overflowed,
            untold,
            pauses: register_row::<DnsPause, _>(registry, PAUSES),
            upstream: register_row::<DnsUpstream, _>(registry, UPSTREAM),
            duration,
            consul_api: ConsulApiMetrics::register(registry),
        }
    }

    /// The counters of the interface of Consul that tells the same over HTTP.
    pub fn consul_api(&self) -> &ConsulApiMetrics {
        &self.consul_api
    }

    /// Counts a message that arrived.
    pub fn received(&self, transport: DnsTransport, qtype: DnsQueryType) {
        self.received_many(transport, qtype, 1);
    }

    /// Counts messages that arrived.
    pub fn received_many(&self, transport: DnsTransport, qtype: DnsQueryType, count: u64) {
        self.requests
            .count(transport as usize, qtype as usize, count);
    }

    /// Counts an answer that was delivered.
    pub fn answered(&self, transport: DnsTransport, rcode: DnsRcode) {
        self.answered_many(transport, rcode, 1);
    }

    /// Counts answers that were delivered.
    pub fn answered_many(&self, transport: DnsTransport, rcode: DnsRcode, count: u64) {
        self.responses
            .count(transport as usize, rcode as usize, count);
    }

    /// Counts a message that gets no answer by rule.
    pub fn dropped(&self, transport: DnsTransport, reason: DnsDrop) {
        self.dropped_many(transport, reason, 1);
    }

    /// Counts messages that get no answer by rule.
    pub fn dropped_many(&self, transport: DnsTransport, reason: DnsDrop, count: u64) {
        self.dropped
            .count(transport as usize, reason as usize, count);
    }

    /// Counts an answer that was not delivered.
    pub fn shed(&self, transport: DnsTransport, reason: DnsShed) {
        self.shed_many(transport, reason, 1);
    }

    /// Counts answers that were not delivered.
    pub fn shed_many(&self, transport: DnsTransport, reason: DnsShed, count: u64) {
        self.shed.count(transport as usize, reason as usize, count);
    }

    /// Counts delivered answers that were cut.
    pub fn truncated_many(&self, count: u64) {
        self.truncated.inc_by(count);
    }

    /// Counts delivered answers from a snapshot that no live source has confirmed of late.
    pub fn stale_many(&self, count: u64) {
        self.stale.inc_by(count);
    }

    /// Counts datagrams that the system dropped before they were received.
    pub fn overflowed(&self, count: u64) {
        self.overflowed.inc_by(count);
    }

    /// Counts a question for which the log had no room.
    pub fn untold(&self) {
        self.untold.inc();
    }

    /// Counts a pause of the accept loop.
    pub fn paused(&self, reason: DnsPause) {
        self.pauses[reason as usize].inc();
    }

    /// Counts what became of a question to another server.
    pub fn upstream(&self, outcome: DnsUpstream) {
        self.upstream[outcome as usize].inc();
    }

    /// The questions to other servers that ended so.
    pub fn upstream_count(&self, outcome: DnsUpstream) -> u64 {
        self.upstream[outcome as usize].get()
    }

    /// Notes how long an answer took. Takes a short lock: for samples, not for each answer.
    pub fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    /// The answers delivered with the given code.
    pub fn responses(&self, transport: DnsTransport, rcode: DnsRcode) -> u64 {
        self.responses.get(transport as usize, rcode as usize)
    }

    /// The pauses for the given reason.
    pub fn pauses(&self, reason: DnsPause) -> u64 {
        self.pauses[reason as usize].get()
    }

    /// The sums over all labels.
    pub fn totals(&self) -> DnsTotals {
        DnsTotals {
            requests: self.requests.sum(),
            responses: self.responses.sum(),
            dropped: self.dropped.sum(),
            shed: self.shed.sum(),
            truncated: self.truncated.get(),
            stale: self.stale.get(),
            overflowed: self.overflowed.get(),
        }
    }
}

impl Default for DnsMetrics {
    /// Counters that nobody scrapes.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

impl fmt::Debug for DnsMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsMetrics")
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

// The names without the prefix `zonal_` of the registry and the suffix `_total` of its exposition.
const REQUESTS: (&str, &str) = ("dns_requests", "DNS messages received");
const RESPONSES: (&str, &str) = ("dns_responses", "DNS answers delivered");
const DROPPED: (&str, &str) = ("dns_dropped", "DNS messages left unanswered by rule");
const SHED: (&str, &str) = ("dns_shed", "DNS answers that could not be delivered");
const PAUSES: (&str, &str) = (
    "dns_accept_pauses",
    "Times at which no DNS connection was accepted for a while",
);
const UPSTREAM: (&str, &str) = (
    "dns_upstream",
    "Questions to other DNS servers by what became of them",
);

/// From 10 µs, an answer from memory on a busy core, to 1 s, after which clients have asked again.
const DURATION_SECONDS: [f64; 8] = [0.000_01, 0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 1.0];

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn every_label_pair_is_exposed_before_the_first_event() {
        let mut registry = Registry::with_prefix("zonal");
        let metrics = DnsMetrics::register(&mut registry);
        metrics.received(DnsTransport::Udp, DnsQueryType::Srv);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "zonal_dns_requests_total{transport=\"udp\",qtype=\"srv\"} 1",
            "zonal_dns_requests_total{transport=\"tcp\",qtype=\"unread\"} 0",
            "zonal_dns_responses_total{transport=\"udp\",rcode=\"nxdomain\"} 0",
            "zonal_dns_dropped_total{transport=\"udp\",reason=\"response\"} 0",
            "zonal_dns_shed_total{transport=\"udp\",reason=\"send-blocked\"} 0",
            "zonal_dns_accept_pauses_total{reason=\"connections-full\"} 0",
            "zonal_dns_truncated_total 0",
            "zonal_dns_stale_answers_total 0",
            "zonal_dns_request_duration_seconds_count 0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn totals_sum_over_all_labels() {
        let metrics = DnsMetrics::default();
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            metrics.received(transport, DnsQueryType::A);
            metrics.answered(transport, DnsRcode::NoError);
            metrics.dropped(transport, DnsDrop::Short);
            metrics.shed(transport, DnsShed::SendFailed);
        }
        let totals = metrics.totals();
        let sums = [
            totals.requests,
            totals.responses,
            totals.dropped,
            totals.shed,
        ];
        assert_eq!(sums, [2; 4]);
        assert_eq!(metrics.responses(DnsTransport::Tcp, DnsRcode::NoError), 1);
    }
}
