// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records what a real control plane answers to the requests that the core sends: one JSON line a request.
//!
//! Two zones of two nodes, a service, four pods. Each line is `{"path", "status", "type", "body"}`; the body of a watch
//! stands as its lines. Recorded so are `discovery-core/tests/fixtures/kube-*.jsonl`, from the programs that the usual
//! variables name:
//!
//! ```console
//! ZONAL_TESTBED_KUBE_APISERVER=… ZONAL_TESTBED_KUBE_CONTROLLER_MANAGER=… ZONAL_TESTBED_ETCD=… \
//!   cargo run -p testbed --example transcript > kube-1.20.2.jsonl
//! ```

use http::Request;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Endpoints;
use kube::{Api, client::Body};
use serde_json::{Value, json};
use std::time::Duration;
use testbed::{Driver, Kube, wait_for};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let kube = Kube::start().await?;
    let driver = kube.driver();
    build(&driver).await?;
    for path in [
        "/version",
        "/apis",
        "/apis/discovery.k8s.io",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1a",
        "/api/v1/nodes?labelSelector=topology.kubernetes.io%2Fzone%3Dmall-1",
        "/api/v1/services",
        "/api/v1/endpoints",
    ] {
        ask(&kube, path).await?;
    }
    let mut version = String::new();
    for slices in SLICES {
        let list = ask(&kube, slices).await?;
        let found = list["metadata"]["resourceVersion"].as_str();
        version = found.map_or(version, str::to_owned);
    }
    // Not ready, ready, and gone: what the watches from the version of the list tell.
    driver
        .pod_status("web-0", "default", [10, 1, 0, 1], false)
        .await?;
    ready_addresses(&driver, 3).await?;
    driver
        .pod_status("web-0", "default", [10, 1, 0, 1], true)
        .await?;
    ready_addresses(&driver, 4).await?;
    driver.delete_pod("web-3", "default").await?;
    ready_addresses(&driver, 3).await?;
    let watch = "watch=true&allowWatchBookmarks=true&timeoutSeconds=2";
    for slices in SLICES {
        ask(
            &kube,
            &format!("{slices}?{watch}&resourceVersion={version}"),
        )
        .await?;
    }
    ask(
        &kube,
        &format!("/api/v1/endpoints?{watch}&resourceVersion={version}"),
    )
    .await?;
    ask(&kube, &format!("{}?{watch}&resourceVersion=1", SLICES[1])).await?;
    Ok(())
}

async fn build(driver: &Driver) -> Outcome<()> {
    for (node, zone, last) in [
        ("edge-1a", "mall-1", 1),
        ("edge-1b", "mall-1", 2),
        ("edge-2a", "mall-2", 3),
        ("edge-2b", "mall-2", 4),
    ] {
        driver
            .node(
                node,
                &[("topology.kubernetes.io/zone", zone)],
                [10, 0, 0, last],
            )
            .await?;
    }
    let ports = json!([{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }]);
    let spec = json!({ "selector": { "app": "web" }, "ports": ports });
    driver
        .service(json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": spec }))
        .await?;
    for (number, node) in (0..).zip(["edge-1a", "edge-1b", "edge-2a", "edge-2b"]) {
        let labels = [("app", "web")];
        driver
            .pod(
                &format!("web-{number}"),
                "default",
                &labels,
                node,
                [10, 1, 0, number + 1],
            )
            .await?;
    }
    ready_addresses(driver, 4).await
}

/// Waits until the controllers have made so many addresses ready.
async fn ready_addresses(driver: &Driver, count: usize) -> Outcome<()> {
    let endpoints: Api<Endpoints> = Api::namespaced(driver.client().clone(), "default");
    let arrived = async || {
        let endpoints = endpoints.get_opt("web").await.ok()??;
        let subsets = endpoints.subsets.unwrap_or_default();
        let ready = subsets
            .iter()
            .filter_map(|subset| subset.addresses.as_ref());
        (ready.map(Vec::len).sum::<usize>() == count).then_some(())
    };
    wait_for("the endpoints", Duration::from_secs(30), arrived).await?;
    // Slices are another controller's business and come a moment later; a watch of two seconds sees both.
    Ok(())
}

/// Sends the request, prints what came back, and gives it.
async fn ask(kube: &Kube, path: &str) -> Outcome<Value> {
    let response = kube
        .admin()
        .send(Request::get(path).body(Body::empty())?)
        .await?;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let text = String::from_utf8(bytes.to_vec())?;
    let kind = head
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let body = match serde_json::from_str::<Value>(&text) {
        Ok(body) => body,
        Err(_) => text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| line.into()))
            .collect(),
    };
    println!(
        "{}",
        json!({ "path": path, "status": head.status.as_u16(), "type": kind, "body": body })
    );
    Ok(body)
}

const SLICES: [&str; 2] = [
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/discovery.k8s.io/v1beta1/endpointslices",
];
