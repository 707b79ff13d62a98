// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries bytes both ways between a client and an endpoint until both have finished, one fails, or time is over.
//!
//! In: two connected sockets. Out: how it ended, and how many bytes went each way. The kind of an end is kept: a side that
//! finishes sending (FIN) finishes the other's reading and no more; a side that resets has the other reset, after what was
//! read from it is delivered. While nothing moves, a connection owns no buffer.

mod answer;
mod direction;
mod flow;
mod pipe;
mod stall;
mod wire;

pub(crate) use pipe::Pipes;

use self::flow::{Event, Flow};
use crate::{
    config::RelayTimeouts,
    connection::Live,
    reason::{Reason, Side},
    sockets::sent,
};
use bytes::Bytes;
use discovery_core::telemetry::{ConnectionMetrics, ProxyPhase};
use std::{
    future::{pending, poll_fn},
    io,
    num::NonZeroU32,
    pin::pin,
};
use tokio::{io::Interest, net::TcpStream, time::sleep_until};

/// What it takes to relay one connection: its two sockets, and what it shares with others.
#[derive(Debug)]
pub(crate) struct Relay<'c> {
    pub(crate) client: &'c TcpStream,
    pub(crate) upstream: &'c TcpStream,
    pub(crate) timeouts: &'c RelayTimeouts,
    /// Instead of the idle timeout among those, where the service says so.
    pub(crate) idle_seconds: Option<NonZeroU32>,
    pub(crate) counted: &'c ConnectionMetrics,
    pub(crate) pipes: &'c Pipes,
    /// Where what moves is told of, and what says when it has to end with its endpoint, and why.
    pub(crate) live: &'c Live,
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    /// Whether one side had finished before.
    pub(crate) phase: ProxyPhase,
    /// Whether both sockets are to be reset: not all that was sent has arrived.
    pub(crate) is_reset: bool,
    /// Bytes from the client to the endpoint.
    pub(crate) up: u64,
    /// Bytes from the endpoint to the client.
    pub(crate) down: u64,
    /// Bytes of both that never left the kernel.
    pub(crate) spliced: u64,
}

impl Relay<'_> {
    /// Relays to the end, and says how it was and how both sockets have to be closed. The endpoint is sent `lead` first.
    ///
    /// Its future is most of what an idle connection costs: what it needs it borrows, once.
    pub(crate) async fn run(&self, lead: &mut Bytes) -> Ended {
        let mut flow = Flow::new(self, lead);
        let reason = drive(&mut flow).await;
        let ended = flow.ended(reason.unwrap_or_else(|| self.live.life().reason()));
        match ended.reason {
            Reason::UpstreamReset | Reason::UpstreamLost => Box::pin(sent(self.client)).await,
            Reason::ClientReset | Reason::ClientLost => Box::pin(sent(self.upstream)).await,
            _ => {}
        }
        ended
    }
}

/// Polls the flow whenever a socket or the clock has news, until there is a reason to end; none when it is cut.
async fn drive(flow: &mut Flow<'_>) -> Option<Reason> {
    let mut timer = pin!(sleep_until(flow.deadline()));
    let mut cut = pin!(flow.relay().live.life().cut().cancelled());
    loop {
        let [client, upstream] = [Side::Client, Side::Upstream].map(|side| flow.watched(side));
        tokio::select! {
            biased;
            event = poll_fn(|cx| flow.poll(cx)) => match event {
                Event::Ended(reason) => return Some(reason),
                Event::Changed if flow.deadline() < timer.deadline() => {
                    timer.as_mut().reset(flow.deadline());
                }
                Event::Changed => {}
            },
            () = &mut cut => return None,
            // The timer is not moved at each byte; when it fires, the deadline mostly has moved on.
            () = &mut timer => match flow.expired() {
                Some(reason) => return Some(reason),
                None => timer.as_mut().reset(flow.deadline()),
            },
            reason = broken(client, Side::Client) => return Some(reason),
            reason = broken(upstream, Side::Upstream) => return Some(reason),
        }
    }
}

/// Waits until the socket fails that must be watched since it is not being read, and says what of; for ever when there is
/// none.
///
/// Boxed: hardly any connection is watched, and every one would keep room for it.
async fn broken(watched: Option<&TcpStream>, side: Side) -> Reason {
    match watched {
        Some(stream) => {
            let _ = Box::pin(stream.ready(Interest::ERROR)).await;
            failure(stream, side)
        }
        None => pending().await,
    }
}

/// What the error of a socket that is not being read says.
fn failure(stream: &TcpStream, side: Side) -> Reason {
    let error = stream.take_error().ok().flatten();
    side.failed(&error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
}
