// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole runtime that starts again with the snapshot of its last run: what it serves, what it says of its age, and what
//! it asks. In real time, since a runtime lives in it; every wait is for a condition.

use crate::{
    scene::*,
    server::{Answer, Asked, Server},
};
use discovery_core::{
    model::NodeName,
    runtime::{Freshness, Runtime, RuntimeConfig, SourceConfig},
    store::{Coverage, Snapshot},
};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::timeout;

/// A cluster with our node and the service `shop/web` of one endpoint on it, at the version.
pub(crate) fn cluster(version: u32) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static {
    move |asked: &Asked| {
        let item = match asked.what {
            _ if asked.is_watch => return None,
            "own-node" | "nodes" => node("n1", version, Some("mall-1")),
            "endpointslices" => slice("web-1", version, "10.0.0.1").replace(
                r#""addresses":["10.0.0.1"]"#,
                r#""addresses":["10.0.0.1"],"nodeName":"n1""#,
            ),
            _ => return None,
        };
        Some(Answer::list(&version.to_string(), &[item]))
    }
}

pub(crate) async fn start(folder: &Path, server: &Server) -> Runtime {
    let authority = if folder.join("ca.crt").exists() {
        ", certificate-authority: ca.crt"
    } else {
        ""
    };
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: {:?}{authority}}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n",
        server.address
    );
    fs::write(&path, text).unwrap();
    let kubeconfig = Some(path);
    let node = NodeName::parse("n1").unwrap();
    let config = RuntimeConfig::new(
        node,
        SourceConfig::Kube {
            kubeconfig,
            selection: discovery_core::source::Selection::default(),
        },
    )
    .snapshot_folder(Some(folder.join("snapshots")));
    Runtime::start(config).await.unwrap()
}

/// Waits for a snapshot that holds what is said of it.
pub(crate) async fn until(
    runtime: &Runtime,
    what: &str,
    holds: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let mut reader = runtime.reader();
    let wait = async {
        loop {
            let snapshot = reader.load();
            if holds(&snapshot) {
                return snapshot;
            }
            reader.changed().await.expect("the runtime runs");
        }
    };
    let waited = timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("{what} within 30 s; {:?}", runtime.status()))
}

pub(crate) fn usable(snapshot: &Snapshot) -> usize {
    let web = snapshot.service(&"shop/web".parse().unwrap());
    web.map_or(0, |web| web.usable().count())
}

/// Runs on the server until everything is read, and stops: the snapshot is saved then.
pub(crate) async fn run_once(folder: &Path, server: &Server) {
    let runtime = start(folder, server).await;
    until(&runtime, "synced", |s| s.coverage() == Coverage::Synced).await;
    runtime.stop().await;
}

/// Makes the snapshot older, as if the node had been off since.
fn age(folder: &Path, by: Duration) {
    let path = folder.join("snapshots/snapshot");
    let text = fs::read_to_string(&path).unwrap();
    let (_, json) = text.split_once('\n').unwrap();
    let mut body: serde_json::Value = serde_json::from_str(json).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    body["saved_at_seconds"] = now.saturating_sub(by).as_secs().into();
    body["facts"]["kube"]["age_seconds"] = 40.into();
    let json = body.to_string();
    let head = text.split(' ').nth(1).unwrap();
    let checksum = crc32fast::hash(json.as_bytes());
    fs::write(
        &path,
        format!("zonal-snapshot {head} {checksum:08x}\n{json}"),
    )
    .unwrap();
}

#[tokio::test]
async fn a_restart_serves_from_disk_at_once_and_says_how_old_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(cluster(10)).await;
    run_once(folder.path(), &server).await;
    age(folder.path(), Duration::from_secs(600));
    let begun = std::time::Instant::now();
    let runtime = start(folder.path(), &server).await;
    assert_eq!(
        usable(&runtime.reader().load()),
        1,
        "served before anything is asked"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let status = runtime.status();
    assert!(status.readiness.ready, "{status:?}");
    assert_eq!(status.freshness, Freshness::Snapshot);
    let (saved, age) = (status.saved_seconds.unwrap(), status.age_seconds.unwrap());
    assert!((600.0..660.0).contains(&saved), "saved {saved} s ago");
    assert!(
        (640.0..700.0).contains(&age),
        "heard {age} s ago: 40 s before it was saved"
    );
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["freshness"], "SNAPSHOT");
    until(&runtime, "synced", |s| s.coverage() == Coverage::Synced).await;
    let status = runtime.status();
    assert_eq!(
        status.saved_seconds, None,
        "what is served is no longer from disk"
    );
    runtime.stop().await;
}

#[tokio::test]
async fn the_api_that_was_chosen_needs_no_document_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(cluster(10)).await;
    run_once(folder.path(), &server).await;
    assert_eq!(server.asked("group", false).len(), 1);
    run_once(folder.path(), &server).await;
    assert_eq!(server.asked("group", false).len(), 1, "the choice was kept");
    assert_eq!(server.asked("endpointslices", false).len(), 2);
}

#[tokio::test]
async fn a_list_that_is_behind_the_last_run_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let whole = cluster(100);
    let server = Server::start(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpointslices", false) if asked.before > 0 => {
            // A backup from before the service: another one stood there then.
            Some(Answer::list("50", &[slice("old-1", 40, "10.0.0.9")]))
        }
        _ => whole(asked),
    })
    .await;
    run_once(folder.path(), &server).await;
    let runtime = start(folder.path(), &server).await;
    let snapshot = until(&runtime, "held", |s| !s.held().is_empty()).await;
    assert_eq!(snapshot.held()[0].reason.as_str(), "version-went-back");
    assert_eq!(usable(&snapshot), 1, "what was known stays");
    runtime.stop().await;
}
