// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls every key once: even ones over HTTP, odd ones over gRPC.

use super::WITHIN;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use discovery_core::client::{Discovery, HeaderKey, hyper::HttpClient, tonic::Channel};
use examples::RawCodec;
use http::{HeaderName, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Empty};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tower::ServiceExt as _;

type Http = HttpClient<HeaderKey, Empty<Bytes>>;
type Rpc = Channel<HeaderKey>;

/// Callers under way.
pub(crate) struct Caller {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    began: Instant,
}

struct Shared {
    keys: u64,
    next: AtomicU64,
    done: AtomicU64,
    // Guards what was answered and what failed; held to note one of them.
    noted: Mutex<(Vec<Option<String>>, Vec<String>)>,
}

/// How the calls ended.
pub(crate) struct Outcome {
    /// Who answered, by key.
    pub(crate) answers: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) took: Duration,
}

impl Caller {
    pub(crate) fn start(discovery: &Discovery, keys: u64) -> anyhow::Result<Self> {
        let by_user = || HeaderKey::new(HeaderName::from_static("x-user"));
        let web = discovery.service("default/web".parse()?);
        let http = HttpClient::new(web.clone(), by_user()).port("http");
        let rpc = Channel::new(web, by_user()).port("grpc").idempotent();
        let shared = Arc::new(Shared {
            keys,
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            noted: Mutex::new((vec![None; usize::try_from(keys)?], Vec::new())),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (shared, http, rpc) = (shared.clone(), http.clone(), rpc.clone());
            tasks.spawn(async move { shared.call_all(http, rpc).await });
        }
        Ok(Self {
            shared,
            tasks,
            began: Instant::now(),
        })
    }

    /// Waits until so many calls are over, for as long as calls end.
    pub(crate) async fn reached(&self, calls: u64) -> anyhow::Result<()> {
        loop {
            let before = self.shared.done.load(Relaxed);
            if before >= calls {
                return Ok(());
            }
            let is_so = async || (self.shared.done.load(Relaxed) > before).then_some(());
            testbed::wait_for("a call ends", WITHIN, is_so).await?;
        }
    }

    /// Waits until all calls are over.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Outcome> {
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        let noted = std::mem::take(
            &mut *self
                .shared
                .noted
                .lock()
                .map_err(|_| anyhow!("a caller panicked"))?,
        );
        Ok(Outcome {
            answers: noted.0.into_iter().map(Option::unwrap_or_default).collect(),
            failures: noted.1,
            took: self.began.elapsed(),
        })
    }
}

impl Shared {
    async fn call_all(&self, http: Http, rpc: Rpc) {
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= self.keys {
                return;
            }
            let answer = if number.is_multiple_of(2) {
                over_http(http.clone(), number).await
            } else {
                over_grpc(rpc.clone(), number).await
            };
            if let Ok(mut noted) = self.noted.lock() {
                match answer {
                    Ok(name) => noted.0[usize::try_from(number).unwrap_or_default()] = Some(name),
                    Err(error) => noted.1.push(format!("key {number}: {error:#}")),
                }
            }
            self.done.fetch_add(1, Relaxed);
        }
    }
}

async fn over_http(client: Http, number: u64) -> anyhow::Result<String> {
    let request = http::Request::get("/").header("x-user", format!("user-{number}"));
    let answer = client.oneshot(request.body(Empty::new())?).await?;
    let name = answer
        .into_body()
        .collect()
        .await
        .context("HTTP body")?
        .to_bytes();
    Ok(String::from_utf8(name.to_vec())?)
}

async fn over_grpc(channel: Rpc, number: u64) -> anyhow::Result<String> {
    let mut request = tonic::Request::new(Bytes::from_static(b"who are you?"));
    request
        .metadata_mut()
        .insert("x-user", format!("user-{number}").parse()?);
    let path = PathAndQuery::from_static("/shop.Web/Name");
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let name = grpc.unary(request, path, RawCodec).await?.into_inner();
    Ok(String::from_utf8(name.to_vec())?)
}

/// Calls under way at any moment.
const AT_ONCE: usize = 64;
