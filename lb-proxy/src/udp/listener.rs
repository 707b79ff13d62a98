// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop of one UDP socket: receives in batches, finds or begins sessions, ends those whose time or endpoint is over.
//!
//! In: datagrams, new snapshots, the time. Out: datagrams to endpoints. It starts a task for a session and never for a
//! datagram, waits for nothing between receiving and sending, and no error ends it.

use super::{
    Fleet,
    batch::{BATCH, BatchSocket, Run},
    handed::{SessionFacts, UdpSession},
    listed::SessionTable,
    session::{Beginning, Idle, Key, Past, Session},
    table::Table,
};
use crate::{
    endpoints::Reach,
    plan::Target,
    prove::{PROBE, Proofs},
    proxy_header::{Told, encode_datagram},
};
use discovery_core::{
    model::{Front, NodeName},
    pick::{InFlight, Picker},
    store::{Reader, ServiceView},
    telemetry::{DatagramDrop, SessionEnd, UdpListenerMetrics},
};
use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A UDP socket of a service and its sessions.
#[derive(Debug)]
pub(crate) struct UdpListener {
    target: Target,
    node: Option<NodeName>,
    fleet: Arc<Fleet>,
    picker: Picker,
    reader: Reader,
    metrics: UdpListenerMetrics,
    sessions: Table<Key, Session>,
    listed: SessionTable,
    proofs: Proofs,
}

impl UdpListener {
    pub(crate) fn new(
        target: Target,
        node: Option<NodeName>,
        fleet: Arc<Fleet>,
        picker: Picker,
        reader: Reader,
        listed: SessionTable,
        proofs: Proofs,
    ) -> Self {
        Self {
            metrics: fleet.metrics.udp_listener(&target.service, target.port),
            target,
            node,
            fleet,
            picker,
            reader,
            sessions: Table::new(),
            listed,
            proofs,
        }
    }

    /// Passes datagrams until told to close; then passes what has arrived, and ends every session. Where another proxy takes
    /// over, what has arrived and the sessions are left to that one.
    pub(crate) async fn run(mut self, socket: std::net::UdpSocket, close: CancellationToken) {
        let address = socket.local_addr();
        let socket = match BatchSocket::new(socket) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                let target = &self.target;
                return warn!(service = %target.service, port = target.port, %error, "Datagrams cannot be received");
            }
        };
        if let Ok(address) = address {
            let serve = async {
                self.take_over(address, &socket).await;
                self.serve(&socket).await;
            };
            close.run_until_cancelled(serve).await;
            if self.fleet.hand_over.has_begun() {
                return self.hand_over(address);
            }
        }
        // What is refused now was refused before.
        let _ = self.pass_arrived(&socket);
        let metrics = self.metrics.clone();
        self.sessions
            .end(|_| Some(SessionEnd::Closed), |_, how| metrics.ended(how));
    }

    /// Goes on with the sessions of the proxy before whose endpoints may be used; waits for them before anything is read.
    async fn take_over(&mut self, address: SocketAddr, socket: &Arc<BatchSocket>) {
        let handed = self.fleet.handed.clone();
        for UdpSession {
            facts,
            socket: upstream,
        } in handed.of(address).await
        {
            let key = Key {
                client: facts.client,
                asked: facts.asked,
            };
            let Some((in_flight, front)) = self.known(&facts) else {
                continue;
            };
            let Ok(permits) = self.permits(key.client.ip()) else {
                continue;
            };
            let beginning = Beginning {
                key,
                in_flight,
                address: facts.address,
                permits,
                replies_max: front.udp_replies,
                idle: self.idle(&front),
                header: self.header(key, &front),
            };
            let upstream = std::net::UdpSocket::from(upstream);
            let (ejections, metrics) = (&self.fleet.ejections, &self.metrics);
            let past = Past::of(&facts);
            if let Ok(session) =
                Session::resume(beginning, past, upstream, socket, ejections, metrics)
            {
                self.listed.enter(&session);
                self.sessions.insert(key, session);
            }
        }
    }

    /// The endpoint of a session of another proxy, when it is the same one and may be used.
    fn known(&mut self, facts: &SessionFacts) -> Option<(InFlight, Front)> {
        let view = self.picker.view().ok()?;
        let reach = Reach {
            view,
            node: self.node.as_ref(),
            port_name: &self.target.port_name,
        };
        let endpoint = view.usable().find(|&endpoint| {
            reach.address_of(endpoint) == Some(facts.address)
                && endpoint.state_key().to_string() == facts.owner
        })?;
        let front = view.spec().map(|service| service.front.clone());
        Some((InFlight::new(endpoint), front.unwrap_or_default()))
    }

    fn hand_over(mut self, listener: SocketAddr) {
        let (hand_over, metrics) = (&self.fleet.hand_over, &self.metrics);
        let told = |key: Key, session: Session| {
            hand_over.give(session.hand_over(listener, key));
            metrics.ended(SessionEnd::HandedOver);
        };
        self.sessions
            .drain()
            .for_each(|(key, session)| told(key, session));
    }

    async fn serve(&mut self, socket: &Arc<BatchSocket>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = changed(&mut self.reader) => self.end_unusable(),
                _ = tick.tick() => self.end_over(),
                ready = socket.readable() => {
                    if ready.and_then(|()| self.pass_arrived(socket)).is_err() {
                        sleep(FAILURE_PAUSE).await;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Passes on what has arrived, a few batches at most.
    fn pass_arrived(&mut self, socket: &Arc<BatchSocket>) -> io::Result<()> {
        for _ in 0..BATCHES_MAX {
            match socket.receive(|run| self.pass(run, socket)) {
                Ok(BATCH) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pass(&mut self, run: Run<'_>, socket: &Arc<BatchSocket>) {
        // One of a peer that is late is none of a client either.
        if self.proofs.recognise(run.from) || run.bytes == PROBE {
            return;
        }
        let key = Key {
            client: run.from,
            asked: run.asked,
        };
        if let Err(why) = self.find_or_begin(key, socket) {
            return run.datagrams().for_each(|_| self.metrics.drop_one(why));
        }
        if let Some(session) = self.sessions.get(&key) {
            run.datagrams().for_each(|datagram| session.send(datagram));
        }
    }

    /// Makes sure that there is a session of the key, whose endpoint does not refuse.
    fn find_or_begin(&mut self, key: Key, socket: &Arc<BatchSocket>) -> Result<(), DatagramDrop> {
        match self.sessions.get(&key).map(Session::is_refused) {
            Some(false) => return Ok(()),
            Some(true) => self.end(&key, SessionEnd::EndpointFailed),
            None => {}
        }
        if !can_be_answered(key.client) {
            return Err(DatagramDrop::Source);
        }
        let (in_flight, address, front) =
            self.choose(key.client).ok_or(DatagramDrop::NoEndpoint)?;
        let beginning = Beginning {
            key,
            in_flight,
            address,
            permits: self.permits(key.client.ip())?,
            replies_max: front.udp_replies,
            idle: self.idle(&front),
            header: self.header(key, &front),
        };
        let fleet = &self.fleet;
        let session = Session::begin(beginning, socket, &fleet.ejections, &self.metrics)
            .map_err(|_| DatagramDrop::NoSocket)?;
        self.listed.enter(&session);
        self.sessions.insert(key, session);
        Ok(())
    }

    /// The first endpoint in order that is not ejected, or the first of all when every one is.
    fn choose(&mut self, client: SocketAddr) -> Option<(InFlight, SocketAddr, Front)> {
        let view = self.picker.view().ok()?;
        let reach = Reach {
            view,
            node: self.node.as_ref(),
            port_name: &self.target.port_name,
        };
        let (own, ejections) = (&self.fleet.own, &self.fleet.ejections);
        let mut order = reach
            .order(client)
            .filter(|(_, address)| !own.contains(*address));
        let first = order.next()?;
        let (endpoint, address) = if ejections.may_try(first.1) {
            first
        } else {
            order
                .find(|(_, address)| ejections.may_try(*address))
                .unwrap_or(first)
        };
        let front = view.spec().map(|service| service.front.clone());
        Some((InFlight::new(endpoint), address, front.unwrap_or_default()))
    }

    /// A place for one more session; when all are taken, that of the oldest that was never answered.
    fn permits(
        &mut self,
        source: IpAddr,
    ) -> Result<
        (
            tokio::sync::OwnedSemaphorePermit,
            crate::limits::SourcePermit,
        ),
        DatagramDrop,
    > {
        let fleet = self.fleet.clone();
        let of_source = fleet
            .sources
            .enter(source)
            .map_err(|_| DatagramDrop::LimitSource)?;
        let global = || fleet.permits.clone().try_acquire_owned();
        let permit = if let Ok(permit) = global() {
            permit
        } else {
            drop(self.sessions.evict().ok_or(DatagramDrop::LimitGlobal)?);
            self.metrics.ended(SessionEnd::Evicted);
            global().map_err(|_| DatagramDrop::LimitGlobal)?
        };
        Ok((permit, of_source))
    }

    /// What goes before each datagram, where the service asks for it: whose it is, and what was asked.
    fn header(&self, key: Key, front: &Front) -> Vec<u8> {
        let Some(version) = front.proxy_protocol else {
            return Vec::new();
        };
        let asked = key.asked.unwrap_or(match key.client.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        let destination = SocketAddr::new(asked, self.target.port.get());
        encode_datagram(version, key.client, destination, Told::default()).unwrap_or_default()
    }

    fn idle(&self, front: &Front) -> Idle {
        let limits = &self.fleet.limits;
        let asked = front
            .idle_seconds
            .map(|seconds| Duration::from_secs(seconds.get().into()));
        Idle {
            unreplied: asked.map_or(limits.idle_unreplied, |asked| {
                asked.min(limits.idle_unreplied)
            }),
            replied: asked.unwrap_or(limits.idle_replied),
        }
    }

    fn end(&mut self, key: &Key, how: SessionEnd) {
        if self.sessions.remove(key).is_some() {
            self.metrics.ended(how);
        }
    }

    /// Ends the sessions whose endpoint may no longer be used: their clients' next datagrams find another, or nobody.
    fn end_unusable(&mut self) {
        let Ok(view) = self.picker.view() else {
            return;
        };
        let reach = Reach {
            view,
            node: self.node.as_ref(),
            port_name: &self.target.port_name,
        };
        let metrics = &self.metrics;
        self.sessions.end(
            |session| (!is_usable(view, reach, session)).then_some(SessionEnd::EndpointGone),
            |_, how| metrics.ended(how),
        );
    }

    fn end_over(&mut self) {
        let now = Instant::now();
        let metrics = &self.metrics;
        self.sessions
            .end(|session| session.is_over(now), |_, how| metrics.ended(how));
    }
}

/// Whether the session's endpoint is still the pod at that address, and may be used.
fn is_usable(view: &ServiceView, reach: Reach<'_>, session: &Session) -> bool {
    view.usable().any(|endpoint| {
        endpoint.state_key() == session.endpoint().state_key()
            && reach.address_of(endpoint) == Some(session.address())
    })
}

/// Whether a reply can reach the one who asked. Port 0 and addresses of many are forged.
fn can_be_answered(client: SocketAddr) -> bool {
    let address = client.ip().to_canonical();
    client.port() != 0
        && !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

async fn changed(reader: &mut Reader) {
    if reader.changed().await.is_none() {
        pending::<()>().await;
    }
}

/// How often sessions are looked at for their time.
const TICK: Duration = Duration::from_secs(1);

/// About 250 µs of work before other tasks get their turn.
const BATCHES_MAX: usize = 4;

/// A socket that fails at once would otherwise take a whole core.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
