// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much the sockets take: sizes, tasks, connections, and how long one may be silent.

use super::{Config, ConfigError};
use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

/// The limits of the sockets.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    max_udp_payload: Option<u16>,
    udp_workers: NonZeroUsize,
    tcp_connections_max: NonZeroUsize,
    tcp_connections_per_source_max: NonZeroUsize,
    tcp_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            max_udp_payload: None,
            udp_workers: cores.min(UDP_WORKERS),
            tcp_connections_max: TCP_CONNECTIONS_MAX,
            tcp_connections_per_source_max: TCP_CONNECTIONS_PER_SOURCE_MAX,
            tcp_idle_timeout: TCP_IDLE_TIMEOUT,
        }
    }
}

impl Config {
    /// The largest datagram sent, whatever a client takes; default 1232 bytes, which no path fragments, and 4096 where only
    /// this host can ask.
    ///
    /// Datagrams are sent with "don't fragment", so that one larger than the path allows is lost, and counted where the
    /// system notices. More than 1232 suits loopback and networks of known MTU.
    pub fn max_udp_payload(mut self, bytes: u16) -> Result<Self, ConfigError> {
        if !(512..=UDP_PAYLOAD_BYTES_MAX).contains(&bytes) {
            return Err(ConfigError::UdpPayload { bytes });
        }
        self.limits.max_udp_payload = Some(bytes);
        Ok(self)
    }

    /// How many tasks serve each UDP socket; default one per core, at most two.
    #[must_use]
    pub fn udp_workers(mut self, workers: NonZeroUsize) -> Self {
        self.limits.udp_workers = workers;
        self
    }

    /// How many TCP connections are open at once, over all listeners; default 256. More wait in the system's queue, and
    /// whoever has been silent for longest, and for a second at least, makes room.
    ///
    /// An idle connection holds a descriptor and 4 KiB; a busy one up to 200 KiB.
    #[must_use]
    pub fn tcp_connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.limits.tcp_connections_max = connections;
        self
    }

    /// How many of them one source has at most: an IPv4 address, or a /64 of IPv6; default 32. More are closed and counted.
    /// This host has no such limit.
    #[must_use]
    pub fn tcp_connections_per_source_max(mut self, connections: NonZeroUsize) -> Self {
        self.limits.tcp_connections_per_source_max = connections;
        self
    }

    /// How long a TCP connection may wait for the client's next message; default 10 s (RFC 7766 6.2.3: seconds), and half of
    /// it once half of the connections are taken.
    ///
    /// A message that has begun must be complete, and a reply taken, within that time and 5 s at most.
    #[must_use]
    pub fn tcp_idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.tcp_idle_timeout = timeout;
        self
    }

    /// The largest datagram that is sent from a socket at this address.
    pub(crate) fn udp_payload(&self, listener: IpAddr) -> u16 {
        let default = if listener.is_loopback() {
            UDP_PAYLOAD_BYTES_MAX
        } else {
            UDP_PAYLOAD_BYTES
        };
        self.limits.max_udp_payload.unwrap_or(default)
    }

    pub(crate) fn workers(&self) -> usize {
        self.limits.udp_workers.get()
    }

    pub(crate) fn connections_max(&self) -> usize {
        self.limits.tcp_connections_max.get()
    }

    pub(crate) fn connections_per_source_max(&self) -> usize {
        self.limits.tcp_connections_per_source_max.get()
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.limits.tcp_idle_timeout
    }
}

/// The smallest IPv6 MTU of 1280 less its headers.
const UDP_PAYLOAD_BYTES: u16 = 1232;
/// What resolvers ask for at most in practice.
pub(super) const UDP_PAYLOAD_BYTES_MAX: u16 = 4096;
/// One answers about 100,000 questions a second; the second is for a core that is busy with something else.
const UDP_WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// Well below the 1,024 descriptors that a process may open by default.
const TCP_CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// A resolver that forwards for a site opens a few at a time.
const TCP_CONNECTIONS_PER_SOURCE_MAX: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Long enough to reuse a connection, short enough that lost clients hold few.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Config::default().max_udp_payload(511).is_err());
        assert!(Config::default().max_udp_payload(4097).is_err());
    }
}
