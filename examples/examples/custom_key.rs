// SPDX-License-Identifier: MIT OR Apache-2.0
//! A key of one's own: requests of one tenant belong together, whatever else they say; those without one go anywhere.
//! `cargo run -p examples --example custom_key`.

use discovery_core::{
    client::{Balance, Dispatch, RequestKey},
    hash::HashKey,
};
use examples::Shop;
use std::convert::Infallible;
use tower::{ServiceExt as _, service_fn};

#[derive(Clone, Debug)]
struct Order {
    tenant: Option<u32>,
    article: &'static str,
}

/// Explicit bytes, so that every caller in every language gets the same key.
#[derive(Clone, Copy, Debug)]
struct ByTenant;

impl RequestKey<Order> for ByTenant {
    fn key(&self, order: &Order) -> Option<HashKey> {
        let tenant = order.tenant?;
        Some(HashKey::of(format!("tenant:{tenant}").as_bytes()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;
    let send = service_fn(|to: Dispatch<Order>| async move {
        Ok::<_, Infallible>((to.request.article, to.endpoint.identity().to_string()))
    });
    let web = Balance::new(discovery.service("shop/web".parse()?), ByTenant, send);
    for (tenant, article) in [
        (Some(7), "tea"),
        (Some(7), "milk"),
        (Some(8), "tea"),
        (None, "bread"),
    ] {
        let (article, pod) = web.clone().oneshot(Order { tenant, article }).await?;
        println!("{article} of tenant {tenant:?} goes to {pod}");
    }
    Ok(())
}
