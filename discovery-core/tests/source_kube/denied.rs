// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that may not be read: with a zone that is given, the zones count that slices state.

use crate::{
    restart::until,
    scene::*,
    server::{Answer, Asked, Server},
};
use discovery_core::{
    model::{NodeName, Zone},
    runtime::{Runtime, RuntimeConfig, SourceConfig},
    source::Selection,
    store::{Coverage, Kind, SourceId, Update},
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

const DENIED: Update = Update::Denied(SourceId::Kube, Kind::Nodes);

fn zone() -> Option<Zone> {
    Zone::parse("mall-1").ok()
}

/// Refuses all that is asked about nodes, as an API server does.
fn without_nodes(asked: &Asked) -> Option<Answer> {
    let is_node = matches!(asked.what, "own-node" | "nodes");
    is_node.then(|| Answer::status(403, "nodes is forbidden"))
}

/// `shop/web` with one endpoint in our zone and one in another, as the slice states it.
fn stated() -> String {
    let endpoint = |address: &str, node: &str, zone: &str| {
        format!(r#"{{"addresses":["{address}"],"nodeName":"{node}","zone":"{zone}"}}"#)
    };
    let endpoints = [
        endpoint("10.0.0.1", "n1", "mall-1"),
        endpoint("10.0.0.2", "n2", "mall-2"),
    ];
    slice("web-1", 10, "-").replace(r#"{"addresses":["-"]}"#, &endpoints.join(","))
}

async fn start(server: &Server, folder: &std::path::Path) -> Runtime {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: {:?}}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
        server.address
    );
    fs::write(&path, text).unwrap();
    let kube = SourceConfig::Kube {
        kubeconfig: Some(path),
        selection: Selection::default(),
    };
    let config = RuntimeConfig::new(NodeName::parse("n1").unwrap(), kube).zone(zone());
    Runtime::start(config).await.unwrap()
}

#[tokio::test]
async fn the_zones_that_slices_state_serve_until_nodes_may_be_read() {
    let (folder, is_allowed) = (
        tempfile::tempdir().unwrap(),
        Arc::new(AtomicBool::new(false)),
    );
    let allowed = is_allowed.clone();
    let server = Server::start(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpointslices", false) => Some(Answer::list("10", &[stated()])),
        ("own-node" | "nodes", false) if allowed.load(Relaxed) => {
            // Both nodes are in our zone by now, and the slice does not know.
            let nodes = ["n1", "n2"].map(|name| node(name, 10, Some("mall-1")));
            let named = if asked.what == "nodes" {
                &nodes[..]
            } else {
                &nodes[..1]
            };
            Some(Answer::list("10", named))
        }
        _ if allowed.load(Relaxed) => None,
        _ => without_nodes(asked),
    })
    .await;
    let runtime = start(&server, folder.path()).await;
    let snapshot = until(&runtime, "synced", |s| s.coverage() == Coverage::Synced).await;
    assert!(snapshot.is_degraded());
    let web = snapshot.service(&"shop/web".parse().unwrap()).unwrap();
    let usable: Vec<_> = web.usable().map(|e| e.reason().to_string()).collect();
    assert_eq!(usable, ["own-zone-as-stated"]);
    assert!(runtime.readiness().ready);
    let problems = snapshot.problems();
    assert!(
        problems
            .iter()
            .any(|p| p.kind == Kind::Nodes && p.reason.contains("nodes")),
        "{problems:?}"
    );
    is_allowed.store(true, Relaxed);
    let snapshot = until(&runtime, "nodes", |s| !s.is_degraded()).await;
    let web = snapshot.service(&"shop/web".parse().unwrap()).unwrap();
    assert_eq!(web.usable().count(), 2, "the nodes say more than the slice");
    runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_and_only_where_a_zone_is_given() {
    let mut scene = Scene::with(without_nodes, |config| config.zone(zone())).await;
    scene.until(Kind::Nodes, |update| *update == DENIED).await;
    let start = tokio::time::Instant::now();
    let minutes = |_: &Scene| start.elapsed().as_secs() > 400;
    let (_, told) = scene.told_until("some minutes", minutes).await;
    assert!(!told.contains(&DENIED), "{:?}", all(&told));
    let mut scene = Scene::new(without_nodes).await;
    let problem = |update: &Update| matches!(update, Update::Reject(..));
    let told = scene.until(Kind::OwnNode, problem).await;
    assert!(
        !told.contains(&DENIED),
        "without a zone there is nothing to compare with"
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_later_takes_no_node_away() {
    let script = |asked: &Asked| match (asked.what, asked.before) {
        ("nodes", 0) if !asked.is_watch => {
            Some(Answer::list("10", &[node("n1", 10, Some("mall-1"))]))
        }
        _ => without_nodes(asked),
    };
    let mut scene = Scene::with(script, |config| config.zone(zone())).await;
    let problem = |update: &Update| matches!(update, Update::Reject(..));
    let told = scene.until(Kind::Nodes, problem).await;
    assert!(
        !told.contains(&DENIED),
        "what nodes said last is better than what slices state"
    );
    scene.pass(std::time::Duration::from_secs(120)).await;
}
