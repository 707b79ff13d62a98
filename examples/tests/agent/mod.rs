// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal agent` as a process against a scripted API server, on this host or in a network namespace.
//!
//! What it says of itself is asked over its own loopback, also inside a namespace: the questions cross no broken link.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod relay;

use anyhow::{Context as _, ensure};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::{Reply, ask};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use testbed::{Netns, Process, api_server};

/// A running agent; it ends when this is dropped.
pub(crate) struct Agent {
    process: Process,
    namespace: Option<String>,
    started: Instant,
    pub(crate) dns: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

impl Agent {
    /// An agent of this node against the API server at `url`; everything that it keeps is in the folder.
    pub(crate) fn start(
        node: &str,
        url: &str,
        folder: &Path,
        namespace: Option<&Netns>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, api_server::kubeconfig(url))?;
        let [dns, metrics, admin] =
            testbed::free_ports()?.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let program = zonal()?;
        let mut command = match namespace {
            Some(namespace) => namespace.command(program.to_str().context("a path in UTF-8")?),
            None => Command::new(program),
        };
        command
            .args(["agent", "--no-proxy", "--node-name", node, "--kubeconfig"])
            .arg(&kubeconfig)
            .args(["--dns-listen", &dns.to_string()])
            .args(["--metrics-listen", &metrics.to_string()])
            .args(["--admin-listen", &admin.to_string()])
            .arg("--snapshot-folder")
            .arg(folder.join("snapshots"));
        Ok(Self {
            process: Process::start("zonal agent", &command, &folder.join("log"))?,
            namespace: namespace.map(|namespace| namespace.name().to_owned()),
            started: Instant::now(),
            dns,
            metrics,
            admin,
            folder: folder.to_owned(),
        })
    }

    /// Waits until it is ready; how long that took from its start.
    pub(crate) async fn ready(&self, within: Duration) -> anyhow::Result<Duration> {
        let ready = async || self.is_ready().await.ok().filter(|ready| *ready);
        let waited = testbed::wait_for("the agent is ready", within, ready).await;
        waited.with_context(|| self.log())?;
        Ok(self.started.elapsed())
    }

    /// The address of its page and API.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The processor time that it has taken so far, its own and the kernel's for it.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // proc_pid_stat(5): the name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 wherever Rust runs
    }

    /// The value of a series among its metrics; none while it has not occurred.
    pub(crate) async fn metric(&self, series: &str) -> anyhow::Result<Option<f64>> {
        let page = self.get(self.metrics, "/metrics").await?;
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        Ok(value)
    }

    pub(crate) async fn is_ready(&self) -> anyhow::Result<bool> {
        Ok(self
            .get(self.metrics, "/readyz")
            .await?
            .starts_with("HTTP/1.1 200"))
    }

    pub(crate) async fn status(&self) -> anyhow::Result<Value> {
        let answer = self.get(self.admin, "/api/v1/status").await?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer has a body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Waits until the status says this freshness; how long that took.
    pub(crate) async fn is(&self, freshness: &str, within: Duration) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let is_so = async || (self.status().await.ok()?["freshness"] == freshness).then_some(());
        let what = format!("the agent says {freshness}");
        testbed::wait_for(&what, within, is_so)
            .await
            .with_context(|| self.log())?;
        Ok(begin.elapsed())
    }

    /// Waits until so many endpoints of the service can be picked; how long that took.
    pub(crate) async fn usable(
        &self,
        service: &str,
        count: u64,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let is_so = async || {
            let status = self.status().await.ok()?;
            let services = status["services"].as_array()?;
            let ours = services.iter().find(|one| one["name"] == service)?;
            (ours["usable"] == count).then_some(())
        };
        let what = format!("{count} endpoints of {service} are usable");
        testbed::wait_for(&what, within, is_so)
            .await
            .with_context(|| self.log())?;
        Ok(begin.elapsed())
    }

    /// Waits until its snapshot on disk names the pod.
    pub(crate) async fn saved(&self, pod: &str) -> anyhow::Result<()> {
        let file = self.folder.join("snapshots/snapshot");
        let is_saved = async || {
            let bytes = std::fs::read(&file).ok()?;
            String::from_utf8_lossy(&bytes).contains(pod).then_some(())
        };
        Ok(testbed::wait_for("the snapshot is saved", Duration::from_secs(20), is_saved).await?)
    }

    /// The answer for A records of a name.
    pub(crate) async fn resolve(&self, name: &str) -> anyhow::Result<Reply> {
        let (dns, name) = (self.dns, name.to_owned());
        let answer = self.there(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            let asking = ask(dns, &name, "A", DnsTransport::Udp, Duration::from_secs(2));
            Ok(runtime.block_on(asking)?)
        });
        answer.await
    }

    async fn get(&self, address: SocketAddr, path: &'static str) -> anyhow::Result<String> {
        self.there(move || get(address, path)).await
    }

    /// Does the work where the agent is: in a thread of its own, because it stays in the namespace that it moves into.
    async fn there<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let namespace = self.namespace.clone();
        let moved = move || {
            if let Some(name) = namespace {
                let namespace = File::open(format!("/run/netns/{name}"))?;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            work()
        };
        let done = tokio::task::spawn_blocking(move || std::thread::spawn(moved).join()).await?;
        done.map_err(|_| anyhow::anyhow!("the asking thread panicked"))?
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }
}

/// A page of a listener of this host.
pub(crate) async fn page(address: SocketAddr, path: &'static str) -> anyhow::Result<String> {
    tokio::task::spawn_blocking(move || get(address, path)).await?
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The command, built beside this test.
pub(crate) fn zonal() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    let built = folder
        .context("a test lies in target/…/deps")?
        .join("zonal");
    let path = built.display();
    ensure!(
        built.exists(),
        "{path} is not built: cargo build --workspace --bins"
    );
    Ok(built)
}

/// Whether the long variants are asked for: `ZONAL_LONG=1 cargo test -p examples --test thin_link`, and so on.
pub(crate) fn is_long() -> bool {
    std::env::var_os("ZONAL_LONG").is_some()
}
