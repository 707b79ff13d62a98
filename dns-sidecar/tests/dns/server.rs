// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server through real sockets.

use crate::{
    mall::HTTP,
    packet::{A, decode, query, query_edns, words},
    requests::cases,
    running::{
        PATIENCE, Running, exchange, framed, numbered, read_frame, read_to_end, receive, until,
    },
};
use discovery_core::telemetry::{DnsRcode, DnsTransport};
use dns_sidecar::{
    Config, DnsServer,
    client::{AskError, ask},
};
use hickory_proto::op::ResponseCode;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

#[tokio::test]
async fn questions_are_answered_over_udp_with_their_id_and_case() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    for id in [0, 1, 0xabcd, 0xffff] {
        let reply = exchange(
            &socket,
            &numbered(id, &query_edns("wEb.SERVICE.consul", A, 1232)),
        )
        .await;
        let message = decode(&reply);
        assert_eq!(message.metadata.id, id);
        assert_eq!(message.queries[0].name().to_ascii(), "wEb.SERVICE.consul.");
        assert_eq!(
            words(&message.answers)[0],
            "wEb.SERVICE.consul. 0 IN A 10.1.0.1"
        );
        assert_eq!(message.edns.unwrap().max_payload(), 1232);
    }
    server.stop().await;
}

#[tokio::test]
async fn b3_every_odd_request_meets_its_reaction_over_udp_and_the_counts_agree() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let (mut answered, mut dropped) = (0, 0);
    for (name, request, reaction) in cases() {
        if let Ok(rcode) = reaction {
            let message = decode(&exchange(&socket, &request).await);
            assert_eq!(
                u16::from(message.metadata.response_code),
                rcode.code(),
                "{name}"
            );
        } else {
            // What follows is answered, and nothing comes before that answer.
            socket.send(&request).await.unwrap();
            let reply = exchange(&socket, &numbered(7, &query("web.service.consul", A))).await;
            assert_eq!(reply[..2], [0, 7], "{name}");
            dropped += 1;
        }
        answered += 1;
    }
    assert!(cases().len() >= 120, "{}", cases().len());
    let metrics = &server.metrics;
    until(|| metrics.totals().responses == answered).await;
    let totals = metrics.totals();
    assert_eq!(
        (totals.requests, totals.dropped, totals.shed),
        (answered + dropped, dropped, 0)
    );
    server.stop().await;
}

#[tokio::test]
async fn replies_leave_from_the_address_that_was_asked() {
    let server = Running::start("0.0.0.0:0", |config| config);
    // All of 127.0.0.0/8 is this host; an unbound reply would leave from 127.0.0.1.
    for host in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asked: SocketAddr = format!("{host}:{}", server.address.port()).parse().unwrap();
        socket
            .send_to(&query("web.service.consul", A), asked)
            .await
            .unwrap();
        let mut reply = [0; 1500];
        let (_, from) = timeout(PATIENCE, socket.recv_from(&mut reply))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(from, asked);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_new_snapshot_is_answered_from_without_a_restart() {
    let mut server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let question = query("down-shop.service.consul", A);
    let before = decode(&exchange(&socket, &question).await);
    assert_eq!(before.metadata.response_code, ResponseCode::NXDomain);
    server.mall.endpoints(
        "shop/down",
        "4",
        &[HTTP],
        &[("down-0", "edge-a", "10.1.0.30")],
    );
    let snapshot = server.mall.writer.publish().unwrap();
    let status = &server.status;
    until(|| status.index().generation() == snapshot.generation()).await;
    let after = decode(&exchange(&socket, &question).await);
    assert_eq!(
        words(&after.answers),
        ["down-shop.service.consul. 0 IN A 10.1.0.30"]
    );
    assert_eq!(
        (status.listen(), status.domain()),
        (&[server.address][..], "consul")
    );
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_server_has_closed_every_socket() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let (address, mut stream) = (server.address, server.tcp().await);
    stream
        .write_all(&framed(&query("web.service.consul", A)))
        .await
        .unwrap();
    read_frame(&mut stream).await;
    server.stop().await;
    assert!(read_to_end(&mut stream).await.is_empty());
    std::net::UdpSocket::bind(address).expect("the UDP port is free again");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropping_a_running_server_stops_it() {
    let server = Running::start("127.0.0.1:0", |config| config);
    exchange(&server.udp().await, &query("web.service.consul", A)).await;
    server.task.abort();
    let address = server.address;
    until(|| std::net::UdpSocket::bind(address).is_ok()).await;
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let config = Config::default().listen(vec![server.address]).unwrap();
    let error = DnsServer::bind(config, server.mall.reader.clone(), Arc::default()).unwrap_err();
    assert!(error.is_in_use());
    assert_eq!(error.address(), server.address);
    assert_eq!(
        error.to_string(),
        format!("cannot listen for DNS over UDP on {}", server.address)
    );
    server.stop().await;
}

#[tokio::test]
async fn the_client_reads_replies_over_both_transports() {
    let server = Running::start("127.0.0.1:0", |config| config);
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        let ask = |name, qtype| ask(server.address, name, qtype, transport, PATIENCE);
        let reply = ask("_web._tcp.service.consul", "srv").await.unwrap();
        assert_eq!(
            (&*reply.rcode, reply.answers.len(), reply.additionals.len()),
            ("NOERROR", 4, 4)
        );
        assert!(reply.is_authoritative && reply.udp_payload == Some(1232));
        let no = ask("nosuch.service.consul", "A").await.unwrap();
        assert_eq!((&*no.rcode, no.authorities.len()), ("NXDOMAIN", 1));
        assert!(matches!(ask("a..b", "A").await, Err(AskError::Name { .. })));
        assert!(matches!(
            ask("a", "NOSUCH").await,
            Err(AskError::Type { .. })
        ));
    }
    assert_eq!(
        server
            .metrics
            .responses(DnsTransport::Tcp, DnsRcode::NxDomain),
        1
    );
    server.stop().await;
}

#[tokio::test]
async fn the_client_gives_up_after_its_timeout() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let error = ask(
        server,
        "web.consul",
        "A",
        DnsTransport::Udp,
        Duration::from_millis(20),
    )
    .await;
    assert!(error.is_err_and(|error| error.is_retryable()));
}

#[tokio::test]
async fn datagrams_that_the_system_joined_are_answered_one_by_one() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let sender = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    let questions: Vec<_> = (0..5)
        .map(|id| numbered(id, &query("web.service.consul", A)))
        .collect();
    let transmit = Transmit {
        destination: server.address,
        ecn: None,
        contents: &questions.concat(),
        segment_size: Some(questions[0].len()),
        src_ip: None,
    };
    sender
        .try_send(UdpSockRef::from(&socket), &transmit)
        .unwrap();
    let mut ids = Vec::new();
    for _ in &questions {
        ids.push(decode(&receive(&socket).await).metadata.id);
    }
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    assert_eq!(server.metrics.totals().requests, 5);
    server.stop().await;
}

#[tokio::test]
async fn ipv6_is_served_beside_ipv4_on_one_port() {
    if UdpSocket::bind("[::1]:0").await.is_err() {
        return; // This host has no IPv6.
    }
    let server = Running::start("[::]:0", |config| config);
    let v4 = format!("0.0.0.0:{}", server.address.port());
    let beside = UdpSocket::bind(v4).await;
    beside.expect("the IPv6 wildcard takes IPv6 only");
    let asked: SocketAddr = format!("[::1]:{}", server.address.port()).parse().unwrap();
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        let reply = ask(asked, "web.service.consul", "AAAA", transport, PATIENCE)
            .await
            .unwrap();
        assert_eq!(reply.answers[0].data, "fd00:1::1");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_questions_is_answered_or_counted() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let socket = server.udp().await;
    let question = query("web.service.consul", A);
    let sent = 200_u64;
    for _ in 0..sent {
        socket.send(&question).await.unwrap();
    }
    for _ in 0..sent {
        receive(&socket).await;
    }
    let metrics = &server.metrics;
    until(|| metrics.totals().responses == sent).await;
    let totals = metrics.totals();
    assert_eq!(
        totals.requests,
        totals.responses + totals.dropped + totals.shed
    );
    assert_eq!(totals.dropped, 0);
    server.stop().await;
}

#[tokio::test]
async fn r24_a_source_that_is_not_allowed_gets_no_byte_and_is_counted() {
    let allowed = |networks: &[&str]| networks.iter().map(|text| text.parse().unwrap()).collect();
    let denying = Running::start("127.0.0.1:0", |config| {
        config.allow(allowed(&["192.0.2.0/24"]))
    });
    let socket = denying.udp().await;
    socket.send(&query("web.service.consul", A)).await.unwrap();
    let mut stream = denying.tcp().await;
    let _ = stream
        .write_all(&framed(&query("web.service.consul", A)))
        .await;
    let mut received = Vec::new();
    // Closed, or reset where the question was still unread.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut received))
        .await
        .unwrap();
    assert!(received.is_empty());
    until(|| denying.metrics.totals().dropped == 2).await;
    assert!(socket.try_recv(&mut [0; 64]).is_err(), "no byte");
    assert_eq!(denying.metrics.totals().responses, 0);
    denying.stop().await;
    // An IPv4 client of an IPv6 socket comes mapped, and is the IPv4 client that it is: `Network` has the rule.
    let mapped: dns_sidecar::Network = "127.0.0.0/8".parse().unwrap();
    assert!(mapped.contains("::ffff:127.0.0.1".parse().unwrap()));
    let allowing = Running::start("127.0.0.1:0", |config| {
        config.allow(allowed(&["127.0.0.0/8"]))
    });
    let socket = allowing.udp().await;
    assert_eq!(
        decode(&exchange(&socket, &query("web.service.consul", A)).await)
            .answers
            .len(),
        3
    );
    allowing.stop().await;
}
