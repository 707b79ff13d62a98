// SPDX-License-Identifier: MIT OR Apache-2.0
//! 500 agents and an API server that is sick for ten minutes: what the fleet asks of it, and how it comes back.
//!
//! All run in one runtime with paused time, over real sockets. What counts is what one agent asks: a server that comes
//! back must not be knocked over by those who waited for it.

use anyhow::ensure;
use discovery_core::{
    clock::SystemClock,
    model::{NodeName, ZoneKeys},
    source::{KubeConfig, KubeSource, SourceStatus},
    store::{Kind, Object, SourceId, Update},
};
use rustix::process::{Resource as Limited, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use testbed::api_server::{Answer, ApiServer, Asked, Fault, Options, Rule, Switch};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_fleet_at_work_asks_a_server_that_refuses_everything_rarely_and_comes_back_in_order() {
    let fleet = Fleet::start(&[]).await.unwrap();
    fleet.in_sync().await.unwrap();
    let down = Fault::Answer(Answer::status(503, "down"));
    let sick = fleet.server.fault(Rule::everything(), down);
    fleet.server.sever().await.unwrap();
    // The worst return: nobody can resume, and all lists have to be read again.
    fleet.server.store().put(slice("meanwhile")).unwrap();
    fleet.server.store().compact();
    fleet
        .outlast(sick)
        .await
        .unwrap()
        .check("503 to a fleet at work", 0.05)
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_boots_asks_a_server_that_closes_every_connection_rarely_and_comes_in_order() {
    let closed = Fault::Answer(Answer::close());
    let fleet = Fleet::start(&[closed]).await.unwrap();
    let sick = fleet.faults[0].clone();
    // A connection that fails costs a server little and is tried again sooner, so that a restart is not waited for.
    fleet
        .outlast(sick)
        .await
        .unwrap()
        .check("closed connections for a fleet that boots", 0.05)
        .unwrap();
}

/// Agents at work, and the server that they all ask.
struct Fleet {
    server: Arc<ApiServer>,
    faults: Vec<Switch>,
    agents: Vec<Agent>,
}

struct Agent {
    status: Arc<SourceStatus>,
    /// Whether the slice that was written at the healing has arrived.
    has_fresh: Arc<AtomicBool>,
}

/// What a fleet did.
struct Figures {
    /// Lists and requests of any kind of one agent per second, after the first minute.
    lists_per_second: f64,
    requests_per_second: f64,
    lists_after: usize,
    /// From the first list after the healing to the last.
    spread: Duration,
    lists_in_busiest_second: usize,
    /// Until all kinds are followed again and a change of the healing's moment was seen, by all.
    converged: Duration,
}

impl Fleet {
    /// All agents have begun, and meet these faults in everything that they ask.
    async fn start(faults: &[Fault]) -> anyhow::Result<Self> {
        raise_descriptor_limit()?;
        let server = ApiServer::filled(Options::default(), |store| {
            (0..AGENTS).try_for_each(|nth| store.put(node(nth)).map(drop))?;
            store.put(slice("first")).map(drop)
        });
        let server = Arc::new(server.await?);
        let set = |fault: &Fault| server.fault(Rule::everything(), fault.clone());
        let faults = faults.iter().map(set).collect();
        tokio::spawn(pass_time(server.clone()));
        let mut agents = Vec::new();
        for nth in 0..AGENTS {
            agents.push(Agent::start(nth, &server).await?);
        }
        Ok(Self {
            server,
            faults,
            agents,
        })
    }

    async fn in_sync(&self) -> anyhow::Result<()> {
        self.until("the fleet is in sync", Agent::is_live).await
    }

    /// Ten minutes of sickness, the healing, and the return of all.
    async fn outlast(&self, sick: Switch) -> anyhow::Result<Figures> {
        tokio::time::sleep(MINUTE).await;
        let minute = Instant::now();
        tokio::time::sleep(SICK_AFTER_MINUTE).await;
        let healed = Instant::now();
        sick.off();
        self.server.store().put(slice("fresh"))?;
        let is_back = |agent: &Agent| agent.is_live() && agent.has_fresh.load(Relaxed);
        self.until("all converge", is_back).await?;
        let converged = healed.elapsed();
        tokio::time::sleep(MINUTE).await;
        let asked = self.server.all_asked();
        let in_sickness = |one: &&Asked| (minute..healed).contains(&one.at);
        let lists_in_sickness = asked.iter().filter(in_sickness).filter(|one| one.is_list());
        let lists = asked.iter().filter(|one| one.is_list() && one.at >= healed);
        let times: Vec<_> = lists.map(|one| one.at - healed).collect();
        let (first, last) = (times.iter().min(), times.iter().max());
        let spread = last
            .zip(first)
            .map(|(last, first)| last.saturating_sub(*first));
        let in_second = |second: u64| times.iter().filter(|time| time.as_secs() == second).count();
        let per_second = |count: usize| {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            count / SICK_AFTER_MINUTE.as_secs_f64() / f64::from(AGENTS)
        };
        Ok(Figures {
            lists_per_second: per_second(lists_in_sickness.count()),
            requests_per_second: per_second(asked.iter().filter(in_sickness).count()),
            lists_after: times.len(),
            spread: spread.unwrap_or_default(),
            lists_in_busiest_second: (0..120).map(in_second).max().unwrap_or(0),
            converged,
        })
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Agent) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + GIVEN_UP;
        loop {
            let missing = self.agents.iter().filter(|agent| !is_so(agent)).count();
            if missing == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{what}: {missing} are missing after {GIVEN_UP:?}"
            );
            tokio::time::sleep(STEP).await;
        }
    }
}

impl Agent {
    async fn start(nth: u32, server: &ApiServer) -> anyhow::Result<Self> {
        let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(SystemClock)));
        let node = NodeName::parse(&format!("edge-{nth}"))?;
        let config = KubeConfig::new(node, ZoneKeys::default()).server(Some(server.url()));
        let source = KubeSource::new(config, status.clone()).await?;
        let (sender, mut updates) = mpsc::channel(256);
        tokio::spawn(source.run(sender, CancellationToken::new()));
        let has_fresh = Arc::new(AtomicBool::new(false));
        let seen = has_fresh.clone();
        tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                if let Update::Upsert(_, Object::Slice(slice)) = update
                    && slice.key.to_string().contains("fresh")
                {
                    seen.store(true, Relaxed);
                }
            }
        });
        Ok(Self { status, has_fresh })
    }

    /// Every list was read, and is followed.
    fn is_live(&self) -> bool {
        Kind::ALL
            .into_iter()
            .all(|kind| self.status.is_kind_connected(kind) && self.status.sync_age(kind).is_some())
    }
}

impl Figures {
    fn check(&self, what: &str, lists_per_second_max: f64) -> anyhow::Result<()> {
        println!("{AGENTS} agents, ten minutes of {what}: {self}");
        ensure!(
            self.lists_per_second <= lists_per_second_max,
            "an agent asks too often: {self}"
        );
        ensure!(
            self.spread >= Duration::from_secs(5),
            "they come back all at once: {self}"
        );
        ensure!(self.converged <= MINUTE, "they come back too late: {self}");
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} lists/s of an agent after the first minute, {:.3} requests/s; healed, lists spread over {:.1?}, \
             {} of {} in the busiest second, all converged after {:.1?}",
            self.lists_per_second,
            self.requests_per_second,
            self.spread,
            self.lists_in_busiest_second,
            self.lists_after,
            self.converged,
        )
    }
}

/// Moves the paused time when nobody has anything to do: as long as requests arrive or bytes leave, it stands still.
async fn pass_time(server: Arc<ApiServer>) {
    loop {
        let mut before = None;
        loop {
            for _ in 0..SETTLE_POLLS {
                tokio::task::yield_now().await;
            }
            let now = (server.requests(), server.sent_bytes());
            if before.replace(now) == Some(now) {
                break;
            }
        }
        tokio::time::advance(STEP).await;
    }
}

fn node(nth: u32) -> serde_json::Value {
    let labels =
        json!({ "topology.kubernetes.io/zone": format!("mall-{}", nth / AGENTS_PER_ZONE) });
    json!({ "kind": "Node", "metadata": { "name": format!("edge-{nth}"), "labels": labels } })
}

fn slice(name: &str) -> serde_json::Value {
    json!({ "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": [{ "addresses": ["10.0.0.1"], "nodeName": "edge-1" }], "ports": [{ "port": 80 }] })
}

/// Four connections an agent, and both of their ends are here.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Limited::Nofile);
    let current = maximum;
    Ok(setrlimit(Limited::Nofile, Rlimit { current, maximum })?)
}

const AGENTS: u32 = 500;
const AGENTS_PER_ZONE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// The rest of the ten minutes.
const SICK_AFTER_MINUTE: Duration = Duration::from_secs(540);
/// No promise is as long.
const GIVEN_UP: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_millis(100);
const SETTLE_POLLS: usize = 20;
