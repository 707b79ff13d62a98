// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets on which this process listens, so that it never connects to itself in a loop.
//!
//! In: what listeners opened and closed. Out: whether an address is one of them. A wildcard listener is every address of
//! this host; whether an address is of this host, the kernel's routing says.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, PoisonError, RwLock},
};

/// The open sockets by port. Clones share them.
///
/// The lock guards the map alone and is held for one look-up, never across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnSockets(Arc<RwLock<HashMap<u16, Vec<IpAddr>>>>);

impl OwnSockets {
    pub(crate) fn add(&self, sockets: &[SocketAddr]) {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets {
            open.entry(socket.port()).or_default().push(socket.ip());
        }
    }

    pub(crate) fn remove(&self, sockets: &[SocketAddr]) {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets {
            if let Some(addresses) = open.get_mut(&socket.port()) {
                addresses.retain(|ip| *ip != socket.ip());
            }
        }
        open.retain(|_, addresses| !addresses.is_empty());
    }

    /// Whether a connect to the address would come out at one of our listeners.
    ///
    /// One hash look-up; three system calls more where a wildcard listener has the same port.
    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(addresses) = open.get(&address.port()) else {
            return false;
        };
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == address.is_ipv4();
        addresses.contains(&address.ip())
            || addresses
                .iter()
                .filter(same_family)
                .any(IpAddr::is_unspecified)
                && is_of_this_host(address.ip())
    }
}

/// Whether the kernel delivers the address locally: it then gives that very address as the source towards it.
///
/// Connecting a datagram socket sends nothing.
fn is_of_this_host(ip: IpAddr) -> bool {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, DISCARD))?;
        socket.local_addr()
    };
    ip.is_loopback() || source().is_ok_and(|source| source.ip() == ip)
}

/// The discard port (RFC 863): any but 0 would do.
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn own(sockets: &[&str]) -> OwnSockets {
        let own = OwnSockets::default();
        own.add(
            &sockets
                .iter()
                .map(|socket| socket.parse().unwrap())
                .collect::<Vec<_>>(),
        );
        own
    }

    #[test]
    fn a_wildcard_is_every_address_of_this_host_and_no_other() {
        let own = own(&["0.0.0.0:30080", "192.0.2.1:80"]);
        let contains = |address: &str| own.contains(address.parse().unwrap());
        assert!(contains("127.0.0.1:30080") && contains("127.9.9.9:30080"));
        assert!(!contains("127.0.0.1:30081"));
        assert!(
            !contains("198.51.100.1:30080"),
            "an address of documentation is not ours"
        );
        assert!(!contains("[::1]:30080"), "the IPv4 wildcard takes no IPv6");
        assert!(contains("192.0.2.1:80") && !contains("127.0.0.1:80"));
    }

    #[test]
    fn a_socket_that_closed_is_no_longer_ours() {
        let own = own(&["127.0.0.1:80", "127.0.0.2:80"]);
        own.remove(&["127.0.0.1:80".parse().unwrap()]);
        assert!(!own.contains("127.0.0.1:80".parse().unwrap()));
        assert!(own.contains("127.0.0.2:80".parse().unwrap()));
        own.remove(&["127.0.0.2:80".parse().unwrap()]);
        assert!(own.0.read().unwrap().is_empty());
    }
}
