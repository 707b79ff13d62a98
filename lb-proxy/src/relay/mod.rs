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
    sockets::{reset, sent},
};
use bytes::Bytes;
use discovery_core::telemetry::{ConnectionMetrics, ProxyPhase};
use std::{future::poll_fn, io, pin::pin};
use tokio::{io::Interest, net::TcpStream, time::sleep_until};
use tokio_util::sync::CancellationToken;

/// How to relay one connection.
#[derive(Debug)]
pub(crate) struct Relay<'c> {
    pub(crate) timeouts: RelayTimeouts,
    pub(crate) counted: &'c ConnectionMetrics,
    pub(crate) pipes: &'c Pipes,
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    /// Whether one side had finished before.
    pub(crate) phase: ProxyPhase,
    /// Bytes from the client to the endpoint.
    pub(crate) up: u64,
    /// Bytes from the endpoint to the client.
    pub(crate) down: u64,
    /// Bytes of both that never left the kernel.
    pub(crate) spliced: u64,
}

impl Relay<'_> {
    /// Relays to the end, closes both sockets in the way that fits it, and says how it was.
    ///
    /// The endpoint is sent `lead` first. `cut` ends it, for the reason that `why` gives then.
    pub(crate) async fn run(
        self,
        client: TcpStream,
        upstream: TcpStream,
        lead: Bytes,
        cut: &CancellationToken,
        why: impl Fn() -> Reason,
    ) -> Ended {
        let mut flow = Flow::new(&client, &upstream, &self, lead);
        let reason = drive(&mut flow, &client, &upstream, cut).await;
        let reason = reason.unwrap_or_else(why);
        let ended = flow.ended(reason);
        match reason {
            Reason::Ok => return ended,
            Reason::UpstreamReset | Reason::UpstreamLost => sent(&client).await,
            Reason::ClientReset | Reason::ClientLost => sent(&upstream).await,
            _ => {}
        }
        reset(client);
        reset(upstream);
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
            _ = client.ready(Interest::ERROR), if flow.must_watch(Side::Client) => {
                return Some(failure(client, Side::Client));
            }
            _ = upstream.ready(Interest::ERROR), if flow.must_watch(Side::Upstream) => {
                return Some(failure(upstream, Side::Upstream));
            }
        }
    }
}

/// What the error of a socket that is not being read says.
fn failure(stream: &TcpStream, side: Side) -> Reason {
    let error = stream.take_error().ok().flatten();
    side.failed(&error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
}
