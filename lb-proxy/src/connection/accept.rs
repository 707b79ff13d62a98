// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accept loop of one listening socket on one worker.
//!
//! In: a socket, a picker, what connections share. Out: a task per connection that may be carried; a reset for the others.
//! Every worker has the same socket, so that no connection waits for a worker that is stuck. No error ends the loop and none
//! makes it spin: without descriptors it pauses, 50 ms at first and 500 ms at most, and clients wait in the backlog meanwhile.

use super::{
    carry::{Connection, Listening},
    client::Client,
};
use crate::{
    backoff::Backoff,
    reason::{Reason, is_of_one_connection},
    sockets::reset,
};
use discovery_core::{
    hash::HashKey,
    pick::{PickError, Picker},
    store::ServiceView,
    telemetry::ConnectionMetrics,
};
use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream, task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A listening socket and what it hands connections to.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) picker: Picker,
    pub(crate) listening: Arc<Listening>,
}

impl Acceptor {
    /// Accepts until told to close; then takes what the backlog holds and closes the socket.
    pub(crate) async fn run(mut self, listener: std::net::TcpListener, close: CancellationToken) {
        // Here, so that the socket belongs to the runtime of this worker.
        let listener = match Listener::new(listener) {
            Ok(listener) => listener,
            Err(error) => {
                let target = &self.listening.target;
                return warn!(service = %target.service, port = target.port, %error, "A worker cannot accept");
            }
        };
        close
            .run_until_cancelled(self.accept_for_ever(&listener))
            .await;
        self.finish(&listener);
    }

    async fn accept_for_ever(&mut self, listener: &Listener) {
        let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            match self.accept_batch(listener).await {
                Ok(may_be_more) => {
                    pause.reset();
                    if may_be_more {
                        yield_now().await;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {
                    debug!(%error, "A connection failed before it was accepted");
                }
                Err(error) => {
                    let pause = pause.step();
                    self.listening.metrics.paused();
                    let target = &self.listening.target;
                    warn!(service = %target.service, port = target.port, ?pause, %error, "Accepting pauses");
                    sleep(pause).await;
                }
            }
        }
    }

    /// Accepts what is there, at most [`BATCH`], so that a storm of new connections does not hold up established ones; whether
    /// there may be more.
    async fn accept_batch(&mut self, listener: &Listener) -> io::Result<bool> {
        listener.0.readable().await?;
        for _ in 0..BATCH {
            match listener.accept() {
                Ok((client, peer)) => self.admit(client, peer),
                // The next accept waits and lets others run; to yield besides would cost an `epoll_wait` that waits for nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes what clients have completed before the socket closes: the kernel resets what is left in the backlog.
    fn finish(mut self, listener: &Listener) {
        // Ends at the first error: WouldBlock when the backlog is empty, anything else because waiting is over.
        while let Ok((client, peer)) = accept(&listener.0) {
            self.admit(client, peer);
        }
    }

    /// Hands the connection to a task of its own, or resets it.
    fn admit(&mut self, client: std::net::TcpStream, peer: SocketAddr) {
        if self.listening.proofs.recognise(peer) {
            return;
        }
        let counted = self.listening.metrics.accept();
        let permit = match self.listening.admission.permit() {
            Ok(permit) => permit,
            Err(reason) => return reject(client, counted, reason),
        };
        match self.view() {
            Ok(view) => {
                let connection = Box::new(Connection {
                    client: Client::Accepted(client),
                    peer,
                    view,
                    counted,
                    permit,
                });
                self.listening
                    .connections
                    .spawn(connection.carry(self.listening.clone()));
            }
            Err(error) => {
                debug!(client = %peer, %error, "Connection not carried");
                reject(client, counted, Reason::NoEndpoint);
            }
        }
    }

    /// The newest view that has a candidate at all; a pick that finds none is counted by the picker.
    fn view(&mut self) -> Result<Arc<ServiceView>, PickError> {
        self.picker.candidates(HashKey(0))?;
        self.picker.view().cloned()
    }
}

/// A socket that listens, of which the runtime tells when clients wait.
///
/// The runtime's own listener has it watch every client from the start, and `AsyncFd` takes `unsafe`. Its streams wait for any
/// socket, so one stands here for this socket, which is never read.
struct Listener(TcpStream);

impl Listener {
    fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpStream::from_std(OwnedFd::from(listener).into()).map(Self)
    }

    /// Takes a connection out of the queue; `WouldBlock` when there is none, and then it can be waited for.
    fn accept(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        self.0.try_io(Interest::READABLE, || accept(&self.0))
    }
}

fn accept(listener: impl AsFd) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, peer) = acceptfrom_with(listener, flags)?;
    let peer = peer.ok_or(Errno::AFNOSUPPORT)?.try_into()?;
    Ok((client.into(), peer))
}

fn reject(client: std::net::TcpStream, counted: ConnectionMetrics, reason: Reason) {
    reset(client);
    counted.end(reason);
}

/// Connections accepted per wake-up.
const BATCH: usize = 16;

/// The first pause without descriptors: enough for other connections to end.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause: how long clients wait at most after descriptors are free again.
const PAUSE_MAX: Duration = Duration::from_millis(500);
