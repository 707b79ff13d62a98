// SPDX-License-Identifier: MIT OR Apache-2.0
//! What connections cost a proxy in a process of its own: while they idle, while their readers are slow, and without pipes.

mod site;

use lb_proxy::Config;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use site::{
    Endpoint, Site, carried, connect, exchange, free_port, greeting, in_one_of, pattern, until,
    within,
};
use socket2::SockRef;
use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

/// Where a child listens and what it carries to.
const CHILD: &str = "ZONAL_TEST_MEMORY_CHILD";

/// One at a time: the descriptors of this process are enough for one of these tests.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A process of its own that runs the proxy over two services until its input ends.
struct Proxied(Child);

impl Proxied {
    async fn spawn(services: &[(SocketAddr, SocketAddr)]) -> Self {
        let words = services
            .iter()
            .map(|(front, endpoint)| format!("{} {endpoint}", front.port()));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "the_child_that_carries"])
            .env(CHILD, words.collect::<Vec<_>>().join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for (front, _) in services {
            until(|| std::net::TcpStream::connect(front).is_ok()).await;
        }
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
#[ignore = "other tests start it"]
async fn the_child_that_carries() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let arguments: Vec<_> = arguments.split(' ').collect();
    let config = Config::default()
        .connections_max(9_950)
        .source_connections_max(10_000)
        .source_rate(1_000_000, 1_000_000);
    let mut site = Site::start(config);
    for (number, service) in arguments.chunks(2).enumerate() {
        let name = format!("service-{number}");
        site.service(&name, service[0].parse().unwrap());
        site.listed(&name, "pod-0", service[1].parse().unwrap(), true);
    }
    site.publish();
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.unwrap().unwrap();
    site.kill.cancel();
    site.stop.cancel();
    site.running.await.unwrap();
}

/// Opens so many connections, a hundred at a time, each with one exchange.
async fn open(front: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        let mut some = JoinSet::new();
        for _ in 0..100.min(count - opened.len()) {
            some.spawn(async move {
                let mut stream = carried(front).await;
                stream.write_all(b"1").await.unwrap();
                within(stream.read_u8()).await.unwrap();
                stream
            });
        }
        opened.extend(some.join_all().await);
    }
    opened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x7_an_idle_connection_takes_2_kb_and_what_closed_takes_nothing() {
    const COUNT: usize = 9_800;
    let _alone = ALONE.lock().await;
    let endpoint = Endpoint::new("pod-0", async |mut stream| {
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.read_u8().await.map(drop)
    })
    .await;
    let front = free_port();
    let child = Proxied::spawn(&[(front, endpoint.address)]).await;
    drop(open(front, 100).await);
    let idle = child.descriptors();
    until(|| child.descriptors() <= idle.min(60)).await;
    let before = child.resident_kib();
    let opened = open(front, COUNT).await;
    let grown = child.resident_kib() - before;
    println!(
        "{grown} KiB for {COUNT} connections: {} bytes each",
        grown * 1_024 / COUNT as u64
    );
    assert!(grown * 1_024 <= 2_048 * COUNT as u64, "{grown} KiB");
    drop(opened);
    until(|| child.descriptors() < 60).await;
    drop(open(front, 500).await);
    until(|| child.descriptors() < 60).await;
    let first = child.resident_kib();
    for _ in 0..10 {
        drop(open(front, 500).await);
        until(|| child.descriptors() < 60).await;
    }
    let last = child.resident_kib();
    println!("{first} KiB after the first round, {last} KiB after ten more");
    assert!(last <= first + 1_024);
}

/// The 99th percentiles of 500 exchanges on each, turn by turn, so that a busy machine delays both alike.
async fn p99s(streams: [&mut TcpStream; 2]) -> [Duration; 2] {
    let mut took = [Vec::new(), Vec::new()];
    let [one, other] = streams;
    for _ in 0..500 {
        for (stream, took) in [&mut *one, &mut *other].into_iter().zip(&mut took) {
            let started = Instant::now();
            exchange(stream, b"are you there?").await.unwrap();
            took.push(started.elapsed());
        }
    }
    took.map(|mut took| {
        took.sort_unstable();
        took[495]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_f50_a_thousand_slow_readers_own_little_and_delay_nobody() {
    const COUNT: usize = 1_000;
    let _alone = ALONE.lock().await;
    let (bytes, sent) = (Arc::new(pattern(1 << 16)), Arc::new(AtomicU64::new(0)));
    let count = sent.clone();
    let endless = Endpoint::new("pod-0", move |mut stream| {
        let (bytes, count) = (bytes.clone(), count.clone());
        async move {
            loop {
                stream.write_all(&bytes).await?;
                count.fetch_add(bytes.len() as u64, Relaxed);
            }
        }
    })
    .await;
    let echo = Endpoint::echo("pod-1").await;
    let (slow, quick, control) = (free_port(), free_port(), free_port());
    let child = Proxied::spawn(&[(slow, endless.address), (quick, echo.address)]).await;
    let without = Proxied::spawn(&[(control, echo.address)]).await;
    let (mut others, mut undisturbed) = (carried(quick).await, carried(control).await);
    let mut readers = Vec::new();
    let before = child.resident_kib();
    for _ in 0..COUNT {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let mut reader = socket.connect(slow).await.unwrap();
        greeting(&mut reader).await.unwrap();
        readers.push(reader);
    }
    // Until all of them are full.
    let mut before_now = u64::MAX;
    while sent.load(Relaxed) != before_now {
        before_now = sent.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let grown = child.resident_kib().saturating_sub(before);
    println!("{grown} KiB for {COUNT} slow readers");
    assert!(grown <= 64 * COUNT as u64, "{grown} KiB");
    in_one_of(5, async || {
        let [alone, beside] = p99s([&mut undisturbed, &mut others]).await;
        println!("p99 of others: {alone:?} without slow readers, {beside:?} beside them");
        beside <= alone * 2
    })
    .await;
    drop(without);
}

#[test]
fn x10_a_user_whose_pipes_are_used_up_is_served_by_copy() {
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(
            "x10_a_user_whose_pipes_are_used_up_is_served_by_copy",
            "needs root to be another user",
        );
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "the_child_without_pipes",
            "--nocapture",
        ])
        .env(CHILD, "pipes")
        .uid(65_532)
        .gid(65_532)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn the_child_without_pipes() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let mut used = Vec::new();
    // The kernel's budget of this user, 64 MiB by default.
    loop {
        let pipe = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let size = fcntl_setpipe_size(&pipe.1, 256 << 10);
        used.push(pipe);
        if size.is_err() {
            break;
        }
        assert!(used.len() < 5_000, "this user has no budget");
    }
    println!("{} pipes used up the budget", used.len());
    let endpoint = Endpoint::echo("pod-0").await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let counters = site.counters(front);
    bulk(front).await;
    assert_eq!(counters.spliced(), 0);
    assert!(site.metrics.pipes().denials() > 0);
    drop(used);
    // Connections that break while their bytes lie in pipes must leave nothing of them to others.
    for _ in 0..20 {
        let mut stream = connect(front).await;
        greeting(&mut stream).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let filling = tokio::spawn(async move {
            let zeros = vec![0; 1 << 20];
            while write.write_all(&zeros).await.is_ok() {}
            write
        });
        read.read_exact(&mut vec![0; 1 << 18]).await.unwrap();
        let _ = SockRef::from(read.as_ref()).set_linger(Some(Duration::ZERO));
        filling.abort();
    }
    for _ in 0..5 {
        bulk(front).await;
    }
    assert!(counters.spliced() > 0, "there are pipes again");
    site.kill.cancel();
    site.end(&counters).await;
}

/// Sends 4 MB that come back as they were.
async fn bulk(front: SocketAddr) {
    let stream = carried(front).await;
    let (mut read, mut write) = stream.into_split();
    let sent = tokio::spawn(async move { write.write_all(&pattern(4 << 20)).await });
    let mut got = vec![0; 4 << 20];
    within(read.read_exact(&mut got)).await.unwrap();
    sent.await.unwrap().unwrap();
    assert!(got == pattern(4 << 20));
}
