// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host that is being visited: where visits are announced, and the ports to connect to.

use super::{COMES_WITHIN, PATH};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// A host that answered, over one connection.
pub(super) struct Host {
    ip: IpAddr,
    /// Ours, as it sees us.
    own: IpAddr,
    requests: SendRequest<Empty<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

/// What a host says to an announced visit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// It awaits us.
    Come,
    /// The port is not open there.
    NotOpen,
    /// It has too many visits now.
    Busy,
    /// It is no agent, or none of our zone.
    Stranger,
}

impl Host {
    pub(super) async fn meet(ip: IpAddr, announce_port: u16) -> io::Result<Self> {
        let met = async {
            let stream = TcpStream::connect((ip, announce_port)).await?;
            let own = stream.local_addr()?.ip();
            let shaken = handshake(TokioIo::new(stream)).await;
            let (requests, connection) = shaken.map_err(io::Error::other)?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            Ok(Self {
                ip,
                own,
                requests,
                _connection: AbortOnDropHandle::new(connection),
            })
        };
        timeout(ANSWERS_WITHIN, met).await?
    }

    /// Announces a connection to the port; the socket to make it with, where it is awaited.
    pub(super) async fn announce(&mut self, port: u16) -> io::Result<(Answer, Visit)> {
        let to = SocketAddr::new(self.ip, port);
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.bind(SocketAddr::new(self.own, 0))?;
        let from = socket.local_addr()?.port();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{PATH}?at={to}&from={from}"))
            .header(header::HOST, to.to_string())
            .body(Empty::new())
            .map_err(io::Error::other)?;
        let answered = async {
            self.requests.ready().await?;
            self.requests.send_request(request).await
        };
        let answered = timeout(ANSWERS_WITHIN, answered).await?;
        let answer = match answered.map_err(io::Error::other)?.status() {
            StatusCode::ACCEPTED => Answer::Come,
            StatusCode::CONFLICT => Answer::NotOpen,
            StatusCode::TOO_MANY_REQUESTS => Answer::Busy,
            _ => Answer::Stranger,
        };
        Ok((answer, Visit { socket, to }))
    }
}

/// A connection that is about to be made.
#[derive(Debug)]
pub(super) struct Visit {
    socket: TcpSocket,
    to: SocketAddr,
}

impl Visit {
    /// Connects, and closes as soon as it stands: what becomes of it, the host sees.
    pub(super) async fn make(self) {
        let _ = timeout(COMES_WITHIN, self.socket.connect(self.to)).await;
    }
}

/// In a LAN.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
