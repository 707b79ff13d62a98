// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an agent that is told to end takes its host out: of a real Consul first, its ports last.

mod host;

use host::{Listens, Port, agent, echo, exchange};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs, io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use testbed::{Consul, Process};
use tokio::net::TcpStream;

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
    host::write_manifest(folder.path(), host::ZONE, &[Port::tcp(port, echo())]);
    let listens = Listens {
        dns: None,
        admin,
        metrics,
    };
    let proxy = format!(
        "drain_seconds: 10, register: {{consul: '{}', address: 127.0.0.1, ttl_seconds: 3, leave_wait_seconds: {}}}",
        consul.http_addr(),
        LEAVE_WAIT.as_secs(),
    );
    host::write_config(folder.path(), listens, &proxy);
    let (command, log) = (agent(folder.path()), folder.path().join("log"));
    let mut agent = Process::start("zonal agent", &command, &log).unwrap();
    let passes = async || (check(&consul).await.as_deref() == Some("passing")).then_some(());
    let waited = testbed::wait_for("the check passes", Duration::from_secs(20), passes).await;
    assert!(
        waited.is_ok(),
        "{}",
        fs::read_to_string(agent.log()).unwrap()
    );
    let mut old = TcpStream::connect(front).await.unwrap();
    exchange(&mut old).await.unwrap();
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
    exchange(&mut old).await.expect("an old connection goes on");
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
        let mut stream = match TcpStream::connect(front).await {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                return (Instant::now(), served);
            }
        };
        exchange(&mut stream).await.unwrap();
        served += 1;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
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
