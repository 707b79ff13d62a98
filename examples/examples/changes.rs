// SPDX-License-Identifier: MIT OR Apache-2.0
//! Observing a service: who came, who went, and when a key has another owner. `cargo run -p examples --example changes`.

use discovery_core::{hash::HashKey, store::Endpoint};
use examples::Shop;
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    let web = discovery.service("shop/web".parse()?);
    let (mut changes, mut owners) = (web.watch(), web.watch_owner(HashKey::of(b"ann")));
    // Each list is one that a control plane would state after the one before.
    for pods in [&[0, 1, 2][..], &[1, 2], &[1, 2, 3]] {
        shop.list(pods)?;
        let Some(change) = changes.changed().await else {
            break;
        };
        println!(
            "came: {}, went: {}",
            names(change.added()),
            names(change.removed())
        );
    }
    if let Some(owner) = owners.changed().await {
        println!("ann belongs to {}", names(owner.to.as_slice()));
    }
    Ok(())
}

fn names(endpoints: &[Arc<Endpoint>]) -> String {
    let names: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.identity().as_str())
        .collect();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(" ")
    }
}
