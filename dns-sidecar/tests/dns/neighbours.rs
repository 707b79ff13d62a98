// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is around a responder: servers of others that are down, slow or lie, and clients that ask again.

use crate::{
    forwarding::{dead_too, forwarding, good, start, upstream},
    mall::Mall,
    packet::{A, SRV, decode, query, words},
    running::{PATIENCE, Running, exchange, receive, until},
};
use discovery_core::telemetry::{DnsTransport, DnsUpstream};
use dns_sidecar::Config;
use hickory_proto::op::{Message, ResponseCode};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

/// What a server says that lies, none of it a reply to the question: another id, another question, a question, and records
/// for names of ours.
fn lies(request: &[u8]) -> Vec<Vec<u8>> {
    let mut other_id = good(request, 66);
    other_id[1] ^= 0x55;
    let mut other_question = good(request, 66);
    other_question[13] = b'b';
    let mut question = good(request, 66);
    question[2] &= !0x80;
    let mut about_ours = query("web.service.consul", A);
    about_ours[..2].copy_from_slice(&request[..2]);
    about_ours[2..4].copy_from_slice(&[0x84, 0x80]);
    about_ours[7] = 1;
    about_ours.extend(b"\xc0\x0c\0\x01\0\x01\0\0\xff\xff\0\x04\x06\x06\x06\x06");
    vec![other_id, other_question, question, about_ours]
}

/// Asks for a name of ours all the time; how long each answer took.
async fn local(server: SocketAddr, until: &Mutex<bool>) -> Vec<Duration> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut took = Vec::new();
    while !*until.lock().unwrap() || took.len() < 100 {
        let began = Instant::now();
        let message = decode(&exchange(&socket, &query("web.service.consul", A)).await);
        took.push(began.elapsed());
        let mut addresses = words(&message.answers);
        addresses.sort();
        let expected = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
        let expected = expected.map(|ip| format!("web.service.consul. 0 IN A {ip}"));
        assert_eq!(addresses, expected);
        assert!(message.metadata.authoritative);
    }
    took.sort_unstable();
    took
}

/// Asks for so many names of others, fifty at a time; how many got no answer from there.
async fn of_others(server: SocketAddr, count: usize) -> usize {
    let mut failed = 0;
    for _ in 0..count / 50 {
        let mut asked = JoinSet::new();
        for _ in 0..50 {
            asked.spawn(async move {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(server).await.unwrap();
                decode(&exchange(&socket, &query("apple.example.test", A)).await)
            });
        }
        let replies = asked.join_all().await;
        let is_failed = |reply: &&Message| reply.metadata.response_code == ResponseCode::ServFail;
        failed += replies.iter().filter(is_failed).count();
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f59_a_recursor_that_is_down_slow_or_lies_does_not_touch_local_names() {
    let block = r#"{ "recursor_timeout": "300ms" }"#;
    let quick = || Config::default().consul_block(block).unwrap();
    let quiet = {
        let site = start(Mall::open(), quick(), Vec::new());
        local(site.address, &Mutex::new(true)).await
    };
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let slow_at = slow.local_addr().unwrap();
    let slow = Arc::new(slow);
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((length, client)) = slow.recv_from(&mut request).await {
            let (reply, socket) = (good(&request[..length], 1), slow.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = socket.send_to(&reply, client).await;
            });
        }
    });
    let cases = [
        ("down", dead_too().await, 100),
        ("slow", slow_at, 0),
        ("silent", upstream(|_| Vec::new()).await, 100),
        ("lying", upstream(lies).await, 100),
    ];
    for (how, server, fail) in cases {
        let config = quick().recursors(&[server.to_string()]).unwrap();
        let site = start(Mall::open(), config, Vec::new());
        let is_over = Mutex::new(false);
        let (took, failed) = tokio::join!(local(site.address, &is_over), async {
            let failed = of_others(site.address, 100).await;
            *is_over.lock().unwrap() = true;
            failed
        });
        let median = |took: &[Duration]| took[took.len() / 2];
        println!(
            "{how}: {} local answers, median {:.1?} (quiet {:.1?}), slowest {:.1?}",
            took.len(),
            median(&took),
            median(&quiet),
            took[took.len() - 1]
        );
        assert_eq!(failed, fail, "{how}");
        // Whoever waited for that server would have taken 200 ms. What other work on this machine does is no matter.
        let patient = took
            .iter()
            .filter(|one| **one >= Duration::from_millis(150));
        assert!(patient.count() <= took.len() / 100, "{how}: {took:?}");
        assert_eq!(site.metrics.totals().shed, 0, "{how}");
    }
}

#[tokio::test]
async fn f59_of_a_thousand_replies_that_lie_none_is_believed() {
    let server = upstream(|request| {
        let mut said = lies(request);
        said.push(good(request, 1));
        said
    })
    .await;
    let site = forwarding(&[server]);
    for _ in 0..250 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(site.address).await.unwrap();
        let message = decode(&exchange(&socket, &query("apple.example.test", A)).await);
        let expected = ["apple.example.test. 60 IN A 198.51.100.1"];
        assert_eq!(words(&message.answers), expected);
        assert!(message.authorities.is_empty() && message.additionals.is_empty());
    }
    let unwanted = site.metrics.upstream_count(DnsUpstream::Unwanted);
    assert_eq!(unwanted, 1_000, "each lie is counted");
}

#[tokio::test]
async fn f62_a_client_that_asks_again_with_the_same_id_gets_the_same_answer() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let mut asked = 0;
    for (name, qtype) in [
        ("web.service.consul", A),
        ("web.service.consul", SRV),
        ("ann._key.web.service.consul", A),
        ("edge-a.node.consul", A),
        ("nosuch.service.consul", A),
    ] {
        let request = query(name, qtype);
        // Asked again before an answer came, and again after it: as clients do whose reply was lost.
        for _ in 0..3 {
            socket.send(&request).await.unwrap();
        }
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(receive(&socket).await);
        }
        for _ in 0..3 {
            replies.push(exchange(&socket, &request).await);
        }
        asked += 6;
        let said = |reply: &Vec<u8>| {
            let message = decode(reply);
            assert_eq!(message.metadata.id, 0x1234);
            assert_eq!(reply[12..request.len()], request[12..], "{name}");
            // Plain answers are shuffled; those of a key have an order.
            let mut answers = words(&message.answers);
            if !name.contains("_key") {
                answers.sort();
            }
            (message.metadata.response_code, answers)
        };
        let first = said(&replies[0]);
        assert!(replies.iter().all(|reply| said(reply) == first), "{name}");
    }
    let metrics = &server.metrics;
    until(|| metrics.totals().responses == asked).await;
    let totals = metrics.totals();
    assert_eq!((totals.requests, totals.shed), (asked, 0), "one reply each");
    server.stop().await;
}

#[tokio::test]
async fn f62_a_question_for_others_that_is_asked_again_is_asked_there_once() {
    let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let site = forwarding(&[upstream.local_addr().unwrap()]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(site.address).await.unwrap();
    let request = query("apple.example.test", A);
    for _ in 0..3 {
        socket.send(&request).await.unwrap();
    }
    // All three have arrived before there is a reply.
    let metrics = &site.metrics;
    until(|| metrics.totals().requests >= 3).await;
    let mut asked = Vec::new();
    let mut buffer = [0; 1500];
    let (length, from) = loop {
        let (length, from) = timeout(PATIENCE, upstream.recv_from(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        // A question of its own, by which it looks for loops, has another name.
        if buffer[..length].windows(5).any(|part| part == b"apple") {
            break (length, from);
        }
    };
    asked.push(from);
    upstream
        .send_to(&good(&buffer[..length], 1), from)
        .await
        .unwrap();
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(receive(&socket).await);
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(decode(&replies[0]).metadata.id, 0x1234);
    while let Ok((length, from)) = upstream.try_recv_from(&mut buffer) {
        if buffer[..length].windows(5).any(|part| part == b"apple") {
            asked.push(from);
        }
    }
    assert_eq!(asked.len(), 1, "the two others waited for the first");
    let responses = metrics.responses(
        DnsTransport::Udp,
        discovery_core::telemetry::DnsRcode::NoError,
    );
    assert_eq!(responses, 3);
}
