// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers over connections (RFC 7766): accepts within a limit, answers each connection's questions in their order.
//!
//! No accept error is final and none makes the loop spin; a client that is slow, silent or greedy costs one place of the
//! limit for a bounded time, and UDP nothing.

use crate::{
    Config, Index, Responder, Verdict, access::Access, answer::Answered, failures::Failures,
    forward::Forwarder, tally::Tally,
};
use arc_swap::{ArcSwap, Cache};
use bytes::{Buf, BytesMut};
use discovery_core::telemetry::{
    DnsDrop, DnsMetrics, DnsPause, DnsQueryType, DnsShed, DnsTransport,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every connection of a server shares.
#[derive(Debug)]
pub(crate) struct TcpContext {
    pub(crate) config: Config,
    pub(crate) index: Arc<ArcSwap<Index>>,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) forwarder: Forwarder,
    pub(crate) access: Access,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl TcpContext {
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
            Ok((_, client)) if !context.access.allows(client.ip()) => {
                context
                    .metrics
                    .received(DnsTransport::Tcp, DnsQueryType::Unread);
                context.metrics.dropped(DnsTransport::Tcp, DnsDrop::Denied);
            }
            Ok((stream, _)) => {
                pause = PAUSE_MIN;
                context.tasks.spawn(serve(stream, context.clone(), place));
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
    context.places.clone().acquire_owned().await.ok()
}

async fn serve(stream: TcpStream, context: Arc<TcpContext>, _place: OwnedSemaphorePermit) {
    if let Err(error) = Connection::new(stream, &context).serve().await {
        tracing::debug!(%error, "DNS connection ended");
    }
}

struct Connection<'c> {
    stream: TcpStream,
    context: &'c TcpContext,
    index: Cache<Arc<ArcSwap<Index>>, Arc<Index>>,
    responder: Responder,
    received: BytesMut,
    reply: Vec<u8>,
    answers: Answers,
    tally: Tally,
}

/// Replies that wait to be written together.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    answered: Vec<Answered>,
}

impl<'c> Connection<'c> {
    fn new(stream: TcpStream, context: &'c TcpContext) -> Self {
        Self {
            stream,
            index: Cache::new(context.index.clone()),
            responder: Responder::new(&context.config),
            received: BytesMut::new(),
            reply: Vec::new(),
            answers: Answers::default(),
            tally: Tally::new(DnsTransport::Tcp),
            context,
        }
    }

    /// Answers until the client closes, is silent for too long, breaks the framing, or the server stops.
    async fn serve(mut self) -> io::Result<()> {
        // Replies are written whole; waiting for more would only delay them.
        self.stream.set_nodelay(true)?;
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
        let mut deadline = Instant::now() + self.context.config.idle_timeout();
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
        let verdict = self
            .responder
            .answer(index, message, DnsTransport::Tcp, &mut self.reply);
        match verdict {
            Verdict::Answered(answered) => {
                self.tally.received(answered.qtype);
                self.answers.push(&self.reply, answered);
            }
            Verdict::Dropped(reason) => {
                self.tally.dropped(reason);
                return reason != DnsDrop::Short;
            }
            Verdict::Upstream(upstream) => {
                self.tally.received(crate::answer::asked_type(message));
                let (index, forwarder) = (index.clone(), &self.context.forwarder);
                let Some(_place) = forwarder.place() else {
                    self.tally.shed(DnsShed::UpstreamFull);
                    return true;
                };
                let transport = DnsTransport::Tcp;
                let asked =
                    forwarder.finish(&index, &mut self.responder, message, transport, upstream);
                match asked.await {
                    Some(finished) => self.answers.push(&finished.bytes, finished.answered),
                    None => self.tally.shed(DnsShed::SendFailed),
                }
            }
        }
        true
    }

    /// Writes what waits, or gives the client up.
    async fn flush(&mut self) -> io::Result<()> {
        let metrics = &self.context.metrics;
        let patience = self.context.patience(WRITE_TIMEOUT);
        let written = match timeout(patience, self.stream.write_all(&self.answers.bytes)).await {
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
