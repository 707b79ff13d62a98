// SPDX-License-Identifier: MIT OR Apache-2.0
//! One accepted connection from the dial to its end: dial, relay, and one reason that is counted and logged.
//!
//! Its task holds a permit of the global cap and a count of its endpoint's load; both are given back at the end, also
//! when the task is dropped.

use crate::{
    dial::{Dialed, Dialer},
    listeners::Target,
    reason::Reason,
    relay::{Ended, Relay},
    sockets::reset,
};
use discovery_core::{
    hash::HashKey,
    store::ServiceView,
    telemetry::{ConnectionMetrics, ListenerMetrics},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) target: Target,
    pub(crate) dialer: Dialer,
    pub(crate) timeouts: crate::config::RelayTimeouts,
    /// The cap of the whole process.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) connections: TaskTracker,
    /// Ends the connections that are left.
    pub(crate) cut: CancellationToken,
}

/// An accepted connection that was given a permit and a view with a usable endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) view: Arc<ServiceView>,
    pub(crate) counted: ConnectionMetrics,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Carries the connection to its end.
    pub(crate) async fn carry(self, listening: Arc<Listening>) {
        let Self {
            client,
            peer,
            view,
            counted,
            permit,
        } = self;
        let started = Instant::now();
        let key = HashKey::of_source(peer.ip());
        let target = &listening.target;
        // Not `run_until_cancelled`: it would keep a second copy of the future in every connection's task.
        let dialed = tokio::select! {
            biased;
            () = listening.cut.cancelled() => Err(Reason::DrainDeadline),
            dialed = listening.dialer.dial(&view, key, &target.port_name, &counted) => dialed,
        };
        // An established connection must not keep a whole old view in memory.
        drop(view);
        match dialed {
            Ok(Dialed {
                stream,
                address,
                in_flight,
                attempt,
            }) => {
                let relay = Relay {
                    timeouts: listening.timeouts,
                    counted: &counted,
                };
                let Ended { reason, up, down } = relay.run(client, stream, &listening.cut).await;
                debug!(
                    service = %target.service, port = target.port, client = %peer, %reason,
                    endpoint = %in_flight.endpoint().identity(), %address, attempt, up, down,
                    duration = ?started.elapsed(), "Connection ended",
                );
                counted.end(reason);
            }
            Err(reason) => {
                reset(client);
                debug!(
                    service = %target.service, port = target.port, client = %peer, %reason,
                    duration = ?started.elapsed(), "Connection not carried",
                );
                counted.end(reason);
            }
        }
        drop(permit);
    }
}
