// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal agent` that reads a real Consul: names that exist nowhere else, zones, checks, a restart, and a service that two
//! sources state.

use anyhow::{Context, ensure};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::ask;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use testbed::{Consul, Process, wait_for};

/// An agent on a folder of its own.
struct Agent {
    _process: Process,
    dns: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Agent {
    async fn start(folder: &Path, node: &str, config: &Value) -> anyhow::Result<Self> {
        let ports = testbed::free_ports()?;
        let [dns, metrics, admin] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        fs::create_dir_all(folder)?;
        let file = folder.join("zonal.yaml");
        fs::write(&file, config.to_string())?;
        let mut command = Command::new(zonal()?);
        command
            .args(["agent", "--no-proxy", "--node-name", node])
            .args(["--config".into(), file])
            .args(["--dns-listen", &dns.to_string()])
            .args(["--metrics-listen", &metrics.to_string()])
            .args(["--admin-listen", &admin.to_string()]);
        let log = folder.join("log");
        let agent = Self {
            _process: Process::start("zonal agent", &command, &log)?,
            dns,
            admin,
            log,
        };
        let ready = async || {
            agent
                .status()
                .is_some_and(|s| s["readiness"]["ready"] == true)
                .then_some(())
        };
        let waited = wait_for("the agent is ready", WITHIN, ready).await;
        waited.with_context(|| {
            format!(
                "{:?}\n{}",
                agent.status(),
                fs::read_to_string(&agent.log).unwrap_or_default()
            )
        })?;
        Ok(agent)
    }

    /// What `zonal status -o json` prints.
    fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.zonal_status(&["-o", "json"]).ok()?).ok()
    }

    fn zonal_status(&self, flags: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(zonal()?);
        command
            .args(["status", "--admin", &self.admin.to_string()])
            .args(flags);
        Ok(String::from_utf8(command.output()?.stdout)?)
    }

    /// The code and addresses of a name.
    async fn resolve(&self, name: &str) -> Option<(String, Vec<String>)> {
        let asked = ask(
            self.dns,
            name,
            "A",
            DnsTransport::Udp,
            Duration::from_secs(2),
        )
        .await;
        let reply = asked.ok()?;
        let mut addresses: Vec<_> = reply
            .answers
            .iter()
            .map(|record| record.data.clone())
            .collect();
        addresses.sort();
        Some((reply.rcode, addresses))
    }

    async fn answers(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        let what = format!("{name} is {expected:?}");
        let same = async || (self.resolve(name).await?.1 == expected).then_some(());
        let waited = wait_for(&what, WITHIN, same).await;
        let now = self.resolve(name).await;
        waited.with_context(|| {
            format!(
                "{now:?}\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            )
        })
    }
}

/// Registers an instance on a host of its own zone.
async fn register(
    consul: &Consul,
    host: &str,
    zone: &str,
    service: &str,
    address: &str,
) -> anyhow::Result<()> {
    check(consul, host, zone, service, address, "passing").await
}

async fn check(
    consul: &Consul,
    host: &str,
    zone: &str,
    service: &str,
    address: &str,
    status: &str,
) -> anyhow::Result<()> {
    let registration = json!({
        "Node": host, "Address": "10.2.0.9", "NodeMeta": { "zone": zone },
        "Service": { "ID": service, "Service": service, "Address": address, "Port": 8080 },
        "Check": { "CheckID": format!("check-{service}"), "Name": "up", "Status": status, "ServiceID": service },
    });
    consul.put("/v1/catalog/register", &registration).await?;
    Ok(())
}

async fn deregister(consul: &Consul, host: &str, service: &str) -> anyhow::Result<()> {
    let body = json!({ "Node": host, "ServiceID": service });
    consul.put("/v1/catalog/deregister", &body).await?;
    Ok(())
}

fn by_meta(consul: &Consul) -> Value {
    json!({ "source": { "consul": { "address": consul.http_addr().to_string(), "zone_from": "node-meta:zone" } } })
}

#[tokio::test]
async fn services_that_exist_only_in_consul_are_answered_by_datacenter() {
    let name = "services_that_exist_only_in_consul_are_answered_by_datacenter";
    let Some(consul) = Consul::start_or_skip(name).await else {
        return;
    };
    by_datacenter(&consul).await.unwrap();
}

async fn by_datacenter(consul: &Consul) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    register(consul, "edge-a", "mall-1", "web", "10.2.0.1").await?;
    register(consul, "edge-b", "mall-2", "web", "10.2.0.2").await?;
    let config = json!({ "source": { "consul": { "address": consul.http_addr().to_string() } } });
    let agent = Agent::start(folder.path(), "testbed", &config).await?;
    agent
        .answers("web.service.consul", &["10.2.0.1", "10.2.0.2"])
        .await?;
    agent
        .answers("web.service.dc1.consul", &["10.2.0.1", "10.2.0.2"])
        .await?;
    let status = agent.status().context("the agent says its status")?;
    ensure!(
        status["zone"] == "dc1" && status["freshness"] == "LIVE",
        "{status}"
    );
    ensure!(
        status["source"] == "consul" && status["sources"][0]["live"] == true,
        "{status}"
    );
    Ok(())
}

#[tokio::test]
async fn a_zone_by_node_meta_follows_checks_registrations_and_a_restart() {
    let name = "a_zone_by_node_meta_follows_checks_registrations_and_a_restart";
    let Some(consul) = Consul::start_or_skip(name).await else {
        return;
    };
    by_node_meta(consul).await.unwrap();
}

async fn by_node_meta(consul: Consul) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    register(&consul, "edge-a", "mall-1", "web", "10.2.0.1").await?;
    register(&consul, "edge-b", "mall-2", "web", "10.2.0.2").await?;
    let agent = Agent::start(folder.path(), "edge-a", &by_meta(&consul)).await?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await?;
    agent
        .answers("web.service.mall-1.consul", &["10.2.0.1"])
        .await?;

    register(&consul, "edge-c", "mall-1", "web", "10.2.0.3").await?;
    agent
        .answers("web.service.consul", &["10.2.0.1", "10.2.0.3"])
        .await?;
    check(&consul, "edge-c", "mall-1", "web", "10.2.0.3", "critical").await?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await?;
    check(&consul, "edge-c", "mall-1", "web", "10.2.0.3", "warning").await?;
    agent
        .answers("web.service.consul", &["10.2.0.1", "10.2.0.3"])
        .await?;
    deregister(&consul, "edge-c", "web").await?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await?;
    register(&consul, "edge-a", "mall-1", "api", "10.2.0.4").await?;
    agent.answers("api.service.consul", &["10.2.0.4"]).await?;
    deregister(&consul, "edge-a", "api").await?;
    agent.answers("api.service.consul", &[]).await?;
    ensure!(
        agent
            .resolve("api.service.consul")
            .await
            .is_some_and(|(code, _)| code == "NXDOMAIN")
    );

    // A development agent comes back with nothing. What was known holds until hosts have registered again.
    let consul = consul.restart().await?;
    let live = async || {
        agent
            .status()
            .is_some_and(|s| s["sources"][0]["connected"] == true)
            .then_some(())
    };
    wait_for(
        "the agent is connected again",
        Duration::from_secs(60),
        live,
    )
    .await?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await?;
    register(&consul, "edge-a", "mall-1", "web", "10.2.0.1").await?;
    register(&consul, "edge-d", "mall-1", "web", "10.2.0.5").await?;
    agent
        .answers("web.service.consul", &["10.2.0.1", "10.2.0.5"])
        .await
}

#[tokio::test]
async fn what_two_sources_state_follows_the_precedence_and_is_told() {
    let name = "what_two_sources_state_follows_the_precedence_and_is_told";
    let Some(consul) = Consul::start_or_skip(name).await else {
        return;
    };
    two_sources(&consul).await.unwrap();
}

/// A cluster in a file, with the service `web` on our host.
fn manifest(with_web: bool) -> String {
    let node = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "edge-a", "labels": { "topology.kubernetes.io/zone": "mall-1" } } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "ports": [{ "name": "http", "port": 80 }],
        "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": "edge-a" }] });
    let objects = if with_web {
        vec![node, slice]
    } else {
        vec![node]
    };
    let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

async fn two_sources(consul: &Consul) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for service in ["web", "pay"] {
        register(consul, "edge-a", "mall-1", service, "10.2.0.1").await?;
    }
    let path = folder.path().join("mall.yaml");
    fs::write(&path, manifest(true))?;
    let mut config = by_meta(consul);
    config["source"]["static"] = json!(path);
    let agent = Agent::start(&folder.path().join("one"), "edge-a", &config).await?;
    agent.answers("web.service.consul", &["10.1.0.1"]).await?;
    agent.answers("pay.service.consul", &["10.2.0.1"]).await?;
    let text = agent.zonal_status(&["--problems"])?;
    ensure!(
        text.contains("? Service default/web  source consul: static states it too and is in force"),
        "{text}"
    );
    ensure!(
        text.contains("SOURCE consul") && text.contains("1 services overruled"),
        "{text}"
    );

    config["source"]["merge"] = json!([{ "service": "w*", "precedence": ["consul", "static"] }]);
    let other = Agent::start(&folder.path().join("two"), "edge-a", &config).await?;
    other.answers("web.service.consul", &["10.2.0.1"]).await?;
    config["source"]["merge"] = json!([{ "service": "web", "policy": "union" }]);
    let union = Agent::start(&folder.path().join("three"), "edge-a", &config).await?;
    union
        .answers("web.service.consul", &["10.1.0.1", "10.2.0.1"])
        .await?;
    ensure!(
        union.status().is_some_and(|s| s["problems"] == json!([])),
        "a union is no conflict"
    );

    // The one in force says that it has the service no more; the overruled one takes its place.
    fs::write(&path, manifest(false))?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await?;
    ensure!(
        agent.status().is_some_and(|s| s["problems"] == json!([])),
        "nothing is overruled"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_without_rights_is_told_with_the_rule_that_it_lacks() {
    let name = "a_token_without_rights_is_told_with_the_rule_that_it_lacks";
    let acl = json!({ "acl": { "enabled": true, "default_policy": "allow",
        "tokens": { "initial_management": MANAGEMENT } } });
    match Consul::start_with(&acl).await {
        Ok(consul) => acls(&consul).await.unwrap(),
        Err(error) if error.is_unavailable() => testbed::skip(name, &error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

const MANAGEMENT: &str = "6e3f6b9a-2a4b-4a50-9d3f-1f2f6f3d8c11";

async fn acls(consul: &Consul) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    register(consul, "edge-a", "mall-1", "web", "10.2.0.1").await?;
    let token = folder.path().join("token");
    fs::write(&token, "00000000-1111-2222-3333-444444444444")?;
    let mut config = by_meta(consul);
    config["source"]["consul"]["token_file"] = json!(token);
    config["zone"] = json!({ "name": "mall-1" });
    let agent = Agent::start(&folder.path().join("agent"), "edge-a", &config).await;
    let error = format!(
        "{:#}",
        agent.err().context("an unknown token reads nothing")?
    );
    ensure!(error.contains("does not know our token"), "{error}");
    ensure!(
        !error.contains("00000000-1111"),
        "the token is never shown: {error}"
    );
    fs::write(&token, MANAGEMENT)?;
    let agent = Agent::start(&folder.path().join("again"), "edge-a", &config).await?;
    agent.answers("web.service.consul", &["10.2.0.1"]).await
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

const WITHIN: Duration = Duration::from_secs(20);
