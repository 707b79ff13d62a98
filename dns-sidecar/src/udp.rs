// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers datagrams: receives a batch, answers each, sends, and waits again.
//!
//! The socket's receive buffer is the only queue. A worker never awaits between receiving and sending, starts no task for
//! a packet, and sheds an answer that the system does not take at once. Replies leave from the address that was asked,
//! which clients check. No error ends the loop.

use crate::{Config, Index, Responder, Verdict, failures::Failures, tally};
use arc_swap::{ArcSwap, Cache};
use discovery_core::telemetry::{DnsDrop, DnsMetrics, DnsShed, DnsTransport};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::{
    array,
    io::{self, ErrorKind, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::Interest, net::UdpSocket};
use tokio_util::sync::CancellationToken;

/// A bound socket that several workers serve.
#[derive(Clone, Debug)]
pub(crate) struct UdpListener {
    socket: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
}

impl UdpListener {
    /// Takes over a bound, non-blocking socket. Needs a tokio runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            socket: Arc::new(socket),
            state: Arc::new(state),
        })
    }
}

/// One loop over a socket.
#[derive(Debug)]
pub(crate) struct UdpWorker {
    listener: UdpListener,
    index: Cache<Arc<ArcSwap<Index>>, Arc<Index>>,
    responder: Responder,
    metrics: Arc<DnsMetrics>,
    received: Vec<u8>,
    reply: Vec<u8>,
    /// Datagrams until the next one that is timed.
    until_sample: u32,
}

impl UdpWorker {
    pub(crate) fn new(
        listener: UdpListener,
        config: &Config,
        index: Arc<ArcSwap<Index>>,
        metrics: Arc<DnsMetrics>,
    ) -> Self {
        Self {
            listener,
            index: Cache::new(index),
            responder: Responder::new(config),
            metrics,
            received: vec![0; BATCH * SLOT_BYTES],
            reply: Vec::new(),
            until_sample: 0,
        }
    }

    /// Serves until it is told to stop, then answers what has already arrived.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut failures = Failures::default();
        loop {
            let ready = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = self.listener.socket.readable() => ready,
            };
            match ready.and_then(|()| self.serve_arrived()) {
                // Lets connections, timers and the other worker run.
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => {
                    failures.note("receive", &error);
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
        // What is refused now was refused before.
        let _ = self.serve_arrived();
    }

    /// Answers what has arrived, a few batches at most.
    fn serve_arrived(&mut self) -> io::Result<()> {
        for _ in 0..BATCHES_MAX {
            match self.serve_batch() {
                Ok(BATCH) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn serve_batch(&mut self) -> io::Result<usize> {
        let mut received = std::mem::take(&mut self.received);
        let mut metas = [RecvMeta::default(); BATCH];
        let count = self.receive(&mut received, &mut metas);
        if let Ok(count) = count {
            for (slot, meta) in received.chunks(SLOT_BYTES).zip(&metas).take(count) {
                self.serve_slot(slot, meta);
            }
        }
        self.received = received;
        count
    }

    fn receive(&self, received: &mut [u8], metas: &mut [RecvMeta; BATCH]) -> io::Result<usize> {
        let mut slots = received.chunks_mut(SLOT_BYTES);
        let mut slots: [IoSliceMut<'_>; BATCH] =
            array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let UdpListener { socket, state } = &self.listener;
        socket.try_io(Interest::READABLE, || {
            state.recv(UdpSockRef::from(&**socket), &mut slots, metas)
        })
    }

    /// The system may have joined datagrams of one sender and equal length: A and AAAA questions of a resolver are such.
    fn serve_slot(&mut self, slot: &[u8], meta: &RecvMeta) {
        let received = slot.get(..meta.len).unwrap_or(slot);
        if received.is_empty() {
            return self.serve_datagram(received, meta);
        }
        for datagram in received.chunks(meta.stride.max(1)) {
            self.serve_datagram(datagram, meta);
        }
    }

    fn serve_datagram(&mut self, datagram: &[u8], meta: &RecvMeta) {
        if !may_be_answered(meta.addr) {
            return tally::dropped(&self.metrics, DnsTransport::Udp, DnsDrop::Source);
        }
        let started = self.sample();
        let index = self.index.load();
        let verdict = self
            .responder
            .answer(index, datagram, DnsTransport::Udp, &mut self.reply);
        tally::arrived(&self.metrics, DnsTransport::Udp, verdict);
        let Verdict::Answered(answered) = verdict else {
            return;
        };
        match self.send(meta) {
            Ok(()) => tally::delivered(&self.metrics, DnsTransport::Udp, answered),
            Err(error) => self.metrics.shed(DnsTransport::Udp, shed_reason(&error)),
        }
        if let Some(started) = started {
            self.metrics.took(started.elapsed());
        }
    }

    /// Sends at once or not at all. tokio's readiness is left aside: a worker never waits to send.
    fn send(&self, meta: &RecvMeta) -> io::Result<()> {
        let transmit = Transmit {
            destination: meta.addr,
            ecn: None,
            contents: &self.reply,
            segment_size: None,
            src_ip: meta.dst_ip,
        };
        let UdpListener { socket, state } = &self.listener;
        state.try_send(UdpSockRef::from(&**socket), &transmit)
    }

    fn sample(&mut self) -> Option<Instant> {
        let is_due = self.until_sample == 0;
        self.until_sample = if is_due {
            SAMPLE_EVERY - 1
        } else {
            self.until_sample - 1
        };
        is_due.then(Instant::now)
    }
}

/// Whether a reply to this address could reach the one who asked. Port 0 and addresses of many are forged.
fn may_be_answered(source: SocketAddr) -> bool {
    let address = source.ip().to_canonical();
    source.port() != 0
        && !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn shed_reason(error: &io::Error) -> DnsShed {
    match error.kind() {
        ErrorKind::WouldBlock => DnsShed::SendBlocked,
        _ => DnsShed::SendFailed,
    }
}

/// Datagrams received with one system call. More gain nothing measurable.
const BATCH: usize = 16;
/// What the system joins at most. Pages that are never written cost no memory.
const SLOT_BYTES: usize = 64 * 1024;
/// About 250 µs of work before other tasks get their turn.
const BATCHES_MAX: usize = 4;
/// Reading the clock and the histogram's lock cost as much as an answer.
const SAMPLE_EVERY: u32 = 64;
/// A socket that fails at once would otherwise take a whole core.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_sources_are_not_answered() {
        for source in [
            "10.0.0.1:53",
            "[fd00::1]:1",
            "[::ffff:10.0.0.1]:5353",
            "127.0.0.1:1",
        ] {
            assert!(may_be_answered(source.parse().unwrap()), "{source}");
        }
        for source in [
            "10.0.0.1:0",
            "0.0.0.0:53",
            "[::]:53",
            "255.255.255.255:53",
            "[::ffff:255.255.255.255]:53",
            "224.0.0.251:5353",
            "[ff02::fb]:5353",
        ] {
            assert!(!may_be_answered(source.parse().unwrap()), "{source}");
        }
    }
}
