// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an agent that is told to end takes its host out: of a real Consul first, its ports last.

use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use testbed::{Consul, Process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LEAVE_WAIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x13_f34_sigterm_fails_the_check_waits_deregisters_and_closes_last_and_resets_nobody() {
    let test =
        "x13_f34_sigterm_fails_the_check_waits_deregisters_and_closes_last_and_resets_nobody";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [port, admin, metrics] = testbed::free_ports().unwrap();
    let front = SocketAddr::from(([127, 0, 0, 1], port));
    write_files(folder.path(), &consul, port, echo(), [admin, metrics]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    command
        .args(["agent", "--no-dns", "--config"])
        .arg(folder.path().join("zonal.yaml"));
    let mut agent = Process::start("zonal agent", &command, &folder.path().join("log")).unwrap();
    let passes = async || (check(&consul).await.as_deref() == Some("passing")).then_some(());
    let waited = testbed::wait_for("the check passes", Duration::from_secs(20), passes).await;
    assert!(
        waited.is_ok(),
        "{}",
        fs::read_to_string(agent.log()).unwrap()
    );
    let mut old = TcpStream::connect(front).unwrap();
    assert_eq!(exchange(&mut old).unwrap(), *b"hello");
    agent.signal(Signal::TERM).unwrap();
    let told = Instant::now();
    let clients = tokio::spawn(served_until_refused(front));
    let critical = becomes(&consul, Some("critical")).await;
    let gone = becomes(&consul, None).await;
    let (closed, served) = clients.await.unwrap();
    println!(
        "critical after {:?}, gone after {:?}, closed after {:?}, {served} clients served meanwhile",
        critical - told,
        gone - told,
        closed - told,
    );
    assert!(critical < gone, "the check fails first");
    assert!(
        gone.duration_since(told) >= LEAVE_WAIT,
        "{:?}",
        gone.duration_since(told)
    );
    // Consul is asked every few milliseconds, so that it is seen to be gone a little late.
    assert!(
        closed + Duration::from_millis(50) >= gone,
        "the listener closes last"
    );
    assert!(served > 100);
    assert_eq!(
        exchange(&mut old).unwrap(),
        *b"hello",
        "an old connection goes on"
    );
    drop(old);
    let dropped = Instant::now();
    let status = loop {
        if let Some(status) = agent.status().unwrap() {
            break status;
        }
        assert!(
            dropped.elapsed() < Duration::from_secs(10),
            "it has nothing left to do"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(status.success(), "{status}");
}

/// Connects all the time, within the rate that one source may have: served until the port refuses, and never reset. When it
/// refused, and how many were served.
async fn served_until_refused(front: SocketAddr) -> (Instant, u32) {
    let mut served = 0;
    loop {
        let mut stream = match tokio::net::TcpStream::connect(front).await {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                return (Instant::now(), served);
            }
        };
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        served += 1;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn exchange(stream: &mut TcpStream) -> io::Result<[u8; 5]> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The status of our check; none when there is no instance.
async fn check(consul: &Consul) -> Option<String> {
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    let checks = instances.get(0)?["Checks"].as_array()?.clone();
    let ours = |check: &&Value| check["ServiceName"] == "web";
    Some(checks.iter().find(ours)?["Status"].as_str()?.to_owned())
}

/// When our check was first seen to be so.
async fn becomes(consul: &Consul, status: Option<&str>) -> Instant {
    let started = Instant::now();
    while check(consul).await.as_deref() != status {
        assert!(started.elapsed() < Duration::from_secs(20), "{status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Instant::now()
}

/// A server that echoes; for ever.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn write_files(
    folder: &Path,
    consul: &Consul,
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
  labels: {{topology.kubernetes.io/zone: mall-1}}
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
         proxy: {{drain_seconds: 10, register: {{consul: '{}', address: 127.0.0.1, ttl_seconds: 3,\n\
         leave_wait_seconds: {}}}}}}}\n",
        folder.join("mall.yaml").display(),
        consul.http_addr(),
        LEAVE_WAIT.as_secs(),
    );
    fs::write(folder.join("mall.yaml"), manifest).unwrap();
    fs::write(folder.join("zonal.yaml"), config).unwrap();
}
