// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands around the hosts: a control plane, Consul, pods that answer with their name, clients' addresses.
//!
//! Pods and clients have addresses of the namespace in which the test runs; it routes between the hosts, which have one each.

use crate::host::Host;
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testbed::{Consul, Driver, Kube, Leases, Process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    time::timeout,
};

/// The pods: name, node, zone, last two bytes of the address.
const PODS: [(&str, &str, &str, [u8; 2]); 4] = [
    ("web-0", "host-a", "mall-1", [1, 1]),
    ("web-1", "host-b", "mall-1", [1, 2]),
    ("web-2", "host-c", "mall-1", [1, 3]),
    ("web-far", "far-a", "mall-2", [2, 1]),
];
const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];
const POD_PORT: u16 = 8_080;
pub(crate) const NODE_PORT: u16 = 30_081;
const LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// The pod of another zone.
pub(crate) const FAR: &str = "web-far";

/// Every address that the namespace has beside loopback.
pub(crate) fn addresses() -> impl Iterator<Item = IpAddr> {
    let pods = PODS.map(|(_, _, _, last)| pod_ip(last));
    pods.into_iter().chain(clients())
}

/// Where clients connect from.
pub(crate) fn clients() -> impl Iterator<Item = IpAddr> + Clone {
    (1..=30).map(|last| Ipv4Addr::new(10, 88, 0, last).into())
}

fn pod_ip([third, last]: [u8; 2]) -> IpAddr {
    Ipv4Addr::new(10, 77, third, last).into()
}

/// All of it.
pub(crate) struct Stage {
    pub(crate) kube: Kube,
    driver: Driver,
    pub(crate) consul: Consul,
    pub(crate) hosts: Vec<Host>,
    _leases: Leases,
    folder: TempDir,
}

impl Stage {
    /// Starts the servers and the agents of three hosts of `mall-1`; nobody fronts the service yet.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        for (name, _, _, last) in PODS {
            let listener = TcpListener::bind((pod_ip(last), POD_PORT)).await?;
            tokio::spawn(answer_with(listener, name));
        }
        let (kube, consul) = tokio::try_join!(Kube::start(), Consul::start())?;
        let (driver, folder) = (kube.driver(), tempfile::tempdir()?);
        let mut hosts = Vec::new();
        for name in HOSTS {
            hosts.push(Host::new(name, folder.path(), &consul)?);
        }
        for host in &hosts {
            let zone = [("topology.kubernetes.io/zone", "mall-1")];
            driver.node(host.name, &zone, host.ip()).await?;
        }
        let far = [("topology.kubernetes.io/zone", "mall-2")];
        driver.node("far-a", &far, pod_ip([2, 200])).await?;
        for (name, node, _, last) in PODS {
            let labels = [("app", "web")];
            driver
                .pod(name, "default", &labels, node, pod_ip(last))
                .await?;
        }
        let leases = driver.renew_leases(HOSTS.into_iter().chain(["far-a"]));
        let mut stage = Self {
            kube,
            driver,
            consul,
            hosts,
            _leases: leases,
            folder,
        };
        stage.label(false).await?;
        let kubeconfig = stage.agent_kubeconfig().await?;
        stage.wan(true)?;
        for host in &mut stage.hosts {
            host.start(&kubeconfig)?;
        }
        for host in &stage.hosts {
            host.ready().await?;
        }
        Ok(stage)
    }

    /// Has the service carry the label by which it is ours, or not.
    pub(crate) async fn label(&self, is_ours: bool) -> anyhow::Result<()> {
        let labels = if is_ours {
            json!({ LABEL: "zonal" })
        } else {
            json!({})
        };
        let port = json!({
            "name": "http", "protocol": "TCP", "port": 80, "targetPort": POD_PORT, "nodePort": NODE_PORT,
        });
        let service = json!({
            "metadata": { "name": "web", "namespace": "default", "labels": labels },
            "spec": { "type": "NodePort", "selector": { "app": "web" }, "ports": [port] },
        });
        Ok(self.driver.service(service).await?)
    }

    /// Joins the hosts to the control plane, or cuts them off.
    pub(crate) fn wan(&mut self, is_up: bool) -> anyhow::Result<()> {
        let server: SocketAddr = self.kube.url().trim_start_matches("https://").parse()?;
        for host in &mut self.hosts {
            host.wan(is_up.then_some(server))?;
        }
        Ok(())
    }

    /// kube-proxy in the namespace of a host.
    pub(crate) async fn kube_proxy(&self, host: &Host) -> anyhow::Result<Process> {
        let program = testbed::Binary::KubeProxy.find().await?;
        let mut command = host.netns.command(&program.to_string_lossy());
        command
            .arg(format!(
                "--kubeconfig={}",
                self.kube.admin_kubeconfig().display()
            ))
            .arg(format!("--hostname-override={}", host.name))
            .args(["--proxy-mode=nftables", "--cluster-cidr=10.77.0.0/16"])
            .args([
                "--conntrack-max-per-core=0",
                "--nodeport-addresses=0.0.0.0/0",
            ]);
        let log = self.folder.path().join("kube-proxy.log");
        Ok(Process::start("kube-proxy", &command, &log)?)
    }

    /// The hosts that Consul's DNS gives for the service, by name.
    pub(crate) async fn listed(&self) -> anyhow::Result<BTreeSet<&'static str>> {
        let udp = discovery_core::telemetry::DnsTransport::Udp;
        let (server, name) = (self.consul.dns_addr(), "web.service.consul");
        let reply =
            dns_sidecar::client::ask(server, name, "A", udp, Duration::from_secs(2)).await?;
        let mut listed = BTreeSet::new();
        for record in &reply.answers {
            let ip: IpAddr = record.data.parse()?;
            let host = self.hosts.iter().find(|host| host.ip() == ip);
            listed.insert(host.with_context(|| format!("{ip} is no host"))?.name);
        }
        Ok(listed)
    }

    /// Waits until exactly these hosts are listed; how long that took.
    pub(crate) async fn lists(&self, hosts: &[&str]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let wanted: BTreeSet<&str> = hosts.iter().copied().collect();
        let listed = async || (self.listed().await.ok()? == wanted).then_some(());
        let what = format!("Consul's DNS lists {hosts:?}");
        let waited = testbed::wait_for(&what, Duration::from_secs(20), listed).await;
        waited.with_context(|| {
            let states = self.hosts.iter().map(Host::log);
            states.collect::<Vec<_>>().join("\n")
        })?;
        Ok(began.elapsed())
    }

    /// Who answers each client through each of the hosts: the same one, whichever host.
    pub(crate) async fn owners(&self, hosts: &[&Host]) -> anyhow::Result<BTreeMap<IpAddr, String>> {
        let mut owners = BTreeMap::<IpAddr, String>::new();
        for client in clients() {
            for host in hosts {
                let answer = ask_from(client, host.front()).await?;
                let before = owners.insert(client, answer.clone());
                ensure!(
                    before.as_ref().is_none_or(|before| *before == answer),
                    "{client} reaches {answer} by {}, and {before:?} by another",
                    host.name
                );
            }
        }
        Ok(owners)
    }

    /// The kubeconfig of an agent with exactly the role that `deploy/` gives it; the server takes the rest of `deploy/` as well.
    async fn agent_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        for manifest in [
            include_str!("../../../deploy/rbac.yaml"),
            include_str!("../../../deploy/agent.yaml"),
        ] {
            self.kube.apply_yaml(manifest).await?;
        }
        let account = self
            .kube
            .service_account_kubeconfig("zonal-system", "zonal-agent");
        Ok(account.await?)
    }
}

async fn answer_with(listener: TcpListener, name: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = stream.write_all(name.as_bytes()).await;
        });
    }
}

/// Connects from an address and reads who answers.
pub(crate) async fn ask_from(client: IpAddr, front: SocketAddr) -> anyhow::Result<String> {
    let asked = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(client, 0))?;
        let mut stream = socket.connect(front).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(!answer.is_empty(), "{front} closed without an answer");
        Ok(answer)
    };
    timeout(Duration::from_secs(5), asked).await?
}

/// Who answers so many connections through a host.
pub(crate) async fn answers(host: &Host, rounds: usize) -> anyhow::Result<BTreeSet<String>> {
    let mut answers = BTreeSet::new();
    for client in clients().cycle().take(rounds) {
        answers.insert(ask_from(client, host.front()).await?);
    }
    Ok(answers)
}
