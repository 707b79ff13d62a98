// SPDX-License-Identifier: MIT OR Apache-2.0
//! An HTTP client keyed by a header, over hyper: `cargo run -p examples --example http`.

use bytes::Bytes;
use discovery_core::client::{HeaderKey, hyper::HttpClient};
use examples::Shop;
use http::{HeaderName, Request};
use http_body_util::{BodyExt as _, Empty};
use tower::ServiceExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;
    let by_user = HeaderKey::new(HeaderName::from_static("x-user"));
    let web = HttpClient::new(discovery.service("shop/web".parse()?), by_user).port("http");
    for user in ["ann", "bob", "ann"] {
        let request = Request::get("/cart").header("x-user", user);
        let answer = web
            .clone()
            .oneshot(request.body(Empty::<Bytes>::new())?)
            .await?;
        let name = answer.into_body().collect().await?.to_bytes();
        println!("{user} is served by {}", String::from_utf8_lossy(&name));
    }
    Ok(())
}
