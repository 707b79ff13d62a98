// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gRPC channel keyed by metadata: `cargo run -p examples --example tonic`.

use bytes::Bytes;
use discovery_core::client::{HeaderKey, tonic::Channel};
use examples::{RawCodec, Shop};
use http::{HeaderName, uri::PathAndQuery};
use tonic::{Request, client::Grpc};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;
    let by_user = HeaderKey::new(HeaderName::from_static("x-user"));
    let channel = Channel::new(discovery.service("shop/web".parse()?), by_user).port("grpc");
    // A generated client takes the channel as it is: `CartClient::new(channel)`.
    let mut cart = Grpc::new(channel);
    for user in ["ann", "bob", "ann"] {
        let mut request = Request::new(Bytes::from_static(b"what is in my cart?"));
        request.metadata_mut().insert("x-user", user.parse()?);
        cart.ready().await?;
        let path = PathAndQuery::from_static("/shop.Cart/Get");
        let name = cart.unary(request, path, RawCodec).await?.into_inner();
        println!("{user} is served by {}", String::from_utf8_lossy(&name));
    }
    Ok(())
}
