// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoints that accept connections and leave clients without an answer.

mod site;

use discovery_core::telemetry::EjectionCause;
use lb_proxy::Config;
use site::{Site, connect_from, free_port, source, until, within};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const ANSWER: Duration = Duration::from_millis(250);

/// Of the worst part, some times as long as an answer may take.
const ROUNDS: usize = 40;

/// More than an endpoint that answers takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(3);

/// An endpoint that says its name to whoever has spoken, while it answers.
struct Asked {
    name: String,
    address: SocketAddr,
    answers: watch::Sender<bool>,
}

impl Asked {
    async fn new(name: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, told) = watch::channel(true);
        let said = format!("{name}\n");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, told.clone(), said.clone()));
            }
        });
        Self {
            name: name.to_owned(),
            address,
            answers,
        }
    }
}

async fn answer(mut stream: TcpStream, mut may: watch::Receiver<bool>, said: String) {
    while stream.read_u8().await.is_ok() {
        if may.wait_for(|may| *may).await.is_err() {
            return;
        }
        // A client that has given up ends its own connection only.
        let _ = stream.write_all(said.as_bytes()).await;
    }
}

/// Endpoints in front of which a proxy stands that judges silence.
async fn asked(count: usize) -> (Site, SocketAddr, Vec<Asked>) {
    let config = Config::default()
        .source_rate(1_000_000, 1_000_000)
        .answer_timeout(Some(ANSWER));
    let (mut site, front) = (Site::start(config), free_port());
    site.service("web", front.port());
    let mut endpoints = Vec::new();
    for number in 0..count {
        let endpoint = Asked::new(&format!("pod-{number}")).await;
        site.listed("web", &endpoint.name, endpoint.address, true);
        endpoints.push(endpoint);
    }
    site.publish();
    assert_eq!(site.status.serving().await, Some(front));
    (site, front, endpoints)
}

/// A client of that address has spoken.
async fn spoken(last: u8, front: SocketAddr) -> TcpStream {
    let mut stream = connect_from(source(last), front).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    stream
}

async fn heard(stream: &mut TcpStream, patience: Duration) -> io::Result<String> {
    timeout(patience, site::greeting(stream)).await?
}

/// The clients of those addresses whose endpoint is that.
fn clients_of(site: &Site, name: &str) -> Vec<u8> {
    let is_of = |last: &u8| site.order(source(*last))[0] == name;
    (2..250).filter(is_of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_an_endpoint_that_accepts_and_hangs_is_ejected_and_never_more_than_half() {
    let (site, front, endpoints) = asked(4).await;
    let counters = site.counters(front);
    let of: Vec<_> = endpoints
        .iter()
        .map(|endpoint| clients_of(&site, &endpoint.name))
        .collect();
    let ejections = || counters.ejections(EjectionCause::Silence);
    endpoints[0].answers.send_replace(false);
    // One of its clients waits on; the others come and go, and so do those of the endpoints that answer.
    let mut waiting = spoken(of[0][0], front).await;
    let (began, mut hung) = (Instant::now(), 0);
    while ejections() == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is ejected");
        let mut lost = spoken(of[0][1], front).await;
        hung += u32::from(heard(&mut lost, ANSWER * 2).await.is_err());
        heard(&mut spoken(of[1][0], front).await, PATIENCE)
            .await
            .unwrap();
    }
    println!(
        "ejected after {:?}, {hung} clients given up",
        began.elapsed()
    );
    assert!(counters.unanswered() >= 3, "each is counted");
    for last in &of[0] {
        let name = heard(&mut spoken(*last, front).await, PATIENCE)
            .await
            .unwrap();
        assert_eq!(
            name,
            site.order(source(*last))[1],
            "the next in order serves"
        );
    }
    // Three of four hang: one more is ejected, and the third is not.
    for endpoint in &endpoints[1..3] {
        endpoint.answers.send_replace(false);
    }
    let (mut held, before) = (Vec::new(), counters.unanswered());
    for round in 0..ROUNDS {
        for clients in &of[1..3] {
            held.push(spoken(clients[round % clients.len()], front).await);
        }
        heard(&mut spoken(of[3][0], front).await, PATIENCE)
            .await
            .unwrap();
        tokio::time::sleep(ANSWER / 8).await;
    }
    println!(
        "{} more left without an answer",
        counters.unanswered() - before
    );
    assert!(
        counters.unanswered() >= before + 12,
        "enough to eject them all"
    );
    assert_eq!(ejections(), 2, "at most half of four");
    // The one that waited is answered at last, and with that the endpoint is back for everybody.
    endpoints[0].answers.send_replace(true);
    assert_eq!(heard(&mut waiting, PATIENCE).await.unwrap(), "pod-0");
    let name = heard(&mut spoken(of[0][2], front).await, PATIENCE)
        .await
        .unwrap();
    assert_eq!(name, "pod-0");
    drop((waiting, held));
    site.kill.cancel();
    within(site.running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_a_service_that_never_answers_loses_no_endpoint() {
    let (site, front, endpoints) = asked(3).await;
    let counters = site.counters(front);
    for endpoint in &endpoints {
        endpoint.answers.send_replace(false);
    }
    let mut held = Vec::new();
    for last in 2..42 {
        held.push(spoken(last, front).await);
    }
    until(|| counters.unanswered() == 40).await;
    assert_eq!(counters.ejections(EjectionCause::Silence), 0);
    for endpoint in &endpoints {
        endpoint.answers.send_replace(true);
    }
    for (stream, last) in held.iter_mut().zip(2..) {
        let name = heard(stream, PATIENCE).await.unwrap();
        assert_eq!(
            name,
            site.order(source(last))[0],
            "silence ends no connection"
        );
    }
    drop(held);
    site.end(&counters).await;
}
