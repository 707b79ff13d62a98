// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connects to an endpoint for a key: the owner on the ring, or the next one in ring order while endpoints fail.
//!
//! In: a view, a key, limits. Out: a connection that counts as in flight to its endpoint, or why there is none. Nothing
//! of the client has been read by then, so no byte can reach two endpoints. It never connects to our own listeners.

use crate::{
    config::ConnectLimits,
    own::OwnSockets,
    reason::{Reason, connect_failure},
    sockets::{outgoing, reset},
};
use discovery_core::{
    hash::HashKey,
    pick::{InFlight, candidates},
    store::ServiceView,
    telemetry::{ConnectFailure, ConnectionMetrics},
};
use std::net::SocketAddr;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) in_flight: InFlight,
    /// Which candidate it is, from 1.
    pub(crate) attempt: u32,
}

/// How to dial for one listener.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) limits: ConnectLimits,
    pub(crate) own: OwnSockets,
}

impl Dialer {
    /// Connects to the first candidate for the key that accepts, on its port of the given name.
    ///
    /// A candidate without that port is passed over and does not count as an attempt.
    pub(crate) async fn dial(
        &self,
        view: &ServiceView,
        key: HashKey,
        port_name: &str,
        counted: &ConnectionMetrics,
    ) -> Result<Dialed, Reason> {
        let started = Instant::now();
        let end = started + self.limits.total;
        let mut failed = Reason::NoEndpoint;
        let candidates = candidates(view, key)
            .filter_map(|endpoint| Some((endpoint, endpoint.socket(Some(port_name))?)));
        for (attempt, (endpoint, address)) in (1..=self.limits.attempts_max).zip(candidates) {
            let in_flight = InFlight::new(endpoint);
            let deadline = end.min(Instant::now() + self.limits.attempt);
            match self.connect(address, deadline).await {
                Ok(stream) => {
                    counted.connected(started.elapsed());
                    return Ok(Dialed {
                        stream,
                        address,
                        in_flight,
                        attempt,
                    });
                }
                Err(failure) => {
                    counted.connect_failed(failure);
                    failed = failure.into();
                    if failure == ConnectFailure::FdLimit || Instant::now() >= end {
                        break;
                    }
                }
            }
        }
        Err(failed)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<TcpStream, ConnectFailure> {
        if self.own.contains(address) {
            return Err(ConnectFailure::OwnListener);
        }
        let socket = outgoing(address).map_err(|error| connect_failure(&error))?;
        let stream = timeout_at(deadline, socket.connect(address))
            .await
            .map_err(|_| ConnectFailure::Timeout)?
            .map_err(|error| connect_failure(&error))?;
        if is_connected_to_itself(&stream) {
            reset(stream);
            return Err(ConnectFailure::Refused);
        }
        Ok(stream)
    }
}

/// Whether a connect to a dead port of this host met itself, the kernel having chosen that port as the source
/// (simultaneous open, RFC 9293 3.5).
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}
