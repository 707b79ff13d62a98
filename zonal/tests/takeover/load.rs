// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients that are there all the time: connections and UDP sessions.

use crate::host::exchange;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, UdpSocket},
    task::JoinSet,
};

/// Clients that connect, say a word, hear it and close, all the time.
pub(crate) struct Load {
    began: Instant,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    failed: Arc<Mutex<BTreeMap<String, u32>>>,
    clients: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(front: SocketAddr) -> Self {
        let mut load = Self {
            began: Instant::now(),
            stop: Arc::default(),
            served: Arc::default(),
            failed: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..16 {
            let (stop, served, failed) =
                (load.stop.clone(), load.served.clone(), load.failed.clone());
            load.clients.spawn(async move {
                let mut last = 0_u8;
                while !stop.load(Relaxed) {
                    last = last % 250 + 1;
                    // Many sources, since each may have so many connections a second.
                    let source = Ipv4Addr::new(127, 0, number + 1, last);
                    match connect_once(source.into(), front).await {
                        Ok(()) => drop(served.fetch_add(1, Relaxed)),
                        Err(error) => {
                            *failed.lock().unwrap().entry(error.to_string()).or_default() += 1;
                        }
                    }
                }
            });
        }
        load
    }

    pub(crate) async fn stop(mut self) -> (u64, BTreeMap<String, u32>) {
        self.stop.store(true, Relaxed);
        while self.clients.join_next().await.is_some() {}
        let (served, took) = (self.served.load(Relaxed), self.began.elapsed());
        println!("{served} connections in {took:.2?}");
        (served, self.failed.lock().unwrap().clone())
    }
}

async fn connect_once(source: IpAddr, front: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    exchange(&mut socket.connect(front).await?).await
}

/// Clients with a session each, and the port from which the endpoint saw them come at first.
pub(crate) struct UdpClients(pub(crate) Vec<(UdpSocket, String)>);

impl UdpClients {
    pub(crate) async fn start(front: SocketAddr) -> Self {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            client.connect(front).await.unwrap();
            let port = port_seen(&client).await;
            clients.push((client, port));
        }
        Self(clients)
    }

    pub(crate) async fn each_is_answered_from_its_port(&self) {
        for (client, port) in &self.0 {
            assert_eq!(port_seen(client).await, *port, "the session goes on");
        }
    }
}

async fn port_seen(client: &UdpSocket) -> String {
    client.send(b"which?").await.unwrap();
    let mut answer = [0; 16];
    let answered = tokio::time::timeout(Duration::from_secs(10), client.recv(&mut answer));
    let read = answered.await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Answers with the port from which it was asked.
pub(crate) async fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket
                .send_to(from.port().to_string().as_bytes(), from)
                .await;
        }
    });
    address
}
