// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one port: wanted, open while an endpoint is usable, proved to be ours, drained at the end.
//!
//! ```text
//! NoEndpoint ──usable──► Opening ──bound──► Bound ──proved──► Serving ◄──usable── Holding ──hold over──► NoEndpoint
//!                        │    ▲               └──not──► Hijacked ┘└─none, Isolated─►
//!                        ▼    │ 1 s … 30 s
//!                  Conflict, Failed                        any ──stop──► Draining ──► gone
//! ```
//! In: new snapshots, proofs, and the word to stop. Out: loops that run or do not, and a status. A port without endpoints
//! closes, because a listener that accepts and resets looks healthy to every load balancer in front. A port that is not
//! proved carries what reaches it all the same.

use super::{
    scout::Scout,
    shown::{state_of, state_when},
};
use crate::{
    backoff::Backoff,
    config::{BusyPort, Config},
    connection::{Acceptor, Listening},
    endpoints::{Outlook, Reach, View},
    peers::{Watched, Witness},
    prove::{Proof, Prover},
    sockets::{BindError, Bound, Opener, OwnSockets},
    status::{ListenerState, Post},
    udp::{Fleet, UdpListener},
    workers::Workers,
};
use discovery_core::{model::Protocol, pick::Picker, runtime::Kept, store::Reader};
use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// One port of this host that a service wants.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) config: Arc<Config>,
    pub(crate) listening: Arc<Listening>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) reader: Reader,
    pub(crate) picker: Picker,
    pub(crate) own: OwnSockets,
    pub(crate) outlook: Outlook,
    pub(crate) post: Post,
    pub(crate) leaving: CancellationToken,
    pub(crate) witness: Witness,
}

/// The words between a port and its supervisor.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortSignals {
    /// To the port: it is no longer wanted, and goes on until it is told to stop.
    pub(crate) leaving: CancellationToken,
    /// To the port: close and drain.
    pub(crate) stop: CancellationToken,
    /// From the port: it is closed; its connections may still go on.
    pub(crate) closed: CancellationToken,
}

impl Port {
    /// Runs until `stop`; ends when the last connection has ended. Opens nothing before `after`, the close of the port's
    /// last owner.
    pub(crate) async fn run(mut self, signals: PortSignals, after: Option<CancellationToken>) {
        let PortSignals { stop, closed, .. } = signals;

        // Also when this task panics: the next owner of the port waits for it.
        let closed = closed.drop_guard();
        if let Some(after) = after {
            after.cancelled().await;
        }
        let scout = self.scout();
        tokio::select! {
            () = self.follow(&stop) => {}
            () = scout => {}
        }
        drop(closed);
        self.drain().await;
    }

    async fn follow(&mut self, stop: &CancellationToken) {
        while let Some(bound) = self.open(stop).await {
            self.serve(bound, stop).await;
        }
    }

    /// Tries the endpoints from this host, where that is asked for; for ever.
    fn scout(&self) -> impl Future<Output = ()> + use<> {
        let is_asked = self.config.tries_endpoints && self.is_tcp();
        let scout = is_asked.then(|| Scout {
            outlook: self.outlook.clone(),
            dialer: self.listening.dialer.clone(),
            picker: self.picker.clone(),
            reader: self.reader.clone(),
            node: self.config.node.clone(),
            port_name: self.listening.target.port_name.clone(),
        });
        async move {
            match scout {
                Some(scout) => scout.run().await,
                None => pending().await,
            }
        }
    }

    fn is_tcp(&self) -> bool {
        self.listening.target.protocol == Protocol::Tcp
    }

    /// Waits for a usable endpoint and opens the port; none when told to stop.
    async fn open(&mut self, stop: &CancellationToken) -> Option<Bound> {
        let opened = async {
            if let Some(closed) = self.lack(ListenerState::NoEndpoint) {
                self.show(&closed);
                self.endpoint().await;
            }
            self.show(&ListenerState::Opening);
            self.bind().await
        };
        stop.run_until_cancelled(opened).await
    }

    /// Carries until told to stop, or until there was no usable endpoint for the hold time.
    async fn serve(&mut self, bound: Bound, stop: &CancellationToken) {
        let sockets = bound.addresses();
        let kept = self.keep(&bound);
        self.own.add(&sockets);
        self.post.sockets(&sockets);
        let close = CancellationToken::new();
        let loops = TaskTracker::new();
        // Also when this task is dropped.
        let closing = close.clone().drop_guard();
        match bound {
            Bound::Tcp(listeners) => self.accept_on(listeners, &loops, &close),
            Bound::Udp(sockets) => self.receive_on(sockets, &loops, &close),
        }
        loops.close();
        stop.run_until_cancelled(self.watch(sockets.clone())).await;
        drop((closing, kept));
        loops.wait().await;
        self.own.remove(&sockets);
        self.post.sockets(&[]);
        self.post.proof(Proof::NotAsked);
    }

    /// Lists the sockets as open, for whoever takes over; one that cannot be listed is opened anew there.
    fn keep(&self, bound: &Bound) -> Vec<Kept> {
        let sockets = &self.config.sockets;
        let kept: io::Result<_> = match bound {
            Bound::Tcp(listeners) => listeners.iter().map(|l| sockets.keep(l)).collect(),
            Bound::Udp(udp) => udp.iter().map(|socket| sockets.keep(socket)).collect(),
        };
        kept.unwrap_or_default()
    }

    /// Starts an accept loop for each socket on each worker.
    fn accept_on(
        &self,
        listeners: Vec<std::net::TcpListener>,
        loops: &TaskTracker,
        close: &CancellationToken,
    ) {
        for listener in listeners {
            for worker in self.workers.handles() {
                let acceptor = Acceptor {
                    picker: self.picker.clone(),
                    listening: self.listening.clone(),
                };
                match listener.try_clone() {
                    Ok(listener) => {
                        loops.spawn_on(acceptor.run(listener, close.clone()), worker);
                    }
                    Err(error) => warn!(%error, "A worker has no listening socket"),
                }
            }
        }
    }

    /// Starts a receive loop for each socket, on one worker each.
    fn receive_on(
        &self,
        sockets: Vec<std::net::UdpSocket>,
        loops: &TaskTracker,
        close: &CancellationToken,
    ) {
        let workers = self.workers.handles();
        let first = usize::from(self.listening.target.port.get());
        for (at, socket) in sockets.into_iter().enumerate() {
            let listener = UdpListener::new(
                self.listening.target.clone(),
                self.config.node.clone(),
                self.fleet.clone(),
                self.picker.clone(),
                self.reader.clone(),
                self.listening.sessions.clone(),
                self.listening.proofs.clone(),
            );
            let worker = &workers[(first + at) % workers.len()];
            loops.spawn_on(listener.run(socket, close.clone()), worker);
        }
    }

    /// Shows what the port does until there has been no usable endpoint for the hold time.
    async fn watch(&mut self, sockets: Vec<SocketAddr>) {
        let asked = self.config.proves_itself;
        let first = if asked {
            Proof::Waiting
        } else {
            Proof::NotAsked
        };
        let (told, proof) = watch::channel(first);
        let visited = self.config.peers.filter(|_| asked).map(|settings| {
            let proofs = self.listening.proofs.clone();
            let protocol = self.listening.target.protocol;
            self.witness
                .watch(protocol, sockets.clone(), proofs, settings)
        });
        let prover = Prover {
            proofs: self.listening.proofs.clone(),
            reader: self.reader.clone(),
            node: self.config.node.clone(),
            protocol: self.listening.target.protocol,
            sockets,
        };
        tokio::select! {
            () = self.dry(proof, visited) => {}
            () = prover.run(&told) => {}
        }
    }

    async fn dry(&mut self, mut proof: watch::Receiver<Proof>, mut visited: Option<Watched>) {
        let mut outlook = self.outlook.view();
        loop {
            self.sweep();
            let proved = proof.borrow_and_update().clone();
            let view = *outlook.borrow_and_update();
            let kept_out = visited.as_mut().map(Watched::kept_out).unwrap_or_default();
            self.post.proof(proved.clone());
            if let Some(holding) = self.lack(ListenerState::Holding) {
                self.show(&holding);
                if timeout(self.config.hold, self.endpoint()).await.is_err() {
                    return;
                }
                continue;
            }
            let leaving = self.leaving.clone();
            let leaves = leaving.is_cancelled();
            self.show(&if leaves {
                ListenerState::Leaving
            } else {
                state_when(proved, &kept_out, view)
            });
            let news = async {
                match &mut visited {
                    Some(visited) => visited.news().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.changed() => {}
                Ok(()) = proof.changed() => {}
                Ok(()) = outlook.changed() => {}
                () = news => {}
                () = leaving.cancelled(), if !leaves => {}
            }
        }
    }

    /// The state while no endpoint can be reached: `none` where there is none; nothing while one can.
    fn lack(&mut self, none: ListenerState) -> Option<ListenerState> {
        if !self.has_endpoint() {
            return Some(none);
        }
        match *self.outlook.view().borrow() {
            View::Isolated(failure) => Some(ListenerState::Isolated {
                cause: format!("no endpoint can be reached from this host: {failure}").into(),
            }),
            View::Unknown | View::Reached => None,
        }
    }

    /// Has connections end whose endpoint is gone.
    fn sweep(&mut self) {
        let view = self.picker.view().ok();
        let members = view.map_or(0, |view| view.usable().count());
        self.listening.dialer.silences.members(members);
        let drain = self.config.endpoint_drain_timeout;
        self.listening.lives.sweep(view.map(|view| &**view), drain);
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
        let mut outlook = self.outlook.view();
        while self.lack(ListenerState::Holding).is_some() {
            tokio::select! {
                () = self.changed() => {}
                Ok(()) = outlook.changed() => {}
            }
            self.sweep();
        }
    }

    /// Whether an endpoint with our port can be reached in the newest snapshot.
    fn has_endpoint(&mut self) -> bool {
        let (node, port_name) = (self.config.node.as_ref(), &self.listening.target.port_name);
        self.picker.view().is_ok_and(|view| {
            Reach {
                view,
                node,
                port_name,
            }
            .is_any()
        })
    }

    /// Waits for a new snapshot; for ever once there is no writer, since nothing changes then.
    async fn changed(&mut self) {
        if self.reader.changed().await.is_none() {
            pending::<()>().await;
        }
    }

    /// Opens the sockets, however often it has to be tried.
    async fn bind(&self) -> Bound {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            match self.try_bind() {
                Ok(bound) => return bound,
                Err(error) => self.show(&state_of(error).await),
            }
            sleep(backoff.step()).await;
        }
    }

    fn try_bind(&self) -> Result<Bound, BindError> {
        let target = &self.listening.target;
        let wanted = target.port.get();
        let last = match self.config.busy_port {
            BusyPort::Retry => wanted,
            BusyPort::MoveOn => wanted.saturating_add(MOVES_MAX),
        };
        let opener = Opener {
            addresses: &self.config.bind_addresses,
            peer_timeout: self.config.relay.peer,
            handed: &self.config.sockets,
        };
        let mut port = wanted;
        loop {
            match opener.bind(target.protocol, port) {
                Err(BindError::Busy { .. }) if port < last => port += 1,
                bound => return bound,
            }
        }
    }

    /// Posts the state, and logs it when it is another.
    fn show(&self, state: &ListenerState) {
        if !self.post.set(state.clone()) {
            return;
        }
        let target = &self.listening.target;
        if state.needs_a_person() {
            warn!(service = %target.service, port = target.port, %state, "Listener changed");
        } else {
            info!(service = %target.service, port = target.port, %state, "Listener changed");
        }
    }
}

/// The first wait before a port is tried again, and the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How many ports above a busy one are tried.
const MOVES_MAX: u16 = 100;
