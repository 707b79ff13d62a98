// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries bytes both ways between a client and an endpoint until both have finished, one fails, or time is over.
//!
//! In: two connected sockets. Out: how it ended, and how many bytes went each way. The kind of an end is kept: a side that
//! finishes sending (FIN) finishes the other's reading and no more; a side that resets has the other reset, after what was
//! read from it is delivered. While nothing moves, a connection owns no buffer.

mod direction;
mod flow;
mod pipe;
mod wire;

pub(crate) use pipe::Pipes;

use self::flow::{Event, Flow};
use crate::{
    config::RelayTimeouts,
    reason::{Reason, Side},
    sockets::sent,
};
use bytes::Bytes;
use discovery_core::telemetry::{ConnectionMetrics, ProxyPhase};
use std::{
    future::{pending, poll_fn},
    io,
    pin::pin,
};
use tokio::{io::Interest, net::TcpStream, time::sleep_until};
use tokio_util::sync::CancellationToken;

/// How to relay one connection.
#[derive(Debug)]
pub(crate) struct Relay<'c> {
    pub(crate) timeouts: &'c RelayTimeouts,
    pub(crate) counted: &'c ConnectionMetrics,
    pub(crate) pipes: &'c Pipes,
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
    /// Relays to the end, and says how it was and how both sockets have to be closed.
    ///
    /// The endpoint is sent `lead` first. `cut` ends it, for the reason that `why` gives then.
    pub(crate) async fn run(
        &self,
        client: &TcpStream,
        upstream: &TcpStream,
        lead: &mut Bytes,
        cut: &CancellationToken,
        why: impl Fn() -> Reason,
    ) -> Ended {
        let mut flow = Flow::new(client, upstream, self, lead);
        let reason = drive(&mut flow, client, upstream, cut).await;
        let reason = reason.unwrap_or_else(why);
        let ended = flow.ended(reason);
        match reason {
            Reason::UpstreamReset | Reason::UpstreamLost => Box::pin(sent(client)).await,
            Reason::ClientReset | Reason::ClientLost => Box::pin(sent(upstream)).await,
            _ => {}
        }
        ended
    }
}

/// Polls the flow whenever a socket or the clock has news, until there is a reason to end; none when it is cut.
async fn drive(
    flow: &mut Flow<'_>,
    client: &TcpStream,
    upstream: &TcpStream,
    cut: &CancellationToken,
) -> Option<Reason> {
    let mut timer = pin!(sleep_until(flow.deadline()));
    let mut cut = pin!(cut.cancelled());
    loop {
        let [watch_client, watch_upstream] =
            [Side::Client, Side::Upstream].map(|side| flow.must_watch(side));
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
            () = broken(client, watch_client) => {
                return Some(failure(client, Side::Client));
            }
            () = broken(upstream, watch_upstream) => {
                return Some(failure(upstream, Side::Upstream));
            }
        }
    }
}

/// Waits until the socket fails, when it must be watched since it is not being read; else for ever.
///
/// Boxed: hardly any connection is watched, and every one would keep room for it.
async fn broken(stream: &TcpStream, must_watch: bool) {
    if must_watch {
        let _ = Box::pin(stream.ready(Interest::ERROR)).await;
    } else {
        pending::<()>().await;
    }
}

/// What the error of a socket that is not being read says.
fn failure(stream: &TcpStream, side: Side) -> Reason {
    let error = stream.take_error().ok().flatten();
    side.failed(&error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
}
