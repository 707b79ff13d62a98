// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one port: wanted, open while an endpoint is usable, drained at the end.
//!
//! ```text
//! NoEndpoint ──usable──► Opening ──bound──► Serving ◄──usable── Holding ──hold over──► NoEndpoint
//!                        │    ▲                └──────none──────►
//!                        ▼    │ 1 s … 30 s
//!                  Conflict, Failed                     any ──stop──► Draining ──► gone
//! ```
//! In: new snapshots, and the word to stop. Out: accept loops that run or do not, and a status. A port without endpoints
//! closes, because a listener that accepts and resets looks healthy to every load balancer in front.

use crate::{
    accept::Acceptor,
    backoff::Backoff,
    config::{BusyPort, Config},
    connection::Listening,
    holder,
    own::OwnSockets,
    sockets::{BindError, listen},
    status::{Holder, ListenerState, Post},
};
use discovery_core::{pick::Picker, store::Reader};
use std::{error::Error, future::pending, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// One port of this host that a service wants.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) config: Arc<Config>,
    pub(crate) listening: Arc<Listening>,
    pub(crate) reader: Reader,
    pub(crate) picker: Picker,
    pub(crate) own: OwnSockets,
    pub(crate) post: Post,
}

/// The words between a port and its supervisor.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortSignals {
    /// To the port: close and drain.
    pub(crate) stop: CancellationToken,
    /// From the port: it is closed; its connections may still go on.
    pub(crate) closed: CancellationToken,
}

impl Port {
    /// Runs until `stop`; ends when the last connection has ended. Opens nothing before `after`, the close of the port's
    /// last owner.
    pub(crate) async fn run(mut self, signals: PortSignals, after: Option<CancellationToken>) {
        let PortSignals { stop, closed } = signals;
        // Also when this task panics: the next owner of the port waits for it.
        let closed = closed.drop_guard();
        if let Some(after) = after {
            after.cancelled().await;
        }
        while let Some(listeners) = self.open(&stop).await {
            self.serve(listeners, &stop).await;
        }
        drop(closed);
        self.drain().await;
    }

    /// Waits for a usable endpoint and opens the port; none when told to stop.
    async fn open(&mut self, stop: &CancellationToken) -> Option<Vec<TcpListener>> {
        let opened = async {
            if !self.has_endpoint() {
                self.show(&ListenerState::NoEndpoint);
                self.endpoint().await;
            }
            self.show(&ListenerState::Opening);
            self.bind().await
        };
        stop.run_until_cancelled(opened).await
    }

    /// Accepts until told to stop, or until there was no usable endpoint for the hold time.
    async fn serve(&mut self, listeners: Vec<TcpListener>, stop: &CancellationToken) {
        let sockets: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        self.own.add(&sockets);
        self.post.sockets(&sockets);
        self.show(&ListenerState::Serving);
        let close = CancellationToken::new();
        let acceptors = TaskTracker::new();
        // Also when this task is dropped.
        let closing = close.clone().drop_guard();
        for listener in listeners {
            let acceptor = Acceptor {
                listener,
                picker: self.picker.clone(),
                listening: self.listening.clone(),
            };
            acceptors.spawn(acceptor.run(close.clone()));
        }
        acceptors.close();
        stop.run_until_cancelled(self.dry()).await;
        drop(closing);
        acceptors.wait().await;
        self.own.remove(&sockets);
        self.post.sockets(&[]);
    }

    /// Waits until there has been no usable endpoint for the hold time.
    async fn dry(&mut self) {
        loop {
            while self.has_endpoint() {
                self.changed().await;
            }
            self.show(&ListenerState::Holding);
            if timeout(self.config.hold, self.endpoint()).await.is_err() {
                return;
            }
            self.show(&ListenerState::Serving);
        }
    }

    /// Lets the connections end until the deadline, then resets those that are left.
    async fn drain(&self) {
        let connections = &self.listening.connections;
        connections.close();
        if !connections.is_empty() {
            self.show(&ListenerState::Draining);
        }
        if timeout(self.config.drain_timeout, connections.wait())
            .await
            .is_err()
        {
            let left = connections.len();
            let target = &self.listening.target;
            warn!(service = %target.service, port = target.port, left, "Drain deadline: connections are reset");
            self.listening.cut.cancel();
            connections.wait().await;
        }
    }

    async fn endpoint(&mut self) {
        while !self.has_endpoint() {
            self.changed().await;
        }
    }

    /// Whether an endpoint with our port is usable in the newest snapshot.
    fn has_endpoint(&mut self) -> bool {
        let port_name = &self.listening.target.port_name;
        self.picker.view().is_ok_and(|view| {
            view.usable()
                .any(|endpoint| endpoint.socket(Some(port_name)).is_some())
        })
    }

    /// Waits for a new snapshot; for ever once there is no writer, since nothing changes then.
    async fn changed(&mut self) {
        if self.reader.changed().await.is_none() {
            pending::<()>().await;
        }
    }

    /// Opens the sockets, however often it has to be tried.
    async fn bind(&self) -> Vec<TcpListener> {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            match self.try_bind() {
                Ok(listeners) => return listeners,
                Err(error) => self.show(&state_of(error).await),
            }
            sleep(backoff.step()).await;
        }
    }

    fn try_bind(&self) -> Result<Vec<TcpListener>, BindError> {
        let wanted = self.listening.target.port.get();
        let last = match self.config.busy_port {
            BusyPort::Retry => wanted,
            BusyPort::MoveOn => wanted.saturating_add(MOVES_MAX),
        };
        let mut port = wanted;
        loop {
            match listen(&self.config.bind_addresses, port) {
                Err(BindError::Busy { .. }) if port < last => port += 1,
                bound => return bound,
            }
        }
    }

    /// Posts the state, and logs it when it is another.
    fn show(&self, state: &ListenerState) {
        let needs_a_person = matches!(
            state,
            ListenerState::Conflict { .. } | ListenerState::Failed { .. }
        );
        if !self.post.set(state.clone()) {
            return;
        }
        let target = &self.listening.target;
        if needs_a_person {
            warn!(service = %target.service, port = target.port, %state, "Listener changed");
        } else {
            info!(service = %target.service, port = target.port, %state, "Listener changed");
        }
    }
}

/// What to say of a port that could not be opened.
async fn state_of(error: BindError) -> ListenerState {
    match error {
        BindError::Busy { address } => {
            let holder = spawn_blocking(move || holder::of_port(address.port())).await;
            ListenerState::Conflict {
                holder: Holder::from(holder.unwrap_or(None)),
            }
        }
        error => {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            ListenerState::Failed {
                error: format!("{error}{cause}").into(),
            }
        }
    }
}

/// The first wait before a port is tried again, and the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How many ports above a busy one are tried.
const MOVES_MAX: u16 = 100;
