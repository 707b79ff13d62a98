// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library in a dozen lines: `cargo run -p examples --example hello`.

use discovery_core::{client::Discovery, hash::HashKey};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mall.yaml");
    let discovery = Discovery::builder()
        .node("edge-a")
        .manifest(manifest)
        .start()
        .await?;
    discovery.ready().await;
    let mut web = discovery.service("shop/web".parse()?);
    for customer in ["ann", "bob", "cyd"] {
        let pick = web.pick(HashKey::of(customer.as_bytes()))?;
        println!(
            "{customer} -> {} at {:?}",
            pick.identity(),
            pick.socket(Some("http"))
        );
    }
    Ok(())
}
