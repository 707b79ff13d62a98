// SPDX-License-Identifier: MIT OR Apache-2.0
//! A proxy that registers at a real Consul, and what Consul says of it; network namespaces to break things in.
#![allow(dead_code, reason = "each test file uses its own part")]

use crate::site::{Site, within};
use lb_proxy::{Config, Registration};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use testbed::Consul;
use tokio::time::sleep;

/// A third of how long a check holds without news.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_millis(600);
pub(crate) const LEAVE_WAIT: Duration = Duration::from_millis(800);

/// A proxy that registers at the agent, proves its ports, and is the node `edge-a`.
pub(crate) fn site(consul: &Consul, front: SocketAddr) -> Site {
    site_with(consul, front, |config| config)
}

/// The same with further settings.
pub(crate) fn site_with(
    consul: &Consul,
    front: SocketAddr,
    change: impl FnOnce(Config) -> Config,
) -> Site {
    site_at(consul.http_addr(), front, change)
}

/// The same over an address of its own for the agent.
pub(crate) fn site_at(
    agent: SocketAddr,
    front: SocketAddr,
    change: impl FnOnce(Config) -> Config,
) -> Site {
    let registration = registration(agent)
        .address(front.ip())
        .ttl(HEARTBEAT * 3)
        .weight(7)
        .weight_every(Duration::from_secs(1))
        .leave_wait(LEAVE_WAIT);
    let config = Config::default()
        .bind_addresses(vec![front.ip()])
        .node("edge-a".to_owned().try_into().unwrap())
        .self_proof(true)
        .register(registration)
        .hold(HOLD);
    Site::start_on(change(config))
}

/// By our own client.
#[cfg(not(feature = "consulrs"))]
fn registration(agent: SocketAddr) -> Registration {
    use discovery_core::source::{ConsulAgent, Token};
    let address = agent.to_string().parse().unwrap();
    Registration::new(ConsulAgent::new(address, Token::default(), None).unwrap())
}

/// By the other one, of which the same is expected.
#[cfg(feature = "consulrs")]
fn registration(agent: SocketAddr) -> Registration {
    Registration::by_consulrs(&agent.to_string(), None).unwrap()
}

/// The status of our check; none when there is no instance.
pub(crate) async fn check(consul: &Consul) -> Option<String> {
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    let checks = instances.get(0)?["Checks"].as_array()?.clone();
    let ours = |check: &&Value| check["ServiceName"] == "web";
    Some(checks.iter().find(ours)?["Status"].as_str()?.to_owned())
}

/// Waits until our check is so; how long that took.
pub(crate) async fn becomes(consul: &Consul, status: Option<&str>) -> Duration {
    let started = Instant::now();
    within(async {
        while check(consul).await.as_deref() != status {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    started.elapsed()
}

/// Says to a child that it is one.
const CHILD: &str = "ZONAL_TEST_REGISTERED_CHILD";

/// Whether this process is one.
pub(crate) fn is_child() -> bool {
    std::env::var(CHILD).is_ok()
}

/// Runs the ignored test in a network namespace of its own; whether this process may.
pub(crate) fn in_namespace(test: &str, child: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        testbed::skip(test, "needs root for a network namespace");
        return false;
    }
    let up = "ip link set lo up; ip addr add 10.9.0.1/32 dev lo; exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", up])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", child, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    true
}

pub(crate) fn nft(arguments: &[&str]) -> bool {
    Command::new("nft")
        .args(arguments)
        .status()
        .unwrap()
        .success()
}
