// SPDX-License-Identifier: MIT OR Apache-2.0
//! gRPC over tonic: a channel that is keyed per call.
//!
//! tonic's own balanced channel picks before it sees the call, and goes on sending to endpoints that are gone
//! (grpc-rust#2839). This one keeps one HTTP/2 channel per endpoint, made when the first call goes there, picks per call
//! from the newest snapshot, and moves on to the next candidate when an endpoint cannot be reached.

use super::{
    Balance, BalanceError, BlameRule, Dispatch, Pool, PoolError, ReplayBody, RequestKey,
    RetryBudget, RetryRule, ServiceClient, Target, fault,
};
use ::tonic::{
    Code,
    body::Body,
    transport::{self, Endpoint},
};
use http::{Request, Response};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// A gRPC channel to one service; hand it to a generated client. Clones share connections.
///
/// A call moves on to the next candidate when its endpoint cannot be connected. With [`Channel::idempotent`] it also does
/// when the connection breaks before there is an answer, and then up to 64 KiB of a request are kept to be sent again.
///
/// An endpoint that cannot be connected, breaks off, misses the deadline of a call, or answers `UNAVAILABLE` before any
/// message has failed, and is [ejected](crate::pick::EjectRule) for doing so often. The end of a stream that began well is not
/// looked at.
///
/// ```no_run
/// use discovery_core::client::{Discovery, HeaderKey, tonic::Channel};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Discovery::builder().start().await?;
/// let by_user = HeaderKey::new(http::HeaderName::from_static("x-user"));
/// let channel = Channel::new(discovery.service("shop/cart".parse()?), by_user).port("grpc");
/// let grpc = tonic::client::Grpc::new(channel); // or CartClient::new(channel)
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel<K> {
    balance: Balance<K, Dialled, Repeat, Blame>,
}

/// Why a call failed before there was an answer; tonic makes a status `UNAVAILABLE` or `UNKNOWN` of it.
pub type ChannelError = BalanceError<PoolError<transport::Error, transport::Error>>;

impl<K> Channel<K> {
    /// A channel to the service; `key` tells from the metadata of a call what makes calls belong together.
    pub fn new(service: ServiceClient, key: K) -> Self {
        let dialled = Dialled {
            pool: Pool::new(Dial {
                connect_timeout: CONNECT_TIMEOUT,
            }),
        };
        Self {
            balance: Balance::new(service, key, dialled)
                .retry_if(Repeat {
                    is_idempotent: false,
                })
                .blame_if(Blame),
        }
    }

    /// Sends to the port of this name instead of the first.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.balance = self.balance.port(name);
        self
    }

    /// How many candidates a call may be sent to; 3 unless set.
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

    /// Says that every call over this channel may be carried out twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.balance = self.balance.retry_if(Repeat {
            is_idempotent: true,
        });
        self
    }
}

impl<K> fmt::Debug for Channel<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl<K> tower::Service<Request<Body>> for Channel<K>
where
    K: RequestKey<Request<ReplayBody<Body>>>,
{
    type Response = Response<Body>;
    type Error = ChannelError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::<Request<ReplayBody<Body>>>::poll_ready(&mut self.balance, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request = request.map(|body| ReplayBody::new(body, BODY_BYTES_MAX));
        tower::Service::call(&mut self.balance, request)
    }
}

/// After which errors a call is sent again.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    is_idempotent: bool,
}

impl RetryRule<PoolError<transport::Error, transport::Error>> for Repeat {
    fn may_retry(&self, error: &PoolError<transport::Error, transport::Error>) -> bool {
        matches!(error, PoolError::Connect(_)) || self.is_idempotent
    }
}

/// What counts against an endpoint.
#[derive(Clone, Copy, Debug)]
struct Blame;

impl BlameRule<Response<Body>, PoolError<transport::Error, transport::Error>> for Blame {
    fn is_to_blame(
        &self,
        ended: Result<&Response<Body>, &PoolError<transport::Error, transport::Error>>,
    ) -> bool {
        match ended {
            Ok(answer) => {
                // A status that comes at once comes with the head (gRPC over HTTP/2, Trailers-Only).
                let status = answer.headers().get("grpc-status");
                let code = status.map(|status| Code::from_bytes(status.as_bytes()));
                code == Some(Code::Unavailable) || fault::says_it_cannot_serve(answer.status())
            }
            Err(error) => !fault::is_our_own(error),
        }
    }
}

/// Connects to one endpoint.
#[derive(Clone, Copy, Debug)]
struct Dial {
    connect_timeout: Duration,
}

impl tower::Service<Target> for Dial {
    type Response = transport::Channel;
    type Error = transport::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<transport::Channel, transport::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let timeout = self.connect_timeout;
        Box::pin(async move {
            // Eagerly: whether there is anybody has to be known while the call can still go elsewhere.
            Endpoint::from_shared(format!("http://{}", target.address))?
                .connect_timeout(timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .connect()
                .await
        })
    }
}

/// Gives each call as tonic wants it to the pooled channel of its endpoint.
#[derive(Clone, Debug)]
struct Dialled {
    pool: Pool<Dial, transport::Channel>,
}

impl tower::Service<Dispatch<Request<ReplayBody<Body>>>> for Dialled {
    type Response = Response<Body>;
    type Error = PoolError<transport::Error, transport::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, dispatch: Dispatch<Request<ReplayBody<Body>>>) -> Self::Future {
        tower::Service::call(
            &mut self.pool,
            Dispatch {
                address: dispatch.address,
                endpoint: dispatch.endpoint,
                request: dispatch.request.map(Body::new),
            },
        )
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An endpoint whose host is gone is known for that after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 64 * 1024;
