// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receives datagrams of a socket in batches into buffers that a thread has once.
//!
//! In: a socket. Out: whole datagrams with their sender and the address that was asked. The kernel may have joined several
//! of one sender and equal length into one buffer.

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use std::{
    array,
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};
use tokio::{io::Interest, net::UdpSocket};

/// A socket with what the system can do for it.
#[derive(Debug)]
pub(super) struct BatchSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams of one sender and, but for the last, of one length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'b> {
    pub(super) from: SocketAddr,
    /// The address that was asked, where the system tells.
    pub(super) asked: Option<IpAddr>,
    pub(super) bytes: &'b [u8],
    /// The length of each datagram.
    pub(super) stride: usize,
}

impl<'b> Run<'b> {
    /// The datagrams one by one.
    pub(super) fn datagrams(self) -> impl Iterator<Item = &'b [u8]> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty
            .into_iter()
            .chain(self.bytes.chunks(self.stride.max(1)))
    }
}

impl BatchSocket {
    /// Takes over a non-blocking socket; it belongs to the runtime of the caller.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // It has set "don't fragment" for QUIC, by which long replies would be lost.
        if socket.local_addr()?.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        } else {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
        }
        Ok(Self { socket, state })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives once, and hands on each run; how many buffers were filled.
    ///
    /// The thread's buffers are in use meanwhile: `each` must not receive.
    pub(super) fn receive(&self, mut each: impl FnMut(Run<'_>)) -> io::Result<usize> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(BATCH * SLOT_BYTES, 0);
            let mut metas = [RecvMeta::default(); BATCH];
            let mut slots = buffer.chunks_mut(SLOT_BYTES);
            let mut slots: [IoSliceMut<'_>; BATCH] =
                array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
            let received = self.socket.try_io(Interest::READABLE, || {
                self.state
                    .recv(UdpSockRef::from(&self.socket), &mut slots, &mut metas)
            })?;
            for (slot, meta) in buffer.chunks(SLOT_BYTES).zip(&metas).take(received) {
                each(Run {
                    from: meta.addr,
                    asked: meta.dst_ip,
                    bytes: slot.get(..meta.len).unwrap_or(slot),
                    stride: meta.stride,
                });
            }
            Ok(received)
        })
    }

    /// Sends a datagram, from the given address where one is given. At once or not at all: there is no queue but the socket's.
    pub(super) fn send(
        &self,
        contents: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: from,
        };
        self.state
            .try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

thread_local! {
    /// The buffers of a thread. Pages that were never written cost no memory.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Datagrams received with one system call; as many as quinn-udp takes.
pub(super) const BATCH: usize = quinn_udp::BATCH_SIZE;

/// The longest datagram, and the most that the kernel joins.
const SLOT_BYTES: usize = 64 * 1_024;

/// Receives one datagram of a connected socket into the thread's buffer, and hands it on.
pub(super) fn receive_one<T>(socket: &UdpSocket, each: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(BATCH * SLOT_BYTES, 0);
        let read = socket.try_recv(&mut buffer[..SLOT_BYTES])?;
        Ok(each(&buffer[..read]))
    })
}
