// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where Consul's HTTP interface is offered, and to how many.

use super::Config;
use std::{net::SocketAddr, num::NonZeroUsize};

/// The settings of the interface.
#[derive(Clone, Debug)]
pub(crate) struct HttpFace {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) connections_per_source_max: NonZeroUsize,
    pub(crate) waiting_max: NonZeroUsize,
    pub(crate) node_name: Option<String>,
}

impl Default for HttpFace {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            connections_per_source_max: CONNECTIONS_PER_SOURCE_MAX,
            waiting_max: WAITING_MAX,
            node_name: None,
        }
    }
}

impl Config {
    /// The name of our node, which the interface of Consul tells of itself; none by default.
    #[must_use]
    pub fn node_name(mut self, name: &str) -> Self {
        self.http.node_name = Some(name.to_owned());
        self
    }

    /// Where to offer a read-only part of Consul's HTTP interface; none by default. Consul's own port is 8500.
    ///
    /// It tells what DNS tells, and of instances that do not serve that they do not. Hosts outside of
    /// [`Config::allow`] are not answered here either. There is no TLS and no token: loopback is where it belongs.
    #[must_use]
    pub fn http_listen(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.http.listen = addresses;
        self
    }

    /// How many connections it has at once; default 512. More wait in the system's queue. A connection costs a descriptor
    /// and 16 KiB.
    #[must_use]
    pub fn http_connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.http.connections_max = connections;
        self
    }

    /// How many of them one source has at most: an IPv4 address, or a /64 of IPv6; default 128. More are closed and counted.
    /// This host has no such limit.
    #[must_use]
    pub fn http_connections_per_source_max(mut self, connections: NonZeroUsize) -> Self {
        self.http.connections_per_source_max = connections;
        self
    }

    /// How many requests wait for a change at once; default 448, which leaves connections for those that do not. More get
    /// the status 429.
    #[must_use]
    pub fn http_waiting_max(mut self, requests: NonZeroUsize) -> Self {
        self.http.waiting_max = requests;
        self
    }
}

/// Clients hold one for each service that they watch.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(512).unwrap();
const CONNECTIONS_PER_SOURCE_MAX: NonZeroUsize = NonZeroUsize::new(128).unwrap();
const WAITING_MAX: NonZeroUsize = NonZeroUsize::new(448).unwrap();
