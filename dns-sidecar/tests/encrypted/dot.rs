// SPDX-License-Identifier: MIT OR Apache-2.0
//! DNS over TLS (RFC 7858).

use crate::{
    packet::{A, SRV, decode, query, query_edns, with_additional, words},
    site::{PATIENCE, Site, framed, read_frame},
};
use discovery_core::telemetry::{DnsRcode, DnsTransport};
use dns_sidecar::{Config, DnsServer};
use std::{sync::Arc, time::Duration};
use testbed::wait_for;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// A question that is padded to 128 bytes (RFC 8467 4.1), or asks for the time of silence.
fn with_option(name: &str, code: u8, length: u8) -> Vec<u8> {
    let mut opt = vec![
        0,
        0,
        41,
        4,
        208,
        0,
        0,
        0,
        0,
        0,
        4 + length,
        0,
        code,
        0,
        length,
    ];
    opt.extend(vec![0; length.into()]);
    with_additional(query(name, A), &opt)
}

const PADDING: u8 = 12;
const KEEPALIVE: u8 = 11;

#[tokio::test]
async fn questions_over_tls_are_answered_as_over_tcp_many_at_once_and_in_their_order() {
    let site = Site::start(|config| config);
    for protocols in [&["dot"][..], &[]] {
        let mut stream = site.tls(site.dot, protocols).await.unwrap();
        let names = [
            "web.service.consul",
            "nosuch.service.consul",
            "many-shop.service.consul",
        ];
        let questions: Vec<Vec<u8>> = (0..300_u16)
            .map(|id| {
                let mut question = query(
                    names[usize::from(id) % 3],
                    if id % 2 == 0 { A } else { SRV },
                );
                question[..2].copy_from_slice(&id.to_be_bytes());
                question
            })
            .collect();
        let all: Vec<u8> = questions
            .iter()
            .flat_map(|question| framed(question))
            .collect();
        stream.write_all(&all).await.unwrap();
        for (at, question) in questions.iter().enumerate() {
            let (reply, plain) = (read_frame(&mut stream).await, site.plain(question).await);
            let (reply, plain) = (decode(&reply), decode(&plain));
            assert_eq!(usize::from(reply.metadata.id), at);
            assert_eq!(reply.metadata.response_code, plain.metadata.response_code);
            assert_eq!(words(&reply.answers), words(&plain.answers));
        }
    }
    let answered = site.metrics.responses(DnsTransport::Dot, DnsRcode::NoError);
    assert_eq!(answered, 400);
}

#[tokio::test]
async fn replies_are_padded_for_who_pads_and_for_nobody_else() {
    let site = Site::start(|config| config);
    let mut stream = site.tls(site.dot, &["dot"]).await.unwrap();
    for (name, length) in [
        ("web.service.consul", 468),
        ("many-shop.service.consul", 936),
        ("nosuch.consul", 468),
    ] {
        let padded = with_option(name, PADDING, 60);
        stream.write_all(&framed(&padded)).await.unwrap();
        assert_eq!(read_frame(&mut stream).await.len(), length, "{name}");
        // Without TLS everybody sees it anyway.
        assert_ne!(site.plain(&padded).await.len() % 468, 0);
        let question = query_edns(name, A, 1232);
        stream.write_all(&framed(&question)).await.unwrap();
        assert_eq!(
            read_frame(&mut stream).await.len(),
            site.plain(&question).await.len()
        );
    }
    // A connection that cost a handshake may be idle for longer: 30 s in place of 10.
    let keepalive = with_option("web.service.consul", KEEPALIVE, 0);
    stream.write_all(&framed(&keepalive)).await.unwrap();
    assert!(
        read_frame(&mut stream)
            .await
            .ends_with(&[0, 11, 0, 2, 1, 44])
    );
    assert!(
        site.plain(&keepalive)
            .await
            .ends_with(&[0, 11, 0, 2, 0, 100])
    );
}

#[tokio::test]
async fn who_does_not_speak_it_is_turned_away_and_counted() {
    let site = Site::start(|config| config);
    let error = site.tls(site.dot, &["h2"]).await.unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    let mut plain = TcpStream::connect(site.dot).await.unwrap();
    plain
        .write_all(&framed(&query("web.service.consul", A)))
        .await
        .unwrap();
    let mut rest = Vec::new();
    // An alert of TLS at most, and no answer.
    let _ = time::timeout(PATIENCE, plain.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.len() < 12, "{rest:02x?}");
    let dropped = || async { (site.metrics.totals().dropped == 2).then_some(()) };
    wait_for("both are counted", PATIENCE, dropped)
        .await
        .unwrap();
    assert!(site.tls(site.dot, &["dot"]).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_was_rotated_is_shown_within_its_time_and_connections_go_on() {
    let site = Site::start(|config| config);
    let mut before = site.tls(site.dot, &["dot"]).await.unwrap();
    let question = framed(&query("web.service.consul", A));
    before.write_all(&question).await.unwrap();
    read_frame(&mut before).await;
    site.rotate();
    assert!(
        site.tls(site.dot, &["dot"]).await.is_err(),
        "the new one is not shown yet"
    );
    // The time after which the files are looked at, without waiting for it.
    time::pause();
    time::advance(Duration::from_secs(20)).await;
    time::resume();
    let shown = || async { site.tls(site.dot, &["dot"]).await.ok() };
    let mut after = wait_for("the new one is shown", PATIENCE, shown)
        .await
        .unwrap();
    after.write_all(&question).await.unwrap();
    assert_eq!(decode(&read_frame(&mut after).await).answers.len(), 3);
    assert!(
        site.tls(site.doh, &["http/1.1"]).await.is_ok(),
        "by both faces"
    );
    before.write_all(&question).await.unwrap();
    assert_eq!(decode(&read_frame(&mut before).await).answers.len(), 3);
}

#[tokio::test]
async fn without_a_certificate_that_can_be_used_nothing_is_opened() {
    let site = Site::start(|config| config);
    let any = || vec!["127.0.0.1:0".parse().unwrap()];
    let dir = tempfile::tempdir().unwrap();
    let config = Config::default().listen(any()).unwrap().dot_listen(any());
    let bind = |config| DnsServer::bind(config, site.mall.reader.clone(), Arc::default());
    let error = bind(config.clone()).unwrap_err();
    assert_eq!(
        (error.setting(), error.is_in_use()),
        ("tls.certificate", false)
    );
    let missing = dir.path().join("missing");
    let error = bind(config.certificate(missing.clone(), missing)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("missing"), "{cause}");
}
