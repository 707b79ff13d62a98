// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTTP client: kube's credentials and TLS over a connector of our own.
//!
//! kube's default connector sets neither keepalive nor a user timeout, and its connect timeout is 30 s: a server that
//! vanished without a word is found out by nothing but our own deadlines. Here the kernel watches each connection too.
//! There is no retry below the gate. HTTP/1.1, one connection a feed: with one HTTP/2 connection a lost packet of a long
//! list would hold back every watch, and some API servers speak no HTTP/2.

use http::{Request, header};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use std::time::Duration;
use tower::{BoxError, util::MapErrLayer};

/// The clients of a configuration: one TLS configuration, two ways to come by a connection.
pub(super) struct Clients {
    /// Takes a connection that is idle before it makes one.
    pub(super) pooled: Client,
    /// Makes a connection for each request.
    pub(super) fresh: Client,
}

impl Clients {
    pub(super) fn new(config: Config) -> Result<Self, kube::Error> {
        if config.proxy_url.is_some() {
            // Proxies are kube's affair, as is the error when it was built without them.
            let client = Client::try_from(config)?;
            return Ok(Self {
                pooled: client.clone(),
                fresh: client,
            });
        }
        let connector = config.rustls_https_connector_with_connector(connector())?;
        Ok(Self {
            pooled: client(&config, connector.clone(), POOL_IDLE_MAX)?,
            fresh: client(&config, connector, 0)?,
        })
    }
}

fn client<C>(config: &Config, connector: C, idle_max: usize) -> Result<Client, kube::Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(idle_max)
        .build(connector);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIME));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    // tcp(7): ends a connection whose peer acknowledges nothing, also while data is on its way.
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
    connector
}

/// An empty GET of a path.
pub(super) fn get(path: &str) -> Result<Request<Body>, http::Error> {
    Request::get(path).body(Body::empty())
}

/// A POST of a JSON document to a path.
pub(super) fn post(path: &str, document: Vec<u8>) -> Result<Request<Body>, http::Error> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(document))
}

/// Three lost SYNs; more patience than a link of 32 kbit/s needs.
const CONNECT_TIME: Duration = Duration::from_secs(8);
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// As long as the keepalive takes to give up.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that is kept for the next request of the same feed, which comes within seconds or much later.
const POOL_IDLE: Duration = Duration::from_secs(20);
const POOL_IDLE_MAX: usize = 4;
