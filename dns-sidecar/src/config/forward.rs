// SPDX-License-Identifier: MIT OR Apache-2.0
//! How names of others are looked up.

use super::{Config, Strategy};
use std::{net::SocketAddr, time::Duration};

/// The settings of the lookup.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) timeout: Duration,
    pub(crate) strategy: Strategy,
    pub(crate) open_max: usize,
    pub(crate) cache_bytes: usize,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2), // Consul's recursor_timeout
            strategy: Strategy::default(),
            open_max: FORWARDED_OPEN_MAX,
            cache_bytes: 0, // what is asked of others is theirs to keep
        }
    }
}

impl Config {
    /// Keeps replies of other servers for as long as they allow, at most an hour, and a "no" a minute at most; in so many bytes
    /// of memory, default 0: none is kept. A thousand replies take about 500 kB.
    #[must_use]
    pub fn forward_cache_bytes(mut self, bytes: usize) -> Self {
        self.forward.cache_bytes = bytes;
        self
    }

    /// Whether other servers are asked for names of others.
    pub(crate) fn is_forwarding(&self) -> bool {
        !self.forward.servers.is_empty()
    }
}

/// About 2 MB of questions and sockets.
const FORWARDED_OPEN_MAX: usize = 1_000;
