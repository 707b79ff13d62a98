// SPDX-License-Identifier: MIT OR Apache-2.0
//! What client and server say to each other alone: cookies (RFC 7873), and how long a connection may be idle (RFC 7828).

use crate::{
    packet::{A, decode, query, with_additional},
    running::{Running, exchange, framed, read_frame},
};
use dns_sidecar::Profile;
use hickory_proto::op::ResponseCode;
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};
use tokio::{io::AsyncWriteExt, net::UdpSocket, time::timeout};

const CLIENT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;

/// Five times what the rate lets through at once.
const QUESTIONS: usize = 100;

/// A question with one option of EDNS.
pub(crate) fn with_option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    let mut opt = vec![0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4 + length];
    opt.extend(code.to_be_bytes());
    opt.extend([0, length]);
    opt.extend(data);
    with_additional(query("web.service.consul", A), &opt)
}

/// The options of a reply whose OPT record is its last.
fn options(reply: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let edns = decode(reply).edns.expect("OPT is answered with OPT");
    let length: usize = edns
        .options()
        .as_ref()
        .iter()
        .map(|(_, option)| 4 + usize::from(option.len()))
        .sum();
    let mut rest = &reply[reply.len() - length..];
    let mut options = BTreeMap::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let (data, behind) = tail.split_at(u16::from_be_bytes([*c, *d]).into());
        options.insert(u16::from_be_bytes([*a, *b]), data.to_vec());
        rest = behind;
    }
    options
}

#[tokio::test]
async fn a_client_that_shows_a_cookie_is_given_ours_over_both_transports() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let asked = with_option(COOKIE, &CLIENT);
    let reply = exchange(&socket, &asked).await;
    assert_eq!(decode(&reply).answers.len(), 3);
    let given = options(&reply)[&COOKIE].clone();
    assert_eq!((given.len(), &given[..8]), (24, &CLIENT[..]));
    // What comes back is as good as what was asked first, whosever cookie it is.
    for shown in [
        given.clone(),
        [&CLIENT[..], &[9; 16]].concat(),
        [&CLIENT[..], &[9; 32]].concat(),
    ] {
        let reply = exchange(&socket, &with_option(COOKIE, &shown)).await;
        assert_eq!(decode(&reply).answers.len(), 3);
        assert_eq!(options(&reply)[&COOKIE][..12], given[..12]);
    }
    let mut stream = server.tcp().await;
    stream.write_all(&framed(&asked)).await.unwrap();
    let reply = read_frame(&mut stream).await;
    assert_eq!(options(&reply)[&COOKIE][..12], given[..12]);
    let plain = exchange(&socket, &with_option(65_001, b"x")).await;
    assert!(options(&plain).is_empty(), "who shows none gets none");
    server.stop().await;
}

/// How many of so many questions at once are answered whole.
async fn answered(socket: &UdpSocket, question: &[u8], questions: usize) -> usize {
    for _ in 0..questions {
        socket.send(question).await.unwrap();
    }
    let (mut answered, mut reply) = (0, [0; 1_232]);
    let pause = Duration::from_millis(500);
    while let Ok(read) = timeout(pause, socket.recv(&mut reply)).await {
        let message = decode(&reply[..read.unwrap()]);
        answered += usize::from(message.answers.len() == 3);
    }
    answered
}

#[tokio::test]
async fn who_shows_our_cookie_is_not_held_to_the_rate_and_who_shows_another_is() {
    let rate = NonZeroU32::new(10).unwrap();
    let server = Running::start("0.0.0.0:0", |config| config.rate_per_second(rate));
    let socket = server.udp().await;
    let reply = exchange(&socket, &with_option(COOKIE, &CLIENT)).await;
    let ours = options(&reply)[&COOKIE].clone();
    let forged = [&CLIENT[..], &ours[8..16], &[9; 8]].concat();
    let with = answered(&socket, &with_option(COOKIE, &ours), QUESTIONS).await;
    assert_eq!(with, QUESTIONS, "its address is not forged");
    for (what, question) in [
        ("no cookie", with_option(65_001, b"x")),
        ("a forged one", with_option(COOKIE, &forged)),
    ] {
        let without = answered(&socket, &question, QUESTIONS).await;
        assert!(without < QUESTIONS / 2, "{what}: {without} are answered");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cookie_of_a_length_that_there_is_not_is_malformed() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    for length in [0, 1, 7, 9, 15, 41] {
        let reply = exchange(&socket, &with_option(COOKIE, &vec![7; length])).await;
        let code = decode(&reply).metadata.response_code;
        assert_eq!(code, ResponseCode::FormErr, "{length}");
    }
    server.stop().await;
    // 1.8.7 knows no cookies.
    let compat = Running::start("127.0.0.1:0", |config| config.profile(Profile::Compat));
    let reply = exchange(&compat.udp().await, &with_option(COOKIE, &CLIENT)).await;
    assert!(options(&reply).is_empty());
    compat.stop().await;
}

#[tokio::test]
async fn who_asks_over_a_connection_is_told_how_long_it_may_be_idle() {
    let idle = Duration::from_millis(7_500);
    let server = Running::start("127.0.0.1:0", |config| config.tcp_idle_timeout(idle));
    let asked = with_option(KEEPALIVE, &[]);
    let mut stream = server.tcp().await;
    stream.write_all(&framed(&asked)).await.unwrap();
    let reply = read_frame(&mut stream).await;
    assert_eq!(options(&reply)[&KEEPALIVE], 75_u16.to_be_bytes());
    stream
        .write_all(&framed(&with_option(COOKIE, &CLIENT)))
        .await
        .unwrap();
    let reply = read_frame(&mut stream).await;
    assert!(!options(&reply).contains_key(&KEEPALIVE), "only who asks");
    // RFC 7828 3.2.2: never over UDP.
    let reply = exchange(&server.udp().await, &asked).await;
    assert!(options(&reply).is_empty());
    server.stop().await;
}
