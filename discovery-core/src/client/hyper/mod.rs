// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP/1.1 over hyper: a client that is keyed per request, and a connector for clients of others.
//!
//! hyper-util's client keeps its connections by authority. So the keyed client puts the address of the picked endpoint
//! there, and the name that was asked for into `Host`; connections are then kept per endpoint.

mod connector;

pub use connector::{ConnectError, Connector};

use super::{
    Balance, BalanceError, BlameRule, Dispatch, ReplayBody, RequestKey, RetryBudget, RetryRule,
    ServiceClient, fault,
};
use ::hyper::body::{Body, Incoming};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    error::Error as StdError,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Why one try of a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection: nothing was sent.
    #[error("the endpoint cannot be connected")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// The connection broke before there was an answer; the request may have been carried out.
    #[error("the connection broke before the answer")]
    Broken {
        /// Whether its method may be sent twice (RFC 9110 9.2.2).
        is_idempotent: bool,
        /// What hyper says.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// There was no answer in time.
    #[error("there was no answer within {after:?}")]
    Timeout {
        /// Whether its method may be sent twice.
        is_idempotent: bool,
        /// The time that was given.
        after: Duration,
    },
    /// The URI cannot be sent to an endpoint.
    #[error("the URI cannot be used")]
    Uri(#[source] http::Error),
}

/// Sends a request again when nothing was sent, or when its method may be sent twice (RFC 9110 9.2.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct SafeToRepeat;

impl RetryRule<HttpError> for SafeToRepeat {
    fn may_retry(&self, error: &HttpError) -> bool {
        match error {
            HttpError::Connect(_) => true,
            HttpError::Broken { is_idempotent, .. } | HttpError::Timeout { is_idempotent, .. } => {
                *is_idempotent
            }
            HttpError::Uri(_) => false,
        }
    }
}

/// What counts against an endpoint.
#[derive(Clone, Copy, Debug)]
struct Blame;

impl<B> BlameRule<Response<B>, HttpError> for Blame {
    fn is_to_blame(&self, ended: Result<&Response<B>, &HttpError>) -> bool {
        match ended {
            Ok(answer) => fault::says_it_cannot_serve(answer.status()),
            Err(HttpError::Uri(_)) => false,
            Err(error) => !fault::is_our_own(error),
        }
    }
}

/// An HTTP client of one service. Each request goes to the owner of its key, and on to the next candidates as far as
/// [`SafeToRepeat`] and the [`RetryBudget`] allow. Clones share connections.
///
/// An endpoint that cannot be connected, breaks off, does not answer in time, or answers 502, 503 or 504 has failed, and is
/// [ejected](crate::pick::EjectRule) for doing so often.
///
/// Bodies up to 64 KiB are kept while they are sent, so that they can be sent again. The host of a URI is not looked at; a
/// path alone will do.
///
/// ```no_run
/// use discovery_core::client::{Discovery, HeaderKey, hyper::HttpClient};
/// use http_body_util::Empty;
/// use tower::ServiceExt as _;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Discovery::builder().start().await?;
/// let by_user = HeaderKey::new(http::HeaderName::from_static("x-user"));
/// let web = HttpClient::new(discovery.service("shop/web".parse()?), by_user);
/// let request = http::Request::get("/cart").header("x-user", "ann").body(Empty::<bytes::Bytes>::new())?;
/// let answer = web.clone().oneshot(request).await?;
/// println!("{}", answer.status());
/// # Ok(())
/// # }
/// ```
pub struct HttpClient<K, B> {
    balance: Balance<K, Sender<B>, SafeToRepeat, Blame>,
}

impl<K, B> HttpClient<K, B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync + 'static,
{
    /// A client of the service; `key` tells what makes requests belong together.
    pub fn new(service: ServiceClient, key: K) -> Self {
        let host = format!("{}.{}", service.name().name(), service.name().namespace());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let sender = Sender {
            client,
            host: host.into(),
            timeout: TIMEOUT,
        };
        Self {
            balance: Balance::new(service, key, sender)
                .retry_if(SafeToRepeat)
                .blame_if(Blame),
        }
    }

    /// Sends to the port of this name instead of the first.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.balance = self.balance.port(name);
        self
    }

    /// How many candidates a request may be sent to; 3 unless set.
    #[must_use]
    pub fn attempts_max(mut self, attempts: usize) -> Self {
        self.balance = self.balance.attempts_max(attempts);
        self
    }

    /// What retries may cost.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.balance = self.balance.budget(budget);
        self
    }

    /// How long one candidate may take to begin its answer; 5 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.balance = self
            .balance
            .map_inner(|sender| Sender { timeout, ..sender });
        self
    }
}

impl<K: Clone, B> Clone for HttpClient<K, B> {
    fn clone(&self) -> Self {
        Self {
            balance: self.balance.clone(),
        }
    }
}

impl<K, B> fmt::Debug for HttpClient<K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl<K, B> tower::Service<Request<B>> for HttpClient<K, B>
where
    K: RequestKey<Request<ReplayBody<B>>>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync + 'static,
{
    type Response = Response<Incoming>;
    type Error = BalanceError<HttpError>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::<Request<ReplayBody<B>>>::poll_ready(&mut self.balance, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(|body| ReplayBody::new(body, BODY_BYTES_MAX));
        tower::Service::call(&mut self.balance, request)
    }
}

/// Sends to the address of a dispatch.
struct Sender<B> {
    client: Client<HttpConnector, ReplayBody<B>>,
    host: Arc<str>,
    timeout: Duration,
}

impl<B> Clone for Sender<B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            host: self.host.clone(),
            timeout: self.timeout,
        }
    }
}

impl<B> tower::Service<Dispatch<Request<ReplayBody<B>>>> for Sender<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync + 'static,
{
    type Response = Response<Incoming>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, dispatch: Dispatch<Request<ReplayBody<B>>>) -> Self::Future {
        let mut request = dispatch.request;
        let is_idempotent = request.method().is_idempotent();
        let addressed = address(&mut request, dispatch.address, &self.host);
        let (client, after) = (self.client.clone(), self.timeout);
        Box::pin(async move {
            addressed.map_err(HttpError::Uri)?;
            match tokio::time::timeout(after, client.request(request)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(source)) if source.is_connect() => Err(HttpError::Connect(source)),
                Ok(Err(source)) => Err(HttpError::Broken {
                    is_idempotent,
                    source,
                }),
                Err(_) => Err(HttpError::Timeout {
                    is_idempotent,
                    after,
                }),
            }
        })
    }
}

/// Points the request at the address; the name that was asked for, or else the service's, stays in `Host`.
fn address<B>(request: &mut Request<B>, to: SocketAddr, host: &str) -> Result<(), http::Error> {
    let asked = request
        .uri()
        .authority()
        .map_or(host, uri::Authority::as_str);
    let asked = HeaderValue::from_str(asked).map_err(http::Error::from)?;
    request.headers_mut().entry(header::HOST).or_insert(asked);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::builder()
        .scheme(uri::Scheme::HTTP)
        .authority(to.to_string())
        .path_and_query(path.unwrap_or_else(|| uri::PathAndQuery::from_static("/")))
        .build()?;
    Ok(())
}

/// A LAN answers within milliseconds; a SYN is sent again after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Idle connections kept to one endpoint.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// What is kept of a body for the case that it has to be sent again.
const BODY_BYTES_MAX: usize = 64 * 1024;
