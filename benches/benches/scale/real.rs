// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same cluster on a real kube-apiserver: what is measured is what the scripted server might flatter.
//!
//! Objects are created in parallel as their controllers would have written them; no controller runs that would write them
//! anew. Flips are counted from the server's answer to the write. Ten minutes at most, most of them the creation.

use crate::{
    CLUSTER, FLIPPED, OWN_ZONE,
    child::{Child, say},
    figures::{Figures, Report},
    measure::{Contender, first_look, flips},
};
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, header};
use kube::Client;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    time::{Duration, Instant},
};
use testbed::{Kube, KubeOptions};

/// Measures the agent against it.
pub(crate) fn drive() -> anyhow::Result<Report> {
    let mut server = Child::start(&["real"])?;
    let begin = Instant::now();
    let kubeconfig = loop {
        let line = server.next_line()?;
        match line.split_once(' ') {
            Some(("serving", kubeconfig)) => break kubeconfig.to_owned(),
            _ => eprintln!("{line} ({:.0} s)", begin.elapsed().as_secs_f64()),
        }
        if begin.elapsed() > FILL_TIME_MAX {
            bail!("the cluster is not filled within {FILL_TIME_MAX:?}");
        }
    };
    let mut agent = Child::start(&["agent", &kubeconfig])?;
    let mut figures = Figures::new();
    first_look(&mut agent, &mut figures)?;
    flips(&mut server, &mut agent, &mut figures)?;
    let mut report = Report::default();
    report.add(Contender::Zonal, figures);
    Ok(report)
}

/// The role of the server: `flip NODE READY` is answered once the write is acknowledged.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut orders = crate::server::orders();
    let options = KubeOptions::default().controller_manager_flag("--controllers=podgc");
    let kube = Kube::start_with(options).await?;
    let client = kube.admin();
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    create(&client, namespace).await?;
    let made = futures::stream::iter(CLUSTER.objects().map(written));
    let mut made = made
        .map(|object| create(&client, object))
        .buffer_unordered(CREATES_AT_ONCE);
    let mut count = 0;
    while made.try_next().await?.is_some() {
        count += 1;
        if count % 500 == 0 {
            println!("created {count} objects");
            std::io::stdout().flush()?;
        }
    }
    println!("serving {}", kube.admin_kubeconfig().display());
    while let Some(order) = orders.recv().await {
        let words: Vec<_> = order.split(' ').collect();
        match words[..] {
            ["flip", node, ready] => flip(&client, node.parse()?, ready == "true").await?,
            _ => bail!("an order without sense: {order}"),
        }
    }
    Ok(())
}

async fn flip(client: &Client, node: usize, is_ready: bool) -> anyhow::Result<()> {
    let place = CLUSTER.place(FLIPPED, (OWN_ZONE, node));
    let (slice, at) = place.context("there is a pod on every node")?;
    let conditions = json!({ "ready": is_ready, "serving": is_ready, "terminating": false });
    let patch = json!([{ "op": "replace", "path": format!("/endpoints/{at}/conditions"), "value": conditions }]);
    let uri = format!("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/{slice}");
    let request = Request::patch(uri).header(header::CONTENT_TYPE, "application/json-patch+json");
    client
        .request::<Value>(request.body(serde_json::to_vec(&patch)?)?)
        .await?;
    say("flipped");
    Ok(())
}

/// The object as a controller writes it, without what the server adds or refuses.
fn written(mut object: Value) -> Value {
    let is_slice = object["kind"] == "EndpointSlice";
    object["apiVersion"] = if is_slice {
        "discovery.k8s.io/v1"
    } else {
        "v1"
    }
    .into();
    let server_side = [
        "uid",
        "managedFields",
        "ownerReferences",
        "generation",
        "creationTimestamp",
        "generateName",
    ];
    remove(&mut object["metadata"], &server_side);
    if object["kind"] == "Service" {
        remove(
            &mut object["spec"],
            &["clusterIP", "ipFamilies", "ipFamilyPolicy", "selector"],
        );
    }
    object
}

fn remove(object: &mut Value, fields: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

async fn create(client: &Client, object: Value) -> anyhow::Result<()> {
    let uri = match object["kind"].as_str() {
        Some("Namespace") => "/api/v1/namespaces",
        Some("Node") => "/api/v1/nodes",
        Some("Service") => "/api/v1/namespaces/shop/services",
        _ => "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
    };
    let request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(serde_json::to_vec(&object)?)?;
    let made = client.request::<Value>(request).await;
    made.with_context(|| format!("creating {}", object["metadata"]["name"]))?;
    Ok(())
}

/// As many as the server takes in without putting them off.
const CREATES_AT_ONCE: usize = 48;
const FILL_TIME_MAX: Duration = Duration::from_secs(480);
