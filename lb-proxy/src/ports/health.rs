// SPDX-License-Identifier: MIT OR Apache-2.0
//! The health check port of a service (`healthCheckNodePort`): how many ready endpoints this node has.
//!
//! In: snapshots, and the word that this host leaves. Out: answers to HTTP, whatever is asked: 200 with a ready endpoint on this
//! node, else 503. Form and codes are kube-proxy's (`pkg/proxy/healthcheck/service_health.go`), so that load balancers that
//! know it need no change. An endpoint that terminates counts for nothing, although it is still carried to (KEP-1669).

use crate::sockets::plain_listener;
use discovery_core::{
    model::{NodeName, Protocol, Reason, ServiceName},
    runtime::{Kept, Sockets},
    store::{Reader, Snapshot},
};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

/// The health ports that are open.
#[derive(Debug, Default)]
pub(crate) struct HealthPorts {
    open: BTreeMap<(NonZeroU16, ServiceName), DropGuard>,
}

/// One of them.
#[derive(Clone, Debug)]
struct HealthPort {
    service: ServiceName,
    node: NodeName,
    reader: Reader,
    leaving: CancellationToken,
    sockets: Sockets,
}

impl HealthPorts {
    /// Opens those that the snapshot asks for and closes the others.
    pub(crate) fn follow(
        &mut self,
        snapshot: &Snapshot,
        addresses: &[IpAddr],
        node: &NodeName,
        reader: &Reader,
        leaving: &CancellationToken,
        sockets: &Sockets,
    ) {
        let wanted: Vec<_> = snapshot
            .services()
            .filter_map(|view| view.spec())
            .filter(|service| service.owns_node_ports && !service.front.is_deleting)
            .filter_map(|service| Some((service.front.health_port?, service.name.clone())))
            .collect();
        self.open.retain(|port, _| wanted.contains(port));
        for (port, service) in wanted {
            let health = HealthPort {
                service: service.clone(),
                node: node.clone(),
                reader: reader.clone(),
                leaving: leaving.clone(),
                sockets: sockets.clone(),
            };
            self.open.entry((port, service)).or_insert_with(|| {
                let stop = CancellationToken::new();
                for ip in addresses {
                    let serving = health.clone().serve((*ip, port.get()).into(), stop.clone());
                    tokio::spawn(serving);
                }
                stop.drop_guard()
            });
        }
    }
}

impl HealthPort {
    async fn serve(self, address: SocketAddr, stop: CancellationToken) {
        let work = async {
            let (listener, _kept) = loop {
                match self.listen(address) {
                    Ok(listener) => break listener,
                    Err(error) => {
                        warn!(service = %self.service, %address, %error, "The health port cannot be opened");
                        sleep(RETRY).await;
                    }
                }
            };
            info!(service = %self.service, %address, "The health port is open");
            let (health, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let Ok(place) = places.clone().try_acquire_owned() else {
                            continue;
                        };
                        let health = health.clone();
                        tokio::spawn(async move {
                            let _ = timeout(EXCHANGE_MAX, health.answer(stream)).await;
                            drop(place);
                        });
                    }
                    Err(_) => sleep(RETRY).await,
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    fn listen(&self, address: SocketAddr) -> io::Result<(TcpListener, Kept)> {
        let listener = match self.sockets.take(Protocol::Tcp, address) {
            Some(handed) => std::net::TcpListener::from(handed),
            None => plain_listener(address)?,
        };
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let kept = self.sockets.keep(&listener)?;
        Ok((listener, kept))
    }

    /// Reads to the end of the head, answers and closes.
    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let (mut head, mut length) = ([0; HEAD_BYTES_MAX], 0);
        while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut head[length..]).await? {
                0 => return Ok(()),
                read => length += read,
            }
        }
        stream.write_all(self.response().as_bytes()).await?;
        stream.shutdown().await
    }

    fn response(&self) -> String {
        let snapshot = self.reader.load();
        let count = ready_here(&snapshot, &self.service, &self.node);
        let is_healthy = !self.leaving.is_cancelled();
        let (namespace, name) = (self.service.namespace(), self.service.name());
        let body = format!(
            "{{\"service\":{{\"namespace\":\"{namespace}\",\"name\":\"{name}\"}},\
             \"localEndpoints\":{count},\"serviceProxyHealthy\":{is_healthy}}}"
        );
        let status = if count > 0 && is_healthy {
            "200 OK"
        } else {
            "503 Service Unavailable"
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
             X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

/// The endpoints of the service on the node that are ready.
fn ready_here(snapshot: &Snapshot, service: &ServiceName, node: &NodeName) -> usize {
    let usable = snapshot
        .service(service)
        .into_iter()
        .flat_map(|view| view.usable());
    usable
        .filter(|endpoint| {
            endpoint.reason() != Reason::LastServing && endpoint.node() == Some(node)
        })
        .count()
}

/// A question of a load balancer has a few hundred bytes.
const HEAD_BYTES_MAX: usize = 4_096;
/// Load balancers ask one at a time.
const CONNECTIONS_MAX: usize = 64;
const EXCHANGE_MAX: Duration = Duration::from_secs(2);
/// Before a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
