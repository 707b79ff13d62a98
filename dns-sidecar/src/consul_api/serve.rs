// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers requests of connections: at once, or when there is news.

use super::{
    answer::{Answer, Identity, View},
    asked::{Asked, Refusal},
    ledger::Ledger,
};
use crate::{
    Config, Index,
    web::{Face, TurnedAway},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use discovery_core::telemetry::{
    ConsulApiMetrics, ConsulApiOutcome, ConsulApiTurnedAway, DnsMetrics,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The interface, as every connection shares it.
#[derive(Debug)]
pub(crate) struct ConsulApi {
    view: watch::Receiver<Arc<View>>,
    identity: Arc<Identity>,
    metrics: Arc<DnsMetrics>,
    waiting: Arc<Semaphore>,
    /// Answers that are being made: each may take a core for a while.
    makers: Arc<Semaphore>,
    /// Answers that are under way to their clients, in KiB.
    memory: Arc<Semaphore>,
    stop: CancellationToken,
}

impl ConsulApi {
    pub(crate) fn new(
        config: &Config,
        address: SocketAddr,
        view: &ViewReceiver,
        metrics: Arc<DnsMetrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            view: view.0.clone(),
            identity: Arc::new(Identity {
                node: config.http.node_name.clone(),
                address,
            }),
            metrics,
            waiting: Arc::new(Semaphore::new(config.http.waiting_max.get())),
            makers: Arc::new(Semaphore::new(MAKERS_MAX)),
            memory: Arc::new(Semaphore::new(REPLIES_KIB_MAX as usize)),
            stop,
        }
    }

    fn counts(&self) -> &ConsulApiMetrics {
        self.metrics.consul_api()
    }

    async fn respond(
        &self,
        asked: Result<Asked, Refusal>,
    ) -> Result<Response<Full<Bytes>>, Failed> {
        let asked = asked?;
        let view = self.news(&asked).await?;
        let is_cached = asked.is_cached;
        let (answer, view) = self.make(view, asked).await?;
        let body = self.held(answer.json).await?;
        let mut response = Response::new(Full::new(body));
        tell_meta(response.headers_mut(), answer.index, &view.index, is_cached);
        Ok(response)
    }

    /// The view to answer from: now, or once it is news to who asks.
    async fn news(&self, asked: &Asked) -> Result<Arc<View>, Failed> {
        let mut views = self.view.clone();
        let view = views.borrow_and_update().clone();
        if view.is_news(asked) || view.refusal(asked).is_some() {
            return Ok(view);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Failed::Full);
        };
        let _counted = self.counts().wait();
        let deadline = Instant::now() + asked.wait + spread(asked.wait);
        let news = async {
            while views.changed().await.is_ok() {
                let view = views.borrow_and_update().clone();
                if view.is_news(asked) || view.refusal(asked).is_some() {
                    return;
                }
            }
            // Nothing will change any more.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = timeout_at(deadline, news) => {}
            () = self.stop.cancelled() => {}
        }
        let view = self.view.borrow().clone();
        Ok(view)
    }

    /// Makes the answer beside the tasks that answer DNS.
    async fn make(&self, view: Arc<View>, asked: Asked) -> Result<(Answer, Arc<View>), Failed> {
        let maker = self.makers.clone().acquire_owned().await;
        let (identity, from) = (self.identity.clone(), view.clone());
        let made = tokio::task::spawn_blocking(move || {
            let _maker = maker;
            from.answer(&asked, &identity)
        });
        let broken = |error: tokio::task::JoinError| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let answer = made.await.map_err(broken)??;
        Ok((answer, view))
    }

    /// The body, within what all bodies may take until their clients have them.
    async fn held(&self, json: Vec<u8>) -> Result<Bytes, Failed> {
        let kib = u32::try_from(json.len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self
            .memory
            .clone()
            .acquire_many_owned(kib.min(REPLIES_KIB_MAX));
        let Ok(Ok(room)) = timeout(ROOM_WITHIN, room).await else {
            return Err(Failed::Full);
        };
        Ok(Bytes::from_owner(Body { json, _room: room }))
    }
}

impl Face for ConsulApi {
    async fn answer(&self, request: Request<Incoming>, _client: IpAddr) -> Response<Full<Bytes>> {
        let uri = request.uri();
        let (endpoint, asked) = Asked::read(request.method(), uri.path(), uri.query());
        let (outcome, response) = match self.respond(asked).await {
            Ok(response) => (ConsulApiOutcome::Answered, response),
            Err(failed) => failed.told(),
        };
        self.counts().answered(endpoint, outcome);
        response
    }

    fn turned_away(&self, why: TurnedAway) {
        self.counts().turned_away(match why {
            TurnedAway::Denied => ConsulApiTurnedAway::Denied,
            TurnedAway::Source => ConsulApiTurnedAway::Connections,
            #[cfg(feature = "doh")]
            TurnedAway::Handshake => return,
            TurnedAway::Full => ConsulApiTurnedAway::Full,
            TurnedAway::AcceptFailed => ConsulApiTurnedAway::AcceptFailed,
        });
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failed {
    Refused(Refusal),
    /// As many wait, or are being answered, as may.
    Full,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failed {
    fn told(self) -> (ConsulApiOutcome, Response<Full<Bytes>>) {
        let (outcome, refusal) = match self {
            Self::Full => {
                let text = "as many requests are open as may be";
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, text);
                (ConsulApiOutcome::Full, refusal)
            }
            Self::Refused(refusal) if refusal.status.is_server_error() => {
                (ConsulApiOutcome::Unknown, refusal)
            }
            Self::Refused(refusal) => (ConsulApiOutcome::Refused, refusal),
        };
        let mut response = Response::new(Full::new(refusal.text.into()));
        *response.status_mut() = refusal.status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        (outcome, response)
    }
}

/// A body with its part of the memory.
struct Body {
    json: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// The newest view, for those who will answer from it.
#[derive(Clone, Debug)]
pub(crate) struct ViewReceiver(watch::Receiver<Arc<View>>);

/// Makes a view of each index that comes into force; the second part runs until it is told to stop.
pub(crate) fn keep_view(
    index: Arc<ArcSwap<Index>>,
    mut published: watch::Receiver<()>,
    stop: CancellationToken,
) -> (ViewReceiver, impl Future<Output = ()>) {
    published.mark_unchanged();
    let mut ledger = Ledger::default();
    let mut look = move || {
        let index = index.load_full();
        let marks = ledger.note(&index, now_milliseconds());
        Arc::new(View { index, marks })
    };
    let (views, receiver) = watch::channel(look());
    let keep = async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = published.changed() => if changed.is_err() {
                    // What is served does not change; the view stays true.
                    return stop.cancelled().await;
                },
            }
            views.send_replace(look());
        }
    };
    (ViewReceiver(receiver), keep)
}

/// Consul's headers of every list, and of what it would take from its cache.
fn tell_meta(headers: &mut HeaderMap, index: Option<u64>, answers: &Index, is_cached: bool) {
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(
        "x-consul-default-acl-policy",
        HeaderValue::from_static("allow"),
    );
    let Some(index) = index else { return };
    let unheard = answers.freshness.unheard_seconds();
    let is_led = if answers.is_stale() { "false" } else { "true" };
    headers.insert("x-consul-index", index.into());
    headers.insert("x-consul-knownleader", HeaderValue::from_static(is_led));
    headers.insert("x-consul-lastcontact", (unheard * 1_000).into());
    // What any server may have told, some time ago: never more than that.
    let stale = HeaderValue::from_static("stale");
    headers.insert("x-consul-effective-consistency", stale);
    if is_cached {
        headers.insert("x-cache", HeaderValue::from_static("HIT"));
        headers.insert(header::AGE, unheard.into());
    }
}

/// Up to a sixteenth, so that those who began together do not come back together.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(fastrand::f64() / 16.0)
}

fn now_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1))
}

/// A list of 100,000 instances takes a core for some 100 ms.
const MAKERS_MAX: usize = 2;
/// 64 MiB: a list of 100,000 instances with their checks.
const REPLIES_KIB_MAX: u32 = 64 * 1024;
/// Who reads takes less.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
