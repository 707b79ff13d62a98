// SPDX-License-Identifier: MIT OR Apache-2.0
//! The visiting side: connects to the ports of two other hosts of the zone, again and again.
//!
//! In: the zone's nodes, our own listeners, whose ports are those of every host. Out: announcements and connections. Nodes without
//! an agent are passed over for a minute.

use super::{
    PeerVisits, circle,
    host::{Answer, Host},
};
use crate::status::{ListenerState, StatusHandle};
use discovery_core::{
    model::{NodeName, Protocol},
    store::Reader,
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::IpAddr,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::debug;

/// Visits the peers of one host.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) settings: PeerVisits,
    pub(crate) node: NodeName,
    pub(crate) reader: Reader,
    pub(crate) status: StatusHandle,
}

impl Visitor {
    /// Goes on for ever.
    pub(crate) async fn run(mut self) {
        let mut away = HashMap::new();
        loop {
            // Hosts that started together need not come together.
            let every = self.settings.every;
            sleep(every.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            let ports = self.ports();
            if !ports.is_empty() {
                self.round(&ports, &mut away).await;
            }
        }
    }

    /// One visit to each port of two hosts that answer.
    async fn round(
        &mut self,
        ports: &BTreeSet<(Protocol, u16)>,
        away: &mut HashMap<IpAddr, Instant>,
    ) {
        away.retain(|_, until| Instant::now() < *until);
        let nodes = self.reader.snapshot().nodes();
        let addresses: Vec<_> = circle::after(nodes, &self.node)
            .into_iter()
            .filter_map(|node| node.addresses.first().copied())
            .filter(|ip| !away.contains_key(ip))
            .take(ASKED_MAX)
            .collect();
        let mut visited = 0;
        for ip in addresses {
            match self.visit(ip, ports).await {
                Ok(()) => visited += 1,
                Err(error) => {
                    debug!(%ip, %error, "A node of our zone cannot be visited");
                    away.insert(ip, Instant::now() + AWAY);
                }
            }
            if visited == PEERS {
                return;
            }
        }
    }

    async fn visit(&self, ip: IpAddr, ports: &BTreeSet<(Protocol, u16)>) -> io::Result<()> {
        let mut host = Host::meet(ip, self.settings.announce_port).await?;
        let mut visits = JoinSet::new();
        for (protocol, port) in ports {
            if visits.len() >= AT_ONCE {
                visits.join_next().await;
            }
            match host.announce(*protocol, *port).await? {
                (Answer::Come, visit) => drop(visits.spawn(visit.make())),
                (Answer::NotOpen, _) => {}
                (Answer::Busy, _) => break,
                (Answer::Stranger, _) => {
                    let what = "it is no agent of our zone, or takes us for none";
                    return Err(io::Error::other(what));
                }
            }
        }
        while visits.join_next().await.is_some() {}
        Ok(())
    }

    /// The ports that services want, open here or not.
    fn ports(&self) -> BTreeSet<(Protocol, u16)> {
        let listeners = self.status.listeners();
        let is_wanted = |state: &ListenerState| {
            !matches!(
                state,
                ListenerState::Leaving
                    | ListenerState::Draining
                    | ListenerState::Unsupported { .. }
            )
        };
        let wanted = listeners
            .iter()
            .filter(|listener| is_wanted(&listener.state));
        wanted
            .map(|listener| (listener.protocol, listener.wanted.get()))
            .take(PORTS_MAX)
            .collect()
    }
}

/// Enough to agree.
const PEERS: usize = 2;

/// Nodes asked in one round, before two were found.
const ASKED_MAX: usize = 16;

/// How long a node that did not answer, or has no agent, is passed over.
const AWAY: Duration = Duration::from_secs(60);

/// Connections to one host that may wait for it.
const AT_ONCE: usize = 8;

/// Of one host in one round; more node ports than a site has.
const PORTS_MAX: usize = 256;
