// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent as a process: killed and started again, told to end under load, without a zone.

mod host;

use host::{Listens, Port, ZONE, agent, echo, exchange};
use rustix::process::Signal;
use std::{
    future::ready,
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testbed::Process;
use tokio::net::TcpStream;

/// More than any step here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_killed_and_started_again_it_serves_the_same_port_within_a_second() {
    let site = Site::new(ZONE);
    let mut agent = site.start();
    let mut carried = site.served().await;
    exchange(&mut carried).await.unwrap();
    agent.signal(Signal::KILL).unwrap();
    drop(agent);
    // The old connections' ends linger in the kernel at the port: they must not keep the next process from it.
    let began = Instant::now();
    let _agent = site.start();
    exchange(&mut site.served().await).await.unwrap();
    let took = began.elapsed();
    println!("served again {took:?} after the start");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f56_told_to_end_with_a_thousand_streams_it_cuts_none_and_ends_with_the_last() {
    let site = Site::new(ZONE);
    let mut agent = site.start();
    site.served().await;
    // One after the other: so many at once are more than one address may have.
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut stream = site.connect().await.unwrap();
        exchange(&mut stream).await.unwrap();
        streams.push(stream);
    }
    agent.signal(Signal::TERM).unwrap();
    site.until_refused().await;
    let told = Instant::now();
    while told.elapsed() < Duration::from_secs(5) {
        for stream in &mut streams {
            exchange(stream).await.unwrap();
        }
    }
    assert_eq!(agent.status().unwrap(), None, "it waits for its streams");
    drop(streams);
    let status = until("the agent ends", || ready(agent.status().unwrap())).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_without_a_zone_label_it_is_not_ready_and_names_what_it_looked_for() {
    let site = Site::new("rack: r1");
    let _agent = site.start();
    let (status, body) = site.readiness().await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("topology.kubernetes.io/zone"), "{body}");
    assert!(body.contains("edge-a"), "{body}");
    assert!(
        site.connect().await.is_err(),
        "no zone is guessed, so no port is open"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_raises_its_descriptors_to_what_it_may_have_and_holds_to_the_limits_of_its_file() {
    let site = Site::new(ZONE);
    let listens = Listens {
        dns: None,
        admin: 0,
        metrics: site.metrics.port(),
    };
    let proxy = "limits: {source_new_at_once: 3, source_new_per_second: 1}";
    host::write_config(site.folder.path(), listens, proxy);
    let started_low = |limits: &str| {
        let plain = agent(site.folder.path());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{limits}; exec \"$@\""), "sh"]);
        shell.arg(plain.get_program()).args(plain.get_args());
        shell
    };
    let _agent = site.start_as(&started_low("ulimit -Sn 100; ulimit -Hn 4000"));
    let mut carried = Vec::from([site.served().await]);
    let metrics = site.ask("/metrics").unwrap();
    for line in [
        "zonal_descriptors_max 4000",
        "zonal_proxy_connections_max 1800",
    ] {
        assert!(
            metrics.lines().any(|told| told == line),
            "{line}\n{metrics}"
        );
    }
    let log = std::fs::read_to_string(site.folder.path().join("log")).unwrap();
    let told = log
        .lines()
        .filter(|line| line.contains("Descriptor limit raised"));
    assert_eq!(told.count(), 1, "{log}");
    // More than this address may have at once: one of these is reset.
    let mut refused = 0;
    for _ in 0..3 {
        // The reset may come before the connect has returned.
        let Ok(mut stream) = site.connect().await else {
            refused += 1;
            continue;
        };
        refused += usize::from(exchange(&mut stream).await.is_err());
        carried.push(stream);
    }
    assert!(refused > 0, "the limit of the file holds");
    let rejected = "zonal_proxy_rejected_total{service=\"default/web\"";
    let counted = |line: &str| {
        line.starts_with(rejected) && line.contains("limit-source") && !line.ends_with(" 0")
    };
    // A client sees its reset a moment before it is counted.
    until("it is counted", async || {
        site.ask("/metrics")?.lines().any(counted).then_some(())
    })
    .await;
}

const STREAMS: usize = 1_000;

/// The files of one node with one service and one endpoint that echoes, and the ports of the agent on it.
struct Site {
    folder: TempDir,
    front: SocketAddr,
    metrics: SocketAddr,
}

impl Site {
    fn new(label: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, admin, metrics] = testbed::free_ports().unwrap();
        host::write_manifest(folder.path(), label, &[Port::tcp(port, echo())]);
        let listens = Listens {
            dns: None,
            admin,
            metrics,
        };
        host::write_config(folder.path(), listens, "drain_seconds: 60");
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            folder,
            front: local(port),
            metrics: local(metrics),
        }
    }

    fn start(&self) -> Process {
        self.start_as(&agent(self.folder.path()))
    }

    fn start_as(&self, command: &Command) -> Process {
        Process::start("zonal agent", command, &self.folder.path().join("log")).unwrap()
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.front).await
    }

    /// The first connection that is taken.
    async fn served(&self) -> TcpStream {
        let served = async || self.connect().await.ok();
        let told = testbed::wait_for("the port is served", PATIENCE, served).await;
        told.unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            panic!("{error}\n{}", log.unwrap_or_default())
        })
    }

    async fn until_refused(&self) {
        until("the port is closed", async || {
            let refused = self.connect().await.err()?;
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            Some(())
        })
        .await;
    }

    /// What the agent answers to a question.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = std::net::TcpStream::connect(self.metrics).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// What the first answer to a question for readiness says.
    async fn readiness(&self) -> (u16, String) {
        until("the agent answers", async || {
            let answer = self.ask("/readyz")?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            // It has not read its files yet.
            (status != 503 || answer.contains("zone")).then_some((status, answer))
        })
        .await
    }
}

/// Asks again and again for what nobody announces.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, happened: impl FnMut() -> F) -> T {
    let told = testbed::wait_for(what, PATIENCE, happened).await;
    told.unwrap_or_else(|error| panic!("{error}"))
}
