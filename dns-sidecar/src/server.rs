// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins snapshots, sockets and counters into a server with a life cycle.
//!
//! [`DnsServer::bind`] opens every socket or none; [`DnsServer::run`] serves until it is told to stop and returns when the
//! last socket is closed. A new snapshot becomes a new [`Index`] beside the questions, never within one.

use crate::{
    Config, Index, IndexBuilder, Unnamed,
    catalog::Catalog,
    forward::{Forwarder, LOOP_HELP, UpstreamState},
    query_log::query_log,
    tcp::{TcpContext, accept_all},
    udp::{UdpContext, UdpListener, UdpWorker, watch_overflows},
};
use arc_swap::ArcSwap;
use discovery_core::{
    model,
    runtime::{Kept, Sockets},
    source::SourceStatus,
    store::Reader,
    telemetry::DnsMetrics,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for DNS over {transport} on {address}")]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    #[source]
    source: io::Error,
}

impl BindError {
    /// The address that was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
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
    kept: Vec<Kept>,
    sources: Vec<Arc<SourceStatus>>,
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
            kept,
            sources: Vec::new(),
            status,
        })
    }

    /// Whom to believe about how old the answers are; without, only answers from disk are called old.
    #[must_use]
    pub fn sources(mut self, sources: Vec<Arc<SourceStatus>>) -> Self {
        self.sources = sources;
        self
    }

    /// Where it listens, in the order of the configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.status.listen()
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
        let udp_context = UdpContext {
            index: self.status.index.clone(),
            metrics: self.metrics.clone(),
            forwarder: forwarder.clone(),
            log: log.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let context = Arc::new(TcpContext::new(
            self.config,
            self.status.index.clone(),
            self.metrics,
            forwarder,
            log,
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
                told: HashSet::new(),
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

/// Makes an index of each new snapshot.
struct Publisher {
    builder: IndexBuilder,
    reader: Reader,
    sources: Vec<Arc<SourceStatus>>,
    stale_after: Duration,
    is_compat: bool,
    told: HashSet<Unnamed>,
}

impl Publisher {
    async fn run(mut self, index: Arc<ArcSwap<Index>>, stop: CancellationToken) {
        // The last two are held, so that an index is freed here and not by a worker within a question.
        let mut newest_two = [index.load_full(), index.load_full()];
        self.tell_unnamed(&newest_two[1]);
        let mut ticks = tokio::time::interval(FRESHNESS_EVERY);
        let mut has_writer = true;
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.builder.freshness().note(&self.sources, self.stale_after);
                    continue;
                }
                changed = self.reader.changed(), if has_writer => changed,
            };
            let Some(snapshot) = changed else {
                // Without a writer there is nothing new to say, and the last index stays true.
                has_writer = false;
                continue;
            };
            let made = self.builder.build(&snapshot);
            let next = Arc::new(self.dated(made));
            self.tell_unnamed(&next);
            index.store(next.clone());
            newest_two.rotate_left(1);
            newest_two[1] = next;
        }
    }

    /// Consul's serial is the time.
    fn dated(&self, index: Index) -> Index {
        if !self.is_compat {
            return index;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        index.with_serial(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Each service without a name is told once, and again only after it had one.
    fn tell_unnamed(&mut self, index: &Index) {
        for unnamed in index
            .unnamed()
            .iter()
            .filter(|unnamed| !self.told.contains(unnamed))
        {
            tracing::warn!(reason = %unnamed, "Service has no DNS name");
        }
        self.told = index.unnamed().iter().cloned().collect();
    }
}

/// A UDP and a TCP socket on one address: those that this process was handed, else new ones.
fn open_pair(
    address: SocketAddr,
    handed: &Sockets,
) -> Result<(UdpListener, TcpListener, SocketAddr), BindError> {
    let mut attempts = if address.port() == 0 {
        FREE_PORT_ATTEMPTS
    } else {
        1
    };
    loop {
        attempts -= 1;
        let fail = |transport| {
            move |source| BindError {
                address,
                transport,
                source,
            }
        };
        let (udp, bound) = open_udp(address, handed).map_err(fail("UDP"))?;
        match open_tcp(bound, handed).map_err(fail("TCP")) {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            // The port that was free for UDP is taken for TCP: try another.
            Err(error) if attempts > 0 && error.is_in_use() => {}
            Err(error) => return Err(error),
        }
    }
}

fn open_udp(address: SocketAddr, handed: &Sockets) -> io::Result<(UdpListener, SocketAddr)> {
    if let Some(handed) = handed.take(model::Protocol::Udp, address) {
        let socket = std::net::UdpSocket::from(handed);
        socket.set_nonblocking(true)?;
        return Ok((UdpListener::new(socket)?, address));
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    prepare(&socket, address)?;
    // The system grants what its limit allows; less is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&address.into())?;
    let socket = std::net::UdpSocket::from(socket);
    let bound = socket.local_addr()?;
    Ok((UdpListener::new(socket)?, bound))
}

fn open_tcp(address: SocketAddr, handed: &Sockets) -> io::Result<TcpListener> {
    if let Some(handed) = handed.take(model::Protocol::Tcp, address) {
        let listener = std::net::TcpListener::from(handed);
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    prepare(&socket, address)?;
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)
}

/// How often the age of the answers is noted.
const FRESHNESS_EVERY: Duration = Duration::from_secs(1);
/// UDP and TCP have ports of their own; two free ones of the same number are found soon.
const FREE_PORT_ATTEMPTS: u32 = 16;
/// A burst of some thousand questions.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Connections that the system holds while the limit is reached.
const BACKLOG: i32 = 128;
