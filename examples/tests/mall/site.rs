// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mall's hardware: a control plane, nodes, pods that answer with their name, and agents as processes.

use anyhow::{Context as _, ensure};
use dns_sidecar::client::ask;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use testbed::{Driver, Kube, Leases, Process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// A pod: its address is one of the namespace's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) node: &'static str,
    pub(crate) ip: IpAddr,
}

const fn place(
    name: &'static str,
    zone: &'static str,
    node: &'static str,
    third: u8,
    last: u8,
) -> Pod {
    Pod {
        name,
        zone,
        node,
        ip: IpAddr::V4(Ipv4Addr::new(10, 77, third, last)),
    }
}

const PODS: [Pod; 8] = [
    place("web-0", "mall-1", "mall-1-a", 1, 1),
    place("web-1", "mall-1", "mall-1-b", 1, 2),
    place("web-2", "mall-1", "mall-1-c", 1, 3),
    place("web-3", "mall-2", "mall-2-a", 2, 1),
    place("web-4", "mall-2", "mall-2-b", 2, 2),
    place("web-5", "mall-2", "mall-2-c", 2, 3),
    place("web-6", "mall-3", "mall-3-a", 3, 1),
    place("web-9", "mall-1", "mall-1-a", 1, 9),
];

/// Every address that the namespace has beside loopback.
pub(crate) const ADDRESSES: [&str; 8] = [
    "10.77.1.1",
    "10.77.1.2",
    "10.77.1.3",
    "10.77.2.1",
    "10.77.2.2",
    "10.77.2.3",
    "10.77.3.1",
    "10.77.1.9",
];

/// The pods that a zone begins with.
pub(crate) fn pods(zone: &str) -> impl Iterator<Item = Pod> {
    PODS.into_iter()
        .filter(move |pod| pod.zone == zone && pod.name != "web-9")
}

/// The pod of a zone with the given last byte.
pub(crate) fn pod(zone: &str, last: u8) -> Pod {
    let ends = |pod: &Pod| matches!(pod.ip, IpAddr::V4(ip) if ip.octets()[3] == last);
    PODS.into_iter()
        .find(|pod| pod.zone == zone && ends(pod))
        .expect("it is in the table")
}

/// 30 addresses to connect from.
pub(crate) fn sources() -> impl Iterator<Item = IpAddr> + Clone {
    (1..=30).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 9, last)))
}

/// A running control plane with two zones of three nodes, the service `web` and its six pods.
pub(crate) struct Site {
    pub(crate) kube: Kube,
    pub(crate) driver: Driver,
    _leases: Leases,
    folder: PathBuf,
}

impl Site {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        for pod in PODS {
            let listener = TcpListener::bind((pod.ip, POD_PORT)).await?;
            tokio::spawn(answer_with(listener, pod.name));
        }
        let kube = Kube::start().await?;
        let driver = kube.driver();
        let folder = std::env::temp_dir().join(format!("zonal-mall-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let leases = driver.renew_leases(PODS.map(|pod| pod.node));
        let site = Self {
            kube,
            driver,
            _leases: leases,
            folder,
        };
        site.driver.service(service()).await?;
        for zone in ["mall-1", "mall-2"] {
            site.add_zone(zone).await?;
        }
        Ok(site)
    }

    /// Nodes and pods of one more zone.
    pub(crate) async fn add_zone(&self, zone: &str) -> anyhow::Result<()> {
        for pod in pods(zone) {
            let labels = [("topology.kubernetes.io/zone", pod.zone)];
            self.driver.node(pod.node, &labels, pod.ip).await?;
            self.add_pod(&pod).await?;
        }
        Ok(())
    }

    pub(crate) async fn add_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        Ok(self
            .driver
            .pod(pod.name, "default", &[("app", "web")], pod.node, pod.ip)
            .await?)
    }

    /// The kubeconfig of an agent with exactly the role that `deploy/` gives it.
    pub(crate) async fn agent_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let rbac =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac.yaml"))?;
        self.kube.apply_yaml(&rbac).await?;
        Ok(self
            .kube
            .service_account_kubeconfig("zonal-system", "zonal-agent")
            .await?)
    }

    /// The same for a role that lacks nodes.
    pub(crate) async fn kubeconfig_without_nodes(&self) -> anyhow::Result<PathBuf> {
        self.kube.apply_yaml(&rbac_without_nodes()?).await?;
        Ok(self
            .kube
            .service_account_kubeconfig("zonal-system", "zonal-nodeless")
            .await?)
    }
}

/// The role of `deploy/` without its right on nodes, under another name.
fn rbac_without_nodes() -> anyhow::Result<String> {
    let rbac =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac.yaml"))?;
    let without = rbac.replace("[nodes, services]", "[services]");
    ensure!(without != rbac, "the role is written in another way");
    Ok(without.replace("zonal-agent", "zonal-nodeless"))
}

fn service() -> Value {
    json!({
        "metadata": {
            "name": "web",
            "namespace": "default",
            "labels": { "service.kubernetes.io/service-proxy-name": "zonal" },
        },
        "spec": {
            "type": "NodePort",
            "selector": { "app": "web" },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": POD_PORT, "nodePort": NODE_PORT }],
        },
    })
}

async fn answer_with(listener: TcpListener, name: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = stream.write_all(name.as_bytes()).await;
        });
    }
}

/// Connects from the source address and reads who answers.
pub(crate) async fn exchange(source: IpAddr, front: SocketAddr) -> anyhow::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let mut stream = socket.connect(front).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(!answer.is_empty(), "the front closed without an answer");
    Ok(answer)
}

/// The A records of `web.service.consul`.
pub(crate) async fn dns_addresses(server: SocketAddr) -> anyhow::Result<BTreeSet<IpAddr>> {
    let udp = discovery_core::telemetry::DnsTransport::Udp;
    let reply = ask(
        server,
        "web.service.consul",
        "A",
        udp,
        Duration::from_secs(2),
    )
    .await?;
    reply
        .answers
        .iter()
        .map(|record| Ok(record.data.parse()?))
        .collect()
}

/// `zonal agent` as a process.
pub(crate) struct Agent {
    process: Process,
    node: &'static str,
    kubeconfig: PathBuf,
    with_proxy: bool,
    pub(crate) dns: SocketAddr,
    pub(crate) front: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

impl Agent {
    pub(crate) async fn start(
        site: &Site,
        node: &'static str,
        kubeconfig: &Path,
        with_proxy: bool,
    ) -> anyhow::Result<Self> {
        let [dns, metrics, admin] =
            testbed::free_ports()?.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let folder = site.folder.join(node);
        std::fs::create_dir_all(&folder)?;
        let command = command(node, kubeconfig, with_proxy, [dns, metrics, admin], &folder)?;
        let process = Process::start("zonal agent", &command, &folder.join("log"))?;
        let front = SocketAddr::from(([127, 0, 0, 1], NODE_PORT));
        let kubeconfig = kubeconfig.to_owned();
        let agent = Self {
            process,
            node,
            kubeconfig,
            with_proxy,
            dns,
            front,
            metrics,
            admin,
            folder,
        };
        testbed::wait_for("the agent answers", Duration::from_secs(10), async || {
            agent.readiness().await.ok()
        })
        .await?;
        Ok(agent)
    }

    /// Kills the process and starts it again with the same configuration.
    pub(crate) async fn restart(&mut self, _site: &Site) -> anyhow::Result<()> {
        self.process.signal(rustix::process::Signal::KILL)?;
        // Not merely one of its ports: whoever ends closes them one by one.
        let process = &mut self.process;
        testbed::wait_for("the old agent is gone", Duration::from_secs(5), || {
            std::future::ready(process.status().ok().flatten())
        })
        .await?;
        let ports = [self.dns, self.metrics, self.admin];
        let command = command(
            self.node,
            &self.kubeconfig,
            self.with_proxy,
            ports,
            &self.folder,
        )?;
        self.process = Process::start("zonal agent", &command, &self.folder.join("log-2"))?;
        Ok(())
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let ready = async || self.readiness().await.ok().filter(|(ready, _)| *ready);
        let waited = testbed::wait_for("the agent is ready", Duration::from_secs(15), ready).await;
        waited.with_context(|| self.log())?;
        Ok(())
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// Whether it is ready, and what it says is missing.
    pub(crate) async fn readiness(&self) -> anyhow::Result<(bool, String)> {
        let answer = get(self.metrics, "/readyz").await?;
        Ok((answer.starts_with("HTTP/1.1 200"), body(&answer).to_owned()))
    }

    pub(crate) async fn age_seconds(&self) -> anyhow::Result<f64> {
        let status: Value = serde_json::from_str(body(&get(self.admin, "/api/v1/status").await?))?;
        status["age_seconds"]
            .as_f64()
            .context("the status has an age")
    }

    /// The endpoints in the order in which this agent tries them for a key.
    pub(crate) async fn order(&self, service: &str, key: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/api/v1/explain?service={service}&key={key}");
        let explained: Value = serde_json::from_str(body(&get(self.admin, &path).await?))?;
        let order = explained["order"].as_array().context("there is an order")?;
        Ok(order
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect())
    }

    /// Waits until a snapshot with every pod of the zone ready is on disk.
    pub(crate) async fn saved(&self) -> anyhow::Result<()> {
        let file = self.folder.join("snapshots/snapshot");
        let saved = async || {
            let text = std::fs::read_to_string(&file).ok()?;
            let body: Value = serde_json::from_str(text.split_once('\n')?.1).ok()?;
            let slices = body["stated"]["kube"]["slices"].as_array()?;
            let endpoints = slices
                .iter()
                .filter_map(|slice| slice["endpoints"].as_array());
            let ready: BTreeSet<_> = endpoints
                .flatten()
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .filter_map(|endpoint| endpoint["target"]["name"].as_str())
                .collect();
            let is_saved = |pod: Pod| ready.contains(pod.name);
            pods("mall-1").all(is_saved).then_some(())
        };
        Ok(testbed::wait_for("the snapshot is saved", Duration::from_secs(15), saved).await?)
    }

    /// Ends the agent and checks that it drained: exit code 0.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.signal(rustix::process::Signal::TERM)?;
        let gone = async || TcpStream::connect(self.metrics).await.err();
        testbed::wait_for("the agent ends", Duration::from_secs(10), gone).await?;
        Ok(())
    }
}

fn command(
    node: &str,
    kubeconfig: &Path,
    with_proxy: bool,
    [dns, metrics, admin]: [SocketAddr; 3],
    folder: &Path,
) -> anyhow::Result<Command> {
    let mut command = Command::new(zonal()?);
    command
        .arg("agent")
        .env("NODE_NAME", node)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--dns-listen", &dns.to_string()])
        .args(["--metrics-listen", &metrics.to_string()])
        .args(["--admin-listen", &admin.to_string()])
        .arg("--snapshot-folder")
        .arg(folder.join("snapshots"));
    if !with_proxy {
        command.arg("--no-proxy");
    }
    Ok(command)
}

/// The command, built beside this test.
fn zonal() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let built = test
        .parent()
        .and_then(Path::parent)
        .context("a test lies in target/…/deps")?
        .join("zonal");
    ensure!(
        built.exists(),
        "{} is not built: cargo build --workspace --bins",
        built.display()
    );
    Ok(built)
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Where the pods listen.
const POD_PORT: u16 = 8_080;
const NODE_PORT: u16 = 30_081;
