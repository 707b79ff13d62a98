// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy in a process of its own that runs out of descriptors: it rests, keeps what it carries, and recovers.

mod site;

use lb_proxy::Config;
use site::{Endpoint, FRONT, Site, exchange, free_port, greeting};
use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};

/// Where the child listens, what it connects to, and how many descriptors it wastes.
const CHILD: &str = "ZONAL_TEST_DESCRIPTORS_CHILD";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x9_f42_out_of_descriptors_it_rests_keeps_what_it_carries_and_recovers_within_a_second() {
    let mut waited = [false; 2];
    // With one free descriptor more or less, what fails is the accept or the connect to the endpoint.
    for (wasted, waited) in waited.iter_mut().enumerate() {
        *waited = starve(wasted).await;
    }
    assert!(
        waited.contains(&true),
        "in one of the two cases clients wait in the backlog"
    );
}

/// Whether the surplus clients were left to wait.
async fn starve(wasted: usize) -> bool {
    let endpoint = Endpoint::echo("pod-0").await;
    let front = free_port();
    let child = Proxied::spawn(front, endpoint.address, wasted);
    let connects = async || TcpStream::connect(front).await.is_ok();
    while !connects().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The connections that asked whether it listens may hold the last descriptors for a moment.
    let kept = async || {
        let mut kept = TcpStream::connect(front).await.ok()?;
        greeting(&mut kept).await.ok()?;
        Some(kept)
    };
    let mut kept_first = loop {
        if let Some(kept) = kept().await {
            break kept;
        }
    };
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        // Where the connect to the endpoint fails for lack of descriptors, a client is reset.
        clients.extend(TcpStream::connect(front).await);
    }
    let before = child.cpu();
    let started = Instant::now();
    let last = clients.last_mut().unwrap();
    let waited = timeout(Duration::from_millis(1_500), greeting(last))
        .await
        .is_err();
    timeout(
        Duration::from_secs(2).saturating_sub(started.elapsed()),
        std::future::pending::<()>(),
    )
    .await
    .unwrap_err();
    let busy = child.cpu().saturating_sub(before);
    assert!(busy < Duration::from_millis(100), "{busy:?} of CPU in 2 s");
    exchange(&mut kept_first, b"undisturbed").await.unwrap();
    let freed = Instant::now();
    drop(clients);
    let mut new = loop {
        if let Some(new) = kept().await {
            break new;
        }
    };
    let recovered = freed.elapsed();
    exchange(&mut new, b"hello again").await.unwrap();
    exchange(&mut kept_first, b"still undisturbed")
        .await
        .unwrap();
    println!(
        "wasted {wasted}: {busy:?} of CPU in 2 s, waited {waited}, recovered in {recovered:?}"
    );
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
    waited
}

/// A child that runs the proxy with 256 descriptors until its input ends.
struct Proxied(Child);

impl Proxied {
    fn spawn(front: SocketAddr, endpoint: SocketAddr, wasted: usize) -> Self {
        let test = std::env::current_exe().unwrap();
        let child = Command::new("sh")
            .args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""])
            .arg(test)
            .args(["--ignored", "--exact", "the_child_that_starves"])
            .env(CHILD, format!("{} {endpoint} {wasted}", front.port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// CPU time so far: fields 14 and 15 of proc(5) stat, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
        let ticks: u64 = fields
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test starts it"]
async fn the_child_that_starves() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let arguments: Vec<_> = arguments.split(' ').collect();
    let mut site = Site::start(Config::default().connections_max(10_000));
    let front = SocketAddr::from((FRONT, arguments[0].parse().unwrap()));
    site.service("web", front.port());
    site.listed("web", "pod-0", arguments[1].parse().unwrap(), true);
    site.publish();
    assert_eq!(site.status.serving().await, Some(front));
    let wasted: usize = arguments[2].parse().unwrap();
    let _wasted: Vec<_> = (0..wasted)
        .map(|_| fs::File::open("/dev/null").unwrap())
        .collect();
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.unwrap().unwrap();
    site.kill.cancel();
    site.stop.cancel();
    site.running.await.unwrap();
}
