// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins snapshots, sockets and counters into a server with a life cycle.
//!
//! [`DnsServer::bind`] opens every socket or none; [`DnsServer::run`] serves until it is told to stop and returns when the
//! last socket is closed. A new snapshot becomes a new [`Index`] beside the questions, never within one.

mod publisher;
mod sockets;
mod streams;

use crate::{
    Config, Index, IndexBuilder,
    catalog::Catalog,
    cookie::Secret,
    forward::{Forwarder, LOOP_HELP, UpstreamState},
    query_log::query_log,
    tcp::{TcpContext, accept_all},
    udp::{UdpContext, UdpListener, UdpWorker, watch_overflows},
};
use arc_swap::ArcSwap;
use discovery_core::{
    runtime::{Kept, Need},
    source::SourceStatus,
    store::Reader,
    telemetry::DnsMetrics,
};
use publisher::Publisher;
use sockets::open_pair;
use std::{collections::HashSet, io, net::SocketAddr, sync::Arc};
use streams::Streams;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {what} on {address}")]
pub struct BindError {
    address: SocketAddr,
    what: &'static str,
    setting: &'static str,
    #[source]
    source: io::Error,
}

impl BindError {
    /// The address that was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key of the address below `dns` in the agent's configuration.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Whether another process has the address: another port, or an end of the other process, helps.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// What a server says of itself. Clones are cheap and stay true while the server runs.
#[derive(Clone, Debug)]
pub struct DnsStatus {
    listen: Arc<[SocketAddr]>,
    domain: Arc<str>,
    index: Arc<ArcSwap<Index>>,
    forwarder: Forwarder,
}

/// A server that is asked for names of others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct UpstreamStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is.
    pub state: UpstreamState,
    /// What to do about it, where something is to be done.
    pub help: Option<&'static str>,
}

impl DnsStatus {
    /// Where it listens, over UDP and TCP alike.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The domain that it answers for, without a final dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The servers that are asked for names of others.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let states = self.forwarder.states().into_iter();
        let status = |(address, state)| UpstreamStatus {
            address,
            state,
            help: (state == UpstreamState::Loop).then_some(LOOP_HELP),
        };
        states.map(status).collect()
    }

    /// The answers that are given now.
    pub fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }
}

/// A responder with open sockets.
///
/// ```
/// use discovery_core::{model::NodeName, store::{StateConfig, channel}, telemetry::DnsMetrics};
/// use dns_sidecar::{Config, DnsServer};
/// use std::sync::Arc;
/// use tokio_util::sync::CancellationToken;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a")?));
/// let config = Config::default().listen(vec!["127.0.0.1:0".parse()?])?;
/// let server = DnsServer::bind(config, reader, Arc::new(DnsMetrics::default()))?;
/// assert_ne!(server.local_addrs()[0].port(), 0);
///
/// let shutdown = CancellationToken::new();
/// let running = tokio::spawn(server.run(shutdown.clone()));
/// shutdown.cancel();
/// running.await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct DnsServer {
    config: Config,
    /// None when what is served does not change.
    followed: Option<(IndexBuilder, Reader)>,
    metrics: Arc<DnsMetrics>,
    sockets: Vec<(UdpListener, TcpListener)>,
    streams: Streams,
    kept: Vec<Kept>,
    sources: Vec<Arc<SourceStatus>>,
    need: Option<Need>,
    status: DnsStatus,
}

impl DnsServer {
    /// Opens every socket of the configuration; with port 0 the system chooses one port for UDP and TCP.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn bind(
        config: Config,
        mut reader: Reader,
        metrics: Arc<DnsMetrics>,
    ) -> Result<Self, BindError> {
        let mut builder = IndexBuilder::new(&config);
        let index = builder.build(reader.snapshot());
        Self::open(config, index, Some((builder, reader)), metrics)
    }

    /// The same for a catalogue that does not change.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn bind_catalog(
        config: Config,
        catalog: &Catalog,
        metrics: Arc<DnsMetrics>,
    ) -> Result<Self, BindError> {
        let index = IndexBuilder::build_catalog(&config, catalog);
        Self::open(config, index, None, metrics)
    }

    fn open(
        config: Config,
        index: Index,
        followed: Option<(IndexBuilder, Reader)>,
        metrics: Arc<DnsMetrics>,
    ) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        let (mut listen, mut kept) = (Vec::new(), Vec::new());
        for address in config.listen_addresses() {
            let (udp, tcp, bound) = open_pair(*address, &config.sockets)?;
            kept.extend(config.sockets.keep(&udp));
            kept.extend(config.sockets.keep(&tcp));
            sockets.push((udp, tcp));
            listen.push(bound);
        }
        let streams = Streams::open(&config, &mut kept)?;
        let status = DnsStatus {
            forwarder: Forwarder::new(&config, &listen, metrics.clone()),
            listen: listen.into(),
            domain: config.domain_text().into(),
            index: Arc::new(ArcSwap::from_pointee(index)),
        };
        Ok(Self {
            config,
            followed,
            metrics,
            sockets,
            streams,
            kept,
            sources: Vec::new(),
            need: None,
            status,
        })
    }

    /// Whom to believe about how old the answers are; without, only answers from disk are called old.
    #[must_use]
    pub fn sources(mut self, sources: Vec<Arc<SourceStatus>>) -> Self {
        self.sources = sources;
        self
    }

    /// What is met while names of services are answered with data or a "no", and not while the index that would do so is
    /// not made yet.
    #[must_use]
    pub fn need(mut self, need: Need) -> Self {
        need.set(self.status.index.load().is_ready());
        self.need = Some(need);
        self
    }

    /// Where it listens, in the order of the configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.status.listen()
    }

    /// Where it offers Consul's HTTP interface, in the order of the configuration.
    #[cfg(feature = "http")]
    pub fn http_addrs(&self) -> Vec<SocketAddr> {
        addresses(&self.streams.http)
    }

    /// Where it answers DNS over TLS, in the order of the configuration.
    #[cfg(feature = "dot")]
    pub fn dot_addrs(&self) -> Vec<SocketAddr> {
        addresses(&self.streams.dot)
    }

    /// Where it answers DNS over HTTPS, in the order of the configuration.
    #[cfg(feature = "doh")]
    pub fn doh_addrs(&self) -> Vec<SocketAddr> {
        addresses(&self.streams.doh)
    }

    /// What it says of itself; to be taken before [`DnsServer::run`].
    pub fn status(&self) -> DnsStatus {
        self.status.clone()
    }

    /// Serves until `shutdown` is cancelled, then finishes the answers under way and closes every socket.
    ///
    /// Dropping the future stops the server as well, without waiting for it.
    pub async fn run(self, shutdown: CancellationToken) {
        let (tasks, stop) = (TaskTracker::new(), shutdown.child_token());
        let _stop_on_drop = stop.clone().drop_guard();
        let forwarder = self.status.forwarder.clone();
        let log = query_log(self.config.query_log, &self.metrics).map(|(told, writing)| {
            tasks.spawn(writing.write(stop.clone()));
            told
        });
        let secret = Secret::random();
        let udp_context = UdpContext {
            index: self.status.index.clone(),
            metrics: self.metrics.clone(),
            forwarder: forwarder.clone(),
            log: log.clone(),
            secret,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let (published, _followed) = watch::channel(());
        let context = Arc::new(TcpContext::new(
            self.config,
            self.status.index.clone(),
            self.metrics,
            forwarder,
            (log, secret),
            tasks.clone(),
            stop.clone(),
        ));
        let watched: Vec<_> = self.sockets.iter().map(|(udp, _)| udp.clone()).collect();
        let watch = watch_overflows(watched, context.metrics.clone(), stop.clone());
        tasks.spawn(watch);
        for (udp, tcp) in self.sockets {
            for _ in 0..context.config.workers() {
                let worker = UdpWorker::new(udp.clone(), &context.config, udp_context.clone());
                tasks.spawn(worker.run());
            }
            tasks.spawn(accept_all(tcp, context.clone()));
        }
        self.streams.serve(&context, &published);
        context.forwarder.look_for_loops();
        for notice in context.config.notices() {
            tracing::info!(%notice, "DNS setting");
        }
        if let Some((builder, reader)) = self.followed {
            let publisher = Publisher {
                is_compat: context.config.profile.is_compat(),
                stale_after: context.config.stale_after,
                builder,
                reader,
                sources: self.sources,
                need: self.need,
                told: HashSet::new(),
                published,
            };
            tasks.spawn(publisher.run(context.index.clone(), stop.clone()));
        }
        tracing::info!(listen = ?self.status.listen, domain = %self.status.domain, "DNS serving");
        stop.cancelled().await;
        drop(self.kept);
        tasks.close();
        tasks.wait().await;
        tracing::info!("DNS stopped");
    }
}

#[cfg(any(feature = "http", feature = "dot", feature = "doh"))]
fn addresses(listeners: &[(TcpListener, SocketAddr)]) -> Vec<SocketAddr> {
    listeners.iter().map(|(_, address)| *address).collect()
}
