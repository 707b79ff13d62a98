// SPDX-License-Identifier: MIT OR Apache-2.0
//! How sockets are made, set and reset: listeners, connections to endpoints, and the abortive close.
//!
//! In: addresses. Out: sockets of the runtime. It never waits and never retries.

use discovery_core::{model::Protocol as Transport, runtime::Sockets};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream, time::timeout};

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody else listens there.
    #[error("{address} is in use")]
    Busy { address: SocketAddr },
    /// The system refuses for another reason.
    #[error("cannot listen on {address}")]
    Refused {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// There is no address to listen on.
    #[error("no address to listen on")]
    NoAddress,
}

/// The sockets of a port; they belong to no runtime yet.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(Vec<std::net::TcpListener>),
    Udp(Vec<std::net::UdpSocket>),
}

impl Bound {
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Tcp(listeners) => listeners
                .iter()
                .filter_map(|l| l.local_addr().ok())
                .collect(),
            Self::Udp(sockets) => sockets.iter().filter_map(|s| s.local_addr().ok()).collect(),
        }
    }
}

/// How ports are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opener<'o> {
    pub(crate) addresses: &'o [IpAddr],
    /// See [`find_out_if_gone`].
    pub(crate) peer_timeout: Duration,
    /// Where sockets may be that this process was handed.
    pub(crate) handed: &'o Sockets,
}

impl Opener<'_> {
    /// Opens the port on all addresses, or on none of them.
    ///
    /// The IPv6 wildcard is left out on a host without IPv6, as long as another address is there.
    pub(crate) fn bind(&self, transport: Transport, port: u16) -> Result<Bound, BindError> {
        if transport == Transport::Udp {
            open(self.addresses, port, |at| self.datagrams(at)).map(Bound::Udp)
        } else {
            open(self.addresses, port, |at| self.listener(at)).map(Bound::Tcp)
        }
    }

    /// A socket that listens. Without `SO_REUSEPORT`, which would let a second process of the same user join unnoticed.
    fn listener(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = if let Some(handed) = self.handed.take(Transport::Tcp, address) {
            Socket::from(handed)
        } else {
            let socket = socket(address, Type::STREAM, Protocol::TCP)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket
        };
        socket.set_nonblocking(true)?;
        // Linux hands these on to every accepted socket, which saves five calls per connection.
        socket.set_tcp_nodelay(true)?;
        find_out_if_gone(&socket, self.peer_timeout)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// A socket for datagrams. Without `SO_REUSEADDR`, by which two UDP sockets could have one port.
    fn datagrams(&self, address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let socket = if let Some(handed) = self.handed.take(Transport::Udp, address) {
            Socket::from(handed)
        } else {
            let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
            socket.bind(&address.into())?;
            socket
        };
        socket.set_nonblocking(true)?;
        // The kernel gives what `net.core.rmem_max` allows.
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        Ok(socket.into())
    }
}

fn open<S>(
    addresses: &[IpAddr],
    port: u16,
    make: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<Vec<S>, BindError> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match make(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::Busy { address });
            }
            Err(error) if *ip == Ipv6Addr::UNSPECIFIED && addresses.len() > 1 => {
                tracing::debug!(%address, %error, "IPv6 is not there and left out");
            }
            Err(source) => return Err(BindError::Refused { address, source }),
        }
    }
    if sockets.is_empty() {
        Err(BindError::NoAddress)
    } else {
        Ok(sockets)
    }
}

/// A socket that listens beside the data path.
pub(crate) fn plain_listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connected socket for the datagrams of one session.
pub(crate) fn session(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connects. What is set is what the first byte needs; see [`keep_alive`] for what a connection needs that lasts.
///
/// Whether it went well, readiness tells: a socket that failed to connect is closed both ways (`EPOLLHUP`), so that the error of
/// any other needs no system call, as `TcpSocket::connect` makes.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    if stream.ready(Interest::WRITABLE).await?.is_write_closed()
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(stream)
}

/// Has the kernel end the connection of a peer that is gone without a word: it may leave bytes or keepalive probes
/// unacknowledged for `peer_timeout`.
fn find_out_if_gone(socket: &impl AsFd, peer_timeout: Duration) -> io::Result<()> {
    keep_alive(socket, peer_timeout)?;
    give_up_after(socket, Some(peer_timeout))
}

/// Has the kernel probe an idle peer, each connection at times of its own: those that were opened together, as after the
/// failure of another host, would be probed together for ever, and of thousands of probes at once a full queue drops some, until
/// their peers count as lost.
pub(crate) fn keep_alive(socket: &impl AsFd, peer_timeout: Duration) -> io::Result<()> {
    let after = about(KEEPALIVE_AFTER.min(peer_timeout / 2));
    let interval = about(KEEPALIVE_INTERVAL.min(peer_timeout / 4));
    // Linux goes by the timeout where there is one, and by the number of probes where there is none.
    let probes = peer_timeout.saturating_sub(after).as_secs() / interval.as_secs();
    let probes = u32::try_from(probes).unwrap_or(PROBES_MAX);
    let keepalive = TcpKeepalive::new()
        .with_time(after)
        .with_interval(interval)
        .with_retries(probes.clamp(PROBES_MIN, PROBES_MAX));
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Has the kernel give up a peer that leaves bytes or probes unacknowledged for this long, or that keeps its window at zero
/// (RFC 5482); none leaves both to the number of tries, some 15 minutes.
pub(crate) fn give_up_after(socket: &impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(timeout)
}

/// From three quarters to five quarters of a time, in whole seconds, at least one.
fn about(time: Duration) -> Duration {
    let seconds = time.as_secs();
    let least = seconds - seconds / 4;
    Duration::from_secs(fastrand::u64(least..=seconds + seconds / 4).max(1))
}

/// Closes with a reset, so that nobody takes the end for an answer. Bytes that the kernel has not sent are lost.
pub(crate) fn reset(stream: impl AsFd) {
    // It can fail only on a socket that is gone already; closing is then all that is left.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Waits until the kernel has sent what was written, at most [`DELIVERY_MAX`], so that a reset does not overtake it.
pub(crate) async fn sent(stream: &TcpStream) {
    // With this mark the kernel calls a socket writable only when nothing unsent is left.
    if SockRef::from(stream).set_tcp_notsent_lowat(1).is_err() {
        return;
    }
    let sent = stream.async_io(Interest::WRITABLE, || {
        if is_writable(stream)? {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    });
    // An error means that the peer is gone, and the time limit that it does not read: either way the reset is due.
    let _ = timeout(DELIVERY_MAX, sent).await;
}

fn is_writable(stream: &TcpStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Half a second of a full gigabit in small datagrams.
const RECEIVE_BYTES: usize = 4 << 20;

/// First keepalive probe after 60 s of silence, then every 10 s: NAT gateways forget idle connections after minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES_MIN: u32 = 3;
/// The most that Linux takes.
const PROBES_MAX: u32 = 127;

/// How long bytes that the kernel still has to send may hold up a reset.
const DELIVERY_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER_TIMEOUT: Duration = Duration::from_secs(300);

    fn bind(transport: Transport, addresses: &[IpAddr], port: u16) -> Result<Bound, BindError> {
        let opener = Opener {
            addresses,
            peer_timeout: PEER_TIMEOUT,
            handed: &Sockets::default(),
        };
        opener.bind(transport, port)
    }

    fn listen(addresses: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, BindError> {
        bind(Transport::Tcp, addresses, port).map(|bound| bound.addresses())
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_busy() {
        let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = other.local_addr().unwrap();
        let busy = listen(&[address.ip()], address.port()).unwrap_err();
        assert!(matches!(busy, BindError::Busy { address: at } if at == address));
        drop(other);
        for transport in [Transport::Tcp, Transport::Udp] {
            let ours = bind(transport, &[address.ip()], address.port()).unwrap();
            assert_eq!(ours.addresses(), [address]);
            let again = bind(transport, &[address.ip()], address.port());
            assert!(matches!(again, Err(BindError::Busy { .. })), "{transport}");
        }
    }

    #[tokio::test]
    async fn accepted_sockets_inherit_what_the_listener_is_set_to() {
        let Ok(Bound::Tcp(listeners)) = bind(Transport::Tcp, &[Ipv4Addr::LOCALHOST.into()], 0)
        else {
            panic!("no listener")
        };
        let _client = TcpStream::connect(listeners[0].local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listeners[0].accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let after = socket.tcp_keepalive_time().unwrap();
        assert!((KEEPALIVE_AFTER * 3 / 4..=KEEPALIVE_AFTER * 5 / 4).contains(&after));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(PEER_TIMEOUT));
    }

    #[test]
    fn without_an_address_nothing_is_opened() {
        assert!(matches!(listen(&[], 80), Err(BindError::NoAddress)));
    }
}
