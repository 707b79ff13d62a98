// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accept loop of one listening socket.
//!
//! In: a socket, a picker, what connections share. Out: a task per connection that may be carried; a reset for the others.
//! No error ends it and none makes it spin: without descriptors it pauses, 50 ms at first and 1 s at most, and clients
//! wait in the backlog meanwhile.

use crate::{
    backoff::Backoff,
    connection::{Connection, Listening},
    reason::{Reason, is_of_one_connection},
    sockets::reset,
};
use discovery_core::{
    hash::HashKey,
    pick::{PickError, Picker},
    store::ServiceView,
};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpListener, net::TcpStream, task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A listening socket and what it hands connections to.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) picker: Picker,
    pub(crate) listening: Arc<Listening>,
}

impl Acceptor {
    /// Accepts until told to close; then takes what the backlog holds and closes the socket.
    pub(crate) async fn run(mut self, close: CancellationToken) {
        close.run_until_cancelled(self.accept_for_ever()).await;
        self.finish();
    }

    async fn accept_for_ever(&mut self) {
        let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            match self.accept_batch().await {
                Ok(()) => {
                    pause.reset();
                    yield_now().await;
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

    /// Accepts what is there, at most [`BATCH`], so that a storm of new connections does not hold up established ones.
    async fn accept_batch(&mut self) -> io::Result<()> {
        let (client, peer) = self.listener.accept().await?;
        self.admit(client, peer);
        for _ in 1..BATCH {
            let next = poll_fn(|cx| Poll::Ready(self.poll_accept(cx))).await;
            match next {
                Poll::Ready(accepted) => {
                    let (client, peer) = accepted?;
                    self.admit(client, peer);
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.listener.poll_accept(cx)
    }

    /// Takes what clients have completed before the socket closes: the kernel resets what is left in the backlog.
    fn finish(self) {
        let Self {
            listener,
            mut picker,
            listening,
        } = self;
        let Ok(listener) = listener.into_std() else {
            return;
        };
        // Ends at the first error: WouldBlock when the backlog is empty, anything else because waiting is over.
        while let Ok((client, peer)) = listener.accept() {
            let client = client
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(client));
            if let Ok(client) = client {
                admit(&mut picker, &listening, client, peer);
            }
        }
    }

    fn admit(&mut self, client: TcpStream, peer: SocketAddr) {
        admit(&mut self.picker, &self.listening, client, peer);
    }
}

/// Hands the connection to a task of its own, or resets it.
fn admit(picker: &mut Picker, listening: &Arc<Listening>, client: TcpStream, peer: SocketAddr) {
    let counted = listening.metrics.accept();
    let Ok(permit) = listening.permits.clone().try_acquire_owned() else {
        reset(client);
        return counted.end(Reason::LimitGlobal);
    };
    match view(picker, HashKey::of_source(peer.ip())) {
        Ok(view) => {
            let connection = Connection {
                client,
                peer,
                view,
                counted,
                permit,
            };
            listening
                .connections
                .spawn(connection.carry(listening.clone()));
        }
        Err(error) => {
            debug!(client = %peer, %error, "Connection not carried");
            reset(client);
            counted.end(Reason::NoEndpoint);
        }
    }
}

/// The newest view that has a candidate for the key; a pick that finds none is counted by the picker.
fn view(picker: &mut Picker, key: HashKey) -> Result<Arc<ServiceView>, PickError> {
    picker.candidates(key)?;
    picker.view().cloned()
}

/// Connections accepted per wake-up.
const BATCH: usize = 16;

/// The first pause without descriptors: enough for other connections to end.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause: how long clients wait at most after descriptors are free again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
