// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers over connections (RFC 7766): accepts within a limit, answers each connection's questions in their order.
//!
//! No accept error is final and none makes the loop spin; a client that is slow, silent or greedy costs one place of the
//! limit for a bounded time, and UDP nothing. One source has a part of the places at most. While all are taken, whoever
//! has been silent for longest makes room.

mod connection;

#[cfg(feature = "dot")]
use crate::tls::Acceptor;
use crate::{
    Config, Index,
    access::Access,
    cookie::Secret,
    failures::Failures,
    forward::Forwarder,
    query_log::Told,
    sources::{Sources, Visit},
};
use arc_swap::ArcSwap;
use connection::Connection;
use discovery_core::telemetry::{DnsDrop, DnsMetrics, DnsPause, DnsQueryType, DnsTransport};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every connection of a server shares.
#[derive(Debug)]
pub(crate) struct TcpContext {
    pub(crate) config: Config,
    pub(crate) index: Arc<ArcSwap<Index>>,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) forwarder: Forwarder,
    /// TCP, or DNS over TLS.
    transport: DnsTransport,
    /// Below which the questions come; none means in the clear.
    #[cfg(feature = "dot")]
    acceptor: Option<Acceptor>,
    log: Option<Told>,
    secret: Option<Secret>,
    access: Access,
    places: Arc<Semaphore>,
    sources: Arc<Sources>,
    /// Tells the connection that has waited for longest that its place is wanted.
    wanted: Notify,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl TcpContext {
    pub(crate) fn new(
        config: Config,
        index: Arc<ArcSwap<Index>>,
        metrics: Arc<DnsMetrics>,
        forwarder: Forwarder,
        told: (Option<Told>, Option<Secret>),
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            access: Access::new(&config.allow),
            places: Arc::new(Semaphore::new(config.connections_max())),
            sources: Arc::new(Sources::new(config.connections_per_source_max())),
            wanted: Notify::new(),
            config,
            index,
            metrics,
            forwarder,
            transport: DnsTransport::Tcp,
            #[cfg(feature = "dot")]
            acceptor: None,
            log: told.0,
            secret: told.1,
            tasks,
            stop,
        }
    }

    /// The same for connections below TLS, with places of their own.
    #[cfg(feature = "dot")]
    pub(crate) fn below(&self, acceptor: Acceptor) -> Self {
        Self {
            transport: DnsTransport::Dot,
            acceptor: Some(acceptor),
            ..Self::new(
                self.config.clone(),
                self.index.clone(),
                self.metrics.clone(),
                self.forwarder.clone(),
                (self.log.clone(), self.secret),
                self.tasks.clone(),
                self.stop.clone(),
            )
        }
    }

    /// What questions are told by in the log, and what cookies are made with.
    #[cfg(feature = "doh")]
    pub(crate) fn told(&self) -> (Option<Told>, Option<Secret>) {
        (self.log.clone(), self.secret)
    }

    /// A handshake costs more than a question: such connections are kept for longer.
    fn longest_idle(&self) -> Duration {
        let plain = self.config.idle_timeout();
        if self.transport.is_encrypted() {
            plain * 3
        } else {
            plain
        }
    }

    /// How long a client may be silent: half the time once half the places are taken.
    fn idle_timeout(&self) -> Duration {
        let is_half_full = self.places.available_permits() * 2 < self.config.connections_max();
        let longest = self.longest_idle();
        if is_half_full { longest / 2 } else { longest }
    }

    /// The connection is closed without a byte, and counts as one message without an answer.
    fn turn_away(&self, reason: DnsDrop) {
        self.metrics.received(self.transport, DnsQueryType::Unread);
        self.metrics.dropped(self.transport, reason);
    }

    /// Waits until the place of a client that has been silent since then is wanted by another.
    async fn wanted(&self, silent_since: Instant) {
        sleep_until(silent_since + SILENCE_KEPT).await;
        // In the order in which they began to wait.
        self.wanted.notified().await;
    }

    /// Who may be idle for less than `longest` may not take longer over a message or a reply either.
    fn patience(&self, longest: Duration) -> Duration {
        longest.min(self.config.idle_timeout())
    }
}

/// Accepts until it is told to stop.
pub(crate) async fn accept_all(listener: TcpListener, context: Arc<TcpContext>) {
    let stopped = context.stop.clone();
    tokio::select! {
        () = stopped.cancelled() => {}
        () = accept_forever(listener, context) => {}
    }
}

async fn accept_forever(listener: TcpListener, context: Arc<TcpContext>) {
    let (mut pause, mut failures) = (PAUSE_MIN, Failures::default());
    // A place first: who has to wait, waits in the system's queue and costs no descriptor.
    while let Some(place) = take_place(&context).await {
        match listener.accept().await {
            Ok((stream, client)) => {
                pause = PAUSE_MIN;
                match admit(&context, client.ip()) {
                    Ok(visit) => {
                        let held = (place, visit);
                        context
                            .tasks
                            .spawn(serve(stream, client.ip(), context.clone(), held));
                    }
                    Err(reason) => context.turn_away(reason),
                }
            }
            // Out of descriptors or memory, or an error of the network that accept reports early: it passes.
            Err(error) => {
                context.metrics.paused(DnsPause::AcceptFailed);
                failures.note("accept", &error);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

async fn take_place(context: &TcpContext) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = context.places.clone().try_acquire_owned() {
        return Some(place);
    }
    context.metrics.paused(DnsPause::ConnectionsFull);
    loop {
        context.wanted.notify_one();
        let place = context.places.clone().acquire_owned();
        if let Ok(place) = timeout(ASK_FOR_PLACE_EVERY, place).await {
            return place.ok();
        }
    }
}

/// Whether a client at this address may have a connection more.
fn admit(context: &TcpContext, client: IpAddr) -> Result<Visit, DnsDrop> {
    if !context.access.allows(client) {
        return Err(DnsDrop::Denied);
    }
    let visit = context.sources.enter(client);
    visit.ok_or(DnsDrop::Connections)
}

async fn serve(
    stream: TcpStream,
    client: IpAddr,
    context: Arc<TcpContext>,
    _held: (OwnedSemaphorePermit, Visit),
) {
    // Replies are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    #[cfg(feature = "dot")]
    if let Some(acceptor) = &context.acceptor {
        let shaken = tokio::select! {
            () = context.stop.cancelled() => return,
            shaken = acceptor.accept(stream) => shaken,
        };
        match shaken {
            Ok(stream) => return serve_stream(stream, client, &context).await,
            Err(error) => {
                tracing::debug!(%error, "DNS over TLS was not begun");
                return context.turn_away(DnsDrop::Handshake);
            }
        }
    }
    serve_stream(stream, client, &context).await;
}

async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: IpAddr,
    context: &TcpContext,
) {
    if let Err(error) = Connection::new(stream, client, context).serve().await {
        tracing::debug!(%error, "DNS connection ended");
    }
}

/// A client that asked just now is likely to ask again.
const SILENCE_KEPT: Duration = Duration::from_secs(1);
/// Places come free by themselves as well, and a client may begin to speak as it is told to go.
const ASK_FOR_PLACE_EVERY: Duration = Duration::from_millis(250);
// Descriptors come back within moments or not at all.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
