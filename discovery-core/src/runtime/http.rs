// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small HTTP/1.1 server for the admin page, probes and metrics: routes in, responses out.
//!
//! Bounded: a header deadline, a cap on connections, no request bodies beyond 64 KiB. An accept error pauses the loop and
//! never ends it. Not for the data path.

use super::{Kept, Sockets};
use crate::model::Protocol;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::HashMap, convert::Infallible, fmt, io, net::SocketAddr, os::fd::OwnedFd,
    sync::Arc, time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A request as a route sees it.
#[derive(Clone, Debug)]
pub struct RouteRequest {
    query: HashMap<String, String>,
    peer: Option<SocketAddr>,
}

impl RouteRequest {
    /// The value of a query parameter, percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Who asks; none where that is no socket of IP.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// What a route answers.
pub type RouteResponse = Response<Full<Bytes>>;

type Route = Arc<dyn Fn(&RouteRequest) -> RouteResponse + Send + Sync>;

/// The routes of one listener: method and path to a function that must not block.
#[derive(Clone, Default)]
pub struct Routes {
    routes: HashMap<(Method, &'static str), Route>,
    local_only: bool,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers only requests whose `Host` names this machine, so that a web page cannot reach the listener by a name of
    /// its own (DNS rebinding).
    #[must_use]
    pub fn local_only(mut self) -> Self {
        self.local_only = true;
        self
    }

    /// Adds a route; a later one for the same method and path replaces the earlier.
    #[must_use]
    pub fn route(
        mut self,
        method: Method,
        path: &'static str,
        answer: impl Fn(&RouteRequest) -> RouteResponse + Send + Sync + 'static,
    ) -> Self {
        self.routes.insert((method, path), Arc::new(answer));
        self
    }

    fn answer<B>(&self, request: &Request<B>, peer: Option<SocketAddr>) -> RouteResponse {
        if self.local_only && !names_this_machine(request) {
            return text(
                StatusCode::FORBIDDEN,
                "the Host header must name this machine\n",
            );
        }
        let path = request.uri().path();
        let of_path =
            |(method, route): &(Method, &'static str)| (*route == path).then(|| method.clone());
        let methods: Vec<Method> = self.routes.keys().filter_map(of_path).collect();
        let found = self
            .routes
            .iter()
            .find(|((m, route), _)| *route == path && m == request.method());
        match found {
            Some((_, route)) => route(&RouteRequest {
                query: parse_query(request.uri().query()),
                peer,
            }),
            None if methods.is_empty() => text(StatusCode::NOT_FOUND, "there is no such page\n"),
            None => text(
                StatusCode::METHOD_NOT_ALLOWED,
                "this page does not take that method\n",
            ),
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.keys()).finish()
    }
}

/// A response of plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> RouteResponse {
    respond(status, "text/plain; charset=utf-8", body)
}

/// A response of JSON.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> RouteResponse {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", body),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("no JSON form: {error}\n"),
        ),
    }
}

/// A response of the given content type, never cached and never sniffed.
pub fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> RouteResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        ),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// A bound listener that has not been served yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    _kept: Kept,
}

impl HttpServer {
    /// Binds the address.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_among(address, &Sockets::default())
    }

    /// Takes the socket of the address from those that were handed to this process, or binds it; lists it as open either way.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind_among(address: SocketAddr, sockets: &Sockets) -> io::Result<Self> {
        let listener = match sockets.take(Protocol::Tcp, address) {
            Some(handed) => adopt(handed),
            None => listen(address),
        }?;
        Ok(Self {
            address: listener.local_addr()?,
            _kept: sockets.keep(&listener)?,
            listener,
        })
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until stopped; requests under way get a second to finish.
    pub async fn serve(self, routes: Routes, stop: CancellationToken) {
        let (routes, permits) = (Arc::new(routes), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let connections = TaskTracker::new();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (routes, stop) = (routes.clone(), stop.clone());
                    connections.spawn(async move {
                        serve_connection(stream, Some(peer), routes, stop).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, or a connection that died in the queue: neither may end or spin the loop.
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "Accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        let _ = tokio::time::timeout(STOP_DEADLINE, connections.wait()).await;
    }
}

fn adopt(handed: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(handed);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<SocketAddr>,
    routes: Arc<Routes>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let routes = routes.clone();
        async move {
            let response = routes.answer(&request, peer);
            // A body is read and dropped, so that the connection can be used again.
            let _ = Limited::new(request.into_body(), BODY_BYTES_MAX)
                .collect()
                .await;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "Admin connection ended early");
    }
}

fn names_this_machine<B>(request: &Request<B>) -> bool {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn parse_query(query: Option<&str>) -> HashMap<String, String> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

/// Decodes `%xx` and `+` (WHATWG URL, application/x-www-form-urlencoded); bytes that are no UTF-8 are replaced.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Connections at once: people, probes and scrapers.
const CONNECTIONS_MAX: usize = 64;
const BACKLOG: u32 = 128;
const BODY_BYTES_MAX: usize = 64 * 1024;
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STOP_DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query = parse_query(Some("service=shop%2Fweb&key=a+b%2&flag&=x"));
        assert_eq!(query["service"], "shop/web");
        assert_eq!(query["key"], "a b%2");
        assert_eq!(query["flag"], "");
    }
}
