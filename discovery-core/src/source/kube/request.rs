// SPDX-License-Identifier: MIT OR Apache-2.0
//! One request to the API server: what is sent, and how a refusal reads.

use super::{engine::Failure, resource::Resource};
use crate::source::{FailureReason, error_chain};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use std::time::Duration;

/// Sends a request for the list or watch of a resource; the answer's status is a success.
pub(super) struct Asker {
    pub(super) client: kube::Client,
    pub(super) user_agent: String,
}

impl Asker {
    /// Asks for a page of a list.
    pub(super) async fn list(
        &self,
        resource: &Resource,
        uri: &str,
    ) -> Result<Response<Body>, Failure> {
        let request = Request::get(uri);
        self.send(resource, "list", request).await
    }

    /// Begins a watch.
    pub(super) async fn watch(
        &self,
        resource: &Resource,
        uri: &str,
    ) -> Result<Response<Body>, Failure> {
        // Servers from 1.37 on compress each event as a gzip member of its own, which kube's decoder does not read.
        let request = Request::get(uri).header(header::ACCEPT_ENCODING, "identity");
        self.send(resource, "watch", request).await
    }

    async fn send(
        &self,
        resource: &Resource,
        verb: &str,
        request: http::request::Builder,
    ) -> Result<Response<Body>, Failure> {
        let request = request
            .header(header::USER_AGENT, &self.user_agent)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| Failure::new(FailureReason::Refused, error_chain(&error)))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(resource, verb, response).await)
    }
}

/// Reads a body of at most `limit` bytes, telling `seen` about each piece.
pub(super) async fn read_body(
    mut body: Body,
    limit: usize,
    mut seen: impl FnMut(usize),
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = next_piece(&mut body).await? {
        seen(piece.len());
        if bytes.len() + piece.len() > limit {
            let text = format!("the answer is larger than {limit} bytes");
            return Err(Failure::new(FailureReason::TooLarge, text));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The next piece of a body; none at its end.
pub(super) async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn broken(error: &kube::Error) -> Failure {
    Failure::new(FailureReason::Connection, error_chain(error))
}

async fn refusal(resource: &Resource, verb: &str, response: Response<Body>) -> Failure {
    let status = response.status();
    let retry_after = retry_after(&response);
    let reason = FailureReason::of_http_status(status.as_u16());
    let body = read_body(response.into_body(), REFUSAL_BYTES_MAX, |_| {});
    let said = message(&body.await.unwrap_or_default());
    let text = match reason {
        FailureReason::Forbidden => format!("{} ({said})", resource.rule_to_add(verb)),
        FailureReason::Unauthorized => {
            format!("the API server does not accept our credentials ({said})")
        }
        FailureReason::NotFound => resource.not_served(),
        _ => format!("{} to {verb} {}: {said}", describe(status), resource.name()),
    };
    Failure {
        reason,
        retry_after,
        text,
    }
}

fn describe(status: StatusCode) -> String {
    format!("the API server answered {status}")
}

/// RFC 9110 10.2.3, in seconds; API servers send no dates.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn message(body: &[u8]) -> String {
    let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = status
        .as_ref()
        .and_then(|status| status.get("message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    text.chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_CHARS_MAX)
        .collect()
}

/// A Status has some hundred bytes; a proxy's page may have more than anybody reads.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
const MESSAGE_CHARS_MAX: usize = 400;
