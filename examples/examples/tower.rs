// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tower service that picks by key and moves on when an endpoint fails: `cargo run -p examples --example tower`.

use discovery_core::{
    client::{Balance, Pool, Target},
    hash::HashKey,
};
use examples::Shop;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    sync::Mutex,
};
use tower::{ServiceExt as _, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let discovery = shop.discovery().start().await?;
    discovery.ready().await;

    // Any protocol: here one connection per endpoint, one request at a time.
    let connect = service_fn(|to: Target| async move {
        let stream = BufStream::new(TcpStream::connect(to.address).await?);
        let (stream, pod) = (
            Arc::new(Mutex::new(stream)),
            to.endpoint.identity().to_string(),
        );
        Ok::<_, io::Error>(service_fn(move |user: String| {
            ask(stream.clone(), pod.clone(), user)
        }))
    });
    let web = discovery.service("shop/web".parse()?);
    let by_user = |user: &String| HashKey::of(user.as_bytes());
    let balance = Balance::new(web, by_user, Pool::new(connect)).port("http");

    let owner = balance.clone().oneshot("ann".to_owned()).await?;
    println!("ann is served by {owner}");
    shop.kill(&owner).await;
    let next = balance.clone().oneshot("ann".to_owned()).await?;
    println!("{owner} is dead, and ann is served by {next}");
    anyhow::ensure!(next != owner, "a retry leaves the failed host");
    Ok(())
}

async fn ask(
    stream: Arc<Mutex<BufStream<TcpStream>>>,
    pod: String,
    user: String,
) -> io::Result<String> {
    let mut stream = stream.lock().await;
    let request = format!("GET /{user} HTTP/1.1\r\nHost: web\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut status = String::new();
    stream.read_line(&mut status).await?;
    if status.starts_with("HTTP/1.1 200") {
        Ok(pod)
    } else {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
