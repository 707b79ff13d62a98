// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a running agent over its admin API: one short request, bounded in time and size.

use crate::failure::{Code, Failure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{error::Error, fmt::Write as _, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// What the agent answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as `T`, or the agent's own error.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.status.is_success() {
            return Err(Failure::new(Code::AgentRefused, self.error()));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::new(
                Code::AgentAway,
                format!("the agent's answer is not understood: {error}"),
            )
        })
    }

    fn error(&self) -> String {
        let stated = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let stated = stated.as_ref().and_then(|body| body["error"].as_str());
        stated.map_or_else(
            || format!("the agent answered {}", self.status),
            str::to_owned,
        )
    }
}

/// Sends one request without a body.
pub(crate) async fn ask(admin: SocketAddr, method: Method, path: &str) -> Result<Answer, Failure> {
    let away = |why: &dyn Error| {
        Failure::new(
            Code::AgentAway,
            format!("no agent answers at {admin}: {why}"),
        )
        .help("start one with `zonal agent` or `zonal demo`, or pass --admin ADDR")
    };
    match timeout(DEADLINE, exchange(admin, method, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(away(&*error)),
        Err(elapsed) => Err(away(&elapsed)),
    }
}

async fn exchange(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
        .collect()
        .await?
        .to_bytes();
    Ok(Answer { status, body })
}

/// Percent-encodes a query value (RFC 3986: all but unreserved characters).
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

const DEADLINE: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
