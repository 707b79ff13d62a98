// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service of one pod: whatever it is asked, it answers with its name, or while it is ill that it cannot serve.

use super::RawCodec;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A running service; it breaks off when it is dropped.
#[derive(Debug)]
pub struct Backend {
    name: Arc<str>,
    http: SocketAddr,
    grpc: SocketAddr,
    answered: Arc<AtomicUsize>,
    is_ill: Arc<AtomicBool>,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Backend {
    /// Listens on the address: HTTP/1.1 on the first port, gRPC on the second; 0 takes any that is free.
    pub async fn start(name: &str, ip: IpAddr, ports: [u16; 2]) -> io::Result<Self> {
        let http = TcpListener::bind((ip, ports[0])).await?;
        let grpc = TcpListener::bind((ip, ports[1])).await?;
        let backend = Self {
            name: name.into(),
            http: http.local_addr()?,
            grpc: grpc.local_addr()?,
            answered: Arc::default(),
            is_ill: Arc::default(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        backend.accept(http, serve_http);
        backend.accept(grpc, serve_grpc);
        Ok(backend)
    }

    /// Its name, which it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ports that it listens on, HTTP and gRPC.
    pub fn ports(&self) -> [u16; 2] {
        [self.http.port(), self.grpc.port()]
    }

    /// Requests that it has answered, in whatever way.
    pub fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }

    /// Makes it ill, or well again. Ill it answers 503, and `UNAVAILABLE` over gRPC.
    pub fn set_ill(&self, is_ill: bool) {
        self.is_ill.store(is_ill, Relaxed);
    }

    /// Takes no new connections, answers what is under way, and ends: what a pod does that is told to.
    pub async fn drain(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Breaks everything off, and has done so when it returns: what a host does that loses its power.
    pub async fn kill(self) {
        self.kill.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn accept<F>(
        &self,
        listener: TcpListener,
        serve: impl Fn(TcpStream, Answer, CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, stop, kill) = (self.tasks.clone(), self.stop.clone(), self.kill.clone());
        let answer = Answer {
            name: self.name.clone(),
            answered: self.answered.clone(),
            is_ill: self.is_ill.clone(),
        };
        let accepting = async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    () = kill.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let serving = serve(stream, answer.clone(), stop.clone());
                let kill = kill.clone();
                tasks.spawn(async move { kill.run_until_cancelled(serving).await });
            }
        };
        self.tasks.spawn(accepting);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

#[derive(Clone, Debug)]
struct Answer {
    name: Arc<str>,
    answered: Arc<AtomicUsize>,
    is_ill: Arc<AtomicBool>,
}

impl Answer {
    /// Its name, unless it is ill.
    fn bytes(&self) -> Option<Bytes> {
        self.answered.fetch_add(1, Relaxed);
        (!self.is_ill.load(Relaxed)).then(|| Bytes::copy_from_slice(self.name.as_bytes()))
    }

    fn http(&self) -> Response<Full<Bytes>> {
        let (status, body) = match self.bytes() {
            Some(name) => (StatusCode::OK, name),
            None => (StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response
    }

    fn grpc(&self) -> Result<tonic::Response<Bytes>, tonic::Status> {
        let name = self.bytes().map(tonic::Response::new);
        name.ok_or_else(|| tonic::Status::unavailable("ill"))
    }
}

async fn serve_http(stream: TcpStream, answer: Answer, stop: CancellationToken) {
    let service = service_fn(move |_: Request<Incoming>| {
        let response = answer.http();
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn serve_grpc(stream: TcpStream, answer: Answer, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let unary = tower::service_fn(move |_: tonic::Request<Bytes>| {
                let answered = answer.grpc();
                async { answered }
            });
            let mut grpc = tonic::server::Grpc::new(RawCodec);
            Ok::<_, Infallible>(grpc.unary(unary, request).await)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new());
    let connection = connection.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
