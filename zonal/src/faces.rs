// SPDX-License-Identifier: MIT OR Apache-2.0
//! Binds and runs what serves: DNS, proxy, page, probes. A busy port is an error, or moved on from, as the caller asks.

use crate::{
    connections, drain,
    failure::{Code, Failure},
};
use discovery_core::runtime::{
    Runtime, Sockets, admin_routes,
    http::{HttpServer, Routes},
    probe_routes,
};
use dns_sidecar::{BindError, DnsServer};
use lb_proxy::{HandOver, Proxy, StatusHandle, UdpSession, Witness};
use serde_json::json;
use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What to do when a port is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnBusy {
    /// Say so and end.
    Fail,
    /// Take the next one that is free, and say so.
    MoveOn,
}

/// The faces of one process and what stops them.
#[derive(Debug)]
pub(crate) struct Faces {
    runtime: Runtime,
    sockets: Sockets,
    tasks: TaskTracker,
    proxies: TaskTracker,
    /// Ends DNS, page and probes.
    stop: CancellationToken,
    /// Begins the proxy's drain.
    proxy_stop: CancellationToken,
    /// Ends the proxy's last connections.
    proxy_kill: CancellationToken,
    /// The proxy's status, the way to replace it, and what its peers announce themselves to.
    fronts: Mutex<Vec<(StatusHandle, HandOver, Witness)>>,
    /// That this host leaves.
    draining: CancellationToken,
}

impl Faces {
    /// Nothing yet; the sockets are taken from those that this process was handed.
    pub(crate) fn new(runtime: Runtime, sockets: Sockets) -> Self {
        Self {
            runtime,
            sockets,
            tasks: TaskTracker::new(),
            proxies: TaskTracker::new(),
            stop: CancellationToken::new(),
            proxy_stop: CancellationToken::new(),
            proxy_kill: CancellationToken::new(),
            fronts: Mutex::default(),
            draining: CancellationToken::new(),
        }
    }

    /// The sockets that are open.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Binds and runs the DNS responder; gives the addresses really bound.
    pub(crate) fn dns(
        &self,
        config: dns_sidecar::Config,
        on_busy: OnBusy,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let metrics = self.runtime.metrics().dns().clone();
        let mut config = config.sockets(self.sockets.clone());
        let mut tries = 0;
        let server = loop {
            match DnsServer::bind(config.clone(), self.runtime.reader(), metrics.clone()) {
                Ok(server) => break server,
                Err(error)
                    if error.is_in_use() && on_busy == OnBusy::MoveOn && tries < MOVES_MAX =>
                {
                    tries += 1;
                    let next = config
                        .listen_addresses()
                        .iter()
                        .map(|address| next_port(*address))
                        .collect();
                    config = config
                        .listen(next)
                        .map_err(|error| Failure::caused(Code::ConfigInvalid, &error))?;
                }
                Err(error) => return Err(dns_failure(&error)),
            }
        };
        let addresses = server.local_addrs().to_vec();
        let listening: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let texts = |addresses: Vec<SocketAddr>| -> Vec<_> {
            addresses.iter().map(ToString::to_string).collect()
        };
        let (http, dot, doh) = (server.http_addrs(), server.dot_addrs(), server.doh_addrs());
        let others = json!({ "http": texts(http), "dot": texts(dot), "doh": texts(doh) });
        let status = server.status();
        self.runtime.add_face("dns", move || {
            let upstreams = status.upstreams().into_iter().map(|upstream| {
                json!({
                    "address": upstream.address.to_string(),
                    "state": upstream.state.as_str(),
                    "help": upstream.help,
                })
            });
            json!({ "listening": listening, "others": others, "upstreams": upstreams.collect::<Vec<_>>() })
        });
        let server = server
            .sources(self.runtime.sources().to_vec())
            .need(self.runtime.need("dns-index"));
        self.tasks.spawn(server.run(self.stop.clone()));
        Ok(addresses)
    }

    /// Runs the proxy.
    pub(crate) fn proxy(&self, config: lb_proxy::Config) -> StatusHandle {
        let proxy = Proxy::new(
            config.sockets(self.sockets.clone()),
            self.runtime.reader(),
            self.runtime.metrics().proxy().clone(),
        );
        let status = proxy.status();
        let shown = status.clone();
        self.fronts()
            .push((status.clone(), proxy.hand_over(), proxy.witness()));
        self.runtime.add_face("proxy", move || {
            let listeners = shown.listeners();
            listeners
                .iter()
                .map(|listener| {
                    json!({
                        "service": listener.service.to_string(),
                        "protocol": listener.protocol.to_string(),
                        "wanted": listener.wanted,
                        "port": listener.port,
                        "sockets": listener.sockets,
                        "state": listener.state.to_string(),
                        "proof": listener.proof.to_string(),
                        "may_be_taken": listener.is_ephemeral,
                        "active": listener.active,
                    })
                })
                .collect()
        });
        self.proxies
            .spawn(proxy.run(self.proxy_stop.clone(), self.proxy_kill.clone()));
        status
    }

    /// Binds and serves page and API, with further routes beside them.
    pub(crate) fn admin(
        &self,
        address: SocketAddr,
        on_busy: OnBusy,
        more: impl FnOnce(Routes) -> Routes,
    ) -> Result<SocketAddr, Failure> {
        let proxies: Vec<_> = self
            .fronts()
            .iter()
            .map(|(status, _, _)| status.clone())
            .collect();
        let routes = connections::route(admin_routes(&self.runtime), proxies.clone());
        let routes = more(drain::route(routes, self.draining.clone(), proxies));
        self.http(address, on_busy, routes, "--admin-listen")
    }

    /// Binds and serves metrics and probes.
    pub(crate) fn probes(
        &self,
        address: SocketAddr,
        on_busy: OnBusy,
    ) -> Result<SocketAddr, Failure> {
        let mut routes = probe_routes(&self.runtime);
        for (_, _, witness) in self.fronts().iter() {
            routes = witness.route(routes);
        }
        self.http(address, on_busy, routes, "--metrics-listen")
    }

    fn http(
        &self,
        address: SocketAddr,
        on_busy: OnBusy,
        routes: Routes,
        flag: &str,
    ) -> Result<SocketAddr, Failure> {
        let server = bind_http(address, on_busy, &self.sockets)
            .map_err(|error| bind_failure(address, &error, flag))?;
        let bound = server.address();
        self.tasks.spawn(server.serve(routes, self.stop.clone()));
        Ok(bound)
    }

    /// Drains the proxy, then stops the rest; returns when all has ended.
    pub(crate) async fn drain(&self) {
        self.runtime.drain();
        self.draining.cancel();
        self.proxy_stop.cancel();
        self.proxies.close();
        self.proxies.wait().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.runtime.stop().await;
    }

    /// Waits until the proxy's ports are open.
    pub(crate) fn opened(&self) -> impl Future<Output = ()> + use<> {
        let fronts = self.fronts().clone();
        async move {
            for (status, _, _) in fronts {
                status.opened().await;
            }
        }
    }

    /// Has every socket closed, which whoever takes over has by now, and gives the proxy's UDP sessions. The proxy's connections
    /// go on; [`Faces::drain`] waits for them.
    pub(crate) async fn hand_over(&self) -> Vec<UdpSession> {
        let fronts = self.fronts().clone();
        let mut sessions = Vec::new();
        for (_, hand_over, _) in fronts {
            sessions.extend(hand_over.take().await);
        }
        self.stop.cancel();
        sessions
    }

    fn fronts(&self) -> MutexGuard<'_, Vec<(StatusHandle, HandOver, Witness)>> {
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the proxy's last connections now.
    pub(crate) fn kill(&self) {
        self.proxy_kill.cancel();
    }
}

/// Ends all at once, what was carried too.
impl Drop for Faces {
    fn drop(&mut self) {
        self.stop.cancel();
        self.proxy_kill.cancel();
    }
}

/// Binds the address, or one of the next hundred ports when it may move on.
fn bind_http(address: SocketAddr, on_busy: OnBusy, sockets: &Sockets) -> io::Result<HttpServer> {
    let mut address = address;
    for _ in 0..MOVES_MAX {
        match HttpServer::bind_among(address, sockets) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && on_busy == OnBusy::MoveOn => {
                address = next_port(address);
            }
            bound => return bound,
        }
    }
    HttpServer::bind_among(address, sockets)
}

fn next_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1_024))
}

fn dns_failure(error: &BindError) -> Failure {
    let code = if error.is_in_use() {
        Code::PortBusy
    } else {
        Code::AddressDenied
    };
    let help = match error.setting() {
        "tls.certificate" => {
            "dns.tls.certificate and dns.tls.key must be a chain and its key in PEM".to_owned()
        }
        "listen" => "choose another address with --dns-listen ADDR, or see `ss -lntup`".to_owned(),
        key => {
            format!("choose another address in dns.{key} of the configuration, or see `ss -lntup`")
        }
    };
    Failure::caused(code, error).help(help)
}

fn bind_failure(address: SocketAddr, error: &io::Error, flag: &str) -> Failure {
    let code = if error.kind() == io::ErrorKind::AddrInUse {
        Code::PortBusy
    } else {
        Code::AddressDenied
    };
    Failure::new(code, format!("cannot listen on {address}: {error}")).help(format!(
        "choose another address with {flag} ADDR, or see `ss -lntup`"
    ))
}

/// Ports tried after the first.
const MOVES_MAX: usize = 100;
