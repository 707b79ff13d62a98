// SPDX-License-Identifier: MIT OR Apache-2.0
//! Odd questions and their right answers, over both transports, through sockets (RFC 8906; NSD is the model).

use crate::{
    packet::{A, ANY, AXFR, SRV, decode, patched, query, query_edns, with_additional},
    requests::cases,
    running::{Running, exchange, framed, read_frame, receive, until},
};
use discovery_core::telemetry::DnsTransport;
use hickory_proto::op::Message;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

/// What is asked, and what must hold for the reply.
type Row = (&'static str, Vec<u8>, fn(&Message));

fn web() -> Vec<u8> {
    query("web.service.consul", A)
}

fn opt(version: u8, flags: u8, options: &[u8]) -> Vec<u8> {
    let length = u8::try_from(options.len()).unwrap();
    let record = [0, 0, 41, 0x04, 0xd0, 0, version, flags, 0, 0, length];
    with_additional(web(), &[&record[..], options].concat())
}

fn class(class: u8) -> Vec<u8> {
    let question = web();
    let at = question.len() - 1;
    patched(question, at, &[class])
}

fn code(message: &Message) -> u16 {
    message.metadata.response_code.into()
}

fn has_data(message: &Message) {
    assert_eq!((code(message), message.answers.len()), (NOERROR, 3));
}

fn is_malformed(message: &Message) {
    assert_eq!((code(message), message.answers.len()), (FORMERR, 0));
}

fn is_refused(message: &Message) {
    assert!(matches!(code(message), REFUSED | NOTIMP), "{message}");
    assert!(message.answers.is_empty());
}

fn is_no_version(message: &Message) {
    assert_eq!(code(message), BADVERS);
    assert_eq!(message.edns.as_ref().unwrap().version(), 0);
}

/// Nothing of what we do not know comes back.
fn has_data_and_no_option(message: &Message) {
    has_data(message);
    let edns = message.edns.as_ref().unwrap();
    assert!(edns.options().options.is_empty(), "{message}");
}

/// The client's part and ours: never the client's alone.
fn has_data_and_our_cookie(message: &Message) {
    has_data(message);
    let options = message.edns.as_ref().unwrap().options().as_ref();
    let lengths: Vec<_> = options
        .iter()
        .map(|(code, option)| (u16::from(*code), option.len()))
        .collect();
    assert_eq!(lengths, [(10, 24)], "{message}");
}

fn rows() -> Vec<Row> {
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let unknown = [0xff, 0xfe, 0, 2, 7, 7];
    vec![
        ("EDNS version 1", opt(1, 0, &[]), is_no_version),
        (
            "EDNS version 1 and an option",
            opt(1, 0, &unknown),
            is_no_version,
        ),
        (
            "an unknown option",
            opt(0, 0, &unknown),
            has_data_and_no_option,
        ),
        ("a cookie", opt(0, 0, &cookie), has_data_and_our_cookie),
        ("the Z bits", opt(0, 0x7f, &[]), |message| {
            has_data(message);
            let flags = message.edns.as_ref().unwrap().flags();
            assert_eq!((flags.dnssec_ok, flags.z), (false, 0));
        }),
        ("DO", opt(0, 0x80, &[]), |message| {
            has_data(message);
            assert!(message.edns.as_ref().unwrap().flags().dnssec_ok);
        }),
        (
            "two OPT",
            with_additional(opt(0, 0, &[]), &opt(0, 0, &[])[web().len()..]),
            is_malformed,
        ),
        ("NOTIFY", patched(web(), 2, &[4 << 3]), is_refused),
        ("class HS", class(4), is_refused),
        ("class ANY", class(255), has_data),
        (
            "an empty non-terminal",
            query("service.consul", A),
            |message| {
                assert_eq!((code(message), message.answers.len()), (NOERROR, 0));
                assert_eq!(message.authorities.len(), 1);
            },
        ),
    ]
}

/// Questions that are malformed, or only look like it.
fn odd_rows() -> Vec<Row> {
    let answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
    let questions = |count: [u8; 2]| patched(web(), 4, &count);
    let many = query("many-shop.service.consul", SRV);
    vec![
        ("AXFR", query("consul", AXFR), is_refused),
        ("ANY", query("web.service.consul", ANY), |message| {
            assert_eq!(code(message), NOERROR);
            assert!(!message.answers.is_empty());
        }),
        (
            "a header that promises a question",
            web()[..12].to_vec(),
            is_malformed,
        ),
        (
            "an answer in the query",
            [&patched(web(), 6, &[0, 1])[..], answer].concat(),
            is_malformed,
        ),
        (
            "TSIG by an unknown key",
            with_additional(web(), b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0"),
            |message| assert_eq!(code(message), NOTAUTH),
        ),
        ("no question", questions([0, 0]), is_malformed),
        ("two questions", questions([0, 2]), is_malformed),
        ("65535 questions", questions([255, 255]), is_malformed),
        (
            "a pointer to itself",
            [&web()[..12], b"\xc0\x0c\0\x01\0\x01"].concat(),
            is_malformed,
        ),
        (
            "an extended label",
            [&web()[..12], b"\x41a\0\0\x01\0\x01"].concat(),
            is_malformed,
        ),
        (
            "a name of 315 bytes",
            [
                &web()[..12],
                &[&[62_u8][..], &[b'a'; 62]].concat().repeat(5),
                b"\0\0\x01\0\x01",
            ]
            .concat(),
            is_malformed,
        ),
        (
            "options of 600 bytes",
            with_additional(
                web(),
                &[
                    &[0, 0, 41, 4, 208, 0, 0, 0, 0, 2, 88, 0xff, 0xfe, 2, 84][..],
                    &[0; 596],
                ]
                .concat(),
            ),
            is_malformed,
        ),
        ("trailing octets", [&web()[..], b"more"].concat(), has_data),
        ("0x20", query("wEb.sERVICE.cOnSuL", A), |message| {
            has_data(message);
            let spelled = "wEb.sERVICE.cOnSuL.";
            assert_eq!(message.queries[0].name().to_ascii(), spelled);
            assert_eq!(message.answers[0].name.to_ascii(), spelled);
        }),
        ("RD and CD", patched(web(), 2, &[1, 0x10]), |message| {
            has_data(message);
            let head = &message.metadata;
            assert!(head.recursion_desired && head.checking_disabled);
            assert!(!head.authentic_data && !head.recursion_available);
        }),
        ("more than UDP takes", many, |message| {
            assert_eq!(code(message), NOERROR);
            assert!(message.metadata.truncation || message.answers.len() == 40);
        }),
        (
            "EDNS of size 0",
            query_edns("many-shop.service.consul", SRV, 0),
            |message| {
                assert!(message.edns.is_some());
                assert!(message.metadata.truncation || message.answers.len() == 40);
            },
        ),
    ]
}

#[tokio::test]
async fn r7_odd_questions_get_the_right_answer_over_both_transports() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let (socket, mut stream) = (server.udp().await, server.tcp().await);
    for (name, request, check) in rows().into_iter().chain(odd_rows()) {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            println!("{name} over {}", transport.as_str());
            let reply = if transport == DnsTransport::Udp {
                let reply = exchange(&socket, &request).await;
                let is_large = name.contains("than UDP") || name.contains("size 0");
                assert!(reply.len() <= if is_large { 512 } else { 1232 });
                assert_eq!(is_large, decode(&reply).metadata.truncation);
                reply
            } else {
                stream.write_all(&framed(&request)).await.unwrap();
                let reply = read_frame(&mut stream).await;
                assert!(!decode(&reply).metadata.truncation);
                reply
            };
            assert_eq!(reply[..2], request[..2]);
            check(&decode(&reply));
        }
    }
    // Over UDP alone: over TCP its length says where a message ends.
    let long = [web(), vec![0; 1_281 - web().len()]].concat();
    is_malformed(&decode(&exchange(&socket, &long).await));
    server.stop().await;
}

#[tokio::test]
async fn r6_every_message_gets_one_reply_or_one_count_over_both_transports() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let (mut messages, mut silent) = (0, 0);
    for (name, request, reaction) in cases() {
        socket.send(&request).await.unwrap();
        socket.send(&numbered_web()).await.unwrap();
        let mut replies = 0;
        while receive(&socket).await[..2] != [9, 9] {
            replies += 1;
        }
        assert_eq!(replies, u32::from(reaction.is_ok()), "{name}");
        silent += u64::from(reaction.is_err());
        messages += 2;
    }
    for (name, request, reaction) in cases().iter().filter(|(_, request, _)| request.len() >= 12) {
        let mut stream = server.tcp().await;
        let both = [framed(request), framed(&numbered_web())].concat();
        stream.write_all(&both).await.unwrap();
        if reaction.is_ok() {
            assert_eq!(read_frame(&mut stream).await[..2], request[..2], "{name}");
        }
        assert_eq!(read_frame(&mut stream).await[..2], [9, 9], "{name}");
        silent += u64::from(reaction.is_err());
        messages += 2;
    }
    if let Some(raw) = raw_udp() {
        raw.send_to(&from_port_0(&web(), server.address), &server.address.into())
            .unwrap();
        silent += 1;
        messages += 1;
    }
    let metrics = &server.metrics;
    until(|| metrics.totals().requests == messages).await;
    until(|| metrics.totals().responses == messages - silent).await;
    let totals = metrics.totals();
    assert_eq!((totals.dropped, totals.shed), (silent, 0));
    assert!(socket.try_recv(&mut [0; 512]).is_err(), "no reply is left");
    server.stop().await;
}

fn numbered_web() -> Vec<u8> {
    patched(web(), 0, &[9, 9])
}

/// A socket whose datagrams bring their own UDP header; none without the right to it.
fn raw_udp() -> Option<Socket> {
    match Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) {
        Ok(socket) => Some(socket),
        Err(error) => {
            testbed::skip(
                "r6_every_message_gets_one_reply_or_one_count_over_both_transports",
                &format!("port 0 needs a raw socket: {error}"),
            );
            None
        }
    }
}

/// RFC 768: from port 0, without a checksum.
fn from_port_0(message: &[u8], to: SocketAddr) -> Vec<u8> {
    let length = u16::try_from(8 + message.len()).unwrap();
    let mut datagram = vec![0, 0];
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    datagram
}

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;
