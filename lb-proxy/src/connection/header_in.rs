// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes the PROXY header off the start of a connection, where one is expected.
//!
//! In: a socket, whom to believe, how long to wait. Out: the client's address and what of its bytes came along. Nothing is
//! dialled before.

use crate::proxy_header::{HEADER_BYTES_MAX, Header, HeaderError, Network, Origin, Parsed, parse};
use bytes::Bytes;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Why no header was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("the peer is in no network whose headers are believed")]
    Stranger,
    #[error("no whole header came in time")]
    Late,
    #[error("the connection ended before its header")]
    Ended,
    #[error("the connection broke before its header")]
    Broken(#[source] io::Error),
    #[error("the header is refused")]
    Refused(#[from] HeaderError),
}

/// What a header said.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) client: SocketAddr,
    pub(crate) extensions: Vec<u8>,
    /// Bytes of the client that came with the header.
    pub(crate) rest: Bytes,
}

/// Reads the header of the peer.
pub(crate) async fn take(
    stream: &TcpStream,
    peer: SocketAddr,
    trusted: &[Network],
    limit: Duration,
) -> Result<Taken, NoHeader> {
    if !trusted.iter().any(|network| network.contains(peer.ip())) {
        return Err(NoHeader::Stranger);
    }
    let (header, rest) = timeout(limit, read(stream))
        .await
        .map_err(|_| NoHeader::Late)??;
    let client = match header.origin {
        Origin::Proxied { source, .. } => source,
        Origin::Local => peer,
    };
    Ok(Taken {
        client,
        extensions: header.extensions,
        rest,
    })
}

async fn read(stream: &TcpStream) -> Result<(Header, Bytes), NoHeader> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        stream.readable().await.map_err(NoHeader::Broken)?;
        let room = HEADER_BYTES_MAX - bytes.len();
        bytes.reserve(room.min(FIRST_READ));
        match stream.try_read_buf(&mut bytes) {
            Ok(0) => return Err(NoHeader::Ended),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(NoHeader::Broken(error)),
        }
        match parse(&bytes)? {
            Parsed::Whole(header) => {
                let rest = Bytes::copy_from_slice(&bytes[header.length..]);
                return Ok((header, rest));
            }
            Parsed::Incomplete if bytes.len() >= HEADER_BYTES_MAX => {
                return Err(HeaderError::TooLong.into());
            }
            Parsed::Incomplete => {}
        }
    }
}

/// A header, and mostly what the client said first.
const FIRST_READ: usize = 1_024;
