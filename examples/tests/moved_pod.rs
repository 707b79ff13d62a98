// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod that the control plane moves from one slice to another, as an agent's readers see it.

use anyhow::{Context as _, ensure};
use discovery_core::{
    model::{NodeName, ServiceName},
    runtime::{Runtime, RuntimeConfig, SourceConfig},
    source::Selection,
    store::Reader,
};
use serde_json::{Value, json};
use std::time::Duration;
use testbed::api_server::{ApiServer, Options, Resource, generate::Cluster, kubeconfig};
use tokio::time::timeout;

#[tokio::test]
async fn a_pod_that_is_in_no_slice_for_a_moment_is_in_every_snapshot() -> anyhow::Result<()> {
    let server = ApiServer::filled(Options::default(), |store| CLUSTER.fill(store)).await?;
    let (runtime, _folder) = agent(&server.url()).await?;
    let mut reader = runtime.reader();
    let (slice, _) = CLUSTER.place(0, (0, 1)).context("it is in a slice")?;
    let edit = |change: &mut dyn FnMut(&mut Vec<Value>)| -> anyhow::Result<()> {
        let edited = server
            .store()
            .edit(Resource::EndpointSlices, "shop", &slice, |slice| {
                change(slice["endpoints"].as_array_mut().expect("it has endpoints"));
            })?;
        edited.context("the slice is there")?;
        Ok(())
    };
    // With each write another pod turns unready, so that it is seen when the agent has taken it in.
    let mut moved = Value::Null;
    edit(&mut |endpoints| {
        moved = endpoints.remove(place(endpoints, 1));
        unready(endpoints, 2);
    })?;
    lost(&mut reader, 2).await?;
    let mut other = server
        .store()
        .get(Resource::EndpointSlices, "shop", &slice)
        .context("the slice is there")?;
    other["kind"] = "EndpointSlice".into();
    other["metadata"]["name"] = "checkout-000-moved".into();
    other["endpoints"] = json!([moved]);
    server.store().put(other)?;
    edit(&mut |endpoints| unready(endpoints, 3))?;
    lost(&mut reader, 3).await?;
    let metrics = runtime.metrics().expose();
    let line = "zonal_view_left_endpoints_total{outcome=\"moved\"} 1";
    ensure!(metrics.contains(line), "{metrics}");
    runtime.stop().await;
    Ok(())
}

/// An agent that waits longer for the other slice than any machine takes.
async fn agent(url: &str) -> anyhow::Result<(Runtime, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(url))?;
    let source = SourceConfig::Kube {
        kubeconfig: Some(file),
        selection: Selection::default(),
    };
    let node = NodeName::parse(&Cluster::node(0, 0))?;
    let config = RuntimeConfig::new(node, source).state(|state| state.grace(PATIENCE));
    let runtime = Runtime::start(config).await?;
    timeout(PATIENCE, runtime.ready()).await?;
    Ok((runtime, folder))
}

/// Waits until the pod on that node of our zone is out; the one that is moved is in all the while.
async fn lost(reader: &mut Reader, nth: usize) -> anyhow::Result<()> {
    let service: ServiceName = format!("shop/{}", Cluster::service(0)).parse()?;
    let (moved, lost) = (CLUSTER.pod(0, 0, 1), CLUSTER.pod(0, 0, nth));
    let follow = async {
        loop {
            let snapshot = reader.load();
            let view = snapshot.service(&service).context("it is served")?;
            let usable: Vec<_> = view
                .usable()
                .map(|one| one.identity().to_string())
                .collect();
            ensure!(usable.contains(&moved), "{moved} is not among {usable:?}");
            if !usable.contains(&lost) {
                return Ok(());
            }
            reader.changed().await.context("the agent runs")?;
        }
    };
    timeout(PATIENCE, follow).await?
}

fn unready(endpoints: &mut [Value], nth: usize) {
    endpoints[place(endpoints, nth)]["conditions"] =
        json!({ "ready": false, "serving": false, "terminating": false });
}

fn place(endpoints: &[Value], nth: usize) -> usize {
    let pod = CLUSTER.pod(0, 0, nth);
    let place = endpoints
        .iter()
        .position(|one| one["targetRef"]["name"] == pod.as_str());
    place.expect("every node has a pod")
}

const PATIENCE: Duration = Duration::from_secs(120);
const CLUSTER: Cluster = Cluster {
    zones: 4,
    nodes_per_zone: 5,
    services: 1,
    ..Cluster::LARGE
};
