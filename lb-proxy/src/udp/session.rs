// SPDX-License-Identifier: MIT OR Apache-2.0
//! One session: a client's address and port, and a connected socket towards one endpoint.
//!
//! In: datagrams of the client; replies that come to the socket. Out: the same; and what they say of the session: whether it
//! was answered, whether its endpoint refuses, when it was last used. Its task ends when its listener lets go of it.

use super::{
    batch::{BatchSocket, receive_one},
    handed::{SessionFacts, UdpSession},
    listed::SessionStatus,
    table::IsAnswered,
};
use crate::{endpoints::SharedEjections, limits::SourcePermit};
use discovery_core::{
    pick::InFlight,
    store::Endpoint,
    telemetry::{ByteDirection, ConnectFailure, DatagramDrop, SessionEnd, UdpListenerMetrics},
};
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::UdpSocket, sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A client, and the address that it asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    pub(super) asked: Option<IpAddr>,
}

/// A session as its listener holds it; dropping it ends it.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    _stop: DropGuard,
    _permits: (OwnedSemaphorePermit, SourcePermit),
}

/// What a session needs to begin.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) key: Key,
    pub(super) in_flight: InFlight,
    pub(super) address: SocketAddr,
    pub(super) permits: (OwnedSemaphorePermit, SourcePermit),
    /// After how many replies it ends; none means never, 0 that none is passed on.
    pub(super) replies_max: Option<u32>,
    pub(super) idle: Idle,
    /// What goes before each datagram to the endpoint; empty where nothing does.
    pub(super) header: Vec<u8>,
}

/// How long a session may be without a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) unreplied: Duration,
    pub(super) replied: Duration,
}

/// What a session was before this proxy had it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    replies: u32,
    is_answered: bool,
    silent: Duration,
}

impl Past {
    pub(super) fn of(facts: &SessionFacts) -> Self {
        Self {
            replies: facts.replies,
            is_answered: facts.is_answered,
            silent: facts.silent,
        }
    }
}

/// What the session and its task share.
#[derive(Debug)]
pub(super) struct Shared {
    socket: UdpSocket,
    key: Key,
    address: SocketAddr,
    in_flight: InFlight,
    idle: Idle,
    header: Vec<u8>,
    replies_max: Option<u32>,
    began: Instant,
    /// Milliseconds after the beginning.
    last_used: AtomicU64,
    replies: AtomicU32,
    up: AtomicU64,
    down: AtomicU64,
    is_answered: AtomicBool,
    /// Refusals in a row, without a reply between.
    refusals: AtomicU32,
    ejections: SharedEjections,
    metrics: UdpListenerMetrics,
}

impl IsAnswered for Session {
    fn is_answered(&self) -> bool {
        self.shared.is_answered.load(Relaxed)
    }
}

impl Session {
    /// Opens the socket and starts the task that passes replies on. Needs a runtime of tokio.
    pub(super) fn begin(
        beginning: Beginning,
        listener: &Arc<BatchSocket>,
        ejections: &SharedEjections,
        metrics: &UdpListenerMetrics,
    ) -> io::Result<Self> {
        let socket = crate::sockets::session(beginning.address)?;
        let past = Past::default();
        Self::resume(beginning, past, socket, listener, ejections, metrics)
    }

    /// The same with a socket and a past.
    pub(super) fn resume(
        beginning: Beginning,
        past: Past,
        socket: std::net::UdpSocket,
        listener: &Arc<BatchSocket>,
        ejections: &SharedEjections,
        metrics: &UdpListenerMetrics,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let shared = Arc::new(Shared {
            socket: UdpSocket::from_std(socket)?,
            key: beginning.key,
            address: beginning.address,
            in_flight: beginning.in_flight,
            idle: beginning.idle,
            header: beginning.header,
            replies_max: beginning.replies_max,
            began: now.checked_sub(past.silent).unwrap_or(now),
            last_used: AtomicU64::new(0),
            replies: AtomicU32::new(past.replies),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            is_answered: AtomicBool::new(past.is_answered),
            refusals: AtomicU32::new(0),
            ejections: ejections.clone(),
            metrics: metrics.clone(),
        });
        let stop = CancellationToken::new();
        if beginning.replies_max != Some(0) {
            tokio::spawn(pass_replies(shared.clone(), listener.clone(), stop.clone()));
        }
        metrics.began();
        Ok(Self {
            shared,
            _stop: stop.drop_guard(),
            _permits: beginning.permits,
        })
    }

    /// What the next proxy needs to go on with it; none without a descriptor for that.
    pub(super) fn hand_over(self, listener: SocketAddr, key: Key) -> Option<UdpSession> {
        let shared = &self.shared;
        let last_used = shared.began + Duration::from_millis(shared.last_used.load(Relaxed));
        Some(UdpSession {
            socket: shared.socket.as_fd().try_clone_to_owned().ok()?,
            facts: SessionFacts {
                listener,
                client: key.client,
                asked: key.asked,
                address: shared.address,
                replies: shared.replies.load(Relaxed),
                is_answered: self.is_answered(),
                silent: last_used.elapsed(),
                owner: shared.in_flight.endpoint().state_key().to_string(),
            },
        })
    }

    /// Its place in a list, which keeps nothing alive.
    pub(super) fn listed(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.shared.in_flight.endpoint()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Sends a datagram of the client, or counts why not.
    pub(super) fn send(&self, datagram: &[u8]) {
        let shared = &self.shared;
        shared.touch();
        let sent = match shared.transmit(datagram) {
            // The kernel tells with this send that an earlier datagram was refused, and has not sent this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                shared.refused();
                shared.transmit(datagram)
            }
            sent => sent,
        };
        match sent {
            Ok(_) => shared.passed(ByteDirection::Up, datagram),
            Err(error) => shared.metrics.drop_one(drop_of(&error)),
        }
    }

    /// Why it has to end now, when it has.
    pub(super) fn is_over(&self, now: Instant) -> Option<SessionEnd> {
        let shared = &self.shared;
        if shared.refusals.load(Relaxed) >= REFUSALS_MAX {
            return Some(SessionEnd::EndpointFailed);
        }
        let last_used = shared.began + Duration::from_millis(shared.last_used.load(Relaxed));
        let silent = now.saturating_duration_since(last_used);
        let answered = shared.replies.load(Relaxed);
        if shared
            .replies_max
            .is_some_and(|max| max > 0 && answered >= max)
        {
            return (silent >= ANSWERED_FOR).then_some(SessionEnd::Answered);
        }
        let limit = if self.is_answered() {
            shared.idle.replied
        } else {
            shared.idle.unreplied
        };
        (silent >= limit).then_some(SessionEnd::Idle)
    }

    /// Whether its endpoint refuses, so that the client's next datagram should go elsewhere.
    pub(super) fn is_refused(&self) -> bool {
        self.shared.refusals.load(Relaxed) >= REFUSALS_MAX
    }
}

impl Shared {
    /// Sends at once or not at all. tokio's readiness is left aside: a new socket would first have to be polled.
    fn transmit(&self, datagram: &[u8]) -> io::Result<usize> {
        if self.header.is_empty() {
            return Ok(send(&self.socket, datagram, SendFlags::DONTWAIT)?);
        }
        let parts = [&self.header[..], datagram].map(IoSlice::new);
        let nothing_else = &mut SendAncillaryBuffer::default();
        Ok(sendmsg(
            &self.socket,
            &parts,
            nothing_else,
            SendFlags::DONTWAIT,
        )?)
    }

    fn passed(&self, direction: ByteDirection, datagram: &[u8]) {
        let bytes = datagram.len() as u64;
        self.metrics.passed(direction, 1, bytes);
        let moved = match direction {
            ByteDirection::Up => &self.up,
            ByteDirection::Down => &self.down,
        };
        moved.fetch_add(bytes, Relaxed);
    }

    /// What is told to people.
    pub(super) fn status(&self) -> SessionStatus {
        let endpoint = self.in_flight.endpoint();
        SessionStatus {
            client: self.key.client,
            endpoint: endpoint.identity().to_string(),
            address: self.address,
            is_local: !endpoint.is_foreign(),
            age: self.began.elapsed(),
            up: self.up.load(Relaxed),
            down: self.down.load(Relaxed),
            is_answered: self.is_answered.load(Relaxed),
        }
    }

    fn touch(&self) {
        let millis = self.began.elapsed().as_millis();
        self.last_used
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// Takes in that the endpoint refused a datagram.
    fn refused(&self) {
        self.refusals.fetch_add(1, Relaxed);
        // Weighs as much as a connect that is not answered: nobody tries again at once here.
        self.ejections.failed(self.address, ConnectFailure::Timeout);
    }

    /// Sends a reply to the client, from the address that it asked.
    fn reply(&self, listener: &BatchSocket, datagram: &[u8]) {
        self.touch();
        self.refusals.store(0, Relaxed);
        self.replies.fetch_add(1, Relaxed);
        if !self.is_answered.swap(true, Relaxed) {
            self.ejections.succeeded(self.address);
        }
        match listener.send(datagram, self.key.client, self.key.asked) {
            Ok(()) => self.passed(ByteDirection::Down, datagram),
            Err(error) => self.metrics.drop_one(drop_of(&error)),
        }
    }
}

/// Passes on what the endpoint replies, until the session ends.
async fn pass_replies(shared: Arc<Shared>, listener: Arc<BatchSocket>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            ready = shared.socket.readable() => if ready.is_err() {
                return;
            },
        }
        for _ in 0..REPLIES_PER_TURN {
            match receive_one(&shared.socket, |datagram| shared.reply(&listener, datagram)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => shared.refused(),
                // Other ICMP errors say nothing that a later datagram would not.
                Err(_) => break,
            }
        }
        tokio::task::yield_now().await;
    }
}

fn drop_of(error: &io::Error) -> DatagramDrop {
    match error.kind() {
        io::ErrorKind::WouldBlock => DatagramDrop::SendBlocked,
        io::ErrorKind::ConnectionRefused => DatagramDrop::Refused,
        _ => DatagramDrop::SendFailed,
    }
}

/// One refusal may be a restart; two in a row without a reply are a server that is gone.
const REFUSALS_MAX: u32 = 2;

/// For the repetition of a last reply.
const ANSWERED_FOR: Duration = Duration::from_secs(1);

/// Then others have their turn.
const REPLIES_PER_TURN: usize = 32;
