// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the proxy counts.
//!
//! In: events of listeners and connections. Out: series for a scrape, and plain numbers for the status page. Each
//! listener takes its series out of the families once; a connection then moves atomics and never takes a lock.

mod durations;
mod listener;
mod pipes;
mod udp;
mod visits;
mod words;

pub use listener::{ConnectionMetrics, ListenerMetrics};
pub use pipes::PipeMetrics;
pub use udp::UdpListenerMetrics;
pub use words::{
    ByteDirection, ConnectFailure, DatagramDrop, EjectionCause, PeerVisit, ProxyOutcome,
    ProxyPhase, SessionEnd,
};

use crate::model::ServiceName;
use durations::Durations;
use listener::Series;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use udp::UdpFamilies;
use visits::VisitMetrics;

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
    unanswered: Family<ListenerLabels, Counter>,
    ejections: Family<ReasonLabels, Counter>,
    visits: VisitMetrics,
    connections_max: Gauge,
    accept_pauses: Counter,
    connect_duration: Durations,
    log_lines_dropped: Counter,
    spliced: Counter,
    pipes: PipeMetrics,
    udp: UdpFamilies,
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
            "proxy_unanswered",
            "Connections on which the client spoke first and nothing came back in time",
            new.unanswered.clone(),
        );
        registry.register(
            "proxy_ejections",
            "Endpoints passed over for a while, by reason",
            new.ejections.clone(),
        );
        registry.register(
            "proxy_connections_max",
            "Connections that may be open at a time",
            new.connections_max.clone(),
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
        registry.register(
            "proxy_log_lines_dropped",
            "Ends of connections that were not logged, to hold the rate",
            new.log_lines_dropped.clone(),
        );
        registry.register(
            "proxy_spliced_bytes",
            "Bytes delivered from socket to socket inside the kernel; zonal_proxy_bytes has them too",
            new.spliced.clone(),
        );
        new.pipes.register(registry);
        new.udp.register(registry);
        new.visits.register(registry);
        new
    }

    /// The series of one TCP listener; make them once and clone the handle.
    ///
    /// After 1,024 listeners in the life of a process, further ones share the label `other`.
    pub fn listener(&self, service: &ServiceName, port: NonZeroU16) -> ListenerMetrics {
        ListenerMetrics(Arc::new(self.series(&self.labels(service, port))))
    }

    /// The series of one UDP listener, as [`ProxyMetrics::listener`].
    pub fn udp_listener(&self, service: &ServiceName, port: NonZeroU16) -> UdpListenerMetrics {
        self.udp.listener(&self.labels(service, port))
    }

    /// Counts a visit of a peer.
    pub fn peer_visit(&self, visit: PeerVisit) {
        self.visits.of(visit).inc();
    }

    /// How many visits of peers ended so.
    pub fn peer_visits(&self, visit: PeerVisit) -> u64 {
        self.visits.of(visit).get()
    }

    /// Says how many connections may be open at a time.
    pub fn limited_to(&self, connections_max: usize) {
        let max = i64::try_from(connections_max).unwrap_or(i64::MAX);
        self.connections_max.set(max);
    }

    /// The counters of the pipes through which bulk data goes.
    pub fn pipes(&self) -> &PipeMetrics {
        &self.pipes
    }

    fn labels(&self, service: &ServiceName, port: NonZeroU16) -> ListenerLabels {
        if self.listeners.fetch_add(1, Relaxed) < LISTENERS_MAX {
            [
                ("service", service.to_string().into()),
                ("port", port.to_string().into()),
            ]
        } else {
            [("service", OTHER.into()), ("port", OTHER.into())]
        }
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
        let ejected = |cause: EjectionCause| {
            self.ejections
                .get_or_create_owned(&with("reason", cause.as_str()))
        };
        let bytes = |way| self.bytes.get_or_create_owned(&with("direction", way));
        Series {
            accepted: self.accepted.get_or_create_owned(labels),
            ended: ProxyOutcome::ALL.map(ended),
            rejected: ProxyOutcome::ALL.map(rejected),
            active: self.active.get_or_create_owned(labels),
            bytes: [bytes("up"), bytes("down")],
            connect_failures: ConnectFailure::ALL.map(failed),
            unanswered: self.unanswered.get_or_create_owned(labels),
            ejections: EjectionCause::ALL.map(ejected),
            accept_pauses: self.accept_pauses.clone(),
            connect_duration: self.connect_duration.clone(),
            log_lines_dropped: self.log_lines_dropped.clone(),
            spliced: self.spliced.clone(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        assert_eq!((listener.accepted(), ended), (24, 24));
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
            format!("zonal_proxy_unanswered_total{{{labels}}} 0"),
            format!("zonal_proxy_ejections_total{{{labels},reason=\"silence\"}} 0"),
            String::from("zonal_proxy_connect_duration_seconds_sum 0.002"),
            String::from("zonal_proxy_connect_duration_seconds_count 1"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"0.001\"} 0"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"0.003\"} 1"),
            String::from("zonal_proxy_connect_duration_seconds_bucket{le=\"+Inf\"} 1"),
            String::from("zonal_proxy_accept_pauses_total 0"),
            String::from("zonal_proxy_spliced_bytes_total 0"),
            String::from("zonal_proxy_log_lines_dropped_total 0"),
            String::from("zonal_proxy_pipes_denied_total 0"),
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
