// SPDX-License-Identifier: MIT OR Apache-2.0
//! One accepted connection from its first byte to its end: PROXY header, dial, relay, and one reason that is counted and
//! logged.
//!
//! Its task holds a place below the caps and a count of its endpoint's load; both are given back at the end, also when the
//! task is dropped.

use crate::{
    admission::{Admission, Permit},
    dial::{Dialed, Dialer},
    header_in::{Taken, take},
    journal::{Carried, Entry, Journal},
    listeners::Target,
    lives::{Life, Lives},
    prove::Proofs,
    proxy_header::{Network, Told, encode},
    reach::Reach,
    reason::Reason,
    relay::{Ended, Pipes, Relay},
    sockets::reset,
};
use bytes::Bytes;
use discovery_core::{
    model::{NodeName, Zone},
    store::{Endpoint, ServiceView},
    telemetry::{ConnectionMetrics, ListenerMetrics, ProxyPhase},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) target: Target,
    pub(crate) node: Option<NodeName>,
    pub(crate) dialer: Dialer,
    pub(crate) timeouts: crate::config::RelayTimeouts,
    pub(crate) admission: Admission,
    /// Who must send a PROXY header, when anybody must.
    pub(crate) header_from: Option<Vec<Network>>,
    pub(crate) header_timeout: Duration,
    pub(crate) pipes: Pipes,
    pub(crate) lives: Lives,
    pub(crate) proofs: Proofs,
    pub(crate) journal: Journal,
    /// The number of the next connection that an endpoint is told of, after a random beginning.
    pub(crate) next_id: AtomicU64,
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
    pub(crate) permit: Permit,
}

/// A connection that has an endpoint.
struct Met {
    dialed: Dialed,
    source: SocketAddr,
    /// What the endpoint is sent before what the client sends from here on.
    lead: Bytes,
    timeouts: crate::config::RelayTimeouts,
    life: Arc<Life>,
    _source_permit: crate::admission::SourcePermit,
}

impl Connection {
    /// Carries the connection to its end.
    ///
    /// Its future is what an idle connection costs: so it takes itself apart here, and what it borrows is not moved again.
    pub(crate) fn carry(self, listening: Arc<Listening>) -> impl Future<Output = ()> + Send {
        let Self {
            client,
            peer,
            view,
            counted,
            permit,
        } = self;
        let started = Instant::now();
        async move {
            // Boxed, so that an established connection keeps no room for it; it drops the view, which may be large.
            let met = Box::pin(meet(&client, peer, view, &counted, &listening)).await;
            let reason = match met {
                Ok(mut met) => {
                    let ended = met.relay(&client, &counted, &listening).await;
                    met.over(client, &ended, &counted, &listening, started)
                }
                Err((reason, phase)) => {
                    reset(client);
                    let entry = Entry {
                        target: &listening.target,
                        client: peer,
                        reason,
                        phase,
                        lasted: started.elapsed(),
                        carried: None,
                    };
                    listening.journal.ended(&entry, &counted);
                    reason
                }
            };
            counted.end(reason);
            drop(permit);
        }
    }
}

/// Learns whose connection it is, and connects to an endpoint.
async fn meet(
    client: &TcpStream,
    peer: SocketAddr,
    view: Arc<ServiceView>,
    counted: &ConnectionMetrics,
    listening: &Listening,
) -> Result<Box<Met>, (Reason, ProxyPhase)> {
    let taken = greet(client, peer, listening).await?;
    let source_permit = listening
        .admission
        .source(taken.client.ip())
        .map_err(|reason| (reason, ProxyPhase::Accept))?;
    let reach = Reach {
        view: &view,
        node: listening.node.as_ref(),
        port_name: &listening.target.port_name,
    };
    // Not `run_until_cancelled`: it would keep a second copy of the future.
    let dialed = tokio::select! {
        biased;
        () = listening.cut.cancelled() => Err(Reason::DrainDeadline),
        dialed = listening.dialer.dial(reach, taken.client, counted) => dialed,
    };
    let dialed = dialed.map_err(|reason| (reason, ProxyPhase::Dial))?;
    let front = view.spec().map(|service| &service.front);
    let mut timeouts = listening.timeouts;
    if let Some(seconds) = front.and_then(|front| front.idle_seconds) {
        timeouts.idle = Duration::from_secs(seconds.get().into());
    }
    let lead = match front.and_then(|front| front.proxy_protocol) {
        Some(version) => {
            let header = header_out(
                client,
                &taken,
                dialed.in_flight.endpoint(),
                version,
                listening,
            );
            [&header, &taken.rest[..]].concat().into()
        }
        None => taken.rest,
    };
    let life = listening
        .lives
        .enter(dialed.in_flight.endpoint(), dialed.address);
    Ok(Box::new(Met {
        dialed,
        source: taken.client,
        lead,
        timeouts,
        life,
        _source_permit: source_permit,
    }))
}

/// Takes the PROXY header where one is expected; else the peer is the client.
async fn greet(
    client: &TcpStream,
    peer: SocketAddr,
    listening: &Listening,
) -> Result<Taken, (Reason, ProxyPhase)> {
    let Some(trusted) = &listening.header_from else {
        return Ok(Taken {
            client: peer,
            extensions: Vec::new(),
            rest: Bytes::new(),
        });
    };
    let taken = tokio::select! {
        biased;
        () = listening.cut.cancelled() => return Err((Reason::DrainDeadline, ProxyPhase::Header)),
        taken = take(client, peer, trusted, listening.header_timeout) => taken,
    };
    taken.map_err(|error| {
        tracing::debug!(%peer, %error, "No PROXY header");
        (Reason::ProxyHeader, ProxyPhase::Header)
    })
}

fn header_out(
    client: &TcpStream,
    taken: &Taken,
    endpoint: &Endpoint,
    version: discovery_core::model::ProxyProtocol,
    listening: &Listening,
) -> Vec<u8> {
    let destination = client.local_addr().unwrap_or(taken.client);
    let id = listening.next_id.fetch_add(1, Relaxed).to_be_bytes();
    let zone = endpoint.zone().filter(|_| !endpoint.is_foreign());
    let told = Told {
        unique_id: &id,
        zone: zone.map(Zone::as_str),
        extensions: &taken.extensions,
    };
    encode(version, taken.client, destination, told)
}

impl Met {
    /// Relays to the end.
    async fn relay(
        &mut self,
        client: &TcpStream,
        counted: &ConnectionMetrics,
        listening: &Listening,
    ) -> Ended {
        let relay = Relay {
            timeouts: &self.timeouts,
            counted,
            pipes: &listening.pipes,
        };
        let (upstream, life) = (&self.dialed.stream, &self.life);
        let why = || life.reason();
        relay
            .run(client, upstream, &mut self.lead, life.cut(), why)
            .await
    }

    /// Closes both sockets and tells how it ended.
    fn over(
        self: Box<Self>,
        client: TcpStream,
        ended: &Ended,
        counted: &ConnectionMetrics,
        listening: &Listening,
        started: Instant,
    ) -> Reason {
        let Dialed {
            stream,
            address,
            in_flight,
            candidate,
            took,
        } = self.dialed;
        if ended.is_reset {
            reset(client);
            reset(stream);
        }
        let endpoint = in_flight.endpoint();
        let entry = Entry {
            target: &listening.target,
            client: self.source,
            reason: ended.reason,
            phase: ended.phase,
            lasted: started.elapsed(),
            carried: Some(Carried {
                endpoint: endpoint.identity().as_str(),
                address,
                is_local: !endpoint.is_foreign(),
                candidate,
                dialled: took,
                up: ended.up,
                down: ended.down,
                spliced: ended.spliced,
            }),
        };
        listening.journal.ended(&entry, counted);
        ended.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_is_small() {
        let size = size(Connection::carry);
        println!("{size} bytes");
        assert!(size <= 900, "{size} bytes");
    }
}
