// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that runs, and what tests do with its sockets.

use crate::mall::Mall;
use discovery_core::telemetry::DnsMetrics;
use dns_sidecar::{Config, DnsServer, DnsStatus};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use testbed::Netns;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UdpSocket},
    runtime::Handle,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A server on a socket of loopback, with the mall that it follows.
pub(crate) struct Running {
    pub(crate) mall: Mall,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) status: DnsStatus,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(listen: &str, change: impl FnOnce(Config) -> Config) -> Self {
        Self::start_by(listen, change, |bind| bind())
    }

    /// The same with its sockets in a namespace.
    pub(crate) fn start_in(
        netns: &Netns,
        listen: &str,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let runtime = Handle::current();
        Self::start_by(listen, change, |bind| {
            let bind = || {
                let _runtime = runtime.enter();
                bind()
            };
            netns.inside(bind).unwrap()
        })
    }

    fn start_by(
        listen: &str,
        change: impl FnOnce(Config) -> Config,
        open: impl FnOnce(Box<dyn FnOnce() -> DnsServer + Send>) -> DnsServer,
    ) -> Self {
        let mall = Mall::crowded();
        let metrics = Arc::new(DnsMetrics::default());
        let config = change(
            Config::default()
                .listen(vec![listen.parse().unwrap()])
                .unwrap(),
        );
        let (reader, counters) = (mall.reader.clone(), metrics.clone());
        let server = open(Box::new(move || {
            DnsServer::bind(config, reader, counters).unwrap()
        }));
        let (address, status) = (server.local_addrs()[0], server.status());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self {
            mall,
            address,
            metrics,
            status,
            shutdown,
            task,
        }
    }

    pub(crate) async fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("it stops")
            .unwrap();
    }
}

pub(crate) async fn exchange(socket: &UdpSocket, request: &[u8]) -> Vec<u8> {
    socket.send(request).await.unwrap();
    receive(socket).await
}

pub(crate) async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut reply))
        .await
        .expect("a reply")
        .unwrap();
    reply.truncate(length);
    reply
}

pub(crate) fn framed(request: &[u8]) -> Vec<u8> {
    let length = u16::try_from(request.len()).unwrap();
    [&length.to_be_bytes()[..], request].concat()
}

pub(crate) async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let length = timeout(PATIENCE, stream.read_u16())
        .await
        .expect("a reply")
        .unwrap();
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}

/// Reads until the server closes; what it sent.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("it closes")
        .unwrap();
    rest
}

pub(crate) fn numbered(id: u16, request: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &request[2..]].concat()
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, met)
        .await
        .expect("the condition is met in time");
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
