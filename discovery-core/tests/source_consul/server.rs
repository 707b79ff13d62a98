// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Consul agent that answers by a script: plain HTTP on loopback, in the test's own runtime and time.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};

/// What a script is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `catalog/services`, `health/service/web` …
    pub(crate) what: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    /// When, in the test's time.
    pub(crate) at: Instant,
}

impl Asked {
    /// A query parameter, as it was written; empty when it stands without a value.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&');
        pairs.find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        })
    }

    /// The index that is waited on.
    pub(crate) fn index(&self) -> Option<u64> {
        self.query("index")?.parse().ok()
    }
}

/// What a script answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Option<Duration>,
}

impl Answer {
    /// A good answer of a leader.
    pub(crate) fn ok(index: u64, body: impl Into<String>) -> Self {
        Self {
            status: 200,
            headers: vec![
                ("x-consul-index", index.to_string()),
                ("x-consul-knownleader", "true".into()),
                ("x-consul-lastcontact", "0".into()),
            ],
            body: body.into(),
            after: Some(Duration::ZERO),
        }
    }

    pub(crate) fn status(status: u16, message: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: message.into(),
            after: Some(Duration::ZERO),
        }
    }

    /// The same, later.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.after = Some(time);
        self
    }

    /// The same with another header, or with a header of another value.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The head is never sent.
    pub(crate) fn never() -> Self {
        Self {
            after: None,
            ..Self::ok(1, "")
        }
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The agent.
pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), asked.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Nagle's delay would be real time, in which hours of the test's time pass.
                stream.set_nodelay(true).unwrap();
                let (script, log) = (script.clone(), log.clone());
                let serve = service_fn(move |request| {
                    let answer = answer(&request, &*script, &log);
                    async move { respond(answer).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self { address, asked }
    }

    /// What was asked so far, of one path or of all.
    pub(crate) fn asked(&self, what: Option<&str>) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let wanted = |asked: &&Asked| what.is_none_or(|what| asked.what == what);
        asked.iter().filter(wanted).cloned().collect()
    }
}

fn answer(request: &Request<Incoming>, script: &Script, log: &Mutex<Vec<Asked>>) -> Answer {
    let what = request
        .uri()
        .path()
        .strip_prefix("/v1/")
        .unwrap()
        .to_owned();
    let mut log = log.lock().unwrap();
    let asked = Asked {
        what,
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
        at: Instant::now(),
    };
    let answer = script(&asked);
    log.push(asked);
    answer
}

async fn respond(answer: Answer) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    match answer.after {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response
        .body(Full::from(answer.body).boxed_unsync())
        .unwrap())
}
