// SPDX-License-Identifier: MIT OR Apache-2.0
//! One accepted connection from its first byte to its end: PROXY header, dial, relay, and one reason that is counted and
//! logged.
//!
//! Its task holds a place below the caps and a count of its endpoint's load; both are given back at the end, also when the
//! task is dropped.

use super::{
    client::Client,
    dial::{Dialed, Dialer},
    header_in::{Taken, take},
    journal::{Carried, Entry, Journal},
    live::{Live, Table as LiveTable},
};
use crate::{
    config::RelayTimeouts,
    endpoints::{Life, Lives, Outlook, Reach},
    limits::{Admission, Permit, SourcePermit},
    plan::Target,
    prove::Proofs,
    proxy_header::{Network, Told, encode},
    reason::Reason,
    relay::{Ended, Pipes, Relay},
    sockets::reset,
    udp::SessionTable,
};
use bytes::Bytes;
use discovery_core::{
    model::{NodeName, Zone},
    pick::InFlight,
    store::{Endpoint, ServiceView},
    telemetry::{ConnectionMetrics, ListenerMetrics, ProxyPhase},
};
use std::{
    net::SocketAddr,
    num::NonZeroU32,
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
    pub(crate) outlook: Outlook,
    pub(crate) timeouts: RelayTimeouts,
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
    pub(crate) live: LiveTable,
    /// Of datagrams, where it listens for those.
    pub(crate) sessions: SessionTable,
    pub(crate) connections: TaskTracker,
    /// Ends the connections that are left.
    pub(crate) cut: CancellationToken,
}

impl Listening {
    /// Why a dial was in vain, and that it was.
    fn in_vain(&self, reason: Reason) -> Reason {
        let is_of_the_way = matches!(
            reason,
            Reason::ConnectRefused | Reason::ConnectUnreachable | Reason::ConnectTimeout
        );
        if !is_of_the_way {
            return reason;
        }
        self.outlook.failed();
        if self.outlook.is_isolated() {
            Reason::Isolated
        } else {
            reason
        }
    }
}

/// An accepted connection that was given a permit and a view with a usable endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) peer: SocketAddr,
    pub(crate) view: Arc<ServiceView>,
    pub(crate) counted: ConnectionMetrics,
    pub(crate) permit: Permit,
}

/// A connection that has an endpoint.
struct Met {
    client: TcpStream,
    dialed: Dialed,
    /// What the endpoint is sent before what the client sends from here on.
    lead: Bytes,
    idle_seconds: Option<NonZeroU32>,
    listed: Listed,
    counted: ConnectionMetrics,
    _permits: (Permit, SourcePermit),
}

/// Its entry in the table; dropping it takes it off.
struct Listed {
    live: Arc<Live>,
    listening: Arc<Listening>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.listening.live.leave(&self.live);
    }
}

impl Connection {
    /// Carries the connection to its end.
    ///
    /// Its future is what an idle connection costs, so it holds a box and what the relay takes, and nothing twice.
    pub(crate) async fn carry(self: Box<Self>, listening: Arc<Listening>) {
        // Boxed, so that an established connection keeps no room for it; it drops the view, which may be large.
        let Some(mut met) = Box::pin(self.meet(listening)).await else {
            return;
        };
        let Listed { live, listening } = &met.listed;
        let relay = Relay {
            client: &met.client,
            upstream: &met.dialed.stream,
            timeouts: &listening.timeouts,
            idle_seconds: met.idle_seconds,
            counted: &met.counted,
            pipes: &listening.pipes,
            live,
        };
        let ended = relay.run(&mut met.lead).await;
        met.over(&ended);
    }

    /// Learns whose connection it is, and connects to an endpoint; where that fails the client is reset.
    async fn meet(mut self: Box<Self>, listening: Arc<Listening>) -> Option<Box<Met>> {
        let began = Instant::now();
        let found = match self.endpoint(&listening).await {
            Ok(found) => found,
            Err((reason, phase)) => {
                self.over(reason, phase, &listening, began);
                return None;
            }
        };
        let Found {
            in_flight, life, ..
        } = found;
        let live = listening.live.enter(found.source, in_flight, life, began);
        Some(Box::new(Met {
            client: found.client,
            dialed: found.dialed,
            lead: found.lead,
            idle_seconds: found.idle_seconds,
            listed: Listed { live, listening },
            counted: self.counted,
            _permits: (self.permit, found.permit),
        }))
    }

    /// Resets the client and tells why.
    fn over(self, reason: Reason, phase: ProxyPhase, listening: &Listening, began: Instant) {
        let Self {
            client,
            peer,
            counted,
            permit,
            ..
        } = self;
        client.reset();
        let entry = Entry {
            target: &listening.target,
            client: peer,
            reason,
            phase,
            lasted: began.elapsed(),
            carried: None,
        };
        listening.journal.ended(&entry, &counted);
        counted.end(reason);
        drop(permit);
    }

    async fn endpoint(&mut self, listening: &Listening) -> Result<Found, (Reason, ProxyPhase)> {
        let Self {
            client,
            peer,
            view,
            counted,
            ..
        } = self;
        let taken = greet(client, *peer, listening).await?;
        let permit = listening
            .admission
            .source(taken.client.ip())
            .map_err(|reason| (reason, ProxyPhase::Accept))?;
        let reach = Reach {
            view,
            node: listening.node.as_ref(),
            port_name: &listening.target.port_name,
        };
        // Not `run_until_cancelled`: it would keep a second copy of the future.
        let dialed = tokio::select! {
            biased;
            () = listening.cut.cancelled() => Err(Reason::DrainDeadline),
            dialed = listening.dialer.dial(reach, taken.client, counted) => dialed,
        };
        let (dialed, in_flight, address) = dialed
            .inspect(|_| listening.outlook.reached())
            .map_err(|reason| (listening.in_vain(reason), ProxyPhase::Dial))?;
        let front = view.spec().map(|service| &service.front);
        let lead = match front.and_then(|front| front.proxy_protocol) {
            Some(version) => {
                let endpoint = in_flight.endpoint();
                let header = header_out(client, &taken, endpoint, version, listening);
                [&header, &taken.rest[..]].concat().into()
            }
            None => taken.rest,
        };
        // Refused when the kernel has no room for it.
        let client = client
            .take()
            .map_err(|_| (Reason::FdLimit, ProxyPhase::Dial))?;
        Ok(Found {
            client,
            life: listening.lives.enter(in_flight.endpoint(), address),
            dialed,
            in_flight,
            source: taken.client,
            lead,
            idle_seconds: front.and_then(|front| front.idle_seconds),
            permit,
        })
    }
}

/// What a connection needs besides itself to be carried.
struct Found {
    client: TcpStream,
    dialed: Dialed,
    in_flight: InFlight,
    source: SocketAddr,
    lead: Bytes,
    idle_seconds: Option<NonZeroU32>,
    life: Arc<Life>,
    permit: SourcePermit,
}

/// Takes the PROXY header where one is expected; else the peer is the client.
async fn greet(
    client: &mut Client,
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
    let client = client
        .watch()
        .map_err(|_| (Reason::FdLimit, ProxyPhase::Header))?;
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
    client: &Client,
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
    /// Closes both sockets and tells how it ended.
    fn over(self: Box<Self>, ended: &Ended) {
        let Dialed {
            stream,
            candidate,
            took_micros,
        } = self.dialed;
        if ended.is_reset {
            reset(self.client);
            reset(stream);
        }
        let Listed { live, listening } = &self.listed;
        let endpoint = live.endpoint();
        let entry = Entry {
            target: &listening.target,
            client: live.client(),
            reason: ended.reason,
            phase: ended.phase,
            lasted: live.age(),
            carried: Some(Carried {
                endpoint: endpoint.identity().as_str(),
                address: live.life().address(),
                is_local: !endpoint.is_foreign(),
                candidate,
                dialled: Duration::from_micros(took_micros.into()),
                up: ended.up,
                down: ended.down,
                spliced: ended.spliced,
            }),
        };
        listening.journal.ended(&entry, &self.counted);
        self.counted.end(ended.reason);
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
        assert!(size <= 648, "{size} bytes");
    }
}
