// SPDX-License-Identifier: MIT OR Apache-2.0
//! PROXY headers at both ends of a connection.

mod site;

use discovery_core::model::ProxyProtocol;
use lb_proxy::{Config, Network, Reason};
use site::{
    Endpoint, FRONT, Site, assert_reset, connect, free_port, greeted, greeting, read_all, until,
    within,
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An endpoint that sends back all that it is sent, header included, once the client has finished.
async fn mirror() -> Endpoint {
    Endpoint::new("pod-0", async |mut stream| {
        let (got, _) = read_all(&mut stream).await;
        stream.write_all(&got).await
    })
    .await
}

/// What the endpoint is sent when a client sends the bytes, piece by piece.
async fn sent_on(front: SocketAddr, pieces: &[&[u8]]) -> std::io::Result<(SocketAddr, Vec<u8>)> {
    let mut stream = TcpStream::connect(front).await?;
    stream.set_nodelay(true)?;
    let source = stream.local_addr()?;
    for piece in pieces {
        stream.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    stream.shutdown().await?;
    greeting(&mut stream).await?;
    let (got, end) = read_all(&mut stream).await;
    end.map(|()| (source, got))
}

/// A site whose port expects a header from the network.
async fn expecting(
    trusted: &str,
    endpoint: &Endpoint,
    out: Option<ProxyProtocol>,
) -> (Site, SocketAddr) {
    let front = free_port();
    let port = NonZeroU16::new(front.port()).unwrap();
    let trusted: Vec<Network> = vec![trusted.parse().unwrap()];
    let config = Config::default().expect_proxy_header(port, trusted);
    let mut site = Site::start(config);
    site.fronted("web", front.port(), |front| front.proxy_protocol = out);
    site.endpoint("web", endpoint);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    (site, front)
}

fn v2(extensions: &[u8]) -> Vec<u8> {
    let length = u8::try_from(12 + extensions.len()).unwrap();
    let pair = [192, 0, 2, 7, 198, 51, 100, 9, 4, 1, 1, 187];
    [SIGNATURE, &[0x21, 0x11, 0, length], &pair, extensions].concat()
}

#[tokio::test]
async fn x23_headers_go_out_by_the_book_and_come_in_from_friends_in_time_and_in_any_pieces() {
    endpoints_are_sent_the_golden_header_before_the_clients_bytes().await;
    the_address_in_a_header_chooses_the_endpoint_and_goes_on_split_at_every_byte().await;
    a_stranger_a_bad_header_and_a_late_one_are_reset_before_any_dial().await;
}

async fn endpoints_are_sent_the_golden_header_before_the_clients_bytes() {
    let endpoint = mirror().await;
    let (mut site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    site.fronted("web", front.port(), |front| {
        front.proxy_protocol = Some(ProxyProtocol::V1);
    });
    site.publish();
    let (source, got) = sent_on(front, &[b"hello"]).await.unwrap();
    let line = format!(
        "PROXY TCP4 {} {FRONT} {} {}\r\nhello",
        source.ip(),
        source.port(),
        front.port()
    );
    assert_eq!(String::from_utf8(got).unwrap(), line);
    site.fronted("web", front.port(), |front| {
        front.proxy_protocol = Some(ProxyProtocol::V2);
    });
    site.publish();
    let (source, got) = sent_on(front, &[b"hello"]).await.unwrap();
    let (IpAddr::V4(from), length) = (source.ip(), got.len() - 5) else {
        panic!("IPv4 was asked for")
    };
    let payload = u16::try_from(length - 16).unwrap().to_be_bytes();
    let head = [
        SIGNATURE,
        &[0x21, 0x11],
        &payload,
        &from.octets(),
        &FRONT.octets(),
        &source.port().to_be_bytes(),
        &front.port().to_be_bytes(),
        &[5, 0, 8],
    ]
    .concat();
    assert_eq!(&got[..head.len()], head);
    let rest = &got[head.len() + 8..];
    assert_eq!(rest[..9], *b"\xe0\x00\x06mall-1");
    assert_eq!((&rest[9..12], &rest[16..]), (&[3, 0, 4][..], &b"hello"[..]));
    let counters = site.counters(front);
    assert_eq!(site.end(&counters).await, [("ok", 2)].into());
}

async fn the_address_in_a_header_chooses_the_endpoint_and_goes_on_split_at_every_byte() {
    let endpoint = mirror().await;
    let (site, front) = expecting("127.0.0.0/8", &endpoint, Some(ProxyProtocol::V1)).await;
    let passed_on = format!(
        "PROXY TCP4 192.0.2.7 {FRONT} 1025 {}\r\nhello",
        front.port()
    );
    let lines = [
        b"PROXY TCP4 192.0.2.7 198.51.100.9 1025 443\r\n".to_vec(),
        v2(&[]),
        v2(&[0x30, 0, 1, 9]),
    ];
    for header in &lines {
        for split in 1..header.len() {
            let (first, second) = header.split_at(split);
            let second = [second, b"hello"].concat();
            let (_, got) = sent_on(front, &[first, &second]).await.unwrap();
            assert_eq!(
                String::from_utf8(got).unwrap(),
                passed_on,
                "split at {split}"
            );
        }
    }
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let (source, got) = sent_on(front, &[&local]).await.unwrap();
    let own = format!(
        "PROXY TCP4 {} {FRONT} {} {}\r\n",
        source.ip(),
        source.port(),
        front.port()
    );
    assert_eq!(String::from_utf8(got).unwrap(), own);
    let counters = site.counters(front);
    let ended = site.end(&counters).await;
    assert!(ended.keys().eq([&"ok"]));
}

async fn a_stranger_a_bad_header_and_a_late_one_are_reset_before_any_dial() {
    let (told, mut heard) = tokio::sync::mpsc::channel(9);
    let endpoint = Endpoint::new("pod-0", move |_| {
        let told = told.clone();
        async move { told.send(()).await.map_err(std::io::Error::other) }
    })
    .await;
    let (site, front) = expecting("127.0.0.0/8", &endpoint, None).await;
    let counters = site.counters(front);
    for bad in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXY TCP4 x\r\n",
        &v2(&[3, 0, 4, 1, 2, 3, 4]),
    ] {
        let mut stream = connect(front).await;
        stream.write_all(bad).await.unwrap();
        assert_reset(read_all(&mut stream).await.1);
    }
    let started = Instant::now();
    let mut late = connect(front).await;
    late.write_all(b"PROXY TCP4 ").await.unwrap();
    assert_reset(read_all(&mut late).await.1);
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(2_990) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    let mut left = connect(front).await;
    left.write_all(b"PROXY").await.unwrap();
    left.shutdown().await.unwrap();
    assert_reset(left.read_u8().await);
    until(|| counters.ended(Reason::ProxyHeader) == 5).await;
    assert_eq!(site.end(&counters).await, [("proxy-header", 5)].into());
    let (site, front) = expecting("10.0.0.0/8", &endpoint, None).await;
    let counters = site.counters(front);
    assert_reset(greeted(front).await);
    until(|| counters.ended(Reason::ProxyHeader) == 1).await;
    site.end(&counters).await;
    assert!(heard.try_recv().is_err(), "no endpoint was dialled");
}

#[tokio::test]
async fn the_cap_of_a_source_counts_the_address_in_the_header() {
    let endpoint = Endpoint::echo("pod-0").await;
    let front = free_port();
    let port = NonZeroU16::new(front.port()).unwrap();
    let config = Config::default()
        .expect_proxy_header(port, vec!["127.0.0.0/8".parse().unwrap()])
        .source_connections_max(1);
    let mut site = Site::start(config);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    let from = async |client: &str| {
        let mut stream = connect(front).await;
        let line = format!("PROXY TCP4 {client} 198.51.100.9 1025 443\r\n");
        stream.write_all(line.as_bytes()).await?;
        greeting(&mut stream).await.map(|_| stream)
    };
    let _one = from("192.0.2.1").await.unwrap();
    let _two = from("192.0.2.2").await.unwrap();
    assert_reset(from("192.0.2.1").await);
    let counters = site.counters(front);
    until(|| counters.ended(Reason::LimitSource) == 1).await;
    site.kill.cancel();
    site.end(&counters).await;
}
