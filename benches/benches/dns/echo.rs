// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends every datagram back, as long as our replies are: receiving and sending in batches, and nothing else. The most that
//! any server of datagrams could do by these system calls.

use crate::udp::told_nothing;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny},
};
use serde_json::json;
use std::{
    io::{ErrorKind, IoSlice, IoSliceMut},
    net::UdpSocket,
};

/// Serves until it is killed.
pub(crate) fn serve(bytes: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let state = told_nothing()?;
    crate::server::tell(&json!({ "address": socket.local_addr()? }));
    let mut buffer = vec![0; BATCH_SIZE * SLOT];
    loop {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slots = buffer.chunks_mut(SLOT);
        let mut slots: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let count = match state.recv(UdpSockRef::from(&socket), &mut slots, &mut metas) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&socket, PollFlags::IN)], None)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        send_back(&socket, &buffer, &metas[..count], bytes);
    }
}

fn send_back(socket: &UdpSocket, buffer: &[u8], metas: &[RecvMeta], bytes: usize) {
    let replies: Vec<(SocketAddrAny, [IoSlice<'_>; 1])> = buffer
        .chunks(SLOT)
        .zip(metas)
        .map(|(slot, meta)| (meta.addr.into(), [IoSlice::new(&slot[..bytes.min(SLOT)])]))
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = replies
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<MMsgHdr<'_>> = replies
        .iter()
        .zip(&mut controls)
        .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
        .collect();
    // What the system does not take is missed as lost.
    let _ = rustix::net::sendmmsg(socket, &mut messages, SendFlags::empty());
}

/// As the responder's own: what the system joins at most, and some lines of the cache against conflicts in it.
const SLOT: usize = 64 * 1024 + 128;
