// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a port is opened with: its own counts and limits, and what it shares with the others.

use super::{Proxy, Supervisor};
use crate::{
    connection::{Dialer, Listening, LiveTable},
    endpoints::{Lives, Outlook, Silences},
    limits::Admission,
    plan::Target,
    ports::port::Port,
    prove::Proofs,
    status::{Carried, ListenerState},
    udp::SessionTable,
};
use discovery_core::{model::Protocol, pick::Picker};
use std::sync::{Arc, atomic::AtomicU64};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

impl Supervisor {
    /// The port of a target, not open yet.
    pub(super) fn port(&self, target: &Target, leaving: CancellationToken) -> Port {
        let Proxy {
            config,
            reader,
            board,
            ..
        } = &self.proxy;
        let outlook = Outlook::new(config.tries_endpoints && target.protocol == Protocol::Tcp);
        let listening = self.listening(target.clone(), outlook.clone());
        let carried = Carried {
            connections: listening.connections.clone(),
            live: listening.live.clone(),
            sessions: listening.sessions.clone(),
        };
        let post = board.post(target.clone(), ListenerState::Opening, carried);
        let picker = Picker::new(reader.clone(), target.service.clone());
        let own = match target.protocol {
            Protocol::Udp => {
                // Its series are there from now on, and not only after its first datagram.
                drop(
                    self.proxy
                        .metrics
                        .udp_listener(&target.service, target.port),
                );
                self.fleet.own().clone()
            }
            _ => self.own.clone(),
        };
        Port {
            config: config.clone(),
            listening: Arc::new(listening),
            fleet: self.fleet.clone(),
            workers: self.workers.clone(),
            reader: reader.clone(),
            picker,
            own,
            outlook,
            post,
            leaving,
            witness: self.proxy.witness.clone(),
        }
    }

    fn listening(&self, target: Target, outlook: Outlook) -> Listening {
        let Proxy {
            config, metrics, ..
        } = &self.proxy;
        let listener_max = self.listener_max();
        let cut = self.kill.child_token();
        let silences = Arc::new(Silences::new(config.relay.answer));
        Listening {
            node: config.node.clone(),
            dialer: Dialer {
                limits: config.connect,
                own: self.own.clone(),
                ejections: self.ejections.clone(),
                silences: silences.clone(),
            },
            outlook,
            timeouts: config.relay,
            admission: Admission {
                global: self.permits.clone(),
                listener: Arc::new(Semaphore::new(listener_max)),
                sources: self.sources.clone(),
            },
            header_from: config.header_from.get(&target.port).cloned(),
            header_timeout: config.header_timeout,
            pipes: self.pipes.clone(),
            lives: Lives::new(cut.clone(), silences),
            proofs: Proofs::default(),
            journal: self.journal.clone(),
            next_id: AtomicU64::new(fastrand::u64(..)),
            metrics: metrics.listener(&target.service, target.port),
            live: LiveTable::default(),
            sessions: SessionTable::default(),
            connections: TaskTracker::new(),
            cut,
            target,
        }
    }
}
