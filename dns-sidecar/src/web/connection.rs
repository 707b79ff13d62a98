// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: requests one after another, until the client closes, is silent for too long, or the server stops.

use super::{Face, Web, patient::Patient};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

pub(super) async fn serve<F: Face, S>(web: Arc<Web<F>>, stream: S, client: IpAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = web.stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let web = web.clone();
        async move { Ok::<_, Infallible>(web.face.answer(request, client).await) }
    });
    let io = TokioIo::new(Patient::new(stream, WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        // What is under way is finished, within a moment.
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(STOP_WITHIN, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// From the end of one request, or the start, to the head of the next: idle clients keep a connection for a while.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A head with a long list of tags fits.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take no byte of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(2);
