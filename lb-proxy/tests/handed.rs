// SPDX-License-Identifier: MIT OR Apache-2.0
//! One proxy that takes over from another in the same process, again and again, under load.

mod site;

use discovery_core::{model::Protocol, runtime::Sockets, telemetry::ProxyMetrics};
use lb_proxy::{Config, HandOver, HandedSessions, Proxy, SessionGiver};
use site::{Endpoint, FRONT, Site, carried, exchange, free_port, greeted_from, source, within};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{net::UdpSocket, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const TIMES: usize = 20;

/// A proxy that runs, and what the next one needs of it.
struct Running {
    sockets: Sockets,
    hand_over: HandOver,
    task: JoinHandle<()>,
    /// Held, since dropping it closes the sessions that no listener has asked for.
    _giver: Option<SessionGiver>,
}

/// Starts a proxy that takes over from `before`, which drains from then on.
async fn successor(site: &Site, before: &Running) -> Running {
    let (sockets, (giver, sessions)) = (Sockets::default(), HandedSessions::awaited());
    for socket in before.sockets.open().unwrap() {
        sockets.hand(socket).unwrap();
    }
    let config = Config::default()
        .bind_addresses(vec![FRONT.into()])
        .sockets(sockets.clone())
        .sessions(sessions);
    let next = run(site, config, sockets).await;
    giver.give(within(before.hand_over.take()).await);
    assert!(
        next.sockets.close_rest().is_empty(),
        "every socket was taken"
    );
    Running {
        _giver: Some(giver),
        ..next
    }
}

async fn run(site: &Site, config: Config, sockets: Sockets) -> Running {
    let metrics = Arc::new(ProxyMetrics::default());
    let proxy = Proxy::new(config, site.reader.clone(), metrics);
    let (status, hand_over) = (proxy.status(), proxy.hand_over());
    let running = proxy.run(CancellationToken::new(), site.kill.clone());
    let task = tokio::spawn(running);
    within(status.opened()).await;
    Running {
        sockets,
        hand_over,
        task,
        _giver: None,
    }
}

/// A site whose own proxy serves nothing, and the first of ours on it.
async fn first(site: &mut Site, front: SocketAddr) -> Running {
    site.service("web", front.port());
    site.publish();
    let sockets = Sockets::default();
    let config = Config::default()
        .bind_addresses(vec![FRONT.into()])
        .sockets(sockets.clone());
    run(site, config, sockets).await
}

/// A site without a proxy of its own.
async fn site(protocol: Protocol) -> Site {
    let mut site = Site::start(Config::default());
    site.protocol = protocol;
    site.stop.cancel();
    within(&mut site.running).await.unwrap();
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_proxy_that_takes_over_20_times_under_load_fails_no_connection() {
    let endpoint = Endpoint::echo("pod-0").await;
    let mut site = site(Protocol::Tcp).await;
    site.endpoint("web", &endpoint);
    let front = free_port();
    let mut running = vec![first(&mut site, front).await];
    let mut old = carried(front).await;
    let (served, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let clients: Vec<_> = (1..=8)
        .map(|last| {
            let (served, stop) = (served.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    greeted_from(source(last), front).await?;
                    served.fetch_add(1, Relaxed);
                }
                std::io::Result::Ok(())
            })
        })
        .collect();
    for _ in 0..TIMES {
        let next = successor(&site, running.last().unwrap()).await;
        running.push(next);
    }
    stop.cancel();
    for client in clients {
        client.await.unwrap().unwrap();
    }
    println!("{} connections served meanwhile", served.load(Relaxed));
    exchange(&mut old, b"carried by the first of them")
        .await
        .unwrap();
    drop(old);
    let last = running.pop().unwrap();
    for before in running {
        within(before.task).await.unwrap();
    }
    assert_eq!(greeted_from(source(1), front).await.unwrap(), "pod-0");
    site.kill.cancel();
    within(last.task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_udp_sessions_keep_their_source_port_and_lose_no_datagram() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (read, from) = server.recv_from(&mut buffer).await.unwrap();
            let said = format!(
                "{} {}",
                from.port(),
                String::from_utf8_lossy(&buffer[..read])
            );
            server.send_to(said.as_bytes(), from).await.unwrap();
        }
    });
    let mut site = site(Protocol::Udp).await;
    site.listed("web", "pod-0", address, true);
    let front = free_port();
    let mut running = first(&mut site, front).await;
    let mut clients = Vec::new();
    for last in 1..=100 {
        let client = UdpSocket::bind((source(last), 0)).await.unwrap();
        client.connect(front).await.unwrap();
        let port = asked(&client, 0).await;
        clients.push((client, port));
    }
    let mut ended = Vec::new();
    for time in 1..=TIMES {
        // Half of them send while nobody reads.
        let (waiting, talking) = clients.split_at(50);
        let next = async {
            for (client, _) in waiting {
                client.send(format!("{time}").as_bytes()).await.unwrap();
            }
            successor(&site, &running).await
        };
        let next = next.await;
        for (client, port) in waiting {
            assert_eq!(answer(client, time).await, *port);
        }
        for (client, port) in talking {
            assert_eq!(asked(client, time).await, *port, "it is the same session");
        }
        ended.push(std::mem::replace(&mut running, next));
    }
    for before in ended {
        within(before.task).await.unwrap();
    }
    site.kill.cancel();
    within(running.task).await.unwrap();
    echo.abort();
}

/// Sends a number, and gives the port from which the endpoint saw it come.
async fn asked(client: &UdpSocket, number: usize) -> u16 {
    client.send(number.to_string().as_bytes()).await.unwrap();
    answer(client, number).await
}

async fn answer(client: &UdpSocket, number: usize) -> u16 {
    let mut buffer = [0; 64];
    let read = within(client.recv(&mut buffer)).await.unwrap();
    let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
    let (port, back) = said.split_once(' ').unwrap();
    assert_eq!(back, number.to_string());
    port.parse().unwrap()
}
