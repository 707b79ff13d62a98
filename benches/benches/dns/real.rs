// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consul, and `CoreDNS` on a control plane, as the testbed has them; each held by a process of its own on the servers' core.
//!
//! Consul answers as it does out of the box: three records of a service in a datagram. `CoreDNS` has the plugins that a cluster
//! gives it for speed, and nothing that logs.

use crate::{
    server::{move_beside, tell},
    world,
};
use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, process::Command};
use testbed::{Binary, Consul, Kube, KubeOptions, Process, free_ports};

/// Why a program cannot be had; none where it can, after a build that takes minutes once.
pub(crate) fn missing(binaries: &[Binary]) -> Option<String> {
    let missing = binaries
        .iter()
        .find_map(|binary| binary.find_blocking().err());
    missing.map(|error| error.to_string())
}

/// Holds Consul until it is killed.
pub(crate) async fn hold_consul() -> anyhow::Result<()> {
    let ttl = json!({ "node_ttl": "5s", "service_ttl": { "*": "5s" } });
    let config = json!({ "log_level": "ERR", "dns_config": ttl });
    let mut consul = Consul::start_with(&config).await?;
    let operations: Vec<Value> = world::consul_operations().collect();
    for some in operations.chunks(OPERATIONS_MAX) {
        let answer = consul.put("/v1/txn", &some.into()).await?;
        ensure!(answer["Errors"].is_null(), "{answer}");
    }
    let id = consul.process().id();
    // This process has nothing to do: naming it says that Consul is never idle.
    let beside = [std::process::id()];
    tell(&json!({ "address": consul.dns_addr(), "ids": [id], "beside": beside }));
    std::future::pending().await
}

/// Holds `CoreDNS` and its control plane until it is killed.
pub(crate) async fn hold_coredns() -> anyhow::Result<()> {
    let options = KubeOptions::default().controller_manager_flag("--controllers=podgc");
    let kube = Kube::start_with(options).await?;
    let client = kube.admin();
    let made = futures::stream::iter(world::kubernetes_objects());
    let made = made.map(|object| create(&client, object));
    made.buffer_unordered(CREATES_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let folder = tempfile::tempdir()?;
    let [port] = free_ports()?;
    let file = folder.path().join("Corefile");
    let kubeconfig = kube.admin_kubeconfig();
    let text = format!(
        ".:{port} {{\n  bind 127.0.0.1\n  kubernetes cluster.local {{\n    kubeconfig {}\n    ttl 5\n  }}\n  cache 30\n  loadbalance round_robin\n}}\n",
        kubeconfig.display()
    );
    fs::write(&file, text)?;
    let mut command = Command::new(Binary::CoreDns.find().await?);
    command.arg("-conf").arg(&file);
    let coredns = Process::start("coredns", &command, &folder.path().join("log"))?;
    let (apiserver, manager, etcd) = kube.ids();
    let beside = [apiserver.context("it runs")?, manager, etcd];
    // The generator has time left beside CoreDNS.
    beside.into_iter().try_for_each(move_beside)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    tell(&json!({
        "address": address, "schema": "kubernetes", "ids": [coredns.id()], "beside": beside,
    }));
    std::future::pending().await
}

async fn create(client: &Client, object: Value) -> anyhow::Result<()> {
    let path = match object["kind"].as_str() {
        Some("Service") => "/api/v1/namespaces/default/services",
        _ => "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    };
    let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = request.body(serde_json::to_vec(&object)?)?;
    client.request::<Value>(request).await?;
    Ok(())
}

/// What Consul takes in one transaction.
const OPERATIONS_MAX: usize = 128;
const CREATES_AT_ONCE: usize = 16;
