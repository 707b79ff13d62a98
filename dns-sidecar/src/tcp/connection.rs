// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: its messages are read one after another, answered in their order, and the replies written together.

use super::TcpContext;
use crate::{
    Index, Responder, Verdict, answer::Answered, query_log::Told, tally::Tally, udp::now_seconds,
};
use arc_swap::{ArcSwap, Cache};
use bytes::{Buf, BytesMut};
use discovery_core::telemetry::{DnsDrop, DnsShed};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

/// A client's stream of messages, and what is kept between them.
pub(super) struct Connection<'c, S> {
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
    pub(super) fn new(stream: S, client: IpAddr, context: &'c TcpContext) -> Self {
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
    pub(super) async fn serve(mut self) -> io::Result<()> {
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
