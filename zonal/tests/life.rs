// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent as a process: killed and started again, told to end under load, without a zone.

use rustix::process::Signal;
use std::{
    fs,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testbed::Process;

/// More than any step here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_killed_and_started_again_it_serves_the_same_port_within_a_second() {
    let site = Site::new("topology.kubernetes.io/zone: mall-1");
    let mut agent = site.start();
    let mut carried = site.served().await;
    exchange(&mut carried).unwrap();
    agent.signal(Signal::KILL).unwrap();
    drop(agent);
    // The old connections' ends linger in the kernel at the port: they must not keep the next process from it.
    let began = Instant::now();
    let _agent = site.start();
    exchange(&mut site.served().await).unwrap();
    let took = began.elapsed();
    println!("served again {took:?} after the start");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f56_told_to_end_with_a_thousand_streams_it_cuts_none_and_ends_with_the_last() {
    let site = Site::new("topology.kubernetes.io/zone: mall-1");
    let mut agent = site.start();
    site.served().await;
    // One after the other: so many at once are more than one address may have.
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let mut stream = site.connect().unwrap();
            exchange(&mut stream).unwrap();
            stream
        })
        .collect();
    agent.signal(Signal::TERM).unwrap();
    site.until_refused().await;
    let told = Instant::now();
    while told.elapsed() < Duration::from_secs(5) {
        for stream in &mut streams {
            exchange(stream).unwrap();
        }
    }
    assert_eq!(agent.status().unwrap(), None, "it waits for its streams");
    drop(streams);
    let status = until("the agent ends", || agent.status().unwrap()).await;
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
        site.connect().is_err(),
        "no zone is guessed, so no port is open"
    );
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
        write_files(folder.path(), label, port, echo(), [admin, metrics]);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            folder,
            front: local(port),
            metrics: local(metrics),
        }
    }

    fn start(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
        command
            .args(["agent", "--no-dns", "--config"])
            .arg(self.folder.path().join("zonal.yaml"));
        Process::start("zonal agent", &command, &self.folder.path().join("log")).unwrap()
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.front)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The first connection that is taken.
    async fn served(&self) -> TcpStream {
        until("the port is served", || self.connect().ok()).await
    }

    async fn until_refused(&self) {
        until("the port is closed", || {
            let refused = self.connect().err()?;
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            Some(())
        })
        .await;
    }

    /// What the first answer to a question for readiness says.
    async fn readiness(&self) -> (u16, String) {
        until("the agent answers", || {
            let mut stream = TcpStream::connect(self.metrics).ok()?;
            stream
                .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            // It has not read its files yet.
            (status != 503 || answer.contains("zone")).then_some((status, answer))
        })
        .await
    }
}

/// Asks again and again for what nobody announces.
async fn until<T>(what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
    let told = testbed::wait_for(what, PATIENCE, || std::future::ready(happened())).await;
    told.unwrap_or_else(|error| panic!("{error}"))
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"hello");
    Ok(())
}

/// A server that echoes; for ever.
fn echo() -> SocketAddr {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bound.set_nonblocking(true).unwrap();
    let address = bound.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(bound).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

fn write_files(
    folder: &Path,
    label: &str,
    port: u16,
    endpoint: SocketAddr,
    [admin, metrics]: [u16; 2],
) {
    let manifest = format!(
        "
apiVersion: v1
kind: Node
metadata:
  name: edge-a
  labels: {{{label}}}
status:
  addresses: [{{type: InternalIP, address: 127.0.0.1}}]
---
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {{service.kubernetes.io/service-proxy-name: zonal}}
spec:
  ports: [{{name: http, port: 80, nodePort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels: {{kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{{name: http, port: {}}}]
endpoints: [{{addresses: [127.0.0.1], nodeName: edge-a}}]
",
        endpoint.port()
    );
    let config = format!(
        "{{node_name: edge-a, source: {{static: {}}}, allow_loopback_endpoints: true,\n\
         admin: {{listen: '127.0.0.1:{admin}'}}, metrics: {{listen: '127.0.0.1:{metrics}'}},\n\
         proxy: {{drain_seconds: 60}}}}\n",
        folder.join("mall.yaml").display(),
    );
    fs::write(folder.join("mall.yaml"), manifest).unwrap();
    fs::write(folder.join("zonal.yaml"), config).unwrap();
}
