// SPDX-License-Identifier: MIT OR Apache-2.0
//! One HTTP/1 request on a connection of its own, to a server on loopback.
//!
//! In: method, address, path, body. Out: status and body. No pool, no retry, no redirect; a test wants to see each.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Error;

/// Sends one request and reads the whole answer, whatever its status.
pub(crate) async fn exchange(
    method: Method,
    addr: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Error> {
    let what = format!("{method} http://{addr}{path}");
    let stream = TcpStream::connect(addr).await.map_err(Error::io(&what))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, addr.to_string())
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|error| Error::manifest(&what, error))?;
    let broken = |source| Error::Exchange { what, source };
    answer(stream, request).await.map_err(broken)
}

async fn answer(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection is driven here, not in a task: dropping the future ends it.
    let (answered, ()) = futures::future::join(exchange, async { drop(connection.await) }).await;
    answered
}
