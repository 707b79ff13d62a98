// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thin client for Consul's HTTP API: what sources ask, and the few calls by which an instance is registered.
//!
//! In: a path and how long Consul may hold the answer back. Out: a whole, bounded body with what its headers say, or one
//! failure. Every call ends: after wait + 10 % + 5 s at the latest, since an agent may accept and never answer. A request
//! that is given up takes its connection with it. No redirect and no retry but for an idle connection that had gone.

use super::{
    connect::{Connection, Dialer, is_worn},
    failure::Failure,
    secret::TokenReader,
};
use crate::source::FailureReason;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::{
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    /// Path and query without `index`, `wait` and the consistency.
    pub(super) path: String,
    /// The policy rule that a token needs for it.
    pub(super) rule: String,
}

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ask {
    /// The index that must be exceeded, and how long to wait for that; none answers at once.
    pub(super) block: Option<(u64, Duration)>,
    /// Whether any server may answer, also one that lags behind its leader.
    pub(super) stale: bool,
}

/// One request.
struct Call<'c> {
    method: Method,
    uri: &'c str,
    body: Bytes,
    rule: &'c str,
}

/// A whole answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    /// `X-Consul-Index`; none when it is absent or no number.
    pub(super) index: Option<u64>,
    /// `X-Consul-KnownLeader`.
    pub(super) knows_leader: bool,
    /// `X-Consul-LastContact`: how far the server that answered is behind its leader.
    pub(super) last_contact: Duration,
    /// `X-Consul-Results-Filtered-By-ACLs`: something was left out because the token may not see it.
    pub(super) is_filtered: bool,
}

/// The client; requests at the same time have a connection each.
pub(super) struct Client {
    dialer: Dialer,
    token: TokenReader,
    authority: HeaderValue,
    // Guards the idle connections; held for a push or a pop.
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    pub(super) fn new(dialer: Dialer, token: TokenReader) -> Self {
        let authority = HeaderValue::from_str(&dialer.address.authority());
        Self {
            authority: authority.unwrap_or(HeaderValue::from_static("localhost")),
            dialer,
            token,
            idle: Mutex::default(),
        }
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn get(&self, question: &Question, ask: Ask) -> Result<Reply, Failure> {
        let limit = time_limit(ask.block.map_or(Duration::ZERO, |(_, wait)| wait));
        let call = Call {
            method: Method::GET,
            uri: &uri(question, ask),
            body: Bytes::new(),
            rule: &question.rule,
        };
        let answer = timeout(limit, self.exchange(&call)).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::late()));
        if answer
            .as_ref()
            .is_err_and(|failure| failure.reason == FailureReason::Forbidden)
        {
            self.token.forget().await;
        }
        answer
    }

    /// Has the agent do something; the question's path names it.
    pub(super) async fn put(&self, question: &Question, body: Bytes) -> Result<(), Failure> {
        let call = Call {
            method: Method::PUT,
            uri: &question.path,
            body,
            rule: &question.rule,
        };
        let answer = timeout(CALL_TIME, self.exchange(&call)).await;
        answer.unwrap_or_else(|_| Err(Failure::late())).map(drop)
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        if let Some(connection) = self.idle_connection() {
            match self.exchange_on(connection, call).await {
                Err(failure) if is_worn(&failure) => {}
                answer => return answer,
            }
        }
        let connection = self.dialer.dial().await?;
        self.exchange_on(connection, call).await
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        call: &Call<'_>,
    ) -> Result<Reply, Failure> {
        let request = self.request(call).await?;
        let response = connection.sender.send_request(request).await;
        let response = response.map_err(|error| Failure::connection(&error))?;
        let (status, mut reply) = (response.status(), Reply::of_headers(response.headers()));
        reply.body = read_body(response).await?;
        self.give_back(connection).await;
        if status.is_success() {
            return Ok(reply);
        }
        Err(Failure::of_answer(status.as_u16(), &reply.body, call.rule))
    }

    async fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(call.uri)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = self.token.header().await? {
            request = request.header("x-consul-token", token);
        }
        request
            .body(Full::new(call.body.clone()))
            .map_err(|error| Failure::new(FailureReason::Refused, &error.to_string()))
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Connection::is_open);
        idle.pop()
    }

    async fn give_back(&self, mut connection: Connection) {
        // The end of the body is told before the connection is free for another request.
        if connection.sender.ready().await.is_err() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.dialer.address)
            .finish_non_exhaustive()
    }
}

impl Reply {
    fn of_headers(headers: &HeaderMap) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let number = |name| text(name)?.trim().parse().ok();
        Self {
            body: Vec::new(),
            index: number("x-consul-index"),
            // Absent on an agent's own answers, which need no leader.
            knows_leader: text("x-consul-knownleader").is_none_or(|value| value == "true"),
            last_contact: number("x-consul-lastcontact")
                .map_or(Duration::ZERO, Duration::from_millis),
            is_filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        }
    }
}

/// How long a call may take when Consul may hold its answer back for `wait`: it adds up to a sixteenth at random.
pub(super) fn time_limit(wait: Duration) -> Duration {
    wait + wait / 10 + CALL_TIME
}

fn uri(question: &Question, ask: Ask) -> String {
    let mut uri = question.path.clone();
    let mut separator = if uri.contains('?') { '&' } else { '?' };
    let mut add = |text: &str| {
        uri.push(separator);
        uri.push_str(text);
        separator = '&';
    };
    if ask.stale {
        add("stale");
    }
    if let Some((index, wait)) = ask.block {
        add(&format!("index={index}&wait={}ms", wait.as_millis()));
    }
    uri
}

/// `text` as part of a path or value of a query (RFC 3986).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

async fn read_body(response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            // Not a worn connection: the answer had begun.
            Failure::new(
                FailureReason::Truncated,
                &crate::source::error_chain(&error),
            )
        })?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if bytes.len() + piece.len() > BODY_BYTES_MAX {
            let text = format!("Consul's answer is larger than {BODY_BYTES_MAX} bytes");
            return Err(Failure::new(FailureReason::TooLarge, &text));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

const USER_AGENT: &str = concat!("zonal-consul/", env!("CARGO_PKG_VERSION"));
/// What a call may take beyond its wait (C1).
const CALL_TIME: Duration = Duration::from_secs(5);
/// An instance with its checks has 2 KB: 8,000 instances of one service.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// As many as may be in use at a time.
const IDLE_MAX: usize = super::CONNECTIONS_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f31_a_call_ends_after_its_wait_a_tenth_and_five_seconds() {
        assert_eq!(time_limit(Duration::ZERO), Duration::from_secs(5));
        assert_eq!(time_limit(Duration::from_secs(60)), Duration::from_secs(71));
    }

    #[test]
    fn questions_are_written_as_the_api_has_them() {
        let question = |path: &str| Question {
            path: path.into(),
            rule: String::new(),
        };
        let block = Some((7, Duration::from_secs(45)));
        let ask = Ask { block, stale: true };
        assert_eq!(
            uri(&question("/v1/x"), ask),
            "/v1/x?stale&index=7&wait=45000ms"
        );
        let ask = Ask {
            block: None,
            stale: false,
        };
        assert_eq!(uri(&question("/v1/x?dc=a"), ask), "/v1/x?dc=a");
        assert_eq!(encode("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }

    #[test]
    fn headers_that_are_no_numbers_are_absent() {
        let mut headers = HeaderMap::new();
        assert!(Reply::of_headers(&headers).knows_leader);
        for (name, value) in [
            ("x-consul-index", "-1"),
            ("x-consul-lastcontact", "soon"),
            ("x-consul-knownleader", "false"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let reply = Reply::of_headers(&headers);
        assert_eq!((reply.index, reply.last_contact), (None, Duration::ZERO));
        assert!(!reply.knows_leader && !reply.is_filtered);
    }
}
