// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets that whoever started us has opened, by systemd's protocol (`sd_listen_fds(3)`): `LISTEN_FDS` and `LISTEN_PID`.
//!
//! In: the environment. Out: sockets by their addresses; their names do not matter. It is asked before any thread starts, since it
//! takes the two variables out of the environment, so that no child believes them its own.

use crate::failure::{Code, Failure};
use discovery_core::runtime::Sockets;
use listenfd::ListenFd;
use std::{io, os::fd::OwnedFd};

/// Takes them over; none is the common case.
pub(crate) fn sockets() -> Result<Sockets, Failure> {
    let sockets = Sockets::default();
    let mut inherited = ListenFd::from_env();
    for at in 0..inherited.len() {
        let taken = take(&mut inherited, at).and_then(|socket| sockets.hand(socket));
        taken.map_err(|error| {
            let what = format!("socket {at} of LISTEN_FDS cannot be used: {error}");
            Failure::new(Code::AddressDenied, what)
                .help("name streams that listen and datagram sockets of IPv4 or IPv6 alone")
        })?;
    }
    Ok(sockets)
}

fn take(inherited: &mut ListenFd, at: usize) -> io::Result<OwnedFd> {
    // A socket of another kind stays in its place.
    if let Ok(Some(listener)) = inherited.take_tcp_listener(at) {
        return Ok(listener.into());
    }
    let socket = inherited.take_udp_socket(at)?;
    socket
        .map(OwnedFd::from)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
