// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens sockets: those that this process was handed, else new ones.

use super::BindError;
use crate::udp::UdpListener;
use discovery_core::{model, runtime::Sockets};
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr};
use tokio::net::TcpListener;

/// A UDP and a TCP socket on one address: those that this process was handed, else new ones.
pub(super) fn open_pair(
    address: SocketAddr,
    handed: &Sockets,
) -> Result<(UdpListener, TcpListener, SocketAddr), BindError> {
    let mut attempts = if address.port() == 0 {
        FREE_PORT_ATTEMPTS
    } else {
        1
    };
    loop {
        attempts -= 1;
        let fail = |what| {
            move |source| BindError {
                address,
                what,
                setting: "listen",
                source,
            }
        };
        let (udp, bound) = open_udp(address, handed).map_err(fail("DNS over UDP"))?;
        match open_tcp(bound, handed).map_err(fail("DNS over TCP")) {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            // The port that was free for UDP is taken for TCP: try another.
            Err(error) if attempts > 0 && error.is_in_use() => {}
            Err(error) => return Err(error),
        }
    }
}

fn open_udp(address: SocketAddr, handed: &Sockets) -> io::Result<(UdpListener, SocketAddr)> {
    if let Some(handed) = handed.take(model::Protocol::Udp, address) {
        let socket = std::net::UdpSocket::from(handed);
        socket.set_nonblocking(true)?;
        return Ok((UdpListener::new(socket)?, address));
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    prepare(&socket, address)?;
    // The system grants what its limit allows; less is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&address.into())?;
    let socket = std::net::UdpSocket::from(socket);
    let bound = socket.local_addr()?;
    Ok((UdpListener::new(socket)?, bound))
}

pub(super) fn open_tcp(address: SocketAddr, handed: &Sockets) -> io::Result<TcpListener> {
    if let Some(handed) = handed.take(model::Protocol::Tcp, address) {
        let listener = std::net::TcpListener::from(handed);
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    prepare(&socket, address)?;
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)
}

/// UDP and TCP have ports of their own; two free ones of the same number are found soon.
const FREE_PORT_ATTEMPTS: u32 = 16;
/// A burst of some thousand questions.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Connections that the system holds while the limit is reached.
const BACKLOG: i32 = 128;
