// SPDX-License-Identifier: MIT OR Apache-2.0
//! One request to the API server: what is sent, and how a refusal reads.

use super::{
    access::{Access, is_of_certificate},
    answer::Answer,
    client,
    failure::Failure,
    resource::Resource,
};
use crate::source::{FailureReason, error_chain};
use http::{HeaderValue, Request, Response, StatusCode, header};
use kube::client::Body;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// Sends requests and takes in their heads.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) access: Arc<Access>,
    pub(super) user_agent: String,
    /// Whether each request has a connection of its own.
    pub(super) is_afresh: bool,
}

impl Asker {
    /// The same over new connections.
    pub(super) fn afresh(self) -> Self {
        Self {
            is_afresh: true,
            ..self
        }
    }

    /// Asks for a list, a watch or a document; the answer's status is a success.
    pub(super) async fn ask(
        &self,
        asked: &Asked<'_>,
        uri: &str,
        answer_within: Duration,
    ) -> Result<Answer, Failure> {
        self.exchange(asked, client::get(uri), answer_within).await
    }

    /// As [`Asker::ask`], with a document that is sent.
    pub(super) async fn post(
        &self,
        uri: &str,
        document: Vec<u8>,
        answer_within: Duration,
    ) -> Result<Answer, Failure> {
        let request = client::post(uri, document);
        self.exchange(&Asked::Document, request, answer_within)
            .await
    }

    async fn exchange(
        &self,
        asked: &Asked<'_>,
        request: Result<Request<Body>, http::Error>,
        answer_within: Duration,
    ) -> Result<Answer, Failure> {
        let response = timeout(answer_within, self.send(request)).await;
        let response = response.map_err(|_| unanswered(answer_within))??;
        if response.status().is_success() {
            return Answer::new(response);
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            // API servers let an expired certificate connect, and refuse what is asked over it.
            self.access.doubt();
        }
        Err(refusal(asked, response).await)
    }

    async fn send(
        &self,
        request: Result<Request<Body>, http::Error>,
    ) -> Result<Response<Body>, Failure> {
        let refused = |error: &dyn std::error::Error| {
            Failure::new(FailureReason::Refused, error_chain(error))
        };
        let mut request = request.map_err(|error| refused(&error))?;
        let agent = HeaderValue::try_from(&self.user_agent).map_err(|error| refused(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, agent);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // Lists cross thin links; watches are compressed by servers from 1.37 on, event by event.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let now = Instant::now().into_std();
        let line = self.access.line(now).await;
        if let Some(header) = line.token.as_ref().and_then(|token| token.header(now)) {
            headers.insert(header::AUTHORIZATION, header);
        }
        let client = if self.is_afresh {
            &line.clients.fresh
        } else {
            &line.clients.pooled
        };
        let response = client.send(request).await;
        response.map_err(|error| self.unsent(&error))
    }

    fn unsent(&self, error: &kube::Error) -> Failure {
        let text = error_chain(error);
        if is_of_certificate(error) {
            self.access.doubt();
            return Failure::new(FailureReason::Certificate, text).of_server();
        }
        let failure = Failure::new(FailureReason::Connection, text).of_server();
        if is_of_connecting(error) {
            failure
        } else {
            failure.asked()
        }
    }
}

/// Whether the connection never came about, so that the server has nothing of the request.
fn is_of_connecting(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        cause = error.source();
    }
    false
}

/// What is asked for, for the words of a refusal.
pub(super) enum Asked<'r> {
    /// `list` or `watch` of a resource.
    Resource(&'static str, &'r Resource),
    /// A discovery document.
    Document,
}

async fn refusal(asked: &Asked<'_>, response: Response<Body>) -> Failure {
    let status = response.status();
    let retry_after = retry_after(&response);
    let reason = FailureReason::of_http_status(status.as_u16());
    let said = message(&read_refusal(response).await);
    let text = match (reason, asked) {
        (FailureReason::Forbidden, Asked::Resource(verb, resource)) => {
            format!("{} ({said})", resource.rule_to_add(verb))
        }
        (FailureReason::Unauthorized, _) => {
            format!("the API server does not accept our credentials ({said})")
        }
        (FailureReason::NotFound, Asked::Resource(_, resource)) => resource.not_served(),
        (_, Asked::Resource(verb, resource)) => {
            format!(
                "the API server answered {status} to {verb} {}: {said}",
                resource.name()
            )
        }
        (_, Asked::Document) => format!("the API server answered {status}: {said}"),
    };
    let failure = Failure {
        retry_after,
        ..Failure::new(reason, text)
    };
    match reason {
        FailureReason::Throttled | FailureReason::ServerError => failure.of_server(),
        _ => failure,
    }
}

/// The words of a refusal are nice to have: nothing waits long for them.
async fn read_refusal(response: Response<Body>) -> Vec<u8> {
    let deadline = Instant::now() + REFUSAL_TIME;
    let read = async {
        Answer::new(response)?
            .read(REFUSAL_BYTES_MAX, deadline, |_, _| {})
            .await
    };
    let read = timeout_at(deadline, read).await;
    read.map_or_else(|_| Vec::new(), Result::unwrap_or_default)
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

fn unanswered(after: Duration) -> Failure {
    let text = format!("no answer within {} s", after.as_secs());
    Failure::new(FailureReason::Deadline, text).of_server()
}

/// A Status has some hundred bytes; a proxy's page may have more than anybody reads.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(5);
const MESSAGE_CHARS_MAX: usize = 400;
