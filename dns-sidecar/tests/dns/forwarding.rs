// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of others, by way of an upstream server that does what a test says; and that the loss of sources takes nothing away.

use crate::{
    mall::Mall,
    packet::{A, decode, query, query_edns, with_additional, words},
};
use discovery_core::{
    clock::SystemClock,
    source::SourceStatus,
    store::{Kind, SourceId},
    telemetry::{DnsMetrics, DnsRcode, DnsTransport, DnsUpstream},
};
use dns_sidecar::{Config, DnsServer, DnsStatus, UpstreamState};
use hickory_proto::op::{Message, ResponseCode};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<DnsMetrics>,
    status: DnsStatus,
    _mall: Mall,
    _stop: DropGuard,
}

pub(crate) fn start(mall: Mall, config: Config, sources: Vec<Arc<SourceStatus>>) -> Site {
    let metrics = Arc::new(DnsMetrics::default());
    let config = match config.listen_addresses()[0].port() {
        8600 => config.listen(vec!["127.0.0.1:0".parse().unwrap()]).unwrap(),
        _ => config,
    };
    let server = DnsServer::bind(config, mall.reader.clone(), metrics.clone())
        .unwrap()
        .sources(sources);
    let (address, status) = (server.local_addrs()[0], server.status());
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    Site {
        address,
        metrics,
        status,
        _mall: mall,
        _stop: stop.drop_guard(),
    }
}

pub(crate) fn forwarding(servers: &[SocketAddr]) -> Site {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    start(
        Mall::open(),
        Config::default().recursors(&servers).unwrap(),
        Vec::new(),
    )
}

const PATIENCE: Duration = Duration::from_secs(10);

async fn ask(site: &Site, request: &[u8]) -> Message {
    ask_at(site.address, request).await
}

async fn ask_at(address: SocketAddr, request: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    socket.send(request).await.unwrap();
    let mut reply = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut reply))
        .await
        .unwrap()
        .unwrap();
    decode(&reply[..length])
}

/// A server that answers each question as `answer` does, with nothing, one or several datagrams.
pub(crate) async fn upstream(
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    upstream_on(UdpSocket::bind("127.0.0.1:0").await.unwrap(), answer)
}

fn upstream_on(
    socket: UdpSocket,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
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

/// A question that a server got, and from where.
type Asked = Arc<Mutex<Vec<(Vec<u8>, SocketAddr)>>>;

/// The same, and what it was asked.
async fn recording(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Asked::default();
    let record = asked.clone();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut request).await {
            record
                .lock()
                .unwrap()
                .push((request[..length].to_vec(), client));
            for reply in answer(&request[..length]) {
                socket.send_to(&reply, client).await.unwrap();
            }
        }
    });
    (address, asked)
}

/// What it was asked, but for the question with which we look whether it sends our questions back.
fn questions(asked: &Asked) -> Vec<(Vec<u8>, SocketAddr)> {
    let asked = asked.lock().unwrap();
    let is_probe = |request: &[u8]| request.windows(10).any(|bytes| bytes == b"loop-probe");
    let questions = asked.iter().filter(|(request, _)| !is_probe(request));
    questions.cloned().collect()
}

/// A reply with one address.
pub(crate) fn good(request: &[u8], last: u8) -> Vec<u8> {
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
async fn r20_forged_replies_are_passed_over_and_the_right_one_is_taken() {
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
    assert_eq!(site.metrics.upstream_count(DnsUpstream::Unwanted), 5);
}

#[tokio::test]
async fn r20_a_reply_from_another_address_is_not_heard() {
    let right = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let address = right.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((_, client)) = right.recv_from(&mut request).await {
            // A closed port of a client that has its answer is no matter here.
            let _ = other.send_to(&good(&request, 66), client).await;
            let _ = right.send_to(&good(&request, 1), client).await;
        }
    });
    let message = ask(&forwarding(&[address]), &query("apple.example.test", A)).await;
    let expected = ["apple.example.test. 60 IN A 198.51.100.1"];
    assert_eq!(words(&message.answers), expected);
}

/// Wald and Wolfowitz: how far the number of runs above and below the median is from that of a random order, in standard
/// deviations.
fn runs(values: &[u16]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let median = sorted[values.len() / 2];
    let sides: Vec<bool> = values.iter().map(|value| *value >= median).collect();
    let runs = 1 + sides.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let count = |side| sides.iter().filter(|is_above| **is_above == side).count();
    let [above, below, runs] =
        [count(true), count(false), runs].map(|count| f64::from(u32::try_from(count).unwrap()));
    let both = above + below;
    let mean = 2.0 * above * below / both + 1.0;
    let variance = (mean - 1.0) * (mean - 2.0) / (both - 1.0);
    (runs - mean) / variance.sqrt()
}

#[tokio::test]
async fn r20_ports_and_ids_of_questions_have_no_order_that_a_forger_could_use() {
    let (server, asked) = recording(|request| vec![good(request, 1)]).await;
    let site = forwarding(&[server]);
    for _ in 0..400 {
        ask(&site, &query("apple.example.test", A)).await;
    }
    let asked = questions(&asked);
    let ids: Vec<u16> = asked
        .iter()
        .map(|(request, _)| u16::from_be_bytes([request[0], request[1]]))
        .collect();
    let ports: Vec<u16> = asked.iter().map(|(_, client)| client.port()).collect();
    assert_eq!(ids.len(), 400);
    for values in [ids, ports] {
        // Passed but once in three million by chance.
        assert!(runs(&values).abs() < 5.0, "{}: {values:?}", runs(&values));
        let distinct: std::collections::HashSet<_> = values.iter().collect();
        assert!(distinct.len() > 380, "{values:?}");
    }
}

#[tokio::test]
async fn r21_a_dead_server_costs_a_second_once_and_none_that_replies_costs_four() {
    let (dead, asked) = recording(|_| Vec::new()).await;
    let right = upstream(|request| vec![good(request, 1)]).await;
    let site = forwarding(&[dead, right]);
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let message = ask(&site, &query("apple.example.test", A)).await;
        assert_eq!(message.answers.len(), 1);
        took.push(began.elapsed());
    }
    println!("{took:?}");
    let states = site.status.upstreams();
    assert_eq!(states[0].state, UpstreamState::Down);
    assert_eq!(states[1].state, UpstreamState::Up);
    // The first waits for the dead one; of the others none does, whatever the machine does meanwhile.
    assert!(took[0] >= Duration::from_millis(700));
    let median = {
        took.sort_unstable();
        took[10]
    };
    assert!(median < Duration::from_millis(100), "{median:?}");
    // One question, and probes that nobody waits for.
    assert!(questions(&asked).len() <= 3, "{}", questions(&asked).len());

    let site = forwarding(&[dead, dead_too().await]);
    let began = Instant::now();
    let (of_others, ours) = (
        query("apple.example.test", A),
        query("web.service.consul", A),
    );
    let (failed, local) = tokio::join!(ask(&site, &of_others), ask(&site, &ours));
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(local.answers.len(), 3);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

/// A server whose port is closed.
pub(crate) async fn dead_too() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn a_server_that_was_out_is_asked_again_once_it_replies() {
    let is_awake = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let awake = is_awake.clone();
    let (first, asked) = recording(move |request| {
        let is_awake = awake.load(std::sync::atomic::Ordering::Relaxed);
        if is_awake {
            vec![good(request, 1)]
        } else {
            Vec::new()
        }
    })
    .await;
    let second = upstream(|request| vec![good(request, 2)]).await;
    let site = forwarding(&[first, second]);
    let answer = async || {
        let message = ask(&site, &query("apple.example.test", A)).await;
        words(&message.answers)[0].clone()
    };
    assert!(answer().await.ends_with(".2"));
    is_awake.store(true, std::sync::atomic::Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !answer().await.ends_with(".1") {
        assert!(Instant::now() < deadline, "it is back within seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.status.upstreams()[0].state, UpstreamState::Up);
    assert!(
        questions(&asked).len() < 20,
        "nobody waited for it meanwhile"
    );
}

#[tokio::test]
async fn the_same_question_of_many_clients_is_asked_once_and_each_sees_its_own_spelling() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let site = forwarding(&[server.local_addr().unwrap()]);
    let spellings = ["apple.example.test", "aPPle.exAMple.teST"];
    let clients: Vec<_> = (0..20_u8)
        .map(|client| {
            let mut request = query(spellings[usize::from(client % 2)], A);
            request[1] = client;
            let address = site.address;
            tokio::spawn(async move { ask_at(address, &request).await })
        })
        .collect();
    let mut asked = 0;
    let mut request = [0; 1500];
    while !clients.iter().all(JoinHandle::is_finished) {
        let received = timeout(Duration::from_millis(20), server.recv_from(&mut request)).await;
        let Ok(Ok((_, client))) = received else {
            continue;
        };
        if request[12] == 32 {
            continue; // whether it comes back
        }
        asked += 1;
        while site.metrics.upstream_count(DnsUpstream::Joined) < 19 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut reply = good(&request, 1);
        reply[12..30].copy_from_slice(&request[12..30]);
        server.send_to(&reply, client).await.unwrap();
    }
    for (client, told) in clients.into_iter().enumerate() {
        let message = told.await.unwrap();
        assert_eq!(usize::from(message.metadata.id & 0xff), client);
        let spelled = spellings[client % 2];
        assert_eq!(
            words(&message.answers),
            [format!("{spelled}. 60 IN A 198.51.100.1")]
        );
    }
    assert!(
        asked <= 2,
        "{asked}: once, and again where the machine was slow"
    );
}

#[tokio::test]
async fn a_cut_reply_is_relayed_as_it_is_and_over_tcp_the_whole_is_asked_for() {
    // TCP first: its ports are taken by connections, those of UDP hardly ever.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap())
        .await
        .unwrap();
    let server = upstream_on(socket, |request| {
        let mut cut = good(request, 1);
        cut[2] |= 2;
        vec![cut]
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut request).await.unwrap();
            let reply = good(&request, 2);
            stream
                .write_u16(u16::try_from(reply.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    let site = forwarding(&[server]);
    let request = query("apple.example.test", A);
    assert!(ask(&site, &request).await.metadata.truncation);
    let over = |transport| {
        dns_sidecar::client::ask(site.address, "apple.example.test", "A", transport, PATIENCE)
    };
    let whole = over(DnsTransport::Tcp).await.unwrap();
    assert_eq!(
        (whole.is_truncated, &*whole.answers[0].data),
        (false, "198.51.100.2")
    );
}

#[tokio::test]
async fn replies_are_kept_where_memory_is_given_for_it() {
    let (server, asked) = recording(|request| vec![good(request, 1)]).await;
    let config = Config::default().recursors(&[server.to_string()]).unwrap();
    let site = start(
        Mall::open(),
        config.forward_cache_bytes(1 << 20),
        Vec::new(),
    );
    for _ in 0..10 {
        let message = ask(&site, &query("apple.example.test", A)).await;
        let expected = words(&message.answers)[0].clone();
        assert!(expected.ends_with("IN A 198.51.100.1"), "{expected}");
        assert!(message.answers[0].ttl <= 60);
    }
    assert_eq!(questions(&asked).len(), 1);
    assert_eq!(site.metrics.upstream_count(DnsUpstream::Kept), 9);
}

#[tokio::test]
async fn a_reply_that_was_cut_is_kept_whole_for_the_client_that_comes_back_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap())
        .await
        .unwrap();
    let server = upstream_on(socket, |request| {
        let mut cut = good(request, 1);
        cut[2] |= 2;
        vec![cut]
    });
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut request).await.unwrap();
            *counted.lock().unwrap() += 1;
            let reply = good(&request, 2);
            let length = u16::try_from(reply.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    let config = Config::default().recursors(&[server.to_string()]).unwrap();
    let site = start(
        Mall::open(),
        config.forward_cache_bytes(1 << 20),
        Vec::new(),
    );
    let request = query("apple.example.test", A);
    assert!(ask(&site, &request).await.metadata.truncation);
    let answered = || site.metrics.upstream_count(DnsUpstream::Answered);
    testbed::wait_for("the whole is there", PATIENCE, async || {
        (answered() == 2).then_some(())
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
        let length = u16::try_from(request.len()).unwrap();
        stream.write_u16(length).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut reply).await.unwrap();
        let whole = decode(&reply);
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 1));
    }
    assert_eq!(*asked.lock().unwrap(), 1, "no client waited for it");
}

#[tokio::test]
async fn what_a_client_says_to_us_alone_goes_to_no_other_server() {
    let (server, asked) = recording(|request| vec![good(request, 1)]).await;
    let site = forwarding(&[server]);
    let opt = [
        0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    let request = with_additional(query("apple.example.test", A), &opt);
    ask(&site, &request).await;
    let (passed_on, _) = questions(&asked)[0].clone();
    let without = query_edns("apple.example.test", A, 1232);
    assert_eq!(passed_on[2..], without[2..]);
}

#[tokio::test]
async fn r23_servers_that_forward_to_each_other_find_it_within_a_second_and_stay_up() {
    let [one, other] = testbed::free_ports().unwrap();
    let [one, other] = [one, other].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let forwarding = |own: SocketAddr, to: SocketAddr| {
        let config = Config::default().listen(vec![own]).unwrap();
        let config = config.recursors(&[to.to_string()]).unwrap();
        start(Mall::open(), config, Vec::new())
    };
    let sites = [forwarding(one, other), forwarding(other, one)];
    let began = Instant::now();
    let looped = || {
        let of = |site: &Site| site.status.upstreams()[0];
        sites
            .iter()
            .map(of)
            .find(|status| status.state == UpstreamState::Loop)
    };
    let found = loop {
        if let Some(found) = looped() {
            break found;
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    println!("found after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(
        found.help.unwrap().contains("`recursors`"),
        "the fix is named"
    );
    // Nobody waits for what can only come back, and our names are untouched.
    for site in &sites {
        let failed = ask(site, &query("apple.example.test", A)).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        let own = ask(site, &query("web.service.consul", A)).await;
        assert_eq!(own.answers.len(), 3);
    }
}

#[tokio::test]
async fn r23_who_forwards_to_itself_is_told_at_once() {
    let [port] = testbed::free_ports().unwrap();
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    let config = Config::default().listen(vec![own]).unwrap();
    let config = config.recursors(&[own.to_string()]).unwrap();
    let site = start(Mall::open(), config, Vec::new());
    assert_eq!(site.status.upstreams()[0].state, UpstreamState::Loop);
    let failed = ask(&site, &query("apple.example.test", A)).await;
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
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
    let (server, asked) = recording(|_| Vec::new()).await;
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
    assert!(questions(&asked).is_empty());
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
        let status = server.status();
        tokio::spawn(server.run(stop.clone()));
        Site {
            address,
            metrics,
            status,
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
