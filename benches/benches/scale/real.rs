// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same cluster on a real kube-apiserver: what is measured is what the scripted server might flatter.
//!
//! Objects are created in parallel as their controllers would have written them; no controller runs that would write them
//! anew. Flips are counted from the server's answer to the write. For a relist the server is killed and started again: what it
//! knew of watches is gone, and their versions are older than all that it has. Both contenders are measured against one
//! server, one after the other; ten minutes at most.

use crate::{
    CLUSTER, FLIPPED, OWN_ZONE,
    child::{Child, say},
    figures::{Figures, Report},
    measure::{Contender, churn as measure_churn, first_look, flips, relist},
    server::changes,
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

/// Measures both contenders against it.
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
    let mut report = Report::default();
    for contender in Contender::ALL {
        let figures = measure(contender, &mut server, &kubeconfig)?;
        report.add(contender, figures);
        eprintln!(
            "{} ({:.0} s)",
            contender.name(),
            begin.elapsed().as_secs_f64()
        );
        // As the next one is to find it.
        server.order("flip 0 true", "flipped")?;
    }
    Ok(report)
}

fn measure(contender: Contender, server: &mut Child, kubeconfig: &str) -> anyhow::Result<Figures> {
    let mut child = Child::start(&[contender.role(), kubeconfig])?;
    let mut figures = Figures::new();
    first_look(&mut child, &mut figures)?;
    flips(server, &mut child, &mut figures)?;
    measure_churn(server, &mut child, &mut figures)?;
    relist(server, &mut child, &mut figures)?;
    Ok(figures)
}

/// The role of the server: `flip NODE READY`, `churn PER_SECOND SECONDS` and `relist NODE READY` are answered once the last
/// write is acknowledged.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut orders = crate::server::orders();
    let options = KubeOptions::default().controller_manager_flag("--controllers=podgc");
    let mut kube = Kube::start_with(options).await?;
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
            ["flip", node, ready] => flip(&client, node, ready).await?,
            ["churn", per_second, seconds] => {
                churn(&client, per_second.parse()?, seconds.parse()?).await?;
                say("churned");
            }
            ["relist", node, ready] => {
                kube.kill_apiserver();
                kube.start_apiserver().await?;
                flip(&client, node, ready).await?;
            }
            _ => bail!("an order without sense: {order}"),
        }
    }
    Ok(())
}

async fn flip(client: &Client, node: &str, ready: &str) -> anyhow::Result<()> {
    set_ready(client, FLIPPED, (OWN_ZONE, node.parse()?), ready == "true").await?;
    say("flipped");
    Ok(())
}

/// As many writes are begun each second; a busy server may answer them later.
async fn churn(client: &Client, per_second: u32, seconds: u32) -> anyhow::Result<()> {
    let ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let changes = futures::stream::iter(changes(per_second * seconds));
    let paced = futures::stream::unfold(ticks, |mut ticks| async {
        ticks.tick().await;
        Some(((), ticks))
    });
    let written = changes
        .zip(paced)
        .map(|(change, ())| set_ready(client, change.service, change.place, change.is_ready))
        .buffer_unordered(WRITES_AT_ONCE);
    written.try_collect().await
}

async fn set_ready(
    client: &Client,
    service: usize,
    place: (usize, usize),
    is_ready: bool,
) -> anyhow::Result<()> {
    let place = CLUSTER.place(service, place);
    let (slice, at) = place.context("there is a pod on every node")?;
    let conditions = json!({ "ready": is_ready, "serving": is_ready, "terminating": false });
    let patch = json!([{ "op": "replace", "path": format!("/endpoints/{at}/conditions"), "value": conditions }]);
    let uri = format!("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/{slice}");
    let request = Request::patch(uri).header(header::CONTENT_TYPE, "application/json-patch+json");
    client
        .request::<Value>(request.body(serde_json::to_vec(&patch)?)?)
        .await?;
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
const WRITES_AT_ONCE: usize = 16;
const FILL_TIME_MAX: Duration = Duration::from_secs(480);
