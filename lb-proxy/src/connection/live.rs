// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections that are carried now, for people who ask.
//!
//! In: connections that have met an endpoint; what moves over them. Out: a list at any moment. A connection is in the table from
//! then until it is closed, so that the table is bounded by the caps; it costs two additions to atomics whenever bytes move.

use crate::endpoints::Life;
use discovery_core::{pick::InFlight, store::Endpoint, telemetry::ByteDirection};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The connections of one listener. Clones share them.
///
/// The lock guards the slots; held for one change or one copy of them, never across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    live: Vec<Option<Arc<Live>>>,
    free: Vec<u32>,
}

/// One of them. Small, since an idle connection costs little else.
#[derive(Debug)]
pub(crate) struct Live {
    client: SocketAddr,
    in_flight: InFlight,
    life: Arc<Life>,
    began: Instant,
    up: AtomicU64,
    down: AtomicU64,
    slot: u32,
    finished: AtomicU8,
}

/// In which way a connection is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Both sides may send.
    Open,
    /// The client has finished sending.
    ClientFinished,
    /// The endpoint has finished sending.
    EndpointFinished,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::ClientFinished => "client-finished",
            Self::EndpointFinished => "endpoint-finished",
        })
    }
}

/// One connection at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Who connected, by the PROXY header where one was taken.
    pub client: SocketAddr,
    /// The name of the endpoint.
    pub endpoint: String,
    /// Where the endpoint is reached.
    pub address: SocketAddr,
    /// Whether the endpoint is near.
    pub is_local: bool,
    /// Since the connection was accepted.
    pub age: Duration,
    /// Bytes from the client to the endpoint.
    pub up: u64,
    /// Bytes from the endpoint to the client.
    pub down: u64,
    /// In which way it is open.
    pub state: ConnectionState,
}

impl Table {
    /// Lists a connection; whoever holds it takes it off by [`Table::leave`].
    pub(crate) fn enter(
        &self,
        client: SocketAddr,
        in_flight: InFlight,
        life: Arc<Life>,
        began: Instant,
    ) -> Arc<Live> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The cap on connections lies far below 2^32.
        let next = u32::try_from(slots.live.len()).unwrap_or(u32::MAX);
        let slot = slots.free.pop().unwrap_or(next);
        let live = Arc::new(Live {
            client,
            in_flight,
            life,
            began,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            slot,
            finished: AtomicU8::new(0),
        });
        match slots.live.get_mut(slot as usize) {
            Some(place) => *place = Some(live.clone()),
            None => slots.live.push(Some(live.clone())),
        }
        live
    }

    pub(crate) fn leave(&self, live: &Live) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = slots.live.get_mut(live.slot as usize) {
            *place = None;
            slots.free.push(live.slot);
        }
        if slots.free.len() == slots.live.len() {
            *slots = Slots::default();
        }
    }

    /// All of them, in no order.
    pub(crate) fn list(&self) -> Vec<ConnectionStatus> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live: Vec<_> = slots.live.iter().flatten().cloned().collect();
        drop(slots);
        live.iter().map(|live| live.status()).collect()
    }
}

impl Live {
    pub(crate) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.in_flight.endpoint()
    }

    pub(crate) fn life(&self) -> &Life {
        &self.life
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Counts bytes that were delivered.
    pub(crate) fn moved(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Relaxed);
        self.down.fetch_add(down, Relaxed);
    }

    /// Notes that nothing more goes that way.
    pub(crate) fn finished(&self, direction: ByteDirection) {
        let finished = match direction {
            ByteDirection::Up => UP,
            ByteDirection::Down => DOWN,
        };
        self.finished.store(finished, Relaxed);
    }

    fn status(&self) -> ConnectionStatus {
        ConnectionStatus {
            client: self.client,
            endpoint: self.endpoint().identity().to_string(),
            address: self.life.address(),
            is_local: !self.endpoint().is_foreign(),
            age: self.age(),
            up: self.up.load(Relaxed),
            down: self.down.load(Relaxed),
            state: match self.finished.load(Relaxed) {
                UP => ConnectionState::ClientFinished,
                DOWN => ConnectionState::EndpointFinished,
                _ => ConnectionState::Open,
            },
        }
    }
}

const UP: u8 = 1;
const DOWN: u8 = 2;
