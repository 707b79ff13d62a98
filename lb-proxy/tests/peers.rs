// SPDX-License-Identifier: MIT OR Apache-2.0
//! Visits of peers, announced over HTTP: who may, where, and what is seen. The three hosts of the examples show the whole of it.

mod site;

use discovery_core::{
    model::{Node, NodeName, Protocol, Zone},
    runtime::http::{HttpServer, Routes},
    store::Object,
    telemetry::PeerVisit,
};
use lb_proxy::{Config, ListenerState};
use site::{Endpoint, FRONT, Site, free_port, greeted_from};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
};
use tokio_util::sync::CancellationToken;

/// The address of a peer, from which it announces itself and comes.
const PEER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 9);

/// A proxy with a port open, and the page for its peers.
struct Visited {
    site: Site,
    front: SocketAddr,
    page: SocketAddr,
    _stop: tokio_util::sync::DropGuard,
}

impl Visited {
    async fn start(protocol: Protocol) -> Self {
        let config = Config::default()
            .node(NodeName::parse("edge-a").unwrap())
            .self_proof(true)
            .visit_peers(9_691, Duration::from_secs(10));
        let (mut site, endpoint) = (Site::start(config), Endpoint::echo("pod-a").await);
        site.protocol = protocol;
        let front = free_port();
        let zone = Some(Zone::parse("mall-1").unwrap());
        let mut peer = Node::new(NodeName::parse("edge-b").unwrap(), zone);
        peer.addresses = vec![PEER.into()];
        site.upsert(Object::Node(peer));
        site.service("web", front.port());
        site.endpoint("web", &endpoint);
        site.publish();
        let serves = |listeners: &[lb_proxy::ListenerStatus]| {
            listeners
                .iter()
                .any(|one| one.state == ListenerState::Serving)
        };
        site.status.wait_for(serves).await.unwrap();
        let server = HttpServer::bind((FRONT, 0).into()).unwrap();
        let (page, stop) = (server.address(), CancellationToken::new());
        tokio::spawn(server.serve(site.witness.route(Routes::new()), stop.clone()));
        Self {
            site,
            front,
            page,
            _stop: stop.drop_guard(),
        }
    }

    /// The code of the answer to an announcement.
    async fn announce(&self, source: Ipv4Addr, query: &str) -> u16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let mut stream = socket.connect(self.page).await.unwrap();
        let request = format!(
            "POST /proxy/visit?{query} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    async fn ends(&self, visit: PeerVisit, count: u64) {
        let metrics = &self.site.metrics;
        let ended = async || (metrics.peer_visits(visit) == count).then_some(());
        let what = format!("{count} visits are {visit:?}");
        testbed::wait_for(&what, Duration::from_secs(10), ended)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_visit_that_was_announced_is_seen_and_carried_nowhere() {
    let visited = Visited::start(Protocol::Tcp).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((PEER, 0).into()).unwrap();
    let from = socket.local_addr().unwrap().port();
    let query = format!("at={}&from={from}&protocol=tcp", visited.front);
    assert_eq!(visited.announce(PEER, &query).await, 202);
    let mut stream = socket.connect(visited.front).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
    visited.ends(PeerVisit::Seen, 1).await;
    let counters = visited.site.counters(visited.front);
    assert_eq!(counters.accepted(), 0, "it is no client");
    // The next one from there is a client again.
    drop(stream);
    assert_eq!(
        greeted_from(PEER.into(), visited.front).await.unwrap(),
        "pod-a"
    );
    visited.ends(PeerVisit::Missed, 0).await;
}

#[tokio::test]
async fn a_datagram_that_was_announced_is_seen_and_carried_nowhere() {
    let visited = Visited::start(Protocol::Udp).await;
    let socket = UdpSocket::bind((PEER, 0)).await.unwrap();
    let from = socket.local_addr().unwrap().port();
    let query = format!("at={}&from={from}&protocol=udp", visited.front);
    assert_eq!(visited.announce(PEER, &query).await, 202);
    socket
        .send_to(b"zonal port proof", visited.front)
        .await
        .unwrap();
    visited.ends(PeerVisit::Seen, 1).await;
    assert!(visited.site.status.sessions().is_empty(), "it is no client");
}

#[tokio::test]
async fn a_visit_that_does_not_come_is_missed_and_one_peer_alone_changes_nothing() {
    let visited = Visited::start(Protocol::Tcp).await;
    for from in [4_001, 4_002, 4_003] {
        let query = format!("at={}&from={from}&protocol=tcp", visited.front);
        assert_eq!(visited.announce(PEER, &query).await, 202);
    }
    visited.ends(PeerVisit::Missed, 3).await;
    let listeners = visited.site.status.listeners();
    assert_eq!(listeners[0].state, ListenerState::Serving);
}

#[tokio::test]
async fn who_may_not_or_asks_for_what_is_not_there_is_told_so() {
    let visited = Visited::start(Protocol::Tcp).await;
    let stranger = Ipv4Addr::new(127, 77, 0, 66);
    let (front, port) = (visited.front, visited.front.port());
    let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 77, 0, 2).into(), port);
    let other = SocketAddr::new(front.ip(), port - 1);
    for (source, query, code) in [
        (stranger, format!("at={front}&from=4001&protocol=tcp"), 403),
        (PEER, format!("at={elsewhere}&from=4001&protocol=tcp"), 409),
        (PEER, format!("at={other}&from=4001&protocol=tcp"), 409),
        (PEER, format!("at={front}"), 400),
        (PEER, format!("at={front}&from=70000&protocol=tcp"), 400),
        (PEER, "at=front&from=4001&protocol=tcp".to_owned(), 400),
        (PEER, format!("at={front}&from=4001&protocol=udp"), 409),
        (PEER, format!("at={front}&from=4001&protocol=sctp"), 400),
        (PEER, String::new(), 400),
    ] {
        assert_eq!(visited.announce(source, &query).await, code, "{query}");
    }
    let mut coming = Vec::new();
    for from in 1..=257_u16 {
        let query = format!("at={front}&from={from}&protocol=tcp");
        coming.push(visited.announce(PEER, &query).await);
    }
    assert_eq!(coming.iter().filter(|code| **code == 202).count(), 256);
    assert_eq!(coming.last(), Some(&429), "what is under way has a limit");
}
