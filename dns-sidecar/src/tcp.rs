// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers over connections (RFC 7766): accepts within a limit, answers each connection's questions in their order.
//!
//! No accept error is final and none makes the loop spin; a client that is slow, silent or greedy costs one place of the
//! limit for a bounded time, and UDP nothing. One source has a part of the places at most. While all are taken, whoever
//! has been silent for longest makes room.

#[cfg(feature = "dot")]
use crate::tls::Acceptor;
use crate::{
    Config, Index, Responder, Verdict,
    access::Access,
    answer::Answered,
    cookie::Secret,
    failures::Failures,
    forward::Forwarder,
    query_log::Told,
    sources::{Sources, Visit},
    tally::Tally,
    udp::now_seconds,
};
use arc_swap::{ArcSwap, Cache};
use bytes::{Buf, BytesMut};
use discovery_core::telemetry::{
    DnsDrop, DnsMetrics, DnsPause, DnsQueryType, DnsShed, DnsTransport,
};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
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

struct Connection<'c, S> {
    stream: S,
    client: IpAddr,
    context: &'c TcpContext,
    index: Cache<Arc<ArcSwap<Index>>, Arc<Index>>,
    responder: Responder,
    received: BytesMut,
    reply: Vec<u8>,
    answers: Answers,
    log: Option<Told>,
    tally: Tally,
}

/// Replies that wait to be written together.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    answered: Vec<Answered>,
}

impl<'c, S: AsyncRead + AsyncWrite + Unpin> Connection<'c, S> {
    fn new(stream: S, client: IpAddr, context: &'c TcpContext) -> Self {
        Self {
            stream,
            client,
            index: Cache::new(context.index.clone()),
            responder: Responder::new(&context.config),
            received: BytesMut::new(),
            reply: Vec::new(),
            answers: Answers::default(),
            log: context.log.clone(),
            tally: Tally::new(context.transport),
            context,
        }
    }

    /// Answers until the client closes, is silent for too long, breaks the framing, or the server stops.
    async fn serve(mut self) -> io::Result<()> {
        while self.receive().await? {
            let is_framed = self.answer_received().await?;
            self.flush().await?;
            if !is_framed {
                break;
            }
        }
        self.stream.shutdown().await
    }

    /// Waits until a whole message is there; false when there will be none.
    async fn receive(&mut self) -> io::Result<bool> {
        let silent_since = Instant::now();
        let mut deadline = silent_since + self.context.idle_timeout();
        let mut has_begun = false;
        while next_frame(&self.received).is_none() {
            if !has_begun && !self.received.is_empty() {
                // From the first octet on, however slowly the others follow.
                has_begun = true;
                deadline = Instant::now() + self.context.patience(MESSAGE_TIMEOUT);
            }
            self.received.reserve(READ_BYTES);
            let read = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return Ok(false),
                read = timeout_at(deadline, self.stream.read_buf(&mut self.received)) => read,
                () = self.context.wanted(silent_since), if !has_begun => return Ok(false),
            };
            match read {
                Ok(Ok(0)) | Err(_) => return Ok(false),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Answers every whole message that is there; false when the framing is broken.
    async fn answer_received(&mut self) -> io::Result<bool> {
        while let Some(length) = next_frame(&self.received) {
            self.received.advance(LENGTH_BYTES);
            let message = self.received.split_to(length);
            let is_message = self.answer(&message).await;
            self.tally.hand_over(&self.context.metrics);
            if !is_message {
                return Ok(false);
            }
            if self.answers.bytes.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        Ok(true)
    }

    /// Answers one message; false when it is too short to be one, after which no length can be believed.
    async fn answer(&mut self, message: &[u8]) -> bool {
        let index = self.index.load();
        let transport = self.context.transport;
        let asking = self.responder.asking();
        asking.by(self.client, self.context.secret);
        asking.at(now_seconds());
        asking.may_idle(self.context.idle_timeout());
        let verdict = self
            .responder
            .answer(index, message, transport, &mut self.reply);
        match verdict {
            Verdict::Answered(answered) => {
                self.tally.received(answered.qtype);
                self.note(message, answered);
                self.answers.push(&self.reply, answered);
            }
            Verdict::Dropped(reason) => {
                self.tally.dropped(reason);
                return reason != DnsDrop::Short;
            }
            Verdict::Upstream(upstream) => {
                self.tally.received(crate::answer::asked_type(message));
                let (index, forwarder) = (index.clone(), &self.context.forwarder);
                let Some(_place) = forwarder.place(self.client) else {
                    self.tally.shed(DnsShed::UpstreamFull);
                    return true;
                };
                let asked =
                    forwarder.finish(&index, &mut self.responder, message, transport, upstream);
                match asked.await {
                    Some(finished) => {
                        self.note(message, finished.answered);
                        self.answers.push(&finished.bytes, finished.answered);
                    }
                    None => self.tally.shed(DnsShed::SendFailed),
                }
            }
        }
        true
    }

    fn note(&mut self, message: &[u8], answered: Answered) {
        if let Some(log) = &mut self.log {
            log.note(self.client, self.context.transport, message, answered);
        }
    }

    /// Writes what waits, or gives the client up.
    async fn flush(&mut self) -> io::Result<()> {
        let metrics = &self.context.metrics;
        let patience = self.context.patience(WRITE_TIMEOUT);
        let write = async {
            self.stream.write_all(&self.answers.bytes).await?;
            self.stream.flush().await
        };
        let written = match timeout(patience, write).await {
            Ok(written) => written,
            Err(elapsed) => Err(elapsed.into()),
        };
        for answered in self.answers.answered.drain(..) {
            match &written {
                Ok(()) => self.tally.delivered(answered),
                Err(_) => self.tally.shed(DnsShed::SendFailed),
            }
        }
        self.tally.hand_over(metrics);
        self.answers.bytes.clear();
        self.answers.bytes.shrink_to(KEPT_BYTES);
        written
    }
}

impl Answers {
    /// Length and message go out in one write (RFC 7766 8).
    fn push(&mut self, reply: &[u8], answered: Answered) {
        // A reply is at most 65,535 bytes long.
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(reply);
        self.answered.push(answered);
    }
}

/// The length of the message that stands whole at the start of the bytes.
fn next_frame(received: &[u8]) -> Option<usize> {
    let (length, rest) = received.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    (rest.len() >= length).then_some(length)
}

/// RFC 1035 4.2.2.
const LENGTH_BYTES: usize = 2;
/// Asked of the system at a time; many questions fit.
const READ_BYTES: usize = 4 * 1024;
/// Replies that are gathered before they are written.
const WRITE_BYTES: usize = 64 * 1024;
/// What a connection keeps of its buffer between bursts.
const KEPT_BYTES: usize = 4 * 1024;
/// From a message's first octet to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may leave its replies unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that asked just now is likely to ask again.
const SILENCE_KEPT: Duration = Duration::from_secs(1);
/// Places come free by themselves as well, and a client may begin to speak as it is told to go.
const ASK_FOR_PLACE_EVERY: Duration = Duration::from_millis(250);
// Descriptors come back within moments or not at all.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_or_none() {
        assert_eq!(next_frame(&[]), None);
        assert_eq!(next_frame(&[0]), None);
        assert_eq!(next_frame(&[0, 0]), Some(0));
        assert_eq!(next_frame(&[0, 2, 7]), None);
        assert_eq!(next_frame(&[0, 2, 7, 7, 0]), Some(2));
    }
}
