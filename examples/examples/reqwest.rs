// SPDX-License-Identifier: MIT OR Apache-2.0
//! reqwest, keyed per request, and by a resolver where there is no key: `cargo run -p examples --example reqwest`.

use discovery_core::{
    client::reqwest::{KeyedClient, Resolver},
    hash::HashKey,
};
use examples::Shop;
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;
    let client = reqwest::Client::builder()
        .dns_resolver(Arc::new(Resolver::new(discovery.clone())))
        .build()?;
    let mut web =
        KeyedClient::new(client.clone(), discovery.service("shop/web".parse()?)).port("http");
    for user in ["ann", "bob", "ann"] {
        let request = client.get("http://web.shop/cart").build()?;
        let answer = web.execute(HashKey::of(user.as_bytes()), request).await?;
        println!("{user} is served by {}", answer.text().await?);
    }
    let anybody = client.get("http://web.shop/").send().await?;
    println!("somebody is served by {}", anybody.text().await?);
    Ok(())
}
