// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of others, by way of an upstream server that does what a test says; and that the loss of sources takes nothing away.

use crate::{
    mall::Mall,
    packet::{A, decode, query, query_edns, words},
};
use discovery_core::{
    clock::SystemClock,
    source::SourceStatus,
    store::{Kind, SourceId},
    telemetry::{DnsMetrics, DnsRcode, DnsTransport},
};
use dns_sidecar::{Config, DnsServer};
use hickory_proto::op::{Message, ResponseCode};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

struct Site {
    address: SocketAddr,
    metrics: Arc<DnsMetrics>,
    _mall: Mall,
    _stop: DropGuard,
}

fn start(mall: Mall, config: Config, sources: Vec<Arc<SourceStatus>>) -> Site {
    let metrics = Arc::new(DnsMetrics::default());
    let config = config.listen(vec!["127.0.0.1:0".parse().unwrap()]).unwrap();
    let server = DnsServer::bind(config, mall.reader.clone(), metrics.clone())
        .unwrap()
        .sources(sources);
    let address = server.local_addrs()[0];
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    Site {
        address,
        metrics,
        _mall: mall,
        _stop: stop.drop_guard(),
    }
}

fn forwarding(servers: &[SocketAddr]) -> Site {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    start(
        Mall::open(),
        Config::default().recursors(&servers).unwrap(),
        Vec::new(),
    )
}

async fn ask(site: &Site, request: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(site.address).await.unwrap();
    socket.send(request).await.unwrap();
    let mut reply = [0; 4096];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut reply))
        .await
        .unwrap()
        .unwrap();
    decode(&reply[..length])
}

/// A server that answers each question as `answer` does, with nothing, one or several datagrams.
async fn upstream(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut request).await {
            for reply in answer(&request[..length]) {
                socket.send_to(&reply, client).await.unwrap();
            }
        }
    });
    address
}

/// A reply with one address.
fn good(request: &[u8], last: u8) -> Vec<u8> {
    let mut reply = query("apple.example.test", A);
    reply[..2].copy_from_slice(&request[..2]);
    reply[2] = 0x85; // also the word of an authority, which is not ours to pass on
    reply[7] = 1;
    reply.extend([
        0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, last,
    ]);
    reply
}

fn with_code(request: &[u8], rcode: u8) -> Vec<u8> {
    let mut reply = query("apple.example.test", A);
    reply[..2].copy_from_slice(&request[..2]);
    reply[2..4].copy_from_slice(&[0x81, 0x80 | rcode]);
    reply
}

#[tokio::test]
async fn forged_replies_are_passed_over_and_the_right_one_is_taken() {
    let server = upstream(|request| {
        let mut other_id = good(request, 66);
        other_id[0] ^= 1;
        let mut other_question = good(request, 66);
        other_question[13] = b'b';
        let mut other_case = good(request, 66);
        other_case[13] = b'A';
        let mut no_response = good(request, 66);
        no_response[2] = 0x01;
        vec![
            other_id,
            other_question,
            other_case,
            no_response,
            vec![0; 5],
            good(request, 1),
        ]
    })
    .await;
    let site = forwarding(&[server]);
    let message = ask(&site, &query("apple.example.test", A)).await;
    assert_eq!(
        words(&message.answers),
        ["apple.example.test. 60 IN A 198.51.100.1"]
    );
    assert!(!message.metadata.authoritative && message.metadata.recursion_available);
    assert_eq!(message.metadata.id, 0x1234);
}

#[tokio::test]
async fn a_refusal_makes_the_next_server_be_asked_and_no_such_name_is_final() {
    let refusing = upstream(|request| vec![with_code(request, 5)]).await;
    let failing = upstream(|request| vec![with_code(request, 2)]).await;
    let right = upstream(|request| vec![good(request, 1)]).await;
    let message = ask(
        &forwarding(&[refusing, failing, right]),
        &query("apple.example.test", A),
    )
    .await;
    assert_eq!(message.answers.len(), 1);
    let without = upstream(|request| vec![with_code(request, 3)]).await;
    let message = ask(
        &forwarding(&[without, right]),
        &query("apple.example.test", A),
    )
    .await;
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn when_no_server_answers_the_client_is_told_in_time_and_our_names_are_not_touched() {
    let silent = upstream(|_| Vec::new()).await;
    let block = r#"{ "recursor_timeout": "300ms" }"#;
    let config = Config::default()
        .consul_block(block)
        .unwrap()
        .recursors(&[silent.to_string()])
        .unwrap();
    let site = start(Mall::open(), config, Vec::new());
    let request = query_edns("apple.example.test", A, 1232);
    let (failed, ()) = tokio::join!(ask(&site, &request), async {
        for _ in 0..100 {
            assert_eq!(
                ask(&site, &query("web.service.consul", A))
                    .await
                    .answers
                    .len(),
                3
            );
        }
    });
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    assert!(failed.edns.is_some());
    assert_eq!(
        site.metrics
            .responses(DnsTransport::Udp, DnsRcode::ServFail),
        1
    );
}

#[tokio::test]
async fn names_that_mean_something_here_alone_are_not_sent_away() {
    let server = upstream(|request| panic!("{request:02x?}")).await;
    let site = forwarding(&[server]);
    for (name, rcode) in [
        ("localhost", ResponseCode::Refused),
        ("printer.local", ResponseCode::Refused),
        ("x.invalid", ResponseCode::Refused),
        ("single", ResponseCode::Refused),
        ("nosuch.service.consul", ResponseCode::NXDomain),
        ("9.9.9.10.in-addr.arpa", ResponseCode::NXDomain),
    ] {
        let message = ask(&site, &query(name, A)).await;
        assert_eq!(message.metadata.response_code, rcode, "{name}");
    }
}

#[tokio::test]
async fn a_source_out_of_reach_for_long_changes_no_answer_and_is_told() {
    let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(SystemClock)));
    let config = Config::default().stale_after(Duration::from_secs(60));
    let site = start(Mall::open(), config, vec![status.clone()]);
    let fresh = ask(&site, &query_edns("web.service.consul", A, 1232)).await;
    status.restored(&Kind::ALL, Duration::from_secs(7_200));
    let code = |message: &Message| {
        let edns = message.edns.as_ref()?;
        let option = edns.option(hickory_proto::rr::rdata::opt::EdnsCode::Unknown(15))?;
        Some(format!("{option:?}"))
    };
    assert_eq!(code(&fresh), None);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let stale = loop {
        let message = ask(&site, &query_edns("web.service.consul", A, 1232)).await;
        if code(&message).is_some() {
            break message;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is told within seconds"
        );
        tokio::task::yield_now().await;
    };
    assert_eq!(
        words(&stale.answers),
        words(&fresh.answers),
        "and the answers are the same"
    );
    let info = ask(&site, &query("_info.web.service.consul", 16)).await;
    let text = info.answers[0].data.to_string();
    assert!(
        text.contains("source=stale") && text.contains("age_seconds=72"),
        "{text}"
    );
}

#[tokio::test]
async fn r10_before_the_first_list_every_name_fails_and_none_is_denied_and_after_it_none_fails() {
    let mut mall = Mall::unread();
    let site = {
        let reader = mall.reader.clone();
        let metrics = Arc::new(DnsMetrics::default());
        let config = Config::default()
            .listen(vec!["127.0.0.1:0".parse().unwrap()])
            .unwrap();
        let server = DnsServer::bind(config, reader, metrics.clone()).unwrap();
        let (address, stop) = (server.local_addrs()[0], CancellationToken::new());
        tokio::spawn(server.run(stop.clone()));
        Site {
            address,
            metrics,
            _mall: Mall::unread(),
            _stop: stop.drop_guard(),
        }
    };
    let names = [
        "consul",
        "web.service.consul",
        "nosuch.service.consul",
        "edge-a.node.consul",
        "0a000001.addr.consul",
        "1.0.0.10.in-addr.arpa",
    ];
    for name in names {
        let message = ask(&site, &query_edns(name, A, 1232)).await;
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::ServFail,
            "{name}"
        );
        assert!(
            format!("{:?}", message.edns).contains("14"),
            "{name}: not ready"
        );
    }
    let own = crate::mall::node("edge-a", "Mall.1", &["10.0.0.1"]);
    mall.upsert(discovery_core::store::Object::OwnNode(own.clone()));
    mall.upsert(discovery_core::store::Object::Node(own));
    mall.synced(SourceId::Kube);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while ask(&site, &query("consul", A)).await.metadata.response_code == ResponseCode::ServFail {
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is ready within seconds"
        );
    }
    for name in names {
        let message = ask(&site, &query(name, A)).await;
        assert_ne!(
            message.metadata.response_code,
            ResponseCode::ServFail,
            "{name}"
        );
    }
}
