// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers datagrams: receives a batch, answers each, sends them together, and waits again.
//!
//! The socket's receive buffer is the only queue. A worker never awaits between receiving and sending, starts no task for
//! a question of ours, and sheds an answer that the system does not take at once. Replies leave from the address that was
//! asked, which clients check. No error ends the loop.

mod overflow;
mod send;

pub(crate) use overflow::watch_overflows;

use crate::{
    Config, Index, Responder, Verdict,
    access::Access,
    answer::{Answered, Upstream},
    cookie::Secret,
    failures::Failures,
    forward::Forwarder,
    query_log::Told,
    rate::{Limiter, Rate},
    tally::Tally,
    wire::cut_to_question,
};
use arc_swap::{ArcSwap, Cache};
use discovery_core::telemetry::{DnsDrop, DnsMetrics, DnsRcode, DnsShed, DnsTransport};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use send::{Outgoing, Reply};
use socket2::{Domain, SockRef, Type};
use std::{
    array,
    io::{self, ErrorKind, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{io::Interest, net::UdpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A bound socket that several workers serve.
#[derive(Clone, Debug)]
pub(crate) struct UdpListener {
    socket: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
    bound: IpAddr,
}

impl UdpListener {
    /// Takes over a bound, non-blocking socket. Needs a tokio runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?.ip();
        let socket = UdpSocket::from_std(socket)?;
        let state = if bound.is_ipv4() && !bound.is_unspecified() {
            told_nothing(&socket)?
        } else {
            UdpSocketState::new(UdpSockRef::from(&socket))?
        };
        if bound.is_ipv6() {
            // Marks of congestion, which no answer follows, would be told with each datagram; telling costs.
            let _ = SockRef::from(&socket).set_recv_tclass_v6(false);
        } else {
            let _ = SockRef::from(&socket).set_recv_tos_v4(false);
        }
        Ok(Self {
            socket: Arc::new(socket),
            state: Arc::new(state),
            bound,
        })
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What every worker of a server shares.
#[derive(Clone, Debug)]
pub(crate) struct UdpContext {
    pub(crate) index: Arc<ArcSwap<Index>>,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) forwarder: Forwarder,
    /// None when no question is told.
    pub(crate) log: Option<Told>,
    /// None where cookies are not to be had.
    pub(crate) secret: Option<Secret>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// One loop over a socket.
#[derive(Debug)]
pub(crate) struct UdpWorker {
    listener: UdpListener,
    context: UdpContext,
    config: Config,
    index: Cache<Arc<ArcSwap<Index>>, Arc<Index>>,
    responder: Responder,
    received: Vec<u8>,
    outgoing: Outgoing,
    access: Access,
    /// None where only this host asks.
    limiter: Option<Limiter>,
    started: Instant,
    /// When this batch was received, in milliseconds from the start on.
    now_milliseconds: u32,
    tally: Tally,
    /// Batches until the next one that is timed.
    until_sample: u32,
}

impl UdpWorker {
    pub(crate) fn new(listener: UdpListener, config: &Config, context: UdpContext) -> Self {
        let bound = listener.bound;
        // The workers of a socket share what it lets through.
        let workers = u32::try_from(config.workers()).unwrap_or(1);
        Self {
            responder: Responder::new(config).on(config, bound),
            listener,
            config: config.clone(),
            index: Cache::new(context.index.clone()),
            context,
            received: vec![0; BATCH * SLOT_BYTES],
            outgoing: Outgoing::default(),
            access: Access::new(&config.allow),
            limiter: (!bound.is_loopback()).then(|| {
                let rate = config.rate_per_second.div_ceil(workers);
                Limiter::new(rate, rate.saturating_mul(2), fastrand::u64(..))
            }),
            started: Instant::now(),
            now_milliseconds: 0,
            tally: Tally::new(DnsTransport::Udp),
            until_sample: 0,
        }
    }

    /// Serves until it is told to stop, then answers what has already arrived.
    pub(crate) async fn run(mut self) {
        let stop = self.context.stop.clone();
        // One for all turns: each new one would be taken into a list under a lock.
        let mut stopped = pin!(stop.cancelled());
        let mut failures = Failures::default();
        loop {
            let ready = tokio::select! {
                biased;
                () = &mut stopped => break,
                ready = self.listener.socket.readable() => ready,
            };
            match ready.and_then(|()| self.serve_arrived()) {
                // Lets connections, timers and the other worker run; who waits for more does so anyway.
                Ok(Arrived::More) => tokio::task::yield_now().await,
                Ok(Arrived::All) => {}
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
    fn serve_arrived(&mut self) -> io::Result<Arrived> {
        for _ in 0..BATCHES_MAX {
            match self.serve_batch() {
                Ok(BATCH) => {}
                Ok(_) => return Ok(Arrived::All),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrived::All),
                Err(error) => return Err(error),
            }
        }
        Ok(Arrived::More)
    }

    fn serve_batch(&mut self) -> io::Result<usize> {
        let mut received = std::mem::take(&mut self.received);
        let mut metas = [RecvMeta::default(); BATCH];
        let count = self.receive(&mut received, &mut metas);
        if let Ok(count) = count {
            let started = self.sample();
            if self.limiter.is_some() {
                // Wraps after 49 days, as the limiter expects.
                let elapsed = self.started.elapsed().as_millis() & u128::from(u32::MAX);
                self.now_milliseconds = u32::try_from(elapsed).unwrap_or(0);
            }
            self.responder.asking().at(now_seconds());
            // One load for all: replies of a batch are of one generation.
            let index = self.index.load().clone();
            for (slot, meta) in received.chunks(SLOT_BYTES).zip(&metas).take(count) {
                self.serve_slot(&index, slot, meta);
            }
            self.outgoing.flush(&self.listener, &mut self.tally);
            self.tally.hand_over(&self.context.metrics);
            if let Some(started) = started {
                self.context.metrics.took(started.elapsed());
            }
        }
        self.received = received;
        count
    }

    /// Receives a batch. One that is not full has emptied the queue: the runtime is told so at once, and no call of the system is
    /// spent to hear it.
    fn receive(&self, received: &mut [u8], metas: &mut [RecvMeta; BATCH]) -> io::Result<usize> {
        let mut slots = received.chunks_mut(SLOT_BYTES);
        let mut slots: [IoSliceMut<'_>; BATCH] =
            array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let UdpListener { socket, state, .. } = &self.listener;
        let mut short = None;
        let count = socket.try_io(Interest::READABLE, || {
            let count = state.recv(UdpSockRef::from(&**socket), &mut slots, metas)?;
            if count == BATCH {
                return Ok(count);
            }
            short = Some(count);
            Err(ErrorKind::WouldBlock.into())
        });
        short.map_or(count, Ok)
    }

    /// The system may have joined datagrams of one sender and equal length: A and AAAA questions of a resolver are such.
    fn serve_slot(&mut self, index: &Arc<Index>, slot: &[u8], meta: &RecvMeta) {
        let received = slot.get(..meta.len).unwrap_or(slot);
        if received.is_empty() {
            return self.serve_datagram(index, received, meta);
        }
        for datagram in received.chunks(meta.stride.max(1)) {
            self.serve_datagram(index, datagram, meta);
        }
    }

    fn serve_datagram(&mut self, index: &Arc<Index>, datagram: &[u8], meta: &RecvMeta) {
        if !may_be_answered(meta.addr) {
            return self.tally.dropped(DnsDrop::Source);
        }
        if !self.access.allows(meta.addr.ip()) {
            return self.tally.dropped(DnsDrop::Denied);
        }
        let asking = self.responder.asking();
        asking.by(meta.addr.ip(), self.context.secret);
        let reply = self.outgoing.buffer();
        let verdict = self
            .responder
            .answer(index, datagram, DnsTransport::Udp, reply);
        match verdict {
            Verdict::Answered(answered) => {
                match self.rate(meta.addr.ip(), answered) {
                    Rate::Within => {}
                    Rate::Cut => cut_to_question(self.outgoing.buffer()),
                    Rate::Over => return self.tally.dropped(DnsDrop::Rate),
                }
                self.tally.received(answered.qtype);
                if let Some(log) = &mut self.context.log {
                    log.note(meta.addr.ip(), DnsTransport::Udp, datagram, answered);
                }
                let reply = Reply::new(meta, answered);
                if self.outgoing.push(reply) {
                    self.outgoing.flush(&self.listener, &mut self.tally);
                }
            }
            Verdict::Dropped(reason) => self.tally.dropped(reason),
            Verdict::Upstream(upstream) => self.forward(index, datagram, meta, upstream),
        }
    }

    /// Has another server asked, in a task of its own: this loop waits for nobody. Beyond the bound the question is dropped;
    /// a client asks again.
    fn forward(
        &mut self,
        index: &Arc<Index>,
        datagram: &[u8],
        meta: &RecvMeta,
        upstream: Upstream,
    ) {
        self.tally.received(crate::answer::asked_type(datagram));
        let Some(place) = self.context.forwarder.place(meta.addr.ip()) else {
            return self.tally.shed(DnsShed::UpstreamFull);
        };
        let (listener, mut context, index) =
            (self.listener.clone(), self.context.clone(), index.clone());
        let (request, meta) = (datagram.to_vec(), *meta);
        let mut responder = Responder::new(&self.config).on(&self.config, listener.bound);
        let task = async move {
            let _place = place;
            let asked = context.forwarder.finish(
                &index,
                &mut responder,
                &request,
                DnsTransport::Udp,
                upstream,
            );
            let finished = tokio::select! {
                () = context.stop.cancelled() => None,
                finished = asked => finished,
            };
            let mut tally = Tally::new(DnsTransport::Udp);
            match finished {
                Some(finished) => {
                    if let Some(log) = &mut context.log {
                        log.note(
                            meta.addr.ip(),
                            DnsTransport::Udp,
                            &request,
                            finished.answered,
                        );
                    }
                    let reply = Reply::new(&meta, finished.answered);
                    let mut outgoing = Outgoing::default();
                    *outgoing.buffer() = finished.bytes;
                    outgoing.push(reply);
                    outgoing.flush(&listener, &mut tally);
                }
                None => tally.shed(DnsShed::SendFailed),
            }
            tally.hand_over(&context.metrics);
        };
        self.context.tasks.spawn(task);
    }

    /// Whether the source's network may have the reply. A "no" costs more: it is what floods ask for.
    fn rate(&mut self, source: IpAddr, answered: Answered) -> Rate {
        let Some(limiter) = &mut self.limiter else {
            return Rate::Within;
        };
        // Its address is not forged: it was sent the cookie there.
        if self.responder.asking().showed_cookie() {
            return Rate::Within;
        }
        let cost = if answered.rcode == DnsRcode::NoError {
            1
        } else {
            2
        };
        limiter.take(source, cost, self.now_milliseconds)
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

/// Whether there may be more questions than were answered.
enum Arrived {
    All,
    More,
}

/// Where there is one address to reply from, nothing has to be told of a datagram but who sent it: what quinn-udp asks the system
/// to tell (the address, the time, what was joined) is asked of a socket that receives nothing. Only not to fragment is asked
/// of both.
fn told_nothing(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    let other = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    UdpSocketState::new(UdpSockRef::from(&other))
}

/// The clock of cookies. Wraps in 2106, as they expect.
pub(crate) fn now_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs()) & u64::from(u32::MAX);
    u32::try_from(seconds).unwrap_or(0)
}

/// Whether a reply to this address could reach the one who asked. Port 0 and addresses of many are forged.
fn may_be_answered(source: SocketAddr) -> bool {
    let address = source.ip().to_canonical();
    source.port() != 0
        && !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Datagrams received with one system call: what quinn-udp takes at most.
const BATCH: usize = quinn_udp::BATCH_SIZE;
/// What the system joins at most, and two lines of the cache more: at a stride of 64 KiB the datagrams of a batch would push
/// each other out of it. Pages that are never written cost no memory.
const SLOT_BYTES: usize = 64 * 1024 + 128;
/// About 1 ms of work before other tasks get their turn.
const BATCHES_MAX: usize = 8;
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
