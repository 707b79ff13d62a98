// SPDX-License-Identifier: MIT OR Apache-2.0
//! The role of the rival: reflectors of kube-runtime over the same lists, and the least that an application does to know
//! the pods of its zone.

use crate::{
    FLIPPED, OWN_ZONE,
    child::{end_with_input, say},
};
use anyhow::bail;
use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::Node,
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::{
    Api, Client, Config,
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use std::{collections::HashMap, pin::pin};
use testbed::api_server::generate::Cluster;

/// Says `started`, `ready`, and every change of a pod of the own zone of the flipped service.
///
/// `server` is the address of a scripted server, or the kubeconfig of a real one.
pub(crate) async fn run(server: &str) -> anyhow::Result<()> {
    end_with_input();
    let client = if server.starts_with("http://") {
        Client::try_from(Config::new(server.parse()?))?
    } else {
        testbed::client(server.as_ref()).await?
    };
    say("started");
    let selector = format!("topology.kubernetes.io/zone={}", Cluster::zone(OWN_ZONE));
    let (nodes, node_writer) = reflector::store();
    let node_watch = watcher(
        Api::<Node>::all(client.clone()),
        watcher::Config::default().labels(&selector),
    );
    let node_events = node_watch
        .default_backoff()
        .reflect(node_writer)
        .applied_objects();
    tokio::spawn(node_events.for_each(|_| async {}));
    let (slices, slice_writer) = reflector::store();
    let slice_watch = watcher(
        Api::<EndpointSlice>::all(client),
        watcher::Config::default(),
    );
    let applied = slice_watch
        .default_backoff()
        .reflect(slice_writer)
        .applied_objects();
    let slices: Store<EndpointSlice> = slices;
    tokio::spawn(async move {
        let (nodes_ready, slices_ready) = (nodes.wait_until_ready(), slices.wait_until_ready());
        if tokio::try_join!(nodes_ready, slices_ready).is_ok() {
            say("ready");
        }
        // Both are kept, as an application keeps them.
        std::future::pending::<()>().await;
        drop((nodes, slices));
    });
    let (mut applied, mut known) = (pin!(applied), HashMap::new());
    while let Some(slice) = applied.next().await {
        // The backoff is below; what failed is asked again.
        if let Ok(slice) = slice {
            tell_changes(&slice, &mut known);
        }
    }
    bail!("the watch ended")
}

fn tell_changes(slice: &EndpointSlice, known: &mut HashMap<String, bool>) {
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    if service.is_none_or(|service| *service != Cluster::service(FLIPPED)) {
        return;
    }
    for endpoint in slice.endpoints.iter().filter(|endpoint| is_own(endpoint)) {
        let pod = endpoint
            .target_ref
            .as_ref()
            .and_then(|target| target.name.clone());
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true);
        let pod = pod.unwrap_or_default();
        if known.insert(pod.clone(), is_ready) != Some(is_ready) {
            say(&format!(
                "{} {pod}",
                if is_ready { "gained" } else { "lost" }
            ));
        }
    }
}

/// The join by node; its zone is part of a node's name here, which spares the rival a look-up.
fn is_own(endpoint: &Endpoint) -> bool {
    let node = endpoint.node_name.as_deref().unwrap_or_default();
    node.contains(&Cluster::zone(OWN_ZONE))
}
