// SPDX-License-Identifier: MIT OR Apache-2.0
//! The role of the API server: keeps the cluster, and changes it on order.

use crate::{CLUSTER, FLIPPED, OWN_ZONE, child::say};
use anyhow::{Context as _, bail};
use std::time::Duration;
use testbed::api_server::{ApiServer, Options};
use tokio::sync::mpsc;

/// Orders, each answered with a line: `flip NODE READY`, `churn PER_SECOND SECONDS`, `relist NODE READY`, `sent`.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut orders = orders();
    // As many events as a busy real server keeps.
    let options = Options::default().events_kept(2_000);
    let server = ApiServer::filled(options, |store| CLUSTER.fill(store)).await?;
    println!("serving {}", server.url());
    while let Some(order) = orders.recv().await {
        let words: Vec<_> = order.split(' ').collect();
        match words[..] {
            ["flip", node, ready] => flip(&server, node, ready)?,
            ["churn", per_second, seconds] => {
                churn(&server, per_second.parse()?, seconds.parse()?).await?;
                say("churned");
            }
            ["relist", node, ready] => {
                server.refuse().await;
                flip(&server, node, ready)?;
                server.store().compact();
                server.listen_again().await?;
            }
            ["sent"] => println!("sent {}", server.sent_bytes()),
            _ => bail!("an order without sense: {order}"),
        }
    }
    Ok(())
}

pub(crate) fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}

fn flip(server: &ApiServer, node: &str, ready: &str) -> anyhow::Result<()> {
    let place = (OWN_ZONE, node.parse()?);
    let version = CLUSTER.set_ready(server.store(), FLIPPED, place, ready == "true")?;
    version.context("there is a pod on every node")?;
    say("flipped");
    Ok(())
}

async fn churn(server: &ApiServer, per_second: u32, seconds: u32) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    for change in changes(per_second * seconds) {
        ticks.tick().await;
        CLUSTER.set_ready(
            server.store(),
            change.service,
            change.place,
            change.is_ready,
        )?;
    }
    Ok(())
}

/// A pod of another zone turns ready or not.
pub(crate) struct Change {
    pub(crate) service: usize,
    pub(crate) place: (usize, usize),
    pub(crate) is_ready: bool,
}

/// Changes evenly spread over other zones and services, the same in every run.
pub(crate) fn changes(count: u32) -> impl Iterator<Item = Change> {
    let mut random = fastrand::Rng::with_seed(11);
    (0..count).map(move |nth| Change {
        place: (
            random.usize(1..CLUSTER.zones),
            random.usize(..CLUSTER.nodes_per_zone),
        ),
        service: random.usize(..CLUSTER.services),
        is_ready: nth % 2 == 1,
    })
}
