// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends the replies of a batch: with one system call where the socket has one address, one by one where it has many and
//! each reply must say from which it leaves.

use super::UdpListener;
use crate::{answer::Answered, tally::Tally};
use discovery_core::telemetry::DnsShed;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use std::{
    array,
    io::{self, ErrorKind, IoSlice},
    net::{IpAddr, SocketAddr},
};

/// A reply and where it goes.
#[derive(Debug)]
pub(super) struct Reply {
    destination: SocketAddr,
    /// The address that was asked.
    source: Option<IpAddr>,
    answered: Answered,
}

impl Reply {
    pub(super) fn new(meta: &RecvMeta, answered: Answered) -> Self {
        Self {
            destination: meta.addr,
            source: meta.dst_ip,
            answered,
        }
    }
}

/// Replies that wait to be sent together, each where it was written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// [`TOGETHER_MAX`] at most; taken again and again.
    buffers: Vec<Vec<u8>>,
    replies: Vec<Reply>,
}

impl Outgoing {
    /// Where the next reply is to be written.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        let at = self.replies.len();
        if at == self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        &mut self.buffers[at]
    }

    /// Adds the reply that was written; whether it is time to send.
    pub(super) fn push(&mut self, reply: Reply) -> bool {
        self.replies.push(reply);
        self.replies.len() == TOGETHER_MAX
    }

    /// Sends at once or not at all, and counts each reply by what became of it. tokio's readiness is left aside: a worker
    /// never waits to send.
    pub(super) fn flush(&mut self, listener: &UdpListener, tally: &mut Tally) {
        let mut from = 0;
        while from < self.replies.len() {
            let (sent, failure) = self.send_some(listener, from);
            for reply in &self.replies[from..from + sent] {
                tally.delivered(reply.answered);
            }
            from += sent;
            if let Some(error) = failure {
                // The one that could not be sent; those behind it get their own chance.
                tally.shed(shed_reason(&error));
                from += 1;
            }
        }
        self.replies.clear();
    }

    /// Sends replies from `from` on; how many went out, and what befell the next.
    fn send_some(&self, listener: &UdpListener, from: usize) -> (usize, Option<io::Error>) {
        let waiting = &self.replies[from..];
        // A socket that is bound to one address sends from it.
        if listener.bound.is_unspecified() || waiting.len() == 1 {
            return match send_one(listener, &waiting[0], &self.buffers[from]) {
                Ok(()) => (1, None),
                Err(error) => (0, Some(error)),
            };
        }
        match send_together(listener, waiting, &self.buffers[from..]) {
            Ok(sent) => (sent.clamp(1, waiting.len()), None),
            Err(error) => (0, Some(error)),
        }
    }
}

fn send_one(listener: &UdpListener, reply: &Reply, contents: &[u8]) -> io::Result<()> {
    let transmit = Transmit {
        destination: reply.destination,
        ecn: None,
        contents,
        segment_size: None,
        src_ip: reply.source.filter(|_| listener.bound.is_unspecified()),
    };
    let UdpListener { socket, state, .. } = listener;
    state.try_send(UdpSockRef::from(&**socket), &transmit)
}

/// One system call for many replies. Everything that it is told stands on the stack: nothing is allocated.
fn send_together(
    listener: &UdpListener,
    waiting: &[Reply],
    buffers: &[Vec<u8>],
) -> io::Result<usize> {
    let count = waiting.len().min(TOGETHER_MAX);
    let within = |at: usize| at.min(count - 1);
    let addresses: [SocketAddrAny; TOGETHER_MAX] =
        array::from_fn(|at| waiting[within(at)].destination.into());
    let slices: [[IoSlice<'_>; 1]; TOGETHER_MAX] =
        array::from_fn(|at| [IoSlice::new(&buffers[within(at)])]);
    let mut controls: [SendAncillaryBuffer<'_, '_, '_>; TOGETHER_MAX] =
        array::from_fn(|_| SendAncillaryBuffer::default());
    let mut controls = controls.iter_mut();
    let mut messages: [MMsgHdr<'_>; TOGETHER_MAX] = array::from_fn(|at| {
        let control = controls.next().expect("as many as there are messages");
        MMsgHdr::new_with_addr(&addresses[at], &slices[at], control)
    });
    let sent = rustix::net::sendmmsg(
        &*listener.socket,
        &mut messages[..count],
        SendFlags::DONTWAIT,
    );
    Ok(sent?)
}

fn shed_reason(error: &io::Error) -> DnsShed {
    match error.kind() {
        ErrorKind::WouldBlock => DnsShed::SendBlocked,
        _ => DnsShed::SendFailed,
    }
}

/// Replies sent with one system call.
const TOGETHER_MAX: usize = 32;
