// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the proxy counts, and the closed lists of how a connection or a connect can end.
//!
//! In: events of listeners and connections. Out: series for a scrape, and plain numbers for the status page. Each
//! listener takes its series out of the families once; a connection then moves atomics and never takes a lock.

use crate::model::ServiceName;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    fmt,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Declares a closed list of words: the enum, all its values, and the word of each.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word that metrics, JSON and logs use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How a proxied connection ended. Every accepted connection ends in exactly one of these.
    ProxyOutcome {
        /// Both sides finished, and every byte was delivered.
        Ok = "ok",
        /// The client left without a byte in either direction, as a TCP health probe does.
        Probe = "probe",
        /// The client reset the connection.
        ClientReset = "client-reset",
        /// The client no longer acknowledged anything.
        ClientLost = "client-lost",
        /// The endpoint reset the connection.
        UpstreamReset = "upstream-reset",
        /// The endpoint no longer acknowledged anything.
        UpstreamLost = "upstream-lost",
        /// The last endpoint that was tried refused the connection.
        ConnectRefused = "connect-refused",
        /// The last endpoint that was tried could not be reached.
        ConnectUnreachable = "connect-unreachable",
        /// The last endpoint that was tried did not answer in time.
        ConnectTimeout = "connect-timeout",
        /// No local port was left towards the last endpoint that was tried.
        PortsExhausted = "ports-exhausted",
        /// The service has no usable endpoint with that port.
        NoEndpoint = "no-endpoint",
        /// Every usable endpoint is a socket on which this process listens.
        OwnListener = "own-listener",
        /// No byte in either direction for the idle timeout.
        Idle = "idle",
        /// One side finished, and the other sent no byte for the half-close timeout.
        HalfCloseTimeout = "half-close-timeout",
        /// The listener was drained, and the connection outlived the deadline.
        DrainDeadline = "drain-deadline",
        /// The process had as many connections as it may have.
        LimitGlobal = "limit-global",
        /// The process was out of descriptors or the kernel of socket memory.
        FdLimit = "fd-limit",
        /// The task of the connection was dropped or panicked: a bug, or the end of the process.
        Aborted = "aborted",
    }
}

impl ProxyOutcome {
    /// Whether nothing went wrong.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Probe)
    }

    /// Whether the connection was turned away without an endpoint being tried.
    pub fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::NoEndpoint | Self::OwnListener | Self::LimitGlobal
        )
    }
}

words! {
    /// Why one endpoint could not be connected to.
    ConnectFailure {
        /// It refused.
        Refused = "refused",
        /// There is no way to it, or a firewall forbids it.
        Unreachable = "unreachable",
        /// It did not answer in time.
        Timeout = "timeout",
        /// No local port was left towards it.
        PortsExhausted = "ports-exhausted",
        /// The process was out of descriptors or the kernel of socket memory.
        FdLimit = "fd-limit",
        /// It is a socket on which this process listens.
        OwnListener = "own-listener",
    }
}

impl From<ConnectFailure> for ProxyOutcome {
    /// How a connection ends whose last endpoint failed so.
    fn from(failure: ConnectFailure) -> Self {
        match failure {
            ConnectFailure::Refused => Self::ConnectRefused,
            ConnectFailure::Unreachable => Self::ConnectUnreachable,
            ConnectFailure::Timeout => Self::ConnectTimeout,
            ConnectFailure::PortsExhausted => Self::PortsExhausted,
            ConnectFailure::FdLimit => Self::FdLimit,
            ConnectFailure::OwnListener => Self::OwnListener,
        }
    }
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteDirection {
    /// From the client to the endpoint.
    Up,
    /// From the endpoint to the client.
    Down,
}

/// All series of the proxy.
///
/// The default is registered nowhere: it counts for the status page and for tests.
#[derive(Debug, Default)]
pub struct ProxyMetrics {
    accepted: Family<ListenerLabels, Counter>,
    ended: Family<ReasonLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    active: Family<ListenerLabels, Gauge>,
    bytes: Family<DirectionLabels, Counter>,
    connect_failures: Family<ReasonLabels, Counter>,
    accept_pauses: Counter,
    connect_duration: Durations,
    listeners: AtomicUsize,
}

impl ProxyMetrics {
    /// Makes and registers all series.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let (accepted, ended) = (new.accepted.clone(), new.ended.clone());
        registry.register("proxy_accepted", "Connections accepted", accepted);
        registry.register("proxy_connections", "Connections ended, by reason", ended);
        registry.register(
            "proxy_rejected",
            "Connections reset without an endpoint being tried; zonal_proxy_connections has them too",
            new.rejected.clone(),
        );
        registry.register(
            "proxy_connections_active",
            "Connections open now",
            new.active.clone(),
        );
        registry.register(
            "proxy_bytes",
            "Bytes delivered, by direction",
            new.bytes.clone(),
        );
        registry.register(
            "proxy_connect_failures",
            "Endpoints that could not be connected to, by reason",
            new.connect_failures.clone(),
        );
        registry.register(
            "proxy_accept_pauses",
            "Times a listener stopped accepting for lack of descriptors or socket memory",
            new.accept_pauses.clone(),
        );
        registry.register(
            "proxy_connect_duration_seconds",
            "From the first attempt to the established connection to an endpoint",
            new.connect_duration.clone(),
        );
        new
    }

    /// The series of one listener; make them once and clone the handle.
    ///
    /// After 1,024 listeners in the life of a process, further ones share the label `other`.
    pub fn listener(&self, service: &ServiceName, port: NonZeroU16) -> ListenerMetrics {
        let known = self.listeners.fetch_add(1, Relaxed) < LISTENERS_MAX;
        let labels: ListenerLabels = if known {
            [
                ("service", service.to_string().into()),
                ("port", port.to_string().into()),
            ]
        } else {
            [("service", OTHER.into()), ("port", OTHER.into())]
        };
        ListenerMetrics(Arc::new(self.series(&labels)))
    }

    fn series(&self, labels: &ListenerLabels) -> Series {
        let with = |name, word: &str| {
            let [service, port] = labels.clone();
            [service, port, (name, word.into())]
        };
        let ended = |outcome: ProxyOutcome| {
            self.ended
                .get_or_create_owned(&with("reason", outcome.as_str()))
        };
        let rejected = |outcome: ProxyOutcome| {
            outcome.is_rejection().then(|| {
                self.rejected
                    .get_or_create_owned(&with("reason", outcome.as_str()))
            })
        };
        let failed = |failure: ConnectFailure| {
            self.connect_failures
                .get_or_create_owned(&with("reason", failure.as_str()))
        };
        let bytes = |way| self.bytes.get_or_create_owned(&with("direction", way));
        Series {
            accepted: self.accepted.get_or_create_owned(labels),
            ended: ProxyOutcome::ALL.map(ended),
            rejected: ProxyOutcome::ALL.map(rejected),
            active: self.active.get_or_create_owned(labels),
            bytes: [bytes("up"), bytes("down")],
            connect_failures: ConnectFailure::ALL.map(failed),
            accept_pauses: self.accept_pauses.clone(),
            connect_duration: self.connect_duration.clone(),
        }
    }
}

/// The series of one listener. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct ListenerMetrics(Arc<Series>);

impl ListenerMetrics {
    /// Counts an accepted connection; the guard counts its end.
    pub fn accept(&self) -> ConnectionMetrics {
        self.0.accepted.inc();
        self.0.active.inc();
        ConnectionMetrics {
            series: self.0.clone(),
            outcome: ProxyOutcome::Aborted,
        }
    }

    /// Counts a pause of the accept loop.
    pub fn paused(&self) {
        self.0.accept_pauses.inc();
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.get()
    }

    /// How many connections ended so far with the outcome.
    pub fn ended(&self, outcome: ProxyOutcome) -> u64 {
        self.0.ended[outcome as usize].get()
    }

    /// How many connects to endpoints failed so far with the reason.
    pub fn connect_failures(&self, failure: ConnectFailure) -> u64 {
        self.0.connect_failures[failure as usize].get()
    }

    /// How many bytes were delivered so far.
    pub fn bytes(&self, direction: ByteDirection) -> u64 {
        self.0.bytes[direction as usize].get()
    }
}

/// One accepted connection; counts its end once, also when its task is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard counts the connection as aborted"]
pub struct ConnectionMetrics {
    series: Arc<Series>,
    outcome: ProxyOutcome,
}

impl ConnectionMetrics {
    /// Counts bytes delivered.
    pub fn moved(&self, direction: ByteDirection, bytes: u64) {
        self.series.bytes[direction as usize].inc_by(bytes);
    }

    /// Counts an endpoint that could not be connected to.
    pub fn connect_failed(&self, failure: ConnectFailure) {
        self.series.connect_failures[failure as usize].inc();
    }

    /// Counts an established connection to an endpoint, and how long it took.
    pub fn connected(&self, after: Duration) {
        self.series.connect_duration.observe(after);
    }

    /// Counts the end.
    pub fn end(mut self, outcome: ProxyOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for ConnectionMetrics {
    fn drop(&mut self) {
        let at = self.outcome as usize;
        self.series.ended[at].inc();
        if let Some(rejected) = &self.series.rejected[at] {
            rejected.inc();
        }
        self.series.active.dec();
    }
}

#[derive(Debug)]
struct Series {
    accepted: Counter,
    ended: [Counter; ProxyOutcome::ALL.len()],
    rejected: [Option<Counter>; ProxyOutcome::ALL.len()],
    active: Gauge,
    bytes: [Counter; 2],
    connect_failures: [Counter; ConnectFailure::ALL.len()],
    accept_pauses: Counter,
    connect_duration: Durations,
}

/// A histogram without the lock that the crate's own takes at each observation.
///
/// The count is the sum of the buckets, so that these two always agree; the sum of the seconds may be one observation
/// ahead or behind.
#[derive(Clone, Debug, Default)]
struct Durations(Arc<DurationCounts>);

#[derive(Debug, Default)]
struct DurationCounts {
    /// One for each upper bound, and the rest.
    buckets: [AtomicU64; CONNECT_SECONDS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = CONNECT_SECONDS.partition_point(|bound| *bound < seconds);
        self.0.buckets[at].fetch_add(1, Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.micros.fetch_add(micros, Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        let bounds = CONNECT_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let micros = Duration::from_micros(self.0.micros.load(Relaxed));
        encoder.encode_histogram::<NoLabelSet>(
            micros.as_secs_f64(),
            counts.iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

type Label = (&'static str, Arc<str>);
type ListenerLabels = [Label; 2];
type ReasonLabels = [Label; 3];
type DirectionLabels = [Label; 3];

/// Listeners with labels of their own: every NodePort of the default range could be one only on a far larger cluster than
/// an edge site, and a service that is made and deleted for ever must not fill the registry.
const LISTENERS_MAX: usize = 1_024;

/// The label of the listeners above the limit.
const OTHER: &str = "other";

/// From 0.1 ms, a pod on this host, to 4 s, the default limit of all attempts together.
const CONNECT_SECONDS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0, 4.0];

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> (Registry, ProxyMetrics) {
        let mut registry = Registry::with_prefix("zonal");
        let metrics = ProxyMetrics::register(&mut registry);
        (registry, metrics)
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    fn listener(metrics: &ProxyMetrics) -> ListenerMetrics {
        metrics.listener(
            &"shop/web".parse().unwrap(),
            NonZeroU16::new(30_080).unwrap(),
        )
    }

    #[test]
    fn every_accepted_connection_ends_in_exactly_one_outcome() {
        let listener = listener(&ProxyMetrics::default());
        for outcome in ProxyOutcome::ALL {
            listener.accept().end(outcome);
        }
        drop(listener.accept());
        let ended: u64 = ProxyOutcome::ALL
            .iter()
            .map(|outcome| listener.ended(*outcome))
            .sum();
        assert_eq!((listener.accepted(), ended), (19, 19));
        assert_eq!(listener.ended(ProxyOutcome::Aborted), 2);
    }

    #[test]
    fn the_series_have_their_names_and_labels() {
        let (registry, metrics) = registered();
        let listener = listener(&metrics);
        let connection = listener.accept();
        connection.moved(ByteDirection::Up, 7);
        connection.connect_failed(ConnectFailure::Timeout);
        connection.connected(Duration::from_millis(2));
        connection.end(ProxyOutcome::LimitGlobal);
        let text = text(&registry);
        let labels = r#"service="shop/web",port="30080""#;
        for line in [
            format!("zonal_proxy_accepted_total{{{labels}}} 1"),
            format!("zonal_proxy_connections_total{{{labels},reason=\"limit-global\"}} 1"),
            format!("zonal_proxy_connections_total{{{labels},reason=\"ok\"}} 0"),
            format!("zonal_proxy_rejected_total{{{labels},reason=\"limit-global\"}} 1"),
            format!("zonal_proxy_connections_active{{{labels}}} 0"),
            format!("zonal_proxy_bytes_total{{{labels},direction=\"up\"}} 7"),
            format!("zonal_proxy_connect_failures_total{{{labels},reason=\"timeout\"}} 1"),
            String::from("zonal_proxy_connect_duration_seconds_sum 0.002"),
            String::from("zonal_proxy_connect_duration_seconds_count 1"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"0.001\"} 0"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"0.003\"} 1"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"+Inf\"} 1"),
            String::from("zonal_proxy_accept_pauses_total 0"),
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn listeners_above_the_limit_share_one_label() {
        let (registry, metrics) = registered();
        metrics.listeners.store(LISTENERS_MAX, Relaxed);
        drop(listener(&metrics).accept());
        let shared = r#"zonal_proxy_accepted_total{service="other",port="other"} 1"#;
        assert!(text(&registry).lines().any(|line| line == shared));
    }
}
