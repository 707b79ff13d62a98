// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client of the proxy sees: where it is carried, and how connections end.

mod site;

use discovery_core::telemetry::{ByteDirection, ConnectFailure};
use lb_proxy::{Config, Reason};
use site::{
    Endpoint, FRONT, Site, assert_reset, black_hole, connect, connect_from, exchange, free_port,
    greeted, greeted_from, greeting, pattern, read_all, source, until, within,
};
use socket2::SockRef;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Closes with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

#[tokio::test]
async fn each_source_address_keeps_its_endpoint_and_it_is_the_owner_of_the_ring() {
    let endpoints = Endpoint::echoes(8).await;
    let (site, front) = Site::serving(Config::default(), &Vec::from_iter(&endpoints)).await;
    let mut met = std::collections::BTreeSet::new();
    for last in 2..42 {
        let owner = site.order(source(last)).remove(0);
        for _ in 0..2 {
            let mut stream = connect_from(source(last), front).await.unwrap();
            assert_eq!(greeting(&mut stream).await.unwrap(), owner);
            exchange(&mut stream, b"hello\n").await.unwrap();
        }
        met.insert(owner);
    }
    assert!(
        met.len() > 4,
        "40 addresses spread over the endpoints: {met:?}"
    );
    let counters = site.counters(front);
    let ended = site.end(&counters).await;
    assert_eq!(ended, [("ok", 80)].into());
}

#[tokio::test]
async fn a_refused_connect_goes_on_in_ring_order_to_three_endpoints_at_most() {
    let mut endpoints = Endpoint::echoes(5).await;
    let (site, front) = Site::serving(Config::default(), &Vec::from_iter(&endpoints)).await;
    let order = site.order(source(9));
    for dead in &order[..3] {
        let mut stream = connect_from(source(9), front).await.unwrap();
        assert_eq!(greeting(&mut stream).await.unwrap(), *dead);
        let at = endpoints
            .iter()
            .position(|endpoint| endpoint.name == *dead)
            .unwrap();
        endpoints.swap_remove(at).die().await;
    }
    let started = Instant::now();
    assert_reset(greeted_from(source(9), front).await);
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "refused is known at once"
    );
    let counters = site.counters(front);
    let refused = counters.connect_failures(ConnectFailure::Refused);
    assert_eq!(refused, 1 + 2 + 3, "the fourth is not tried");
    assert_eq!(
        site.end(&counters).await,
        [("connect-refused", 1), ("ok", 3)].into()
    );
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_costs_one_connect_timeout() {
    let hole = black_hole();
    let echo = Endpoint::echo("pod-1").await;
    let config = Config::default().connect_timeout(Duration::from_millis(150));
    let (mut site, front) = Site::serving(config, &[&echo]).await;
    site.listed("web", "pod-hole", hole.address, true);
    site.publish();
    let before_the_hole = |site: &Site, last: u8| site.order(source(last))[0] == "pod-hole";
    let last = (2..250).find(|last| before_the_hole(&site, *last)).unwrap();
    let counters = site.counters(front);
    let mut stream = connect_from(source(last), front).await.unwrap();
    assert_eq!(greeting(&mut stream).await.unwrap(), "pod-1");
    assert_eq!(counters.connect_failures(ConnectFailure::Timeout), 1);
    site.unlist("web", "pod-1");
    site.publish();
    assert_reset(greeted_from(source(last), front).await);
    until(|| counters.ended(Reason::ConnectTimeout) == 1).await;
    site.kill.cancel();
    site.end(&counters).await;
}

#[tokio::test]
async fn what_the_client_sends_after_the_endpoint_finished_still_arrives() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let endpoint = Endpoint::new("pod-0", move |mut stream| {
        let told = told.clone();
        async move {
            stream.write_all(&pattern(1 << 20)).await?;
            stream.shutdown().await?;
            told.send(read_all(&mut stream).await.0)
                .await
                .map_err(std::io::Error::other)
        }
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    let (got, end) = read_all(&mut stream).await;
    assert!(got == pattern(1 << 20) && end.is_ok());
    within(stream.write_all(&pattern(1 << 20))).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(within(heard.recv()).await.unwrap() == pattern(1 << 20));
    drop(stream);
    let counters = site.counters(front);
    assert_eq!(site.end(&counters).await, [("ok", 1)].into());
}

#[tokio::test]
async fn what_the_endpoint_sends_after_the_client_finished_still_arrives() {
    let endpoint = Endpoint::new("pod-0", async |mut stream| {
        let (got, _) = read_all(&mut stream).await;
        stream.write_all(&got).await
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    within(stream.write_all(&pattern(1 << 20))).await.unwrap();
    stream.shutdown().await.unwrap();
    let (got, end) = read_all(&mut stream).await;
    assert!(got == pattern(1 << 20) && end.is_ok());
    let counters = site.counters(front);
    until(|| counters.ended(Reason::Ok) == 1).await;
    assert_eq!(counters.bytes(ByteDirection::Up), 1 << 20);
    assert_eq!(
        counters.bytes(ByteDirection::Down),
        (1 << 20) + "pod-0\n".len() as u64
    );
    site.end(&counters).await;
}

#[tokio::test]
async fn a_reset_of_the_endpoint_is_a_reset_for_the_client_after_the_last_bytes() {
    let endpoint = Endpoint::new("pod-0", async |mut stream| {
        stream.read_u8().await?;
        stream.write_all(&pattern(100_000)).await?;
        stream.read_u8().await?;
        reset(stream);
        Ok(())
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    stream.write_all(b"1").await.unwrap();
    let mut got = vec![0; 100_000];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert!(got == pattern(100_000));
    stream.write_all(b"2").await.unwrap();
    assert_reset(read_all(&mut stream).await.1);
    let counters = site.counters(front);
    assert_eq!(site.end(&counters).await, [("upstream-reset", 1)].into());
}

#[tokio::test]
async fn a_reset_does_not_overtake_what_a_slow_client_has_still_to_read() {
    const TOTAL: usize = 200_000;
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let endpoint = Endpoint::new("pod-0", move |mut stream| {
        let told = told.clone();
        async move {
            stream.write_all(&pattern(TOTAL)).await?;
            stream.read_u8().await?;
            reset(stream);
            told.send(()).await.map_err(std::io::Error::other)
        }
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let mut stream = socket.connect(front).await.unwrap();
    greeting(&mut stream).await.unwrap();
    until(|| counters.bytes(ByteDirection::Down) == TOTAL as u64 + 6).await;
    stream.write_all(b"1").await.unwrap();
    within(heard.recv()).await.unwrap();
    let mut got = vec![0; TOTAL];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert!(got == pattern(TOTAL));
    assert_reset(stream.read_u8().await);
    assert_eq!(site.end(&counters).await, [("upstream-reset", 1)].into());
}

#[tokio::test]
async fn a_reset_of_the_client_is_a_reset_for_the_endpoint_after_the_last_bytes() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let endpoint = Endpoint::new("pod-0", move |mut stream| {
        let told = told.clone();
        async move {
            let seen = read_all(&mut stream).await;
            told.send(seen).await.map_err(std::io::Error::other)
        }
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    stream.write_all(b"half a request").await.unwrap();
    until(|| counters.bytes(ByteDirection::Up) == 14).await;
    reset(stream);
    let (got, end) = within(heard.recv()).await.unwrap();
    assert_eq!(got, b"half a request");
    assert_reset(end);
    assert_eq!(site.end(&counters).await, [("client-reset", 1)].into());
}

#[tokio::test]
async fn a_client_that_resets_while_it_is_held_back_ends_its_connection() {
    let endpoint = Endpoint::new("pod-0", async |_stream| {
        std::future::pending::<()>().await;
        Ok(())
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    fill(&mut stream).await;
    reset(stream);
    until(|| counters.ended(Reason::ClientReset) == 1).await;
    site.end(&counters).await;
}

/// Writes until the other end has taken nothing for a while.
async fn fill(stream: &mut TcpStream) {
    let bytes = pattern(1 << 16);
    let quiet = Duration::from_millis(300);
    while tokio::time::timeout(quiet, stream.write(&bytes))
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn an_answer_is_whole_although_the_endpoint_closes_on_unread_bytes() {
    let endpoint = Endpoint::new("pod-0", async |mut stream| {
        stream.read_u8().await?;
        stream.write_all(&pattern(50_000)).await
        // Dropped with the rest of the upload unread: the kernel resets.
    })
    .await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    for _ in 0..50 {
        let mut stream = connect(front).await;
        greeting(&mut stream).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let upload = tokio::spawn(async move { write.write_all(&pattern(1 << 20)).await });
        let mut got = vec![0; 50_000];
        within(read.read_exact(&mut got)).await.unwrap();
        assert!(got == pattern(50_000));
        let _ = within(upload).await.unwrap();
    }
    site.end(&counters).await;
}

#[tokio::test]
async fn a_slow_reader_holds_its_sender_back_and_loses_nothing() {
    const TOTAL: usize = 64 << 20;
    let endpoint = Endpoint::new("pod-0", async |mut stream| {
        stream.write_all(&pattern(TOTAL)).await?;
        stream.shutdown().await
    })
    .await;
    let other = Endpoint::echo("pod-1").await;
    let (mut site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    let mut slow = connect(front).await;
    greeting(&mut slow).await.unwrap();
    let mut before = u64::MAX;
    within(async {
        while before != counters.bytes(ByteDirection::Down) {
            before = counters.bytes(ByteDirection::Down);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    assert!(
        before < TOTAL as u64,
        "the kernel's buffers are full, and we keep one of ours"
    );
    site.unlist("web", "pod-0");
    site.endpoint("web", &other);
    site.publish();
    let mut quick = connect(front).await;
    greeting(&mut quick).await.unwrap();
    exchange(&mut quick, b"others go on").await.unwrap();
    let (got, end) = read_all(&mut slow).await;
    assert!(got == pattern(TOTAL) && end.is_ok());
    drop((slow, quick));
    assert_eq!(site.end(&counters).await, [("ok", 2)].into());
}

#[tokio::test]
async fn silence_ends_a_connection_with_its_reason() {
    let endpoint = Endpoint::echo("pod-0").await;
    let deaf = Endpoint::new("pod-1", async |_stream| {
        std::future::pending::<()>().await;
        Ok(())
    })
    .await;
    let config = Config::default()
        .idle_timeout(Duration::from_millis(300))
        .half_close_timeout(Duration::from_millis(100));
    let (mut site, front) = Site::serving(config, &[&endpoint]).await;
    let counters = site.counters(front);
    let mut idle = connect(front).await;
    greeting(&mut idle).await.unwrap();
    assert_reset(read_all(&mut idle).await.1);
    until(|| counters.ended(Reason::Idle) == 1).await;
    site.unlist("web", "pod-0");
    site.endpoint("web", &deaf);
    site.publish();
    let mut half = connect(front).await;
    greeting(&mut half).await.unwrap();
    half.shutdown().await.unwrap();
    assert_reset(read_all(&mut half).await.1);
    until(|| counters.ended(Reason::HalfCloseTimeout) == 1).await;
    site.end(&counters).await;
}

#[tokio::test]
async fn a_port_probe_is_no_error() {
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let (mut site, front) =
        Site::serving(Config::default(), &[&Endpoint::echo("pod-0").await]).await;
    site.unlist("web", "pod-0");
    site.listed("web", "pod-1", silent.local_addr().unwrap(), true);
    site.publish();
    let counters = site.counters(front);
    for probe in [drop::<TcpStream>, reset] {
        probe(connect(front).await);
        let (mut stream, _) = within(silent.accept()).await.unwrap();
        let _ = within(stream.read_u8()).await;
    }
    until(|| counters.ended(Reason::Probe) == 2).await;
    assert_eq!(site.end(&counters).await, [("probe", 2)].into());
}

#[tokio::test]
async fn our_own_listener_is_never_dialled() {
    let mut site = Site::start(Config::default());
    let front = free_port();
    site.service("web", front.port());
    site.listed("web", "loop", SocketAddr::from((FRONT, front.port())), true);
    site.publish();
    assert_eq!(site.status.serving().await, Some(front));
    assert_reset(greeted(front).await);
    let counters = site.counters(front);
    assert_eq!(counters.connect_failures(ConnectFailure::OwnListener), 1);
    assert_eq!(site.end(&counters).await, [("own-listener", 1)].into());
}
