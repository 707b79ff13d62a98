// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers this host in the zone's Consul: one instance per service port that this host really serves.
//!
//! In: what the listeners do, the agent of this host. Out: instances that pass, are critical, or are gone. Registered are
//! hosts, not pods: an instance enters after its port is proved, first critical and then passing; it passes only while every
//! worker answers, the proof holds and an endpoint can be reached from here; it leaves before its listener closes. What an
//! agent forgets in a restart is registered anew. The rules ([`ledger`]) are pure; here they are carried out.

mod agent;
#[cfg(feature = "consulrs")]
mod consulrs;
mod ledger;
mod weight;

pub(crate) use self::weight::Load;

use self::{
    agent::Agent,
    ledger::{Ledger, Standing, Step},
    weight::Weights,
};
use crate::{
    status::{ListenerState, StatusHandle},
    workers::Workers,
};
use discovery_core::{
    model::NodeName,
    source::{ConsulAgent, ConsulHealth},
    store::Reader,
};
use std::{
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How this host is registered.
///
/// ```
/// use discovery_core::source::{ConsulAgent, Token};
/// use lb_proxy::Registration;
/// use std::time::Duration;
///
/// let agent = ConsulAgent::new("127.0.0.1:8500".parse().unwrap(), Token::default(), None).unwrap();
/// let registration = Registration::new(agent).weight(10).leave_wait(Duration::from_secs(5));
/// let config = lb_proxy::Config::default().register(registration);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct Registration {
    agent: Arc<dyn Agent>,
    address: Option<IpAddr>,
    tags: Vec<String>,
    weight: u32,
    ttl: Duration,
    leave_wait: Duration,
    weight_every: Duration,
}

impl Registration {
    /// At the agent of this host, under the node's LAN address, with weight 1.
    pub fn new(agent: ConsulAgent) -> Self {
        Self::at(Arc::new(agent))
    }

    fn at(agent: Arc<dyn Agent>) -> Self {
        Self {
            agent,
            address: None,
            tags: Vec::new(),
            weight: 1,
            ttl: TTL,
            leave_wait: LEAVE_WAIT,
            weight_every: WEIGHT_EVERY,
        }
    }

    /// The address under which clients reach this host; by default the first one of its node.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Tags of every instance, besides the name of its port and `udp` where it is.
    #[must_use]
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.tags = tags;
        self
    }

    /// This host's share of the clients, as a whole number: for example its network card in Mbit/s. By default 1.
    ///
    /// Once more than 90 % of the connections are open that this host, or a port, may have, the share that is registered falls in
    /// proportion, to 1 at the limit. A share of 1 cannot fall.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.max(1);
        self
    }

    /// How long a weight that follows the load stays at least, so that clients do not swing between hosts; by default 30 s.
    #[must_use]
    pub fn weight_every(mut self, every: Duration) -> Self {
        self.weight_every = every;
        self
    }

    /// How long a report holds, after which Consul gives this host to nobody; by default 10 s. It is reported anew in a third
    /// of that.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long connections are still accepted between the word that this host leaves, or one of its ports, and the end of the
    /// instances; by default 10 s, in which DNS answers that name it run out.
    #[must_use]
    pub fn leave_wait(mut self, wait: Duration) -> Self {
        self.leave_wait = wait;
        self
    }
}

impl Registration {
    /// How long a port that is no longer wanted goes on: so long that its instance is gone by then.
    pub(crate) fn close_wait(&self) -> Duration {
        self.leave_wait + CALLS
    }
}

/// Keeps the instances of this host.
#[derive(Debug)]
pub(crate) struct Registrar {
    pub(crate) registration: Registration,
    pub(crate) node: NodeName,
    pub(crate) status: StatusHandle,
    pub(crate) reader: Reader,
    pub(crate) workers: Arc<Workers>,
    pub(crate) load: Load,
}

impl Registrar {
    /// Registers until told to leave; then every instance turns critical, and after the wait it is gone. Returns after that.
    pub(crate) async fn run(mut self, leave: CancellationToken) {
        let mut ledger = Ledger::new(self.registration.leave_wait);
        let mut beat = interval(self.registration.ttl / HEARTBEATS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut weights = Weights::default();
        let mut due = None;
        loop {
            let is_beat = tokio::select! {
                biased;
                () = leave.cancelled() => break,
                _ = beat.tick() => true,
                () = self.status.changed() => false,
                () = until(due) => false,
            };
            let mut standings = self.standings().await;
            for (standing, load) in &mut standings {
                let instance = &mut standing.instance;
                let (share, every) = (instance.weight, self.registration.weight_every);
                instance.weight = weights.follow(&instance.id, Instant::now(), share, *load, every);
            }
            let standings: Vec<_> = standings
                .into_iter()
                .map(|(standing, _)| standing)
                .collect();
            weights.retain(&standings);
            // A step may lead to the next: registered, then reported to pass.
            let mut steps = ledger.steps(Instant::now(), standings.clone(), is_beat);
            for _ in 0..STEPS_MAX {
                if steps.is_empty() {
                    break;
                }
                self.perform(&mut ledger, steps).await;
                steps = ledger.steps(Instant::now(), standings.clone(), false);
            }
            due = ledger.due(&standings);
        }
        self.leave(ledger).await;
    }

    async fn leave(&self, mut ledger: Ledger) {
        let critical = ledger.all(|instance| Step::Report {
            instance,
            health: ConsulHealth::Critical,
            note: "this host leaves".into(),
        });
        if critical.is_empty() {
            return;
        }
        info!(instances = critical.len(), "Instances leave Consul");
        self.perform(&mut ledger, critical).await;
        sleep(self.registration.leave_wait).await;
        let gone = ledger.all(Step::Deregister);
        self.perform(&mut ledger, gone).await;
    }

    async fn perform(&self, ledger: &mut Ledger, steps: Vec<Step>) {
        let agent = &self.registration.agent;
        for step in steps {
            let done = match &step {
                Step::Register(instance) => agent.register(instance).await,
                Step::Deregister(instance) => agent.deregister(instance).await,
                Step::Report {
                    instance,
                    health,
                    note,
                } => agent.report(instance, *health, note).await,
            };
            if let Err(error) = &done
                && ledger.is_news(&step)
            {
                warn!(step = %step, %error, "Consul did not take it");
            } else if done.is_ok() && ledger.is_change(&step) {
                info!(step = %step, "Consul was told");
            }
            ledger.done(Instant::now(), step, done);
        }
    }

    /// What each listener is worth to clients now, and how loaded it is.
    async fn standings(&mut self) -> Vec<(Standing, f64)> {
        let Some(address) = self.address() else {
            return Vec::new();
        };
        let is_alive = self.are_alive().await;
        let listeners = self.status.listeners();
        // One that drains is gone for new clients, and another may have its port already; one that leaves soon will be.
        let stays = |state: &ListenerState| {
            !matches!(state, ListenerState::Draining | ListenerState::Leaving)
        };
        listeners
            .iter()
            .filter(|listener| stays(&listener.state))
            .map(|listener| {
                let standing =
                    Standing::of(listener, is_alive, &self.node, address, &self.registration);
                (standing, self.load.of(listener))
            })
            .collect()
    }

    fn address(&mut self) -> Option<IpAddr> {
        let of_node = || {
            let nodes = self.reader.snapshot().nodes();
            let node = nodes.iter().find(|node| node.name == self.node)?;
            node.addresses.first().copied()
        };
        self.registration.address.or_else(of_node)
    }

    /// Whether every worker runs a task within a second.
    async fn are_alive(&self) -> bool {
        for worker in self.workers.handles() {
            let beat = worker.spawn(async {});
            if !matches!(timeout(BEAT_TIMEOUT, beat).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// Two calls to the agent of this host.
const CALLS: Duration = Duration::from_secs(1);

/// Three heartbeats may be lost before an instance is.
const HEARTBEATS: u32 = 3;

/// Short enough that a host which loses its power is gone before most clients give up.
const TTL: Duration = Duration::from_secs(10);

/// Resolvers keep an answer for seconds, and a heartbeat is 3 s.
const LEAVE_WAIT: Duration = Duration::from_secs(10);

/// Longer than answers with the weight of before are kept.
const WEIGHT_EVERY: Duration = Duration::from_secs(30);

/// A worker that takes longer is hung.
const BEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// Register, report, and one more after a failure.
const STEPS_MAX: usize = 3;
