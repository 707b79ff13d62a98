// SPDX-License-Identifier: MIT OR Apache-2.0
//! An API server that is killed, stopped or not there at all: what an agent says meanwhile, and when it is back.
//!
//! The server of the first two is a process of its own: this program again, under a variable that says where to listen.

mod agent;

use agent::{Agent, is_long};
use anyhow::ensure;
use rustix::process::Signal;
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use testbed::{
    Process,
    api_server::{ApiServer, Options, generate::Cluster},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_an_api_server_that_was_killed_is_followed_again_within_10_seconds() -> anyhow::Result<()>
{
    if let Some(role) = Role::of_this_process() {
        return role.serve().await;
    }
    let name = "f1_an_api_server_that_was_killed_is_followed_again_within_10_seconds";
    let (folder, [port]) = (tempfile::tempdir()?, testbed::free_ports()?);
    let role = Role::new(port);
    let server = role.start(name, folder.path()).await?;
    let agent = Agent::start(&Cluster::node(0, 0), &role.url(), folder.path(), None)?;
    agent.ready(Duration::from_secs(20)).await?;
    server.kill();
    let flagged = agent.is("STALE", Duration::from_secs(45)).await?;
    tokio::time::sleep(AWAY.saturating_sub(flagged)).await;
    agent.usable(SERVICE, OWN, Duration::from_secs(1)).await?;
    let _server = role.changed().start(name, folder.path()).await?;
    let took = agent
        .usable(SERVICE, OWN - 1, Duration::from_secs(60))
        .await?;
    println!("F1: flagged after {flagged:.1?}, converged {took:.1?} after the return");
    ensure!(took <= Duration::from_secs(10), "converged after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_an_api_server_that_is_stopped_is_flagged_within_45_seconds() -> anyhow::Result<()> {
    if let Some(role) = Role::of_this_process() {
        return role.serve().await;
    }
    let name = "f2_an_api_server_that_is_stopped_is_flagged_within_45_seconds";
    let (folder, [port]) = (tempfile::tempdir()?, testbed::free_ports()?);
    let role = Role::new(port);
    let mut server = role.start(name, folder.path()).await?;
    let agent = Agent::start(&Cluster::node(0, 0), &role.url(), folder.path(), None)?;
    agent.ready(Duration::from_secs(20)).await?;
    server.stop()?;
    let flagged = agent.is("STALE", Duration::from_secs(100)).await?;
    agent.usable(SERVICE, OWN, Duration::from_secs(1)).await?;
    if is_long() {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    server.signal(Signal::CONT)?;
    let back = agent.is("LIVE", Duration::from_secs(60)).await?;
    println!("F2: flagged after {flagged:.1?}, live {back:.1?} after it went on");
    ensure!(flagged <= FLAGGED_WITHIN, "flagged after {flagged:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_a_boot_without_a_server_serves_the_snapshot_within_a_second() -> anyhow::Result<()> {
    let (server, folder) = (filled().await?, tempfile::tempdir()?);
    let node = Cluster::node(0, 0);
    let agent = Agent::start(&node, &server.url(), folder.path(), None)?;
    agent.ready(Duration::from_secs(20)).await?;
    agent.saved(&CLUSTER.pod(0, 0, 1)).await?;
    let before = agent.resolve(NAME).await?.answers.len();
    ensure!(before as u64 == OWN, "{before} answers");
    drop(agent);
    server.refuse().await;
    let begin = Instant::now();
    let agent = Agent::start(&node, &server.url(), folder.path(), None)?;
    let serves = async || (agent.resolve(NAME).await.ok()?.answers.len() == before).then_some(());
    testbed::wait_for("it serves from disk", Duration::from_secs(10), serves).await?;
    let took = begin.elapsed();
    println!("F25: serving after {took:.2?}");
    ensure!(took <= Duration::from_secs(1), "serving after {took:?}");
    ensure!(agent.status().await?["freshness"] == "SNAPSHOT");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_a_boot_without_server_and_snapshot_denies_no_name_and_goes_on_trying()
-> anyhow::Result<()> {
    let (server, folder) = (filled().await?, tempfile::tempdir()?);
    server.refuse().await;
    let agent = Agent::start(&Cluster::node(0, 0), &server.url(), folder.path(), None)?;
    let rcode = async || Some(agent.resolve(NAME).await.ok()?.rcode);
    let rcode = testbed::wait_for("DNS answers", Duration::from_secs(10), rcode).await?;
    ensure!(rcode == "SERVFAIL", "it answered {rcode}");
    let unknown = agent.resolve("nothing.service.consul").await?.rcode;
    ensure!(
        unknown == "SERVFAIL",
        "a name that may exist was denied: {unknown}"
    );
    ensure!(
        !agent.is_ready().await?,
        "ready without having read anything"
    );
    ensure!(agent.status().await?["freshness"] == "EMPTY");
    server.listen_again().await?;
    let begin = Instant::now();
    agent.ready(Duration::from_secs(60)).await?;
    println!("F26: ready {:.1?} after the server came", begin.elapsed());
    ensure!(agent.resolve(NAME).await?.answers.len() as u64 == OWN);
    Ok(())
}

/// The API server as a process: where it listens, and whether a pod of the agent's zone has become unready.
struct Role {
    address: SocketAddr,
    is_changed: bool,
}

impl Role {
    fn new(port: u16) -> Self {
        Self {
            address: ([127, 0, 0, 1], port).into(),
            is_changed: false,
        }
    }

    fn changed(mut self) -> Self {
        self.is_changed = true;
        self
    }

    fn of_this_process() -> Option<Self> {
        let address = std::env::var(ADDRESS).ok()?.parse().ok()?;
        let is_changed = std::env::var_os(CHANGED).is_some();
        Some(Self {
            address,
            is_changed,
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts this program again to play the role, by the name of the test that runs.
    async fn start(&self, test: &str, folder: &Path) -> anyhow::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", test, "--nocapture"])
            .env(ADDRESS, self.address.to_string());
        if self.is_changed {
            command.env(CHANGED, "1");
        }
        let mut process = Process::start("scripted API server", &command, &folder.join("server"))?;
        let is_there = || async { tokio::net::TcpStream::connect(self.address).await.is_ok() };
        process
            .wait_ready(Duration::from_secs(20), is_there)
            .await?;
        Ok(process)
    }

    async fn serve(self) -> anyhow::Result<()> {
        let options = Options::default().listen(self.address);
        let _server = ApiServer::filled(options, |store| {
            CLUSTER.fill(store)?;
            if self.is_changed {
                CLUSTER.set_ready(store, 0, (0, 1), false)?;
            }
            Ok(())
        })
        .await?;
        std::future::pending().await
    }
}

async fn filled() -> anyhow::Result<ApiServer> {
    Ok(ApiServer::filled(Options::default(), |store| CLUSTER.fill(store)).await?)
}

/// Kubernetes' own clients take 295 seconds.
const FLAGGED_WITHIN: Duration = Duration::from_secs(45);
const CLUSTER: Cluster = Cluster {
    zones: 4,
    nodes_per_zone: 5,
    services: 2,
    ..Cluster::LARGE
};
const OWN: u64 = CLUSTER.nodes_per_zone as u64;
const SERVICE: &str = "shop/checkout-000";
const NAME: &str = "checkout-000-shop.service.consul";
const AWAY: Duration = Duration::from_secs(60);
const ADDRESS: &str = "ZONAL_TEST_API_SERVER";
const CHANGED: &str = "ZONAL_TEST_API_SERVER_CHANGED";
