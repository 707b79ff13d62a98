// SPDX-License-Identifier: MIT OR Apache-2.0
//! The visited side: hears of visits, and sees whether they come out at the acceptor that they are for.
//!
//! In: announcements over HTTP, from nodes of our zone about themselves alone. Out: [`Visits`] of each port. Whoever could announce
//! for others could have their connections closed; whoever announces for himself closes his own.

use super::{COMES_WITHIN, PATH, PeerVisits, Visits, visits::MISSES_MIN};
use crate::prove::Proofs;
use discovery_core::{
    model::Protocol,
    runtime::http::{RouteRequest, RouteResponse, Routes, text},
    store::Reader,
    telemetry::{PeerVisit, ProxyMetrics},
};
use std::{
    collections::HashMap,
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// What a proxy's peers announce their visits to. Clones share it.
///
/// ```
/// use discovery_core::{model::NodeName, runtime::http::Routes, store::{StateConfig, channel}, telemetry::ProxyMetrics};
/// use lb_proxy::{Config, Proxy};
/// use std::{sync::Arc, time::Duration};
///
/// let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// let config = Config::default().self_proof(true).visit_peers(9_691, Duration::from_secs(10));
/// let proxy = Proxy::new(config, reader, Arc::new(ProxyMetrics::default()));
/// // Served on port 9691 of each host, together with what else is there.
/// let routes = proxy.witness().route(Routes::new());
/// # let _ = routes;
/// ```
#[derive(Clone, Debug)]
pub struct Witness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reader: Reader,
    metrics: Arc<ProxyMetrics>,
    /// Guards the table; held for one look-up.
    ports: Mutex<HashMap<(Protocol, u16), Port>>,
    under_way: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
struct Port {
    sockets: Vec<SocketAddr>,
    proofs: Proofs,
    visits: watch::Sender<Visits>,
}

/// A port that peers may visit; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watched {
    witness: Witness,
    port: (Protocol, u16),
    visits: watch::Receiver<Visits>,
}

/// A visit that is about to come: to an address of ours, from a port of the peer's.
#[derive(Clone, Copy, Debug)]
struct Announced {
    protocol: Protocol,
    peer: IpAddr,
    port: u16,
    at: SocketAddr,
}

impl Witness {
    pub(crate) fn new(reader: Reader, metrics: Arc<ProxyMetrics>) -> Self {
        Self(Arc::new(Inner {
            reader,
            metrics,
            ports: Mutex::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        }))
    }

    /// Adds the page at which peers announce themselves: `POST /proxy/visit?at=ADDRESS&from=PORT&protocol=PROTOCOL`. 202 says that the visit is
    /// awaited, 403 that the peer is no node of our zone, 409 that the port is not open there, 429 that too many are under way.
    #[must_use]
    pub fn route(&self, routes: Routes) -> Routes {
        let witness = self.clone();
        routes.route(http::Method::POST, PATH, move |request| {
            witness.answer(request)
        })
    }

    fn answer(&self, request: &RouteRequest) -> RouteResponse {
        use http::StatusCode as Status;
        let announced = || {
            Some(Announced {
                protocol: match request.query("protocol")? {
                    "tcp" => Protocol::Tcp,
                    "udp" => Protocol::Udp,
                    _ => return None,
                },
                peer: request.peer()?.ip().to_canonical(),
                port: request.query("from")?.parse().ok()?,
                at: request.query("at")?.parse().ok()?,
            })
        };
        let Some(announced) = announced() else {
            return text(
                Status::BAD_REQUEST,
                "say at=ADDRESS:PORT, from=PORT and protocol=tcp or udp\n",
            );
        };
        if !self.is_of_our_zone(announced.peer) {
            return text(Status::FORBIDDEN, "this is no node of our zone\n");
        }
        let asked = (announced.protocol, announced.at.port());
        let port = self.ports().get(&asked).cloned();
        let Some(port) = port.filter(|port| port.listens_at(announced.at)) else {
            return text(Status::CONFLICT, "the port is not open there\n");
        };
        let Ok(permit) = self.0.under_way.clone().try_acquire_owned() else {
            return text(Status::TOO_MANY_REQUESTS, "too many visits are under way\n");
        };
        let metrics = self.0.metrics.clone();
        let mut expected = port
            .proofs
            .expect(SocketAddr::new(announced.peer, announced.port));
        tokio::spawn(async move {
            let has_come = tokio::time::timeout(COMES_WITHIN, expected.seen()).await;
            let has_come = has_come.is_ok_and(|seen| seen.is_ok());
            drop((expected, permit));
            metrics.peer_visit(if has_come {
                PeerVisit::Seen
            } else {
                PeerVisit::Missed
            });
            port.judge(announced, has_come);
        });
        text(Status::ACCEPTED, "come\n")
    }

    fn is_of_our_zone(&self, peer: IpAddr) -> bool {
        let snapshot = self.0.reader.load();
        let mut addresses = snapshot.nodes().iter().flat_map(|node| &node.addresses);
        addresses.any(|address| address.to_canonical() == peer)
    }

    /// Lets peers visit the port of these sockets, until the answer is dropped.
    pub(crate) fn watch(
        &self,
        protocol: Protocol,
        sockets: Vec<SocketAddr>,
        proofs: Proofs,
        settings: PeerVisits,
    ) -> Watched {
        let (told, visits) = watch::channel(Visits::new(settings.fresh()));
        let port = (protocol, sockets.first().map_or(0, SocketAddr::port));
        let watched = Port {
            sockets,
            proofs,
            visits: told,
        };
        self.ports().insert(port, watched);
        Watched {
            witness: self.clone(),
            port,
            visits,
        }
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<(Protocol, u16), Port>> {
        self.0.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    fn listens_at(&self, at: SocketAddr) -> bool {
        let covers = |socket: &SocketAddr| {
            let ip = socket.ip();
            ip == at.ip() || ip.is_unspecified() && ip.is_ipv4() == at.is_ipv4()
        };
        self.sockets.iter().any(covers)
    }

    fn judge(&self, announced: Announced, has_come: bool) {
        let Announced {
            protocol, peer, at, ..
        } = announced;
        let mut misses = 0;
        self.visits.send_modify(|visits| {
            misses = visits.observe(peer, has_come, Instant::now());
        });
        // Said once, when it begins.
        if misses == MISSES_MIN {
            warn!(%peer, %at, %protocol, "What a peer sends does not come out at our listener");
        } else if misses == 1 {
            info!(%peer, %at, %protocol, "What a peer sent did not come out at our listener");
        }
    }
}

impl Watched {
    /// The peers that nothing of comes out here, as they say now.
    pub(crate) fn kept_out(&mut self) -> Vec<IpAddr> {
        self.visits.borrow_and_update().kept_out(Instant::now())
    }

    /// Waits for a visit, or until one counts no more.
    pub(crate) async fn news(&mut self) {
        let due = self.visits.borrow().due(Instant::now());
        let stale = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.visits.changed() => {}
            () = stale => {}
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut ports = self.witness.ports();
        // The next owner of the port may have come already.
        let is_ours = |port: &Port| port.visits.subscribe().same_channel(&self.visits);
        if ports.get(&self.port).is_some_and(is_ours) {
            ports.remove(&self.port);
        }
    }
}

/// Of all ports together; two peers visit each port every 10 s.
const UNDER_WAY_MAX: usize = 256;
