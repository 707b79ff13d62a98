// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Kubernetes 1.20.2 and 1.36.3 really answered, answered again: the whole core reads it, in the API that each serves.
//!
//! The transcripts were recorded by `testbed/examples/transcript.rs`. Two zones of two nodes, four pods; while it was
//! watched web-0 turned unready and ready again, and web-3 went.

use anyhow::Context as _;
use discovery_core::{
    model::{NodeName, ServiceName},
    runtime::{Runtime, RuntimeConfig, SourceConfig},
    source::Selection,
    store::{Coverage, Snapshot},
};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use testbed::{
    api_server::{Answer, ApiServer, Asked, Piece},
    wait_for,
};

/// The requests and answers of one server.
struct Transcript {
    lines: Vec<Value>,
    /// Whether the server is one that has no slices at all.
    is_without_slices: bool,
    slice_watches: AtomicUsize,
}

impl Transcript {
    fn read(version: &str, is_without_slices: bool) -> anyhow::Result<Self> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../discovery-core/tests/fixtures"
        );
        let text = std::fs::read_to_string(format!("{folder}/kube-{version}.jsonl"))?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
            is_without_slices,
            slice_watches: AtomicUsize::new(0),
        })
    }

    fn answer(&self, asked: &Asked) -> Option<Answer> {
        let path = asked.uri.split('?').next()?;
        if self.is_without_slices && path.starts_with("/apis/discovery.k8s.io") {
            return Some(Answer::status(
                404,
                "the server could not find the requested resource",
            ));
        }
        let recorded = self.find(path, asked)?;
        if asked.is_watch {
            return Some(self.watch(path, recorded));
        }
        let mut body = recorded["body"].clone();
        if self.is_without_slices && path == "/apis" {
            let groups = body["groups"].as_array_mut()?;
            groups.retain(|group| group["name"] != "discovery.k8s.io");
        }
        match recorded["status"].as_u64()? {
            200 => Some(Answer::ok([Piece::Text(body.to_string())])),
            status => Some(Answer::status(u16::try_from(status).ok()?, "as recorded")),
        }
    }

    /// The line of this path: of lists the one with a selector of the same kind, of watches the first.
    fn find(&self, path: &str, asked: &Asked) -> Option<&Value> {
        let same = |line: &&Value| {
            let recorded = line["path"].as_str().unwrap_or_default();
            let (recorded_path, query) = recorded.split_once('?').unwrap_or((recorded, ""));
            let by_name = |text: &str| text.contains("fieldSelector");
            let is_watch = query.contains("watch=true");
            recorded_path == path
                && is_watch == asked.is_watch
                && by_name(query) == by_name(&asked.uri)
        };
        let found = self.lines.iter().find(same);
        // Nodes and services were not watched: nothing happened to them.
        found.or_else(|| asked.is_watch.then_some(&Value::Null))
    }

    /// The recorded events once, then quiet.
    fn watch(&self, path: &str, recorded: &Value) -> Answer {
        let events = recorded["body"].as_array().cloned().unwrap_or_default();
        let is_again = path.contains("endpoint") && self.slice_watches.fetch_add(1, Relaxed) > 0;
        let events = if is_again { Vec::new() } else { events };
        Answer::events(&events.iter().map(Value::to_string).collect::<Vec<_>>())
    }
}

/// The snapshot that the core ends with, and the API that it read endpoints from.
async fn read(
    transcript: Transcript,
) -> anyhow::Result<(Vec<String>, Vec<String>, Option<String>)> {
    let server = ApiServer::scripted(move |asked| transcript.answer(asked)).await?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig())?;
    let source = SourceConfig::Kube {
        kubeconfig: Some(kubeconfig),
        selection: Selection::default(),
    };
    let runtime = Runtime::start(RuntimeConfig::new(NodeName::parse("edge-1a")?, source)).await?;
    let web: ServiceName = "default/web".parse()?;
    let settled = async || {
        let snapshot = runtime.reader().load();
        let (usable, others) = endpoints(&snapshot, &web)?;
        // The last thing that was recorded is that web-3 went.
        let is_over = snapshot.coverage() == Coverage::Synced && usable.len() == 2;
        (is_over && others == ["web-2"]).then_some((usable, others))
    };
    let settled = wait_for("the last recorded event", Duration::from_secs(30), settled).await;
    let (usable, others) = settled.with_context(|| format!("{:?}", runtime.status()))?;
    let api = runtime
        .status()
        .sources
        .first()
        .and_then(|source| source.slice_api.clone());
    runtime.stop().await;
    Ok((usable, others, api))
}

fn endpoints(snapshot: &Snapshot, service: &ServiceName) -> Option<(Vec<String>, Vec<String>)> {
    let view = snapshot.service(service)?;
    let usable = view
        .usable()
        .map(|endpoint| endpoint.identity().to_string());
    let refused = view
        .refused()
        .iter()
        .map(|refused| refused.identity.to_string());
    Some((usable.collect(), refused.collect()))
}

#[tokio::test]
async fn kubernetes_1_36_is_read_in_v1() -> anyhow::Result<()> {
    let (usable, _, api) = read(Transcript::read("1.36.3", false)?).await?;
    assert_eq!(usable, ["web-0", "web-1"]);
    assert_eq!(api.as_deref(), Some("discovery.k8s.io/v1"));
    Ok(())
}

#[tokio::test]
async fn kubernetes_1_20_is_read_in_v1beta1_and_its_topology_names_the_node() -> anyhow::Result<()>
{
    let (usable, _, api) = read(Transcript::read("1.20.2", false)?).await?;
    assert_eq!(usable, ["web-0", "web-1"]);
    assert_eq!(api.as_deref(), Some("discovery.k8s.io/v1beta1"));
    Ok(())
}

#[tokio::test]
async fn a_server_without_slices_is_read_by_its_endpoints() -> anyhow::Result<()> {
    for version in ["1.20.2", "1.36.3"] {
        let (usable, _, api) = read(Transcript::read(version, true)?).await?;
        assert_eq!(usable, ["web-0", "web-1"], "{version}");
        assert_eq!(api.as_deref(), Some("v1/endpoints"), "{version}");
    }
    Ok(())
}
