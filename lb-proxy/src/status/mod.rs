// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each listener does now, for the status page and the command line.
//!
//! In: what the tasks of the ports post. Out: a list at any moment, and a wait for a listener to serve. One writer per
//! entry; an entry goes when its port is closed and its last connection has ended.

mod state;

pub use state::{Holder, ListenerState};

use crate::{
    connection::{ConnectionStatus, LiveTable},
    plan::{Contender, Refusal, Target},
    prove::Proof,
    sockets::EphemeralPorts,
    udp::{SessionStatus, SessionTable},
};
use discovery_core::{
    model::{Protocol, ServiceName},
    store::{Generation, Reader},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// One listener at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// The service that it stands for.
    pub service: ServiceName,
    /// The name of the service's port; may be empty.
    pub port_name: Arc<str>,
    /// The transport.
    pub protocol: Protocol,
    /// The port that the service asks for.
    pub wanted: NonZeroU16,
    /// The port that is open; the wanted one while none is. Another than the wanted one only after
    /// [`BusyPort::MoveOn`](crate::BusyPort::MoveOn).
    pub port: u16,
    /// The sockets that listen.
    pub sockets: Vec<SocketAddr>,
    /// What it does.
    pub state: ListenerState,
    /// Whether connections from outside come out here.
    pub proof: Proof,
    /// Whether an outgoing connection of this host may take the port while it is closed.
    pub is_ephemeral: bool,
    /// Connections that it carries now.
    pub active: usize,
}

/// A handle on the status of a proxy; it may outlive the proxy. Clone it freely.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    table: watch::Receiver<Table>,
    reader: Reader,
}

impl StatusHandle {
    /// All listeners by port, then service. Copies the list; for pages, not for each connection.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.table.borrow().listeners()
    }

    /// The TCP connections that are carried now, each with the service and the port that it came in by, in no order. Copies
    /// all: some 200 bytes for each.
    pub fn connections(&self) -> Vec<(ServiceName, NonZeroU16, ConnectionStatus)> {
        let of_listener = |(target, carried): (Target, Carried)| {
            let named = move |status| (target.service.clone(), target.port, status);
            carried.live.list().into_iter().map(named)
        };
        self.carried().into_iter().flat_map(of_listener).collect()
    }

    /// The UDP sessions that are open now, as [`StatusHandle::connections`].
    pub fn sessions(&self) -> Vec<(ServiceName, NonZeroU16, SessionStatus)> {
        let of_listener = |(target, carried): (Target, Carried)| {
            let named = move |status| (target.service.clone(), target.port, status);
            carried.sessions.list().into_iter().map(named)
        };
        self.carried().into_iter().flat_map(of_listener).collect()
    }

    fn carried(&self) -> Vec<(Target, Carried)> {
        let table = self.table.borrow();
        let of_entry = |((target, _), entry): (&(Target, u64), &Entry)| {
            (target.clone(), entry.carried.clone())
        };
        table.entries.iter().map(of_entry).collect()
    }

    /// Waits until the statuses satisfy the condition, and gives them; none once the proxy has ended without.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&[ListenerStatus]) -> bool,
    ) -> Option<Vec<ListenerStatus>> {
        let mut table = self.table.clone();
        let table = table
            .wait_for(|table| condition(&table.listeners()))
            .await
            .ok()?;
        Some(table.listeners())
    }

    /// Waits until the newest snapshot is acted on and no listener is about to open; at once when the proxy has ended.
    pub async fn opened(&self) {
        let newest = self.reader.load().generation();
        let is_open = |table: &Table| {
            let is_opening = |entry: &Entry| entry.state == ListenerState::Opening;
            table.is_of(newest) && !table.entries.values().any(is_opening)
        };
        let _ = self.table.clone().wait_for(is_open).await;
    }

    /// Waits until something is another than at the last call; for ever once the proxy has ended.
    pub(crate) async fn changed(&mut self) {
        if self.table.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the newest snapshot is acted on and no listener is about to open; then gives a socket to connect to,
    /// of the lowest port that serves, or none when none does.
    pub async fn serving(&self) -> Option<SocketAddr> {
        let newest = self.reader.load().generation();
        let mut table = self.table.clone();
        let table = table
            .wait_for(|table| table.is_settled(newest))
            .await
            .ok()?;
        let listeners = table.listeners();
        let first = listeners
            .iter()
            .find(|listener| listener.state == ListenerState::Serving)?;
        first.sockets.first().copied().map(reachable)
    }
}

/// The address at which a socket can be reached from this host: a wildcard is reached at loopback.
fn reachable(socket: SocketAddr) -> SocketAddr {
    let ip = match socket.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, socket.port())
}

/// Where tasks post. The lock inside guards the table and is held for one change, never across an await.
#[derive(Clone, Debug)]
pub(crate) struct Board(watch::Sender<Table>);

impl Board {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Table {
            ephemeral: EphemeralPorts::of_this_host(),
            planned: None,
            next: 0,
            entries: BTreeMap::new(),
        }))
    }

    pub(crate) fn handle(&self, reader: Reader) -> StatusHandle {
        StatusHandle {
            table: self.0.subscribe(),
            reader,
        }
    }

    /// Says that the snapshot's plan is on the board.
    pub(crate) fn planned(&self, generation: Generation) {
        self.0.send_modify(|table| table.planned = Some(generation));
    }

    /// Lists a listener until the post is dropped.
    pub(crate) fn post(&self, target: Target, state: ListenerState, carried: Carried) -> Post {
        let mut number = 0;
        self.0.send_modify(|table| {
            number = table.next;
            table.next += 1;
            table.entries.insert(
                (target.clone(), number),
                Entry {
                    state,
                    proof: Proof::default(),
                    sockets: Vec::new(),
                    carried,
                },
            );
        });
        Post {
            board: self.clone(),
            key: (target, number),
        }
    }

    /// Lists a wish that is not granted.
    pub(crate) fn refused(&self, contender: &Contender) -> Post {
        let state = match &contender.refusal {
            Refusal::Unsupported { protocol } => ListenerState::Unsupported {
                protocol: *protocol,
            },
            Refusal::Taken { by } => ListenerState::Conflict {
                holder: Holder::Service(by.clone()),
            },
        };
        self.post(contender.target.clone(), state, Carried::default())
    }
}

/// One entry of the board; dropping it takes the entry off.
#[derive(Debug)]
pub(crate) struct Post {
    board: Board,
    key: (Target, u64),
}

impl Post {
    /// Says what the listener does now; whether that is something else than before.
    pub(crate) fn set(&self, state: ListenerState) -> bool {
        self.board
            .0
            .send_if_modified(|table| match table.entries.get_mut(&self.key) {
                Some(entry) if entry.state != state => {
                    entry.state = state;
                    true
                }
                _ => false,
            })
    }

    /// Says what is known of the way in.
    pub(crate) fn proof(&self, proof: Proof) {
        self.board
            .0
            .send_if_modified(|table| match table.entries.get_mut(&self.key) {
                Some(entry) if entry.proof != proof => {
                    entry.proof = proof;
                    true
                }
                _ => false,
            });
    }

    /// Says which sockets listen now.
    pub(crate) fn sockets(&self, sockets: &[SocketAddr]) {
        self.board.0.send_modify(|table| {
            if let Some(entry) = table.entries.get_mut(&self.key) {
                entry.sockets = sockets.to_vec();
            }
        });
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.board
            .0
            .send_modify(|table| drop(table.entries.remove(&self.key)));
    }
}

#[derive(Debug)]
struct Table {
    ephemeral: EphemeralPorts,
    planned: Option<Generation>,
    next: u64,
    entries: BTreeMap<(Target, u64), Entry>,
}

#[derive(Debug)]
struct Entry {
    state: ListenerState,
    proof: Proof,
    sockets: Vec<SocketAddr>,
    carried: Carried,
}

/// What a listener carries now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) connections: TaskTracker,
    pub(crate) live: LiveTable,
    pub(crate) sessions: SessionTable,
}

impl Table {
    fn listeners(&self) -> Vec<ListenerStatus> {
        let status = |((target, _), entry): (&(Target, u64), &Entry)| ListenerStatus {
            service: target.service.clone(),
            port_name: target.port_name.clone(),
            protocol: target.protocol,
            wanted: target.port,
            port: entry
                .sockets
                .first()
                .map_or(target.port.get(), SocketAddr::port),
            sockets: entry.sockets.clone(),
            state: entry.state.clone(),
            proof: entry.proof.clone(),
            is_ephemeral: self.ephemeral.may_take(target.port.get()),
            active: entry.carried.connections.len(),
        };
        self.entries.iter().map(status).collect()
    }

    fn is_of(&self, newest: Generation) -> bool {
        self.planned.is_some_and(|planned| planned >= newest)
    }

    fn is_settled(&self, newest: Generation) -> bool {
        self.is_of(newest)
            && self
                .entries
                .values()
                .all(|entry| !matches!(entry.state, ListenerState::Opening | ListenerState::Bound))
    }
}
