// SPDX-License-Identifier: MIT OR Apache-2.0
//! An API server that answers by a script: HTTP on loopback, over TLS where the test says so, in the test's own runtime
//! and time.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// What a script is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `endpointslices` (in whichever version), `endpoints`, `services`, `nodes`, `own-node` for nodes by name, or
    /// `group` and `groups` for the discovery documents, `cluster` for the service that tells the cluster.
    pub(crate) what: &'static str,
    pub(crate) is_watch: bool,
    /// How often this was asked before.
    pub(crate) before: usize,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    /// The certificate that the client has shown, as DER; empty when none.
    pub(crate) certificate: Vec<u8>,
    /// When, in the test's time.
    pub(crate) at: tokio::time::Instant,
}

impl Asked {
    /// A query parameter, as it was written.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let query = self.uri.split_once('?')?.1;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A piece of an answer's body.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(String),
    Bytes(Vec<u8>),
    Wait(Duration),
    /// Nothing more, and the connection stays open.
    Hang,
    /// The connection breaks.
    Cut,
    /// The same bytes again and again.
    Endless(usize),
}

/// What a script answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<Piece>,
}

impl Answer {
    pub(crate) fn ok(body: impl IntoIterator<Item = Piece>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into_iter().collect(),
        }
    }

    /// A list of the objects at the version.
    pub(crate) fn list(version: &str, items: &[String]) -> Self {
        Self::ok([Piece::Text(list_body(version, "", items))])
    }

    /// A watch that tells these events and stays open.
    pub(crate) fn events(events: &[String]) -> Self {
        let lines = events.iter().map(|event| Piece::Text(format!("{event}\n")));
        Self::ok(lines.chain([Piece::Hang]))
    }

    pub(crate) fn status(status: u16, message: &str) -> Self {
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","code":{status}}}"#
        );
        Self {
            status,
            headers: Vec::new(),
            body: vec![Piece::Text(body)],
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The head is never sent.
    pub(crate) fn never() -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

/// The discovery document of EndpointSlices, served in these versions.
pub(crate) fn group(versions: &[&str]) -> String {
    let versions: Vec<_> = versions
        .iter()
        .map(|v| format!(r#"{{"groupVersion":"discovery.k8s.io/{v}","version":"{v}"}}"#))
        .collect();
    format!(
        r#"{{"kind":"APIGroup","name":"discovery.k8s.io","versions":[{}]}}"#,
        versions.join(",")
    )
}

pub(crate) fn list_body(version: &str, token: &str, items: &[String]) -> String {
    format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

type Log = Arc<Mutex<Vec<Asked>>>;
type Script = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;

/// The certificates that a server uses for new connections; they may be replaced.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Mutex<Arc<ServerConfig>>>);

impl Tls {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    pub(crate) fn replace(&self, config: ServerConfig) {
        *self.0.lock().unwrap() = Arc::new(config);
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.0.lock().unwrap().clone().into()
    }
}

/// The server; what the script leaves unanswered is answered as an empty cluster would.
pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::over(None, script).await
    }

    /// As [`Server::start`], over TLS when there is one.
    pub(crate) async fn over(
        tls: Option<Tls>,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), asked.clone());
        let (connections, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, cuts) = (connections.clone(), cut.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                // Nagle's delay would be real time, in which hours of the test's time pass.
                stream.set_nodelay(true).unwrap();
                let (script, log, tls) = (script.clone(), log.clone(), tls.clone());
                let cuts = cuts.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, tls, script, log) => {}
                        () = cuts.notified() => {}
                    }
                });
            }
        });
        Self {
            address,
            asked,
            connections,
            cut,
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Breaks every connection.
    pub(crate) fn cut_all(&self) {
        self.cut.notify_waiters();
    }

    /// What was asked of this kind so far.
    pub(crate) fn asked(&self, what: &str, is_watch: bool) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let wanted = |asked: &&Asked| asked.what == what && asked.is_watch == is_watch;
        asked.iter().filter(wanted).cloned().collect()
    }
}

async fn serve(stream: TcpStream, tls: Option<Tls>, script: Arc<Script>, log: Log) {
    let Some(tls) = tls else {
        return speak(stream, Vec::new(), script, log).await;
    };
    // Who does not like our certificate ends the connection.
    if let Ok(stream) = tls.acceptor().accept(stream).await {
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| Some(chain.first()?.to_vec()));
        speak(stream, shown.unwrap_or_default(), script, log).await;
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    certificate: Vec<u8>,
    script: Arc<Script>,
    log: Log,
) {
    let serve = service_fn(|request| {
        let answer = answer(&request, &certificate, &*script, &log);
        async move { respond(answer).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
    let _ = connection.await;
}

fn answer(
    request: &Request<Incoming>,
    certificate: &[u8],
    script: &Script,
    log: &Mutex<Vec<Asked>>,
) -> Answer {
    let uri = request.uri().to_string();
    let path = request.uri().path();
    let what = match path.rsplit('/').next().unwrap_or_default() {
        "endpointslices" => "endpointslices",
        "endpoints" => "endpoints",
        "services" => "services",
        "nodes" if uri.contains("fieldSelector=") => "own-node",
        "nodes" => "nodes",
        "discovery.k8s.io" => "group",
        "apis" => "groups",
        "kubernetes" => "cluster",
        _ => panic!("unexpected path {path}"),
    };
    let is_watch = uri.contains("watch=true");
    let mut log = log.lock().unwrap();
    let before = log
        .iter()
        .filter(|a| a.what == what && a.is_watch == is_watch)
        .count();
    let asked = Asked {
        what,
        is_watch,
        before,
        uri,
        headers: request.headers().clone(),
        certificate: certificate.to_vec(),
        at: tokio::time::Instant::now(),
    };
    let answer = script(&asked).unwrap_or_else(|| match what {
        "group" => Answer::ok([Piece::Text(group(&["v1", "v1beta1"]))]),
        "cluster" => Answer::status(404, "services \"kubernetes\" not found"),
        _ if is_watch => Answer::events(&[]),
        _ => Answer::list("1", &[]),
    });
    log.push(asked);
    answer
}

async fn respond(answer: Answer) -> Result<Response<UnsyncBoxBody<Bytes, io::Error>>, Infallible> {
    if answer.status == 0 {
        return std::future::pending().await;
    }
    let pieces = stream::iter(answer.body).flat_map(|piece| match piece {
        Piece::Text(text) => stream::iter([Ok(Frame::data(Bytes::from(text)))]).boxed(),
        Piece::Bytes(bytes) => stream::iter([Ok(Frame::data(Bytes::from(bytes)))]).boxed(),
        Piece::Wait(time) => stream::once(tokio::time::sleep(time))
            .filter_map(|()| async { None })
            .boxed(),
        Piece::Hang => stream::pending().boxed(),
        Piece::Cut => stream::iter([Err(io::Error::other("cut"))]).boxed(),
        Piece::Endless(bytes) => {
            stream::repeat_with(move || Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))).boxed()
        }
    });
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response
        .body(StreamBody::new(pieces).boxed_unsync())
        .unwrap())
}
