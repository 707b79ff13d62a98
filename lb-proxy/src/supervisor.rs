// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy: follows the snapshots, opens the ports that they ask for and drains those that they no longer do.
//!
//! In: new generations, the words to stop and to kill. Out: one task per port. It never touches a connection itself.

use crate::{
    config::Config,
    connection::Listening,
    dial::Dialer,
    limit::connections_max,
    listeners::{Contender, Plan, Target, plan},
    own::OwnSockets,
    port::{Port, PortSignals},
    status::{Board, ListenerState, Post, StatusHandle},
};
use discovery_core::{
    pick::Picker,
    store::{Reader, Snapshot},
    telemetry::ProxyMetrics,
};
use std::{collections::BTreeMap, future::pending, num::NonZeroU16, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

/// The proxy of one host. It does nothing before [`Proxy::run`].
#[derive(Debug)]
pub struct Proxy {
    config: Arc<Config>,
    reader: Reader,
    metrics: Arc<ProxyMetrics>,
    board: Board,
}

impl Proxy {
    /// A proxy for the services of the reader's snapshots.
    pub fn new(config: Config, reader: Reader, metrics: Arc<ProxyMetrics>) -> Self {
        Self {
            config: Arc::new(config),
            reader,
            metrics,
            board: Board::new(),
        }
    }

    /// What its listeners do, now and later.
    pub fn status(&self) -> StatusHandle {
        self.board.handle(self.reader.clone())
    }

    /// Serves until `stop`; then every port closes after its backlog is accepted, and the connections go on until the
    /// drain timeout or `kill`, whichever is first. Returns when the last has ended. A `kill` without `stop` is both.
    ///
    /// Dropping the future is `kill`. It needs a runtime of tokio with I/O and time.
    pub async fn run(self, stop: CancellationToken, kill: CancellationToken) {
        let kill = kill.child_token();
        let _killed_when_dropped = kill.clone().drop_guard();
        let mut supervisor = Supervisor::new(self, kill.clone());
        let serve = stop.run_until_cancelled(supervisor.follow());
        kill.run_until_cancelled(serve).await;
        supervisor.drain().await;
    }
}

#[derive(Debug)]
struct Supervisor {
    proxy: Proxy,
    permits: Arc<Semaphore>,
    own: OwnSockets,
    open: BTreeMap<NonZeroU16, OpenPort>,
    /// When the last owner of a port has closed it; a port is forgotten with its next owner.
    closing: BTreeMap<NonZeroU16, CancellationToken>,
    refused: BTreeMap<Contender, Post>,
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
        info!(connections_max = permits, "Proxy started");
        Self {
            proxy,
            permits: Arc::new(Semaphore::new(permits)),
            own: OwnSockets::default(),
            open: BTreeMap::new(),
            closing: BTreeMap::new(),
            refused: BTreeMap::new(),
            ports: TaskTracker::new(),
            kill,
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
        let diff = plan.diff(self.open.iter().map(|(port, open)| (*port, &open.target)));
        for port in diff.close {
            self.close(port);
        }
        for target in diff.open {
            self.open(target);
        }
        self.report(&plan);
        self.proxy.board.planned(snapshot.generation());
    }

    fn open(&mut self, target: Target) {
        let signals = PortSignals {
            stop: self.kill.child_token(),
            ..PortSignals::default()
        };
        let after = self.closing.remove(&target.port);
        let port = self.port(target.clone());
        self.open.insert(
            target.port,
            OpenPort {
                target,
                signals: signals.clone(),
            },
        );
        self.ports.spawn(port.run(signals, after));
    }

    fn port(&self, target: Target) -> Port {
        let Proxy {
            config,
            reader,
            metrics,
            board,
        } = &self.proxy;
        let connections = TaskTracker::new();
        let post = board.post(target.clone(), ListenerState::Opening, connections.clone());
        let picker = Picker::new(reader.clone(), target.service.clone());
        let listening = Listening {
            metrics: metrics.listener(&target.service, target.port),
            dialer: Dialer {
                limits: config.connect,
                own: self.own.clone(),
            },
            timeouts: config.relay,
            permits: self.permits.clone(),
            connections,
            cut: self.kill.child_token(),
            target,
        };
        Port {
            config: config.clone(),
            listening: Arc::new(listening),
            reader: reader.clone(),
            picker,
            own: self.own.clone(),
            post,
        }
    }

    fn close(&mut self, port: NonZeroU16) {
        if let Some(OpenPort { signals, .. }) = self.open.remove(&port) {
            signals.stop.cancel();
            self.closing.insert(port, signals.closed);
        }
        self.closing.retain(|_, closed| !closed.is_cancelled());
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
        for port in ports {
            self.close(port);
        }
        self.ports.close();
        self.ports.wait().await;
        info!("Proxy ended");
    }
}
