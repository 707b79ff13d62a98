// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host that is being visited: where visits are announced, and the ports to connect to.

use super::{COMES_WITHIN, PATH};
use crate::prove::{PROBE, socket_at};
use bytes::Bytes;
use discovery_core::model::Protocol;
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
    net::{TcpSocket, TcpStream, UdpSocket},
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

    /// Announces a visit to the port, which can be made where it is awaited.
    pub(super) async fn announce(
        &mut self,
        protocol: Protocol,
        port: u16,
    ) -> io::Result<(Answer, Visit)> {
        let (to, own) = (SocketAddr::new(self.ip, port), SocketAddr::new(self.own, 0));
        let (by, from) = if protocol == Protocol::Udp {
            let socket = UdpSocket::bind(own).await?;
            let from = socket.local_addr()?.port();
            (By::Datagram(socket), from)
        } else {
            let socket = socket_at(own)?;
            let from = socket.local_addr()?.port();
            (By::Connection(socket), from)
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{PATH}?at={to}&from={from}&protocol={protocol}"))
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
        Ok((answer, Visit { by, to }))
    }
}

/// A visit that is about to be made.
#[derive(Debug)]
pub(super) struct Visit {
    by: By,
    to: SocketAddr,
}

#[derive(Debug)]
enum By {
    Connection(TcpSocket),
    Datagram(UdpSocket),
}

impl Visit {
    /// Connects, and closes as soon as it stands, or sends a datagram: what becomes of it, the host sees.
    pub(super) async fn make(self) {
        match self.by {
            By::Connection(socket) => drop(timeout(COMES_WITHIN, socket.connect(self.to)).await),
            By::Datagram(socket) => drop(socket.send_to(&PROBE, self.to).await),
        }
    }
}

/// In a LAN.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
