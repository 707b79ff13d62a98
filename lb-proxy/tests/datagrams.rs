// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients and endpoints see of datagrams.

mod site;

use discovery_core::{
    model::{Protocol, ProxyProtocol},
    telemetry::{ByteDirection, DatagramDrop, SessionEnd, UdpListenerMetrics},
};
use lb_proxy::{Config, ListenerState};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use site::{Site, free_port, pattern, source, until, within};
use std::{
    fs,
    io::{ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};

/// Answers each datagram with its own name, the client's port as it sees it, and what it was sent.
struct Server {
    name: String,
    address: SocketAddr,
    heard: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Server {
    async fn new(name: &str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(name, socket)
    }

    fn on(name: &str, socket: UdpSocket) -> Self {
        let (address, heard) = (socket.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let (count, owned) = (heard.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // An ICMP error of an earlier reply.
                let Ok((read, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                count.fetch_add(1, Relaxed);
                let said = if buffer[..read].starts_with(b"who") {
                    format!("{owned}:{}", from.port()).into_bytes()
                } else {
                    buffer[..read].to_vec()
                };
                let _ = socket.send_to(&said, from).await;
            }
        });
        Self {
            name: name.into(),
            address,
            heard,
            task,
        }
    }

    fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    async fn die(&self) {
        self.task.abort();
        until(|| self.task.is_finished()).await;
    }
}

/// A UDP service over the servers; returns when it serves.
async fn serving(config: Config, servers: &[&Server]) -> (Site, SocketAddr, UdpListenerMetrics) {
    let mut site = Site::start(config);
    site.protocol = Protocol::Udp;
    let front = free_port();
    site.service("web", front.port());
    for server in servers {
        site.listed("web", &server.name, server.address, true);
    }
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    let port = NonZeroU16::new(front.port()).unwrap();
    let counters = site.metrics.udp_listener(&"web".parse().unwrap(), port);
    (site, front, counters)
}

async fn client(from: IpAddr, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn ask(client: &UdpSocket, question: &[u8]) -> Option<Vec<u8>> {
    client.send(question).await.ok()?;
    let mut answer = vec![0; 65_536];
    let read = timeout(Duration::from_secs(2), client.recv(&mut answer))
        .await
        .ok()?
        .ok()?;
    answer.truncate(read);
    Some(answer)
}

/// The server's name and the port from which it is asked: the session.
async fn session(client: &UdpSocket) -> String {
    String::from_utf8(ask(client, b"who").await.expect("an answer")).unwrap()
}

async fn name(client: &UdpSocket) -> String {
    session(client).await.split(':').next().unwrap().to_owned()
}

/// `proxy-protocol.txt`, 2.2: signature, version 2 and PROXY, `AF_INET` and DGRAM, length, addresses, ports.
#[tokio::test]
async fn a_port_is_proved_by_datagrams_that_no_endpoint_hears() {
    let server = Server::new("pod-0").await;
    let mut site = Site::start(Config::default().self_proof(true));
    site.protocol = Protocol::Udp;
    let front = free_port();
    site.service("web", front.port());
    site.listed("web", "pod-0", server.address, true);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    assert_eq!(site.status.listeners()[0].proof, lb_proxy::Proof::Passed);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(front).await.unwrap();
    // As one of a peer that came too late.
    client.send(b"zonal port proof").await.unwrap();
    client.send(b"hello").await.unwrap();
    let mut answer = [0; 32];
    let read = within(client.recv(&mut answer)).await.unwrap();
    assert_eq!(&answer[..read], b"hello");
    assert_eq!(server.heard.load(Relaxed), 1);
}

#[tokio::test]
async fn x23_each_datagram_has_the_header_of_version_2_before_it_where_the_service_asks_for_it() {
    let server = Server::new("pod-0").await;
    let mut site = Site::start(Config::default());
    site.protocol = Protocol::Udp;
    let front = free_port();
    site.fronted("web", front.port(), |front| {
        front.proxy_protocol = Some(ProxyProtocol::V2);
    });
    site.listed("web", &server.name, server.address, true);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    let client = client(source(9), front).await;
    let port = client.local_addr().unwrap().port();
    for said in [&b"one"[..], b"", &pattern(1_400)] {
        let heard = ask(&client, said).await.unwrap();
        let (header, datagram) = heard.split_at(heard.len() - said.len());
        assert_eq!(datagram, said, "what the client said follows it whole");
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12..14], [0x21, 0x12]);
        let length = u16::from_be_bytes([header[14], header[15]]);
        assert_eq!(
            usize::from(length) + 16,
            header.len(),
            "once, and nothing after it"
        );
        assert_eq!(header[16..24], [127, 0, 0, 9, 127, 77, 0, 1]);
        assert_eq!(
            header[24..28],
            [port.to_be_bytes(), front.port().to_be_bytes()].concat()
        );
    }
    site.kill.cancel();
    within(site.running).await.unwrap();
}

#[tokio::test]
async fn a_client_keeps_its_session_and_the_owner_of_its_address() {
    let mut servers = Vec::new();
    for number in 0..5 {
        servers.push(Server::new(&format!("pod-{number}")).await);
    }
    let (site, front, counters) = serving(Config::default(), &Vec::from_iter(&servers)).await;
    for last in 2..32 {
        let client = client(source(last), front).await;
        let first = session(&client).await;
        assert_eq!(
            first.split(':').next().unwrap(),
            site.order(source(last))[0]
        );
        assert_eq!(
            session(&client).await,
            first,
            "one socket for all of its datagrams"
        );
    }
    assert_eq!(counters.active(), 30);
    assert_eq!(counters.datagrams(ByteDirection::Up), 60);
    site.stop.cancel();
    within(site.running).await.unwrap();
    assert_eq!(
        (
            counters.active(),
            counters.sessions_ended(SessionEnd::Closed)
        ),
        (0, 30)
    );
}

#[tokio::test]
async fn x22_datagrams_of_every_length_pass_whole() {
    let server = Server::new("pod-0").await;
    let (_site, front, counters) = serving(Config::default(), &[&server]).await;
    let client = client(source(1), front).await;
    for length in [0, 1, 1_472, 9_000, 65_507] {
        assert_eq!(
            ask(&client, &pattern(length)).await,
            Some(pattern(length)),
            "{length}"
        );
    }
    // Datagrams of one length in a burst, which the kernel may join, stay apart.
    for number in 0..50_u8 {
        client.send(&[number; 1_200]).await.unwrap();
    }
    let mut got = std::collections::BTreeSet::new();
    let mut answer = vec![0; 65_536];
    for _ in 0..50 {
        let read = within(client.recv(&mut answer)).await.unwrap();
        assert_eq!(read, 1_200);
        assert!(answer[..read].iter().all(|byte| *byte == answer[0]));
        got.insert(answer[0]);
    }
    assert_eq!(got.len(), 50);
    let dropped = DatagramDrop::ALL.map(|why| counters.dropped(why));
    assert_eq!(dropped, [0; DatagramDrop::ALL.len()]);
    assert_eq!(counters.datagrams(ByteDirection::Down), 55);
}

/// Sends one-way about 10,000 datagrams a second until told to stop.
fn pour(client: UdpSocket) -> (Arc<AtomicBool>, JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let pouring = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        let mut sent = 0;
        while !told.load(Relaxed) {
            beat.tick().await;
            for _ in 0..10 {
                sent += u64::from(client.send(b"statistics").await.is_ok());
            }
        }
        sent
    });
    (stop, pouring)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x19_a_one_way_sender_finds_the_new_endpoint_at_once_and_an_added_one_moves_nobody() {
    let (old, new) = (Server::new("pod-0").await, Server::new("pod-1").await);
    let (mut site, front, counters) = serving(Config::default(), &[&old]).await;
    let (stop, pouring) = pour(client(source(1), front).await);
    until(|| old.heard() > 1_000).await;
    site.unlist("web", "pod-0");
    site.listed("web", "pod-1", new.address, true);
    site.publish();
    let replaced = Instant::now();
    until(|| new.heard() > 0).await;
    let after = replaced.elapsed();
    assert!(after <= Duration::from_millis(100), "{after:?}");
    let last = old.heard();
    until(|| new.heard() > 1_000).await;
    assert!(old.heard() - last < 100, "what was under way, and no more");
    assert_eq!(counters.sessions_ended(SessionEnd::EndpointGone), 1);
    // One that the client's address belongs to from now on.
    let mut added = Vec::new();
    while site.order(source(1))[0] == "pod-1" {
        let server = Server::new(&format!("pod-added-{}", added.len())).await;
        site.listed("web", &server.name, server.address, true);
        site.publish();
        added.push(server);
    }
    let before = new.heard();
    until(|| new.heard() > before + 2_000).await;
    stop.store(true, Relaxed);
    let sent = pouring.await.unwrap();
    println!("{sent} sent, moved after {after:?}");
    assert!(added.iter().all(|server| server.heard() == 0));
    assert_eq!(counters.active(), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_left_after_two_refusals() {
    let (gone, other) = (Server::new("pod-0").await, Server::new("pod-1").await);
    let (site, front, counters) = serving(Config::default(), &[&gone, &other]).await;
    let last = (2..250)
        .find(|last| site.order(source(*last))[0] == "pod-0")
        .unwrap();
    let client = client(source(last), front).await;
    assert_eq!(name(&client).await, "pod-0");
    gone.die().await;
    within(async { while ask_soon(&client).await.as_deref() != Some("pod-1") {} }).await;
    assert_eq!(counters.sessions_ended(SessionEnd::EndpointFailed), 1);
    assert!(counters.datagrams(ByteDirection::Up) < 8);
}

/// The server's name, when one answers within 200 ms.
async fn ask_soon(client: &UdpSocket) -> Option<String> {
    client.send(b"who").await.ok()?;
    let mut answer = [0; 64];
    let read = timeout(Duration::from_millis(200), client.recv(&mut answer))
        .await
        .ok()?
        .ok()?;
    let said = String::from_utf8_lossy(&answer[..read]).into_owned();
    Some(said.split(':').next()?.to_owned())
}

#[tokio::test]
async fn without_an_endpoint_the_kernel_refuses_after_the_hold_time() {
    let server = Server::new("pod-0").await;
    let config = Config::default().hold(Duration::from_millis(50));
    let (mut site, front, counters) = serving(config, &[&server]).await;
    let client = client(source(1), front).await;
    assert_eq!(name(&client).await, "pod-0");
    site.unlist("web", "pod-0");
    site.publish();
    site.state(&ListenerState::NoEndpoint).await;
    client.send(b"who").await.unwrap();
    let refused = within(client.recv(&mut [0; 64])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(counters.active(), 0);
    site.listed("web", "pod-0", server.address, true);
    site.publish();
    site.state(&ListenerState::Serving).await;
    assert_eq!(name(&client).await, "pod-0");
}

#[tokio::test]
async fn silence_ends_a_session_and_so_do_its_replies_where_the_service_says() {
    let server = Server::new("pod-0").await;
    let config =
        Config::default().udp_idle_timeouts(Duration::from_millis(1), Duration::from_millis(500));
    let (mut site, front, counters) = serving(config, &[&server]).await;
    let client = client(source(1), front).await;
    let first = session(&client).await;
    until(|| counters.sessions_ended(SessionEnd::Idle) == 1).await;
    assert_ne!(
        session(&client).await,
        first,
        "a socket of its own each time"
    );
    site.fronted("web", front.port(), |front| front.udp_replies = Some(1));
    site.publish();
    until(|| counters.active() == 0).await;
    session(&client).await;
    until(|| counters.sessions_ended(SessionEnd::Answered) == 1).await;
    assert_eq!(counters.active(), 0);
}

#[tokio::test]
async fn sessions_have_a_cap_by_source_and_in_all() {
    let server = Server::new("pod-0").await;
    let config = Config::default()
        .udp_sessions_max(4)
        .udp_source_sessions_max(2);
    let (_site, front, counters) = serving(config, &[&server]).await;
    let mut answered = Vec::new();
    for last in [2, 2, 3, 3] {
        let client = client(source(last), front).await;
        session(&client).await;
        answered.push(client);
    }
    let third = client(source(2), front).await;
    third.send(b"who").await.unwrap();
    until(|| counters.dropped(DatagramDrop::LimitSource) == 1).await;
    let fifth = client(source(4), front).await;
    fifth.send(b"who").await.unwrap();
    until(|| counters.dropped(DatagramDrop::LimitGlobal) == 1).await;
    for client in &answered {
        session(client).await;
    }
    assert_eq!(
        (
            counters.active(),
            counters.sessions_ended(SessionEnd::Evicted)
        ),
        (4, 0)
    );
}

/// Where a child listens, and what it carries to.
const CHILD: &str = "ZONAL_TEST_DATAGRAMS_CHILD";

/// A process of its own that runs the proxy until its input ends.
struct Proxied(Child);

impl Proxied {
    fn spawn(wrapper: &[&str], test: &str, arguments: &str) -> Self {
        let exe = std::env::current_exe().unwrap();
        let mut words = wrapper.iter().copied().chain([exe.to_str().unwrap()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .args(["--ignored", "--exact", test, "--nocapture"])
            .env(CHILD, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x21_a_million_forged_sources_push_out_nobody_who_was_answered() {
    const CAP: usize = 4_096;
    let server = Server::new("pod-0").await;
    let front = free_port();
    let child = Proxied::spawn(
        &[],
        "the_child_that_is_flooded",
        &format!("{} {} {CAP}", front.port(), server.address),
    );
    let probe = client(source(2), front).await;
    within(async { while ask_soon(&probe).await.is_none() {} }).await;
    let mut clients = Vec::new();
    for last in 3..103 {
        let client = client(source(last), front).await;
        clients.push((session(&client).await, client));
    }
    let flood = tokio::task::spawn_blocking(move || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        for number in 0..1_000_000_u32 {
            let from = Ipv4Addr::from(0x7f80_0000 + number);
            let transmit = Transmit {
                destination: front,
                ecn: None,
                contents: b"forged",
                segment_size: None,
                src_ip: Some(from.into()),
            };
            let _ = state.try_send(UdpSockRef::from(&socket), &transmit);
        }
    });
    let (mut resident, mut descriptors) = (0, 0);
    while !flood.is_finished() {
        resident = resident.max(child.resident_kib());
        descriptors = descriptors.max(child.descriptors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    flood.await.unwrap();
    for (before, client) in &clients {
        // What the flood left in the socket's buffer may cost a datagram or two.
        let mut after = None;
        within(async {
            while after.is_none() {
                after = ask(client, b"who").await;
            }
        })
        .await;
        assert_eq!(String::from_utf8(after.unwrap()).unwrap(), *before);
    }
    println!("{resident} KiB resident, {descriptors} descriptors");
    // A session that was pushed out closes its socket when its task ends, which is a moment later on a busy machine.
    assert!(descriptors <= CAP + CAP / 16, "{descriptors}");
    assert!(
        descriptors > CAP / 2,
        "{descriptors}: the flood did not arrive"
    );
    assert!(resident < 64 * 1_024, "{resident} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn the_child_that_is_flooded() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let arguments: Vec<_> = arguments.split(' ').collect();
    let config = Config::default().udp_sessions_max(arguments[2].parse().unwrap());
    let mut site = Site::start(config);
    site.protocol = Protocol::Udp;
    site.service("web", arguments[0].parse().unwrap());
    site.listed("web", "pod-0", arguments[1].parse().unwrap(), true);
    site.publish();
    assert!(within(site.status.serving()).await.is_some());
    input_ends().await;
}

async fn input_ends() {
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.unwrap().unwrap();
}

#[test]
fn x20_replies_come_from_the_address_that_was_asked() {
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(
            "x20_replies_come_from_the_address_that_was_asked",
            "needs root for a network namespace",
        );
    }
    let addresses = "ip link set lo up; for a in 10.9.0.1 10.9.1.1 10.9.2.1; do ip addr add $a/32 dev lo; done; \
        for a in fd09::1 fd09:1::1 fd09:2::1; do ip addr add $a/128 dev lo nodad; done; exec \"$0\" \"$@\"";
    let mut child = Proxied::spawn(
        &["unshare", "--net", "sh", "-c", addresses],
        "the_child_with_three_addresses",
        "",
    );
    assert!(child.0.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "another test starts it"]
async fn the_child_with_three_addresses() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let server = Server::new("pod-0").await;
    let mut site = Site::start_on(Config::default());
    site.protocol = Protocol::Udp;
    site.service("web", 30_053);
    site.listed("web", "pod-0", server.address, true);
    site.publish();
    within(site.status.serving()).await.unwrap();
    let (v4, v6) = ("0.0.0.0:0", "[::]:0");
    for (from, asked) in [
        (v4, "10.9.0.1"),
        (v4, "10.9.1.1"),
        (v4, "10.9.2.1"),
        (v6, "fd09::1"),
        (v6, "fd09:1::1"),
        (v6, "fd09:2::1"),
    ] {
        let client = UdpSocket::bind(from).await.unwrap();
        let asked = SocketAddr::new(asked.parse().unwrap(), 30_053);
        client.send_to(b"hello", asked).await.unwrap();
        let mut answer = [0; 16];
        let (read, by) = within(client.recv_from(&mut answer)).await.unwrap();
        assert_eq!((&answer[..read], by), (&b"hello"[..], asked));
    }
}
