// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections: in pieces, in bulk, silent, greedy and too many.

use crate::{
    packet::{A, SRV, decode, query},
    running::{PATIENCE, Running, exchange, framed, numbered, read_frame, read_to_end, until},
};
use discovery_core::telemetry::DnsPause;
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_cut_answer_is_whole_over_tcp() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let cut = decode(&exchange(&server.udp().await, &query("many-shop.service.consul", SRV)).await);
    assert!(cut.metadata.truncation);
    let mut stream = server.tcp().await;
    stream
        .write_all(&framed(&query("many-shop.service.consul", SRV)))
        .await
        .unwrap();
    let whole = decode(&read_frame(&mut stream).await);
    assert_eq!(
        (whole.metadata.truncation, whole.answers.len()),
        (false, 40)
    );
    stream
        .write_all(&framed(&query("crowd-shop.service.consul", A)))
        .await
        .unwrap();
    assert_eq!(decode(&read_frame(&mut stream).await).answers.len(), 1_500);
    assert_eq!(server.metrics.totals().truncated, 1);
    server.stop().await;
}

#[tokio::test]
async fn r16_a_thousand_questions_at_once_are_answered_in_their_order() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let mut stream = server.tcp().await;
    let names = [
        "web.service.consul",
        "nosuch.consul",
        "crowd-shop.service.consul",
    ];
    let questions: Vec<u8> = (0..1_000_u16)
        .flat_map(|id| framed(&numbered(id, &query(names[usize::from(id) % 2], A))))
        .collect();
    let (mut reader, mut writer) = stream.split();
    let write = async { writer.write_all(&questions).await.unwrap() };
    let read = async {
        for id in 0..1_000 {
            let length = reader.read_u16().await.unwrap();
            let mut reply = vec![0; length.into()];
            reader.read_exact(&mut reply).await.unwrap();
            assert_eq!(decode(&reply).metadata.id, id);
        }
    };
    timeout(PATIENCE, async { tokio::join!(write, read) })
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn r16_a_question_may_be_split_anywhere_and_come_before_the_client_closes() {
    let server = Running::start("127.0.0.1:0", |config| config);
    let question = framed(&query("web.service.consul", A));
    let mut stream = server.tcp().await;
    stream.set_nodelay(true).unwrap();
    for at in 1..question.len() {
        let (first, second) = question.split_at(at);
        stream.write_all(first).await.unwrap();
        // The server has read the first piece once it has answered another.
        exchange(&server.udp().await, &query("web.service.consul", A)).await;
        stream.write_all(second).await.unwrap();
        assert_eq!(decode(&read_frame(&mut stream).await).answers.len(), 3);
    }
    for byte in &question {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(decode(&read_frame(&mut stream).await).answers.len(), 3);
    stream.write_all(&question).await.unwrap();
    stream.shutdown().await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert_eq!(
        decode(&rest[2..]).answers.len(),
        3,
        "a half-closed client still gets its answer"
    );
    server.stop().await;
}

#[tokio::test]
async fn broken_framing_ends_a_connection_and_a_response_on_it_does_not() {
    let server = Running::start("127.0.0.1:0", |config| config);
    for broken in [
        &[0, 0][..],
        &[0, 3, 1, 2, 3],
        &[0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut stream = server.tcp().await;
        stream
            .write_all(&[&framed(&query("web.service.consul", A)), broken].concat())
            .await
            .unwrap();
        let all = read_to_end(&mut stream).await;
        assert_eq!(
            decode(&all[2..]).answers.len(),
            3,
            "what came before is answered"
        );
    }
    let mut stream = server.tcp().await;
    let mut response = query("web.service.consul", A);
    response[2] |= 0x80;
    stream.write_all(&framed(&response)).await.unwrap();
    stream
        .write_all(&framed(&numbered(9, &query("web.service.consul", A))))
        .await
        .unwrap();
    assert_eq!(decode(&read_frame(&mut stream).await).metadata.id, 9);
    let totals = server.metrics.totals();
    assert_eq!(
        (totals.requests, totals.responses, totals.dropped),
        (8, 4, 4)
    );
    server.stop().await;
}

#[tokio::test]
async fn r16_a_silent_or_slow_connection_is_closed() {
    let idle = Duration::from_millis(50);
    let server = Running::start("127.0.0.1:0", |config| config.tcp_idle_timeout(idle));
    let mut silent = server.tcp().await;
    assert!(read_to_end(&mut silent).await.is_empty());
    let mut slow = server.tcp().await;
    slow.write_all(&[0]).await.unwrap();
    assert!(read_to_end(&mut slow).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn r16_twice_as_many_connections_as_may_be_are_all_served_and_udp_does_not_mind() {
    let places = 8;
    let server = Running::start("127.0.0.1:0", |config| {
        config.tcp_connections_max(NonZeroUsize::new(places).unwrap())
    });
    let mut streams = Vec::new();
    for _ in 0..2 * places {
        streams.push(server.tcp().await);
    }
    until(|| server.metrics.pauses(DnsPause::ConnectionsFull) > 0).await;
    let udp = decode(&exchange(&server.udp().await, &query("web.service.consul", A)).await);
    assert_eq!(udp.answers.len(), 3);
    // Those that got a place say nothing; whoever was silent for longest makes room.
    let (silent, waiting) = streams.split_at_mut(places);
    for stream in waiting {
        stream
            .write_all(&framed(&query("web.service.consul", A)))
            .await
            .unwrap();
        assert_eq!(decode(&read_frame(stream).await).answers.len(), 3);
    }
    assert!(read_to_end(&mut silent[0]).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn r16_a_client_that_does_not_read_is_given_up_and_the_counts_agree() {
    let idle = Duration::from_millis(100);
    let server = Running::start("127.0.0.1:0", |config| config.tcp_idle_timeout(idle));
    let mut stream = server.tcp().await;
    let question = framed(&query("crowd-shop.service.consul", SRV));
    // Each reply has 64 KiB: soon more than the system holds.
    let sent = timeout(PATIENCE, async {
        while stream.write_all(&question).await.is_ok() {}
    })
    .await;
    sent.expect("the server closes");
    let metrics = &server.metrics;
    let is_settled = || {
        let totals = metrics.totals();
        totals.shed > 0 && totals.requests == totals.responses + totals.shed
    };
    until(is_settled).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_a_thousand_clients_with_a_hundred_questions_each_get_every_answer() {
    let (clients, questions) = (1_000, 100_u16);
    let server = Running::start("127.0.0.1:0", |config| {
        // As many as may be would have whoever is silent make room.
        config.tcp_connections_max(NonZeroUsize::new(2 * clients).unwrap())
    });
    let (address, began) = (server.address, Instant::now());
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(TcpStream::connect(address).await.unwrap());
    }
    let client = |number: usize, mut stream: TcpStream| async move {
        let names = [
            "web.service.consul",
            "nosuch.service.consul",
            "many-shop.service.consul",
        ];
        let asked = |question: u16| {
            let name = names[(number + usize::from(question)) % names.len()];
            numbered(question, &query(name, A))
        };
        let sent: Vec<u8> = (0..questions).flat_map(|id| framed(&asked(id))).collect();
        let (mut reader, mut writer) = stream.split();
        let write = async { writer.write_all(&sent).await.unwrap() };
        let read = async {
            for id in 0..questions {
                let request = asked(id);
                let length = reader.read_u16().await.unwrap();
                let mut reply = vec![0; length.into()];
                reader.read_exact(&mut reply).await.unwrap();
                // Whose it is, and that it is whole: no reply is cut over TCP (R17).
                assert_eq!(reply[..2], request[..2]);
                assert_eq!(reply[12..request.len()], request[12..]);
                assert_eq!(reply[2] & 0x82, 0x80);
                let answers = [3, 0, 40][(number + usize::from(id)) % names.len()];
                assert_eq!(reply[6..8], [0, answers], "client {number}, question {id}");
            }
        };
        tokio::join!(write, read);
        u64::from(questions)
    };
    let mut all = tokio::task::JoinSet::new();
    for (number, stream) in connected.into_iter().enumerate() {
        all.spawn(client(number, stream));
    }
    let answered: u64 = timeout(Duration::from_secs(60), all.join_all())
        .await
        .unwrap()
        .into_iter()
        .sum();
    println!(
        "L6: {answered} answers to {clients} clients in {:.1?}",
        began.elapsed()
    );
    assert_eq!(answered, 100_000);
    let metrics = &server.metrics;
    until(|| metrics.totals().responses == answered).await;
    let totals = metrics.totals();
    assert_eq!(
        (totals.requests, totals.shed, totals.dropped),
        (answered, 0, 0)
    );
    server.stop().await;
}
