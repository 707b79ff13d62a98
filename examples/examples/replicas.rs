// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replica order: each object is written to the first two endpoints of its key, the first the leader, and every caller
//! agrees. `cargo run -p examples --example replicas`.

use discovery_core::hash::HashKey;
use examples::Shop;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;
    let mut store = discovery.service("shop/web".parse()?);
    for object in ["invoice-1", "invoice-2", "invoice-3"] {
        let replicas = store.pick_n(HashKey::of(object.as_bytes()), 2)?;
        println!(
            "{object}: leader {}, follower {}",
            replicas[0].identity(),
            replicas[1].identity()
        );
    }
    Ok(())
}
