// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listening sockets of a process: those that it was handed and nobody has asked for yet, and those that are open.
//!
//! In: sockets of whoever ran before: systemd, or the process that this one replaces. Out: the socket of an address, where there
//! is one, and all that are open, for whoever runs next. A socket is known by its transport and its address alone, so that
//! nobody has to agree on names. It opens and reads no socket, and waits for nothing.

use crate::model::Protocol;
use rustix::net::{
    SocketType, getsockname,
    sockopt::{socket_acceptconn, socket_type},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The listening sockets of a process. Clones share them.
///
/// The lock guards the two tables; held for one look-up or one copy of a descriptor, never across an await.
///
/// ```
/// use discovery_core::{model::Protocol, runtime::Sockets};
/// use std::net::TcpListener;
///
/// let before = Sockets::default();
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let kept = before.keep(&listener)?;
///
/// let after = Sockets::default();
/// for socket in before.open()? {
///     after.hand(socket)?;
/// }
/// assert!(after.take(Protocol::Tcp, address).is_some());
/// assert!(after.take(Protocol::Tcp, address).is_none(), "it was taken");
/// drop(kept);
/// assert!(before.open()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    handed: HashMap<(Protocol, SocketAddr), OwnedFd>,
    open: BTreeMap<u64, OwnedFd>,
    next: u64,
}

/// That a socket is open and may be handed on; dropping it ends that, and closes nothing else.
#[derive(Debug)]
#[must_use = "dropping it takes the socket off the list"]
pub struct Kept {
    sockets: Sockets,
    number: u64,
}

impl Sockets {
    /// Takes in a socket that this process was handed; a second one of the same transport and address is closed.
    ///
    /// # Errors
    /// For what is no TCP socket that listens and no UDP socket with an address.
    pub fn hand(&self, socket: OwnedFd) -> io::Result<()> {
        let protocol = match socket_type(&socket)? {
            SocketType::STREAM if socket_acceptconn(&socket)? => Protocol::Tcp,
            SocketType::DGRAM => Protocol::Udp,
            _ => {
                return Err(io::Error::other(
                    "a socket was handed on that does not listen",
                ));
            }
        };
        let address = SocketAddr::try_from(getsockname(&socket)?)?;
        self.tables().handed.insert((protocol, address), socket);
        Ok(())
    }

    /// The handed socket of the address; only once.
    pub fn take(&self, protocol: Protocol, address: SocketAddr) -> Option<OwnedFd> {
        self.tables().handed.remove(&(protocol, address))
    }

    /// Lists a socket that is open, under a descriptor of its own, until the answer is dropped.
    ///
    /// # Errors
    /// Without descriptors.
    pub fn keep(&self, socket: impl AsFd) -> io::Result<Kept> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let mut tables = self.tables();
        let number = tables.next;
        tables.next += 1;
        tables.open.insert(number, socket);
        drop(tables);
        Ok(Kept {
            sockets: self.clone(),
            number,
        })
    }

    /// All that are open, under descriptors of their own.
    ///
    /// # Errors
    /// Without descriptors.
    pub fn open(&self) -> io::Result<Vec<OwnedFd>> {
        let tables = self.tables();
        tables.open.values().map(OwnedFd::try_clone).collect()
    }

    /// Closes what was handed and nobody asked for, so that no client waits there for nobody; which addresses those were.
    pub fn close_rest(&self) -> Vec<SocketAddr> {
        let rest = std::mem::take(&mut self.tables().handed);
        rest.into_keys().map(|(_, address)| address).collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.sockets.tables().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_socket_is_known_by_its_transport_and_address() {
        let sockets = Sockets::default();
        // An address that no other test connects from: its ports of TCP are free as well.
        let udp = UdpSocket::bind("127.77.1.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        sockets.hand(udp.into()).unwrap();
        assert!(sockets.take(Protocol::Tcp, address).is_none());
        sockets.hand(tcp.into()).unwrap();
        assert!(sockets.take(Protocol::Tcp, address).is_some());
        assert_eq!(sockets.close_rest(), [address]);
        assert!(sockets.take(Protocol::Udp, address).is_none());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Sockets::default().hand(client.into()).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Sockets::default().hand(file.into()).is_err());
    }

    #[test]
    fn a_port_closes_with_its_last_holder() {
        let sockets = Sockets::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = sockets.keep(&listener).unwrap();
        drop(listener);
        assert!(TcpStream::connect(address).is_ok(), "it is kept");
        drop(kept);
        assert!(TcpStream::connect(address).is_err());
    }
}
