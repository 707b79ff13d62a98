// SPDX-License-Identifier: MIT OR Apache-2.0
//! An answer that a script writes piece by piece, and how any answer becomes a response.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::{Value, json};

/// The body of an answer on its way.
pub(super) type Chunks = BoxStream<'static, io::Result<Bytes>>;
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A piece of an answer's body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Piece {
    /// These bytes.
    Text(String),
    /// Nothing for a while.
    Wait(Duration),
    /// Nothing more, and the connection stays open.
    Hang,
    /// The connection breaks.
    Cut,
    /// As many bytes without a line's end, again and again.
    Endless(usize),
}

/// An answer of a script.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Written {
        status: StatusCode,
        headers: HeaderMap,
        body: Vec<Piece>,
    },
    /// The head is never sent.
    Never,
    /// The connection is closed instead of an answer.
    Close,
}

impl Answer {
    /// 200 with this body.
    pub fn ok(body: impl IntoIterator<Item = Piece>) -> Self {
        Self::written(StatusCode::OK, body)
    }

    /// A whole list of these objects at the version.
    pub fn list(version: &str, items: &[String]) -> Self {
        Self::ok([Piece::Text(list_body(version, "", items))])
    }

    /// A watch that tells these events, each a line, and stays open.
    pub fn events(events: &[String]) -> Self {
        let lines = events.iter().map(|event| Piece::Text(format!("{event}\n")));
        Self::ok(lines.chain([Piece::Hang]))
    }

    /// A refusal with a `Status` for its body.
    ///
    /// # Panics
    /// When the number is no status of HTTP.
    pub fn status(status: u16, message: &str) -> Self {
        let body = failure(status, "", message).to_string();
        let status = StatusCode::from_u16(status).expect("a status of HTTP");
        Self::written(status, [Piece::Text(body)])
    }

    /// The same with a header more.
    ///
    /// # Panics
    /// When the name or the value is none of HTTP.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Kind::Written { headers, .. } = &mut self.kind {
            let value = HeaderValue::from_str(value).expect("a header's value");
            headers.append(HeaderName::from_static(name), value);
        }
        self
    }

    /// The head is never sent, and the connection stays open.
    pub fn never() -> Self {
        Self { kind: Kind::Never }
    }

    /// The connection is closed instead of an answer.
    pub fn close() -> Self {
        Self { kind: Kind::Close }
    }

    fn written(status: StatusCode, body: impl IntoIterator<Item = Piece>) -> Self {
        Self {
            kind: Kind::Written {
                status,
                headers: json_headers(),
                body: body.into_iter().collect(),
            },
        }
    }
}

/// The body of one page of a list: an empty token when it is the last.
pub fn list_body(version: &str, token: &str, items: &[String]) -> String {
    let items = items.join(",");
    format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{items}]}}"#
    )
}

/// A `Status` that says why not.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code })
}

pub(super) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )])
}

/// What the pieces send.
pub(super) fn chunks(pieces: Vec<Piece>) -> Chunks {
    let stream = stream::iter(pieces).flat_map(|piece| -> Chunks {
        match piece {
            Piece::Text(text) => whole(text),
            Piece::Wait(time) => waiting(time),
            Piece::Hang => stream::pending().boxed(),
            Piece::Cut => broken(),
            Piece::Endless(bytes) => {
                let bytes = Bytes::from(vec![b'x'; bytes]);
                stream::repeat_with(move || Ok(bytes.clone())).boxed()
            }
        }
    });
    stream.boxed()
}

pub(super) fn whole(text: impl Into<Bytes>) -> Chunks {
    let text = text.into();
    stream::once(async { Ok(text) }).boxed()
}

/// Sends nothing and ends after the time.
pub(super) fn waiting(time: Duration) -> Chunks {
    stream::once(tokio::time::sleep(time))
        .filter_map(|()| async { None })
        .boxed()
}

/// Breaks the connection, once what was sent before is on its way.
pub(super) fn broken() -> Chunks {
    let cut = async {
        // hyper writes out what it holds when a body is not ready.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    };
    stream::once(cut).boxed()
}

/// The response, whose bytes are counted as they leave.
pub(super) fn reply(
    status: StatusCode,
    headers: HeaderMap,
    body: Chunks,
    sent: Arc<AtomicU64>,
) -> Reply {
    let frames = body.map(move |chunk| {
        chunk.map(|bytes| {
            sent.fetch_add(bytes.len() as u64, Relaxed);
            Frame::data(bytes)
        })
    });
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}
