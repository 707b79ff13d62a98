// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP for the faces that speak it: accepts within limits, reads requests within deadlines, and lets a [`Face`] answer.
//!
//! No accept error is final; a client that is slow, silent or greedy costs one place of the limit for a bounded time. A
//! client that leaves ends what is made for it.

mod connection;
mod patient;

#[cfg(feature = "doh")]
use crate::tls::Acceptor;
use crate::{access::Access, failures::Failures, sources::Sources};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What answers requests.
pub(crate) trait Face: Send + Sync + 'static {
    /// The answer; dropped unfinished when the client leaves.
    fn answer(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// A connection was not taken, or had to wait.
    fn turned_away(&self, why: TurnedAway);
}

/// Why a connection was not taken, or had to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TurnedAway {
    /// It is of a network that is not answered.
    Denied,
    /// Its source has as many as it may.
    Source,
    /// It did not shake hands for TLS, or not in time.
    #[cfg(feature = "doh")]
    Handshake,
    /// All places are taken; it waits.
    Full,
    /// The system could not accept; it waits.
    AcceptFailed,
}

/// What the connections of a face share.
#[derive(Debug)]
pub(crate) struct Web<F> {
    face: F,
    /// Below which requests come; none means in the clear.
    #[cfg(feature = "doh")]
    acceptor: Option<Acceptor>,
    access: Access,
    places: Arc<Semaphore>,
    sources: Arc<Sources>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<F: Face> Web<F> {
    /// `limits` are connections in all and of one source.
    pub(crate) fn new(
        face: F,
        access: Access,
        limits: [usize; 2],
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let [connections, of_source] = limits;
        Self {
            face,
            #[cfg(feature = "doh")]
            acceptor: None,
            access,
            places: Arc::new(Semaphore::new(connections)),
            sources: Arc::new(Sources::new(of_source)),
            tasks,
            stop,
        }
    }

    /// The same for connections below TLS.
    #[cfg(feature = "doh")]
    pub(crate) fn below(mut self, acceptor: Acceptor) -> Self {
        self.acceptor = Some(acceptor);
        self
    }

    /// Accepts until it is told to stop.
    pub(crate) async fn accept_all(self, listener: TcpListener) {
        let stopped = self.stop.clone();
        tokio::select! {
            () = stopped.cancelled() => {}
            () = Arc::new(self).accept_forever(listener) => {}
        }
    }

    async fn accept_forever(self: Arc<Self>, listener: TcpListener) {
        let (mut pause, mut failures) = (PAUSE_MIN, Failures::default());
        loop {
            if self.places.available_permits() == 0 {
                self.face.turned_away(TurnedAway::Full);
            }
            // A place first: who has to wait, waits in the system's queue and costs no descriptor.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, client)) => {
                    pause = PAUSE_MIN;
                    let client = client.ip();
                    if !self.access.allows(client) {
                        self.face.turned_away(TurnedAway::Denied);
                    } else if let Some(visit) = self.sources.enter(client) {
                        let web = self.clone();
                        self.tasks.spawn(async move {
                            let _held = (place, visit);
                            web.serve(stream, client).await;
                        });
                    } else {
                        self.face.turned_away(TurnedAway::Source);
                    }
                }
                Err(error) => {
                    self.face.turned_away(TurnedAway::AcceptFailed);
                    failures.note("accept HTTP", &error);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, client: IpAddr) {
        let _ = stream.set_nodelay(true);
        #[cfg(feature = "doh")]
        if let Some(acceptor) = &self.acceptor {
            let shaken = tokio::select! {
                () = self.stop.cancelled() => return,
                shaken = acceptor.accept(stream) => shaken,
            };
            match shaken {
                Ok(stream) => return connection::serve(self, stream, client).await,
                Err(error) => {
                    tracing::debug!(%error, "HTTPS was not begun");
                    return self.face.turned_away(TurnedAway::Handshake);
                }
            }
        }
        connection::serve(self, stream, client).await;
    }
}

// Descriptors come back within moments or not at all.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
