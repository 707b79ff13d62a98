// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ten services of a node follow its agent, a process of its own: one watch, and nobody misses anything when it is killed.

use anyhow::{Context as _, ensure};
use discovery_core::{
    client::{Discovery, ServiceClient},
    hash::HashKey,
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use testbed::{
    Process,
    api_server::{self, ApiServer},
};

const CLIENTS: usize = 10;
const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn ten_clients_of_an_agent_cost_one_watch_and_outlive_it() {
    ten_clients().await.unwrap();
}

async fn ten_clients() -> anyhow::Result<()> {
    let server = ApiServer::start().await?;
    for object in [node(), slice(1, 4)] {
        server.store().put(object)?;
    }
    let folder = tempfile::tempdir()?;
    let agent = agent(&server, folder.path())?;
    let socket = folder.path().join("agent.sock");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Discovery::builder().agent(&socket).start().await?);
    }
    let mut webs = Vec::new();
    for client in &clients {
        tokio::time::timeout(WITHIN, client.ready()).await?;
        webs.push(client.service("shop/web".parse()?));
    }
    all_have(&webs, 4).await?;
    let watches = server.asked("endpointslices", true).len();
    ensure!(
        watches == 1,
        "{watches} watches of slices for {CLIENTS} clients"
    );

    // A change reaches all of them by the one watch.
    server.store().put(slice(2, 6))?;
    all_have(&webs, 6).await?;
    let orders: Vec<_> = webs.iter_mut().map(order).collect::<Result<_, _>>()?;
    ensure!(
        orders.windows(2).all(|pair| pair[0] == pair[1]),
        "all agree"
    );

    // Killed, it says nothing more, and its socket stays behind.
    agent.kill();
    let alone = async || {
        let connected = |client: &Discovery| client.runtime().status().sources[0].connected;
        (!clients.iter().any(connected)).then_some(())
    };
    testbed::wait_for("all have noticed", WITHIN, alone).await?;
    for (web, before) in webs.iter_mut().zip(&orders) {
        ensure!(&order(web)? == before, "what was known stays in force");
    }

    // The next one takes its place, and knows more.
    server.store().put(slice(3, 3))?;
    let _agent = self::agent(&server, folder.path())?;
    all_have(&webs, 3).await?;
    for client in clients {
        client.stop().await;
    }
    Ok(())
}

/// Waits until each of them may pick so many.
async fn all_have(webs: &[ServiceClient], count: usize) -> anyhow::Result<()> {
    for (number, web) in webs.iter().enumerate() {
        let mut watch = web.watch();
        let waiting = async {
            while let Some(change) = watch.changed().await {
                let usable = change.view().map(|view| view.usable().count());
                if usable == Some(count) {
                    return anyhow::Ok(());
                }
            }
            anyhow::bail!("discovery has stopped")
        };
        let waited = tokio::time::timeout(WITHIN, waiting).await;
        waited.with_context(|| format!("client {number} has {count} endpoints"))??;
    }
    Ok(())
}

fn order(web: &mut ServiceClient) -> anyhow::Result<Vec<String>> {
    let mut orders = Vec::new();
    for key in 0..100_u32 {
        let all = web.pick_n(HashKey::of(&key.to_le_bytes()), 9)?;
        orders.extend(all.iter().map(|endpoint| endpoint.identity().to_string()));
    }
    Ok(orders)
}

fn agent(server: &ApiServer, folder: &Path) -> anyhow::Result<Process> {
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, api_server::kubeconfig(&server.url()))?;
    let [metrics, admin] = testbed::free_ports()?.map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(zonal()?);
    command
        .args([
            "agent",
            "--no-proxy",
            "--no-dns",
            "--node-name",
            "edge-a",
            "--kubeconfig",
        ])
        .arg(&kubeconfig)
        .args(["--metrics-listen", &metrics, "--admin-listen", &admin])
        .arg("--agent-socket")
        .arg(folder.join("agent.sock"));
    Ok(Process::start(
        "zonal agent",
        &command,
        &folder.join("log"),
    )?)
}

/// The command, built beside this test.
fn zonal() -> anyhow::Result<PathBuf> {
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

fn node() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "edge-a", "labels": { "topology.kubernetes.io/zone": "mall-1" } },
    })
}

/// The slice of `shop/web` with so many pods.
fn slice(generation: u32, pods: u8) -> serde_json::Value {
    let endpoint = |pod: u8| {
        json!({
            "addresses": [format!("10.1.0.{}", pod + 1)],
            "conditions": { "ready": true },
            "nodeName": "edge-a",
            "targetRef": { "kind": "Pod", "name": format!("web-{pod}"), "uid": format!("u{pod}") },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": { "kubernetes.io/service-name": "web" },
            "annotations": { "written": generation.to_string() },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": (0..pods).map(endpoint).collect::<Vec<_>>(),
    })
}
