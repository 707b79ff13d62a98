// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy: follows the snapshots, opens the ports that they ask for and drains those that they no longer do.
//!
//! In: new generations, the words to stop and to kill. Out: one task per port. It never touches a connection itself.

mod equip;

use super::{health::HealthPorts, port::PortSignals};
use crate::{
    config::Config,
    connection::Journal,
    endpoints::{CONNECTS, SharedEjections},
    limits::{SharedSources, Sources, connections_max},
    peers::{Visitor, Witness},
    plan::{Contender, Plan, Slot, Target, plan},
    register::{Load, Registrar},
    relay::Pipes,
    sockets::{EphemeralPorts, OwnSockets},
    status::{Board, Post, StatusHandle},
    udp::{Fleet, HandOver},
    workers::{Workers, threads},
};
use discovery_core::{
    store::{Reader, Snapshot},
    telemetry::ProxyMetrics,
};
use std::{collections::BTreeMap, future::pending, sync::Arc};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// The proxy of one host. It does nothing before [`Proxy::run`].
#[derive(Debug)]
pub struct Proxy {
    config: Arc<Config>,
    reader: Reader,
    metrics: Arc<ProxyMetrics>,
    board: Board,
    hand_over: HandOver,
    witness: Witness,
}

impl Proxy {
    /// A proxy for the services of the reader's snapshots.
    pub fn new(config: Config, reader: Reader, metrics: Arc<ProxyMetrics>) -> Self {
        Self {
            config: Arc::new(config),
            witness: Witness::new(reader.clone(), metrics.clone()),
            reader,
            metrics,
            board: Board::new(),
            hand_over: HandOver::default(),
        }
    }

    /// The way to replace it by another proxy while it runs.
    pub fn hand_over(&self) -> HandOver {
        self.hand_over.clone()
    }

    /// What its peers announce their visits to, where it lets itself be visited ([`Config::visit_peers`]).
    pub fn witness(&self) -> Witness {
        self.witness.clone()
    }

    /// What its listeners do, now and later.
    pub fn status(&self) -> StatusHandle {
        self.board.handle(self.reader.clone())
    }

    /// Serves until `stop`; then this host leaves Consul, where it is registered, every port closes after its backlog is
    /// accepted, and the connections go on until the drain timeout or `kill`, whichever is first. Returns when the last has
    /// ended. A `kill` without `stop` is both. Once another proxy takes over by [`Proxy::hand_over`], this one drains likewise
    /// and this host stays registered.
    ///
    /// Dropping the future is `kill`. It needs a runtime of tokio with I/O and time.
    pub async fn run(self, stop: CancellationToken, kill: CancellationToken) {
        let kill = kill.child_token();
        let _killed_when_dropped = kill.clone().drop_guard();
        let _let_go_when_dropped = self.hand_over.let_go();
        let mut supervisor = Supervisor::new(self, kill.clone());
        supervisor.leaving = stop.clone();
        // Boxed: the client of Consul would make the future of the whole proxy large.
        let registered = Box::pin(supervisor.registered(stop));
        let visited = supervisor.visited();
        let hand_over = supervisor.proxy.hand_over.clone();
        let serve = async {
            tokio::select! {
                () = supervisor.follow() => {}
                () = registered => {}
                () = visited => {}
                () = hand_over.begun() => {}
            }
        };
        kill.run_until_cancelled(serve).await;
        supervisor.drain().await;
    }
}

#[derive(Debug)]
struct Supervisor {
    proxy: Proxy,
    workers: Arc<Workers>,
    permits_max: usize,
    permits: Arc<Semaphore>,
    sources: SharedSources,
    pipes: Pipes,
    ejections: SharedEjections,
    journal: Journal,
    fleet: Arc<Fleet>,
    own: OwnSockets,
    ephemeral: EphemeralPorts,
    open: BTreeMap<Slot, OpenPort>,
    /// The last owner of a port, until it has closed it; a port is forgotten with its next owner.
    closing: BTreeMap<Slot, PortSignals>,
    refused: BTreeMap<Contender, Post>,
    health: HealthPorts,
    /// That this host leaves: health checks fail from then on.
    leaving: CancellationToken,
    ports: TaskTracker,
    kill: CancellationToken,
}

#[derive(Debug)]
struct OpenPort {
    target: Target,
    signals: PortSignals,
}

impl Supervisor {
    fn new(proxy: Proxy, kill: CancellationToken) -> Self {
        let permits = connections_max(proxy.config.connections_max).min(Semaphore::MAX_PERMITS);
        proxy.metrics.limited_to(permits);
        let workers = Workers::start(proxy.config.threads.unwrap_or_else(threads));
        info!(
            connections_max = permits,
            workers = workers.handles().len(),
            udp_sessions_max = proxy.config.udp.sessions_max,
            "Proxy started"
        );
        Self {
            workers: Arc::new(workers),
            permits_max: permits,
            permits: Arc::new(Semaphore::new(permits)),
            sources: SharedSources::new(Sources::new(proxy.config.sources)),
            pipes: Pipes::new(proxy.config.pipes_max, proxy.metrics.pipes().clone()),
            ejections: SharedEjections::new(CONNECTS),
            journal: Journal::default(),
            fleet: Arc::new(Fleet::new(
                proxy.config.udp,
                proxy.metrics.clone(),
                proxy.config.sessions.clone(),
                proxy.hand_over.clone(),
            )),
            own: OwnSockets::default(),
            ephemeral: EphemeralPorts::of_this_host(),
            proxy,
            open: BTreeMap::new(),
            closing: BTreeMap::new(),
            refused: BTreeMap::new(),
            health: HealthPorts::default(),
            leaving: CancellationToken::new(),
            ports: TaskTracker::new(),
            kill,
        }
    }

    /// Keeps this host registered until `stop`, and until it has left after that.
    fn registered(&self, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        let Proxy {
            config,
            reader,
            board,
            ..
        } = &self.proxy;
        let registrar = config.registration.clone().zip(config.node.clone());
        let registrar = registrar.map(|(registration, node)| Registrar {
            registration,
            node,
            status: board.handle(reader.clone()),
            reader: reader.clone(),
            workers: self.workers.clone(),
            load: Load {
                permits: self.permits.clone(),
                permits_max: self.permits_max,
                listener_max: self.listener_max(),
            },
        });
        async move {
            match registrar {
                Some(registrar) => registrar.run(stop).await,
                None => stop.cancelled().await,
            }
        }
    }

    /// Visits the peers of this host, where that is asked for; for ever.
    fn visited(&self) -> impl Future<Output = ()> + use<> {
        let Proxy {
            config,
            reader,
            board,
            ..
        } = &self.proxy;
        let visitor = config.peers.zip(config.node.clone());
        let visitor = visitor.map(|(settings, node)| Visitor {
            settings,
            node,
            reader: reader.clone(),
            status: board.handle(reader.clone()),
        });
        async move {
            match visitor {
                Some(visitor) => Box::pin(visitor.run()).await,
                None => pending().await,
            }
        }
    }

    /// Acts on each new snapshot; for ever, also when the writer is gone and the last snapshot holds.
    async fn follow(&mut self) {
        let mut reader = self.proxy.reader.clone();
        let mut snapshot = reader.snapshot().clone();
        loop {
            self.act_on(&snapshot);
            match reader.changed().await {
                Some(next) => snapshot = next,
                None => pending().await,
            }
        }
    }

    fn act_on(&mut self, snapshot: &Snapshot) {
        let plan = plan(snapshot);
        let diff = plan.diff(self.open.iter().map(|(slot, open)| (*slot, &open.target)));
        for slot in diff.close {
            let is_passed_on = diff.open.iter().any(|target| target.slot() == slot);
            self.close(slot, !is_passed_on);
        }
        for target in diff.open {
            self.open(target);
        }
        self.report(&plan);
        let Proxy { config, reader, .. } = &self.proxy;
        if let Some(node) = &config.node {
            let addresses = &config.bind_addresses;
            self.health.follow(
                snapshot,
                addresses,
                node,
                reader,
                &self.leaving,
                &config.sockets,
            );
        }
        self.proxy.board.planned(snapshot.generation());
    }

    fn open(&mut self, target: Target) {
        let signals = PortSignals {
            stop: self.kill.child_token(),
            ..PortSignals::default()
        };
        let slot = target.slot();
        if self.ephemeral.may_take(slot.port.get()) {
            let mend = self.ephemeral.reservation([slot.port.get()]);
            warn!(
                service = %target.service, port = slot.port, mend = mend.as_deref(),
                "An outgoing connection of this host may take the port while it is closed",
            );
        }
        let after = self.closing.remove(&slot).map(|before| {
            before.stop.cancel();
            before.closed
        });
        let port = self.port(&target, signals.leaving.clone());
        self.open.insert(
            slot,
            OpenPort {
                target,
                signals: signals.clone(),
            },
        );
        self.ports.spawn(port.run(signals, after));
    }

    /// The most connections of one listener.
    fn listener_max(&self) -> usize {
        let configured = self.proxy.config.listener_connections_max;
        configured
            .unwrap_or(self.permits_max)
            .clamp(1, Semaphore::MAX_PERMITS)
    }

    /// Has a port close: at once, or once nobody is sent here, where clients are by a registration.
    fn close(&mut self, slot: Slot, may_wait: bool) {
        if let Some(OpenPort { signals, .. }) = self.open.remove(&slot) {
            let registration = self.proxy.config.registration.as_ref();
            match registration.filter(|_| may_wait) {
                None => signals.stop.cancel(),
                Some(registration) => {
                    signals.leaving.cancel();
                    let (stop, wait) = (signals.stop.clone(), registration.close_wait());
                    self.ports.spawn(async move {
                        let _ = stop.run_until_cancelled(sleep(wait)).await;
                        stop.cancel();
                    });
                }
            }
            self.closing.insert(slot, signals);
        }
        self.closing
            .retain(|_, signals| !signals.closed.is_cancelled());
    }

    /// Lists the wishes that are not granted, and no longer those that are.
    fn report(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.refused);
        let board = &self.proxy.board;
        let post = |contender: &Contender| {
            let post = before
                .remove(contender)
                .unwrap_or_else(|| board.refused(contender));
            (contender.clone(), post)
        };
        self.refused = plan.contenders().map(post).collect();
    }

    async fn drain(mut self) {
        let ports: Vec<_> = self.open.keys().copied().collect();
        info!(ports = ports.len(), "Proxy drains");
        for slot in ports {
            self.close(slot, false);
        }
        if self.proxy.hand_over.has_begun() {
            self.health = HealthPorts::default();
        }
        for PortSignals { stop, closed, .. } in std::mem::take(&mut self.closing).into_values() {
            stop.cancel();
            closed.cancelled().await;
        }
        drop(self.proxy.hand_over.let_go());
        self.ports.close();
        self.ports.wait().await;
        info!("Proxy ended");
    }
}
