// SPDX-License-Identifier: MIT OR Apache-2.0
//! One question to one upstream server, and its reply.
//!
//! Unpredictable to others (RFC 5452): a fresh socket, a port that the system chooses, an id from the system's randomness,
//! and the reply taken only from the asked address with the same id and question. Wrong replies are passed over and
//! counted; the socket stays open for the right one. Memory for a reply is taken when one is there.

use super::question::{as_reply_to, question_end};
use crate::wire::{HEADER_BYTES, Header};
use rustix::rand::{GetRandomFlags, getrandom};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// Asks over UDP; the reply is to the request. `unwanted` is called for each datagram that is no reply to it. Waits for
/// ever: the caller limits it.
pub(super) async fn ask_udp(
    server: SocketAddr,
    request: &[u8],
    unwanted: impl Fn(),
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the system passes on what comes from this address alone.
    socket.connect(server).await?;
    let sent = with_new_id(request)?;
    socket.send(&sent).await?;
    loop {
        socket.readable().await?;
        let mut received = vec![0; REPLY_BYTES_MAX];
        match socket.try_recv(&mut received) {
            Ok(length) => {
                let reply = received.get(..length).unwrap_or_default();
                if answers(&sent, reply) {
                    return Ok(as_reply_to(request, reply));
                }
                unwanted();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks over TCP.
pub(super) async fn ask_tcp(server: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let sent = with_new_id(request)?;
    let length = u16::try_from(sent.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], &sent].concat())
        .await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    if answers(&sent, &reply) {
        Ok(as_reply_to(request, &reply))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the reply is to another question",
        ))
    }
}

/// Asks over UDP, and again over TCP when the reply was cut (RFC 7766 5).
pub(super) async fn ask_whole(
    server: SocketAddr,
    request: &[u8],
    unwanted: impl Fn(),
) -> io::Result<Vec<u8>> {
    let reply = ask_udp(server, request, unwanted).await?;
    if Header::read(&reply).is_some_and(Header::is_truncated) {
        return ask_tcp(server, request).await;
    }
    Ok(reply)
}

fn with_new_id(request: &[u8]) -> io::Result<Vec<u8>> {
    let mut sent = request.to_vec();
    if let Some(id) = sent.get_mut(..2) {
        getrandom(id, GetRandomFlags::empty())?;
    }
    Ok(sent)
}

/// Whether it is the reply to this request: a response with its id and its question, case included.
pub(super) fn answers(sent: &[u8], reply: &[u8]) -> bool {
    let is_response = reply.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let question = sent.get(HEADER_BYTES..question_end(sent));
    is_response
        && reply.get(..2) == sent.get(..2)
        && reply.get(4..6) == Some(&[0, 1])
        && question == reply.get(HEADER_BYTES..question_end(sent))
}

/// What EDNS lets a server send; more than any path carries.
const REPLY_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x04test\0\0\x01\0\x01";

    fn reply() -> Vec<u8> {
        let mut reply = REQUEST.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn only_the_reply_to_the_question_counts() {
        assert!(answers(REQUEST, &reply()));
        for (at, byte) in [(0, 9), (2, 1), (5, 0), (13, b'W'), (23, 2)] {
            let mut other = reply();
            other[at] = byte;
            assert!(!answers(REQUEST, &other), "byte {at}");
        }
        assert!(!answers(REQUEST, &reply()[..20]));
        assert!(!answers(REQUEST, &[]));
    }

    #[test]
    fn only_the_id_is_changed() {
        let sent = with_new_id(REQUEST).unwrap();
        assert_eq!(sent[2..], REQUEST[2..]);
    }
}
