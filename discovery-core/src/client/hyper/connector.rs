// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connector: the host of a URI names the service, and each new connection goes to an endpoint of it.
//!
//! For clients that bring their own pool (hyper-util's, tonic's `connect_with_connector`). Such a pool knows no keys: the
//! key here is that of the caller, or there is none.

use crate::{
    client::{CallError, Discovery, fault, service_of_host},
    hash::HashKey,
    model::ModelError,
};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host names no service.
    #[error("the host of the URI names no service")]
    Name(#[source] ModelError),
    /// No endpoint could be picked.
    #[error("no endpoint for the connection")]
    Pick(#[source] CallError),
    /// The endpoints have no port of the name that was asked for.
    #[error("no endpoint has the port that was asked for")]
    NoPort,
    /// No candidate could be connected.
    #[error("none of {attempts} candidates could be connected")]
    Exhausted {
        /// How many were tried.
        attempts: usize,
        /// What the last one said.
        #[source]
        last: io::Error,
    },
}

/// Connects to an endpoint of the service that a URI's host names ([`service_of_host`]), and to the next candidate when
/// that cannot be reached within a second. Whether it could be reached is what counts for or against an endpoint.
///
/// ```no_run
/// use discovery_core::client::{Discovery, hyper::Connector};
/// use http_body_util::Empty;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Discovery::builder().start().await?;
/// let client = Client::builder(TokioExecutor::new()).build::<_, Empty<bytes::Bytes>>(Connector::new(discovery));
/// let answer = client.get("http://web.shop/cart".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    discovery: Discovery,
    key: Option<HashKey>,
    port: Option<String>,
}

impl Connector {
    /// Connects to the less busy of two.
    pub fn new(discovery: Discovery) -> Self {
        Self {
            discovery,
            key: None,
            port: None,
        }
    }

    /// Connects to the owner of this key: for a caller whose requests all belong together.
    #[must_use]
    pub fn key(mut self, key: HashKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Connects to the port of this name instead of the first.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.port = Some(name.to_owned());
        self
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let name = service_of_host(host).map_err(ConnectError::Name)?;
        let mut service = self.discovery.service(name);
        let plan = service.plan(self.key, ATTEMPTS_MAX);
        let mut plan = plan.map_err(ConnectError::Pick)?;
        let (mut attempts, mut failed) = (0, None);
        while let Some(attempt) = plan.next() {
            let Some(address) = attempt.endpoint().socket(self.port.as_deref()) else {
                continue;
            };
            attempts += 1;
            let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
            let connected = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => {
                    plan.ended(attempt, true, false);
                    return Ok(TokioIo::new(stream));
                }
                Err(last) => {
                    plan.ended(attempt, false, !fault::is_our_own(&last));
                    failed = Some(last);
                }
            }
        }
        Err(match failed {
            Some(last) => ConnectError::Exhausted { attempts, last },
            None => ConnectError::NoPort,
        })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

const ATTEMPTS_MAX: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
