// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host: a network namespace with a cable, the agent in it, and ways out of it to the control plane and to Consul.

use crate::stage::NODE_PORT;
use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use testbed::{Consul, Netns, Process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// One host of the zone.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) netns: Netns,
    folder: PathBuf,
    agent: Option<Process>,
    kubeconfig: PathBuf,
    wan: Option<Relay>,
    _to_consul: Relay,
}

impl Host {
    /// The namespace, with Consul at its loopback as an agent of its own would be.
    pub(crate) fn new(name: &'static str, folder: &Path, consul: &Consul) -> anyhow::Result<Self> {
        let netns = Netns::new()?;
        let router = netns.host_ip().to_string();
        netns.run("ip", &["route", "add", "default", "via", &router])?;
        // What kube-proxy translates is forwarded.
        let forwards = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        netns.run("sh", &["-c", forwards])?;
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let consul = consul.http_addr();
        let config = format!(
            "{{proxy: {{drain_seconds: 5, peer_proof_seconds: 1, register: {{consul: '{consul}', ttl_seconds: 3, leave_wait_seconds: 1}}}}}}\n"
        );
        std::fs::write(folder.join("zonal.yaml"), config)?;
        Ok(Self {
            name,
            _to_consul: Relay::new(&netns, consul)?,
            netns,
            folder,
            agent: None,
            kubeconfig: PathBuf::new(),
            wan: None,
        })
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.netns.inner_ip().into()
    }

    /// Where clients connect.
    pub(crate) fn front(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), NODE_PORT)
    }

    /// Gives the host a way to the server at its own loopback, or takes it away with all that goes over it.
    pub(crate) fn wan(&mut self, server: Option<SocketAddr>) -> anyhow::Result<()> {
        self.wan = None;
        self.wan = server
            .map(|server| Relay::new(&self.netns, server))
            .transpose()?;
        Ok(())
    }

    pub(crate) fn start(&mut self, kubeconfig: &Path) -> anyhow::Result<()> {
        kubeconfig.clone_into(&mut self.kubeconfig);
        self.start_again()
    }

    /// Starts the agent as before.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = self.netns.command(&zonal()?.to_string_lossy());
        command
            .args([
                "agent",
                "--no-dns",
                "--node-name",
                self.name,
                "--kubeconfig",
            ])
            .arg(&self.kubeconfig)
            .arg("--config")
            .arg(self.folder.join("zonal.yaml"))
            .args(["--admin-listen", &format!("{}:{ADMIN}", self.ip())])
            .arg("--snapshot-folder")
            .arg(self.folder.join("snapshots"));
        let log = self.folder.join("log");
        self.agent = Some(Process::start("zonal agent", &command, &log)?);
        Ok(())
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let agent = self.agent.as_mut().context("an agent runs")?;
        Ok(agent.signal(signal)?)
    }

    /// Whether the agent has ended, and well.
    pub(crate) fn has_ended_well(&mut self) -> Option<bool> {
        let status = self.agent.as_mut()?.status().ok()??;
        Some(status.success())
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let ready = async || {
            let answer = get(SocketAddr::new(self.ip(), METRICS), "/readyz")
                .await
                .ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        };
        let what = format!("{} is ready", self.name);
        let waited = testbed::wait_for(&what, Duration::from_secs(20), ready).await;
        waited.with_context(|| self.log())
    }

    /// The state of our listener; none while there is none.
    pub(crate) async fn state(&self) -> Option<String> {
        let answer = get(SocketAddr::new(self.ip(), ADMIN), "/api/v1/status")
            .await
            .ok()?;
        let status: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        Some(status["faces"]["proxy"][0]["state"].as_str()?.to_owned())
    }

    /// Waits until our listener's state begins so; the whole of it.
    pub(crate) async fn becomes(&self, state: &str) -> anyhow::Result<String> {
        let is_so = async || self.state().await.filter(|now| now.starts_with(state));
        let what = format!("the port of {} is {state}", self.name);
        let waited = testbed::wait_for(&what, Duration::from_secs(20), is_so).await;
        waited.with_context(|| self.log())
    }

    /// Waits until the snapshot on disk has the service as ours: it is written some seconds after a change.
    pub(crate) async fn saved(&self) -> anyhow::Result<()> {
        let file = self.folder.join("snapshots/snapshot");
        let saved = async || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.contains("\"owns_node_ports\":true").then_some(())
        };
        let what = format!("the snapshot of {} is saved", self.name);
        Ok(testbed::wait_for(&what, Duration::from_secs(15), saved).await?)
    }

    /// Connections of clients that our listener has taken.
    pub(crate) async fn accepted(&self) -> anyhow::Result<u64> {
        let metrics = get(SocketAddr::new(self.ip(), METRICS), "/metrics").await?;
        let is_it = |line: &&str| line.starts_with("zonal_proxy_accepted_total{");
        let told = metrics.lines().find(is_it);
        let told = told.and_then(|line| line.rsplit_once(' '));
        Ok(told.map_or(Ok(0), |(_, count)| count.parse())?)
    }

    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        format!("{}: {text}", self.name)
    }
}

/// Listens at the loopback of a namespace under a server's port, and passes on to it; dropped, all that goes over it ends.
pub(crate) struct Relay(JoinHandle<()>);

impl Relay {
    fn new(netns: &Netns, server: SocketAddr) -> anyhow::Result<Self> {
        let near = (Ipv4Addr::LOCALHOST, server.port());
        let listener = netns.inside(|| std::net::TcpListener::bind(near))??;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self(tokio::spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                carried.spawn(async move {
                    let mut far = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
                while carried.try_join_next().is_some() {}
            }
        })))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await?
}

/// Runs a command in the host.
pub(crate) fn run(host: &Host, program: &str, args: &[&str]) -> anyhow::Result<()> {
    host.netns.run(program, args)?;
    Ok(())
}

/// The command, built beside this test.
fn zonal() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    let built = folder
        .context("a test lies in target/…/deps")?
        .join("zonal");
    let hint = "is not built: cargo build --workspace --bins";
    anyhow::ensure!(built.exists(), "{} {hint}", built.display());
    Ok(built)
}

const ADMIN: u16 = 9_690;
const METRICS: u16 = 9_691;
