// SPDX-License-Identifier: MIT OR Apache-2.0
//! The heartbeat of nodes that have no kubelet.
//!
//! The controller manager marks a node unknown when its lease is not renewed for the grace period (50 s). A task renews
//! the leases of a set of nodes; dropped, it stops, which is how a zone is cut off in a test.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

/// Renews leases while it lives; see [`Driver::renew_leases`](crate::Driver::renew_leases).
#[derive(Debug)]
#[must_use = "the leases are renewed only while this lives"]
pub struct Leases {
    task: JoinHandle<()>,
}

impl Leases {
    pub(crate) fn start(client: Client, nodes: Vec<String>) -> Self {
        Self {
            task: tokio::spawn(renew_forever(client, nodes)),
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a renewal writes, in the form of the lease's `spec`.
pub(crate) fn spec(node: &str) -> Value {
    json!({
        "holderIdentity": node,
        "leaseDurationSeconds": 40,
        "renewTime": format!("{:.6}", Timestamp::now()),
    })
}

async fn renew_forever(client: Client, nodes: Vec<String>) {
    let api: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let nodes = futures::stream::iter(nodes.clone());
        nodes
            .for_each_concurrent(CONCURRENT_MAX, |node| renew(api.clone(), node))
            .await;
    }
}

/// One try: tests stop and kill the API server, and a kubelet too would just try again at its next heartbeat.
async fn renew(api: Api<Lease>, node: String) {
    let patch = Patch::Merge(json!({ "spec": spec(&node) }));
    let params = PatchParams::default();
    let _ = tokio::time::timeout(PERIOD, api.patch(&node, &params, &patch)).await;
}

/// Half of a kubelet's: several heartbeats fit into the shortest grace period that tests use.
const PERIOD: Duration = Duration::from_secs(5);
const CONCURRENT_MAX: usize = 16;
