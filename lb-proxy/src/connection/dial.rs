// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connects to an endpoint for a client: the first in order, or the next one while endpoints fail.
//!
//! In: what can be reached, a client, limits. Out: a connection that counts as in flight to its endpoint, or why there is
//! none. Nothing of the client has been read by then, so no byte can reach two endpoints. It never connects to our own
//! listeners, and passes over endpoints that are ejected while another is not.

use crate::{
    config::ConnectLimits,
    endpoints::{Reach, SharedEjections, Silences},
    reason::{Reason, connect_failure},
    sockets::{OwnSockets, connect, reset},
};
use discovery_core::{
    pick::InFlight,
    telemetry::{ConnectFailure, ConnectionMetrics, EjectionCause},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: TcpStream,
    /// Which candidate it is, from 1.
    pub(crate) candidate: u32,
    /// How long dialling took; at most some seconds.
    pub(crate) took_micros: u32,
}

/// How to dial for one listener.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) limits: ConnectLimits,
    pub(crate) own: OwnSockets,
    pub(crate) ejections: SharedEjections,
    pub(crate) silences: Arc<Silences>,
}

impl Dialer {
    /// Connects to the first candidate that accepts, and says which and where it is.
    ///
    /// A candidate without that port, or ejected, is passed over and does not count as an attempt. When all are ejected
    /// they are tried all the same: it may be us who was cut off.
    pub(crate) async fn dial(
        &self,
        reach: Reach<'_>,
        client: SocketAddr,
        counted: &ConnectionMetrics,
    ) -> Result<(Dialed, InFlight, SocketAddr), Reason> {
        let started = Instant::now();
        let end = started + self.limits.total;
        let mut failed = Reason::NoEndpoint;
        let mut attempts = 0;
        let heeds = reach
            .order(client)
            .any(|(_, address)| !self.is_ejected(address));
        for (endpoint, address) in reach.order(client) {
            if heeds && !self.may_try(address) {
                continue;
            }
            attempts += 1;
            let in_flight = InFlight::new(endpoint);
            let deadline = end.min(Instant::now() + self.limits.attempt);
            match self.connect(address, deadline).await {
                Ok(stream) => {
                    self.ejections.succeeded(address);
                    counted.connected(started.elapsed());
                    let dialed = Dialed {
                        stream,
                        candidate: attempts,
                        took_micros: u32::try_from(started.elapsed().as_micros())
                            .unwrap_or(u32::MAX),
                    };
                    return Ok((dialed, in_flight, address));
                }
                Err(failure) => {
                    counted.connect_failed(failure);
                    self.failed(address, failure, counted);
                    failed = failure.into();
                    if failure == ConnectFailure::FdLimit
                        || attempts == self.limits.attempts_max
                        || Instant::now() >= end
                    {
                        break;
                    }
                }
            }
        }
        Err(failed)
    }

    fn is_ejected(&self, address: SocketAddr) -> bool {
        self.ejections.is_ejected(address) || self.silences.is_ejected(address)
    }

    fn may_try(&self, address: SocketAddr) -> bool {
        // Both are asked first: where one says no, the other's trial is not used up.
        !self.is_ejected(address)
            && self.ejections.may_try(address)
            && self.silences.may_try(address)
    }

    fn failed(&self, address: SocketAddr, failure: ConnectFailure, counted: &ConnectionMetrics) {
        let was_ejected = self.ejections.is_ejected(address);
        if self.ejections.failed(address, failure) && !was_ejected {
            counted.ejected(EjectionCause::Connects);
            tracing::info!(%address, %failure, "Endpoint ejected: connects to it failed in a row");
        }
    }

    /// Connects to an address that is none of our own.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<TcpStream, ConnectFailure> {
        if self.own.contains(address) {
            return Err(ConnectFailure::OwnListener);
        }
        let stream = timeout_at(deadline, connect(address))
            .await
            .map_err(|_| ConnectFailure::Timeout)?
            .map_err(|error| connect_failure(&error))?;
        if is_connected_to_itself(&stream, address) {
            reset(stream);
            return Err(ConnectFailure::Refused);
        }
        Ok(stream)
    }
}

/// Whether a connect to a dead port of this host met itself, the kernel having chosen that port as the source
/// (simultaneous open, RFC 9293 3.5).
fn is_connected_to_itself(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|local| local == address)
}
