// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listeners for people, probes and scrapers, as somebody would use them who should not.

mod agent;

use agent::Agent;
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::ask;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// What is sent, and what comes back: a status, or nothing but an end.
type Case = (&'static str, String, u16);

const CLOSED: u16 = 0;

fn request(line: &str, headers: &[&str]) -> String {
    let headers = headers.iter().flat_map(|header| [*header, "\r\n"]);
    let headers = headers.collect::<String>();
    format!("{line} HTTP/1.1\r\n{headers}\r\n")
}

const HERE: &str = "Host: 127.0.0.1:9690";

/// What reaches the admin listener.
fn admin_cases() -> Vec<Case> {
    [page_cases(), stranger_cases(), broken_cases()].concat()
}

fn get(path: &str) -> String {
    request(&format!("GET {path}"), &[HERE])
}

/// Pages, and what is none.
fn page_cases() -> Vec<Case> {
    vec![
        ("the page", get("/"), 200),
        ("the status", get("/api/v1/status"), 200),
        ("a service", get("/api/v1/explain?service=shop%2Fweb"), 200),
        ("no service", get("/api/v1/explain"), 400),
        ("no name", get("/api/v1/explain?service=%00%1b"), 400),
        ("an unknown one", get("/api/v1/explain?service=nobody"), 404),
        ("half an escape", get("/api/v1/explain?service=a%2"), 400),
        (
            "a long name",
            get(&format!("/api/v1/explain?service={}", "a".repeat(9_000))),
            400,
        ),
        ("another path", get("/api/v2/status"), 404),
        ("a path above", get("/../../etc/passwd"), 404),
        (
            "an escaped path above",
            get("/%2e%2e/%2e%2e/etc/passwd"),
            404,
        ),
        ("a doubled path", get("//api/v1/status"), 404),
        ("a final slash", get("/api/v1/status/"), 404),
        ("a path in capitals", get("/API/V1/STATUS"), 404),
        ("a fragment of a path", get("/api/v1/status%00"), 404),
        ("the configuration", get("/config"), 404),
        ("debugging", get("/debug/pprof/"), 404),
        ("metrics, which are elsewhere", get("/metrics"), 404),
    ]
}

/// Hosts and methods.
fn stranger_cases() -> Vec<Case> {
    let with_host = |host: &str| request("GET /api/v1/status", &[&format!("Host: {host}")]);
    let by = |method: &str| request(&format!("{method} /api/v1/status"), &[HERE]);
    vec![
        (
            "an absolute target",
            request("GET http://evil/api/v1/status", &[HERE]),
            200,
        ),
        ("another host", with_host("evil.example"), 403),
        (
            "a host that ends like ours",
            with_host("localhost.evil.example"),
            403,
        ),
        (
            "a host that begins like ours",
            with_host("127.0.0.1.evil.example"),
            403,
        ),
        ("an address of a network", with_host("10.0.0.1"), 403),
        ("a host with a user", with_host("localhost@evil"), 403),
        ("an empty host", with_host(""), 403),
        ("no host", request("GET /api/v1/status", &[]), 403),
        ("localhost", with_host("localhost:9690"), 200),
        ("our IPv6 address", with_host("[::1]:9690"), 200),
        ("127.0.0.2, which is here too", with_host("127.0.0.2"), 200),
        ("POST", by("POST"), 405),
        ("PUT", by("PUT"), 405),
        ("DELETE", by("DELETE"), 405),
        ("PATCH", by("PATCH"), 405),
        ("OPTIONS", by("OPTIONS"), 405),
        ("TRACE", by("TRACE"), 405),
        ("a method that is none", by("FOO"), 405),
        ("CONNECT", request("CONNECT evil:443", &[HERE]), 404),
    ]
}

/// What is no HTTP, or too much of it.
fn broken_cases() -> Vec<Case> {
    vec![
        (
            "HTTP/1.0",
            "GET /api/v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n".into(),
            200,
        ),
        ("another version", "GET / HTTP/9.9\r\n\r\n".into(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), CLOSED),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".into(), 400),
        ("no HTTP", "hello\r\n\r\n".into(), 400),
        ("nothing", String::new(), CLOSED),
        ("half a request", "GET / HT".into(), CLOSED),
        (
            "a space in the path",
            "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "a header without a colon",
            request("GET /", &[HERE, "broken"]),
            400,
        ),
        (
            "a header of 1 MiB",
            request("GET /", &[HERE, &format!("X: {}", "x".repeat(1 << 20))]),
            431,
        ),
        (
            "two thousand headers",
            request("GET /", &vec!["X: y"; 2_000]),
            431,
        ),
        (
            "a path of 1 MiB",
            get(&format!("/{}", "a".repeat(1 << 20))),
            431,
        ),
        (
            "a path of 70 kB",
            get(&format!("/{}", "a".repeat(70_000))),
            414,
        ),
        (
            "two lengths",
            request("POST /", &[HERE, "Content-Length: 1", "Content-Length: 2"]),
            400,
        ),
        (
            "a length that is none",
            request("POST /", &[HERE, "Content-Length: -1"]),
            400,
        ),
    ]
}

/// What reaches the listener of metrics and probes, to which anybody may come.
fn metrics_cases() -> Vec<Case> {
    let get = |path: &str| request(&format!("GET {path}"), &["Host: anybody"]);
    let mut cases = vec![
        ("metrics", get("/metrics"), 200),
        ("liveness", get("/livez"), 200),
        ("readiness", get("/readyz"), 200),
        ("readiness in full", get("/readyz?verbose"), 200),
        (
            "metrics by POST",
            request("POST /metrics", &["Host: a"]),
            405,
        ),
    ];
    for path in [
        "/",
        "/api/v1/status",
        "/api/v1/explain?service=shop/web",
        "/api/v1/connections",
        "/api/v1/accept",
        "/api/v1/drain",
        "/metrics/",
        "/config",
        "/debug",
        "/readyz/x",
    ] {
        cases.push(("elsewhere", get(path), 404));
    }
    cases.push((
        "a change",
        request("POST /api/v1/accept", &["Host: localhost"]),
        404,
    ));
    cases.push((
        "an end",
        request("POST /api/v1/drain", &["Host: localhost"]),
        404,
    ));
    cases
}

/// The status of the answer to the bytes, and its head. Whoever is to get none says that nothing more comes.
fn answer(address: &str, bytes: &str, expected: u16) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The rest of what is too long may meet a connection that has ended.
    let _ = stream.write_all(bytes.as_bytes());
    if expected == CLOSED {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let (mut head, mut some) = (Vec::new(), [0; 1_024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(length @ 1..) => head.extend_from_slice(&some[..length]),
            Ok(0) | Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|status| status.parse().ok());
    (status.unwrap_or(CLOSED), head)
}

fn check(address: &str, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let (status, answer) = answer(address, &bytes, expected);
        if status != expected {
            let head = answer.lines().next().unwrap_or_default();
            wrong.push(format!("{name}: {status} for {expected}: {head}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn b7_s6_every_request_that_should_not_be_is_refused_on_the_admin_listener() {
    let agent = Agent::start(MALL);
    let before = status(&agent);
    let cases = admin_cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    for (name, bytes, expected) in &cases {
        let (_, answer) = answer(agent.admin(), bytes, *expected);
        let head = answer
            .split("\r\n\r\n")
            .next()
            .unwrap_or_default()
            .to_lowercase();
        // A page of somebody else's may send requests here, and must not read what comes back.
        assert!(!head.contains("access-control-"), "{name}: {head}");
        if head.contains(" 200 ") {
            assert!(
                head.contains("content-security-policy: default-src 'self'"),
                "{head}"
            );
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        }
    }
    check(agent.admin(), cases);
    assert_eq!(status(&agent), before, "nothing of it has changed anything");
}

#[test]
fn b7_slow_and_silent_visitors_keep_nobody_from_the_pages_for_long_and_dns_never() {
    let agent = Agent::start(MALL);
    let dns: SocketAddr = agent.dns().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let resolve = || {
        let began = Instant::now();
        let asked = ask(
            dns,
            "web-shop.service.consul",
            "A",
            DnsTransport::Udp,
            PATIENCE,
        );
        assert_eq!(runtime.block_on(asked).unwrap().answers.len(), 1);
        began.elapsed()
    };
    // More than are served at a time: half of them say nothing, the others a byte.
    let visitors: Vec<_> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(agent.admin()).unwrap();
            stream
                .write_all(if number % 2 == 0 { b"" } else { b"G" })
                .unwrap();
            stream
        })
        .collect();
    let came = Instant::now();
    let mut slowest = Duration::ZERO;
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let (status, _) = answer(agent.admin(), &get("/api/v1/status"), 200);
            (status, came.elapsed())
        });
        while !waiting.is_finished() {
            slowest = slowest.max(resolve());
        }
        waiting.join().unwrap()
    });
    println!(
        "the page came after {:?}; the slowest name took {slowest:?}",
        waiting.1
    );
    assert_eq!(waiting.0, 200);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(visitors);
}

#[test]
fn s7_the_port_of_metrics_and_probes_has_nothing_else() {
    let agent = Agent::start(MALL);
    check(agent.metrics_address(), metrics_cases());
}

#[test]
fn s8_without_leave_to_write_nothing_can_be_changed() {
    let agent = Agent::start(MALL);
    let before = status(&agent);
    let mut cases = Vec::new();
    for path in [
        "/api/v1/accept",
        "/api/v1/drain",
        "/api/v1/status",
        "/api/v1/connections",
        "/",
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            cases.push((
                "a change",
                request(&format!("{method} {path}"), &[HERE]),
                405,
            ));
        }
    }
    for path in [
        "/quitquitquit",
        "/api/v1/shutdown",
        "/api/v1/log",
        "/api/v1/demo",
        "/logging",
    ] {
        cases.push((
            "no such thing",
            request(&format!("POST {path}"), &[HERE]),
            404,
        ));
    }
    check(agent.admin(), cases);
    assert_eq!(status(&agent), before);
    let writing = Agent::start_with(MALL, &["--admin-write"]);
    check(
        writing.admin(),
        vec![
            ("with leave", request("POST /api/v1/accept", &[HERE]), 200),
            (
                "a page of somebody else's",
                request("POST /api/v1/accept", &["Host: evil"]),
                403,
            ),
            ("by GET", request("GET /api/v1/accept", &[HERE]), 200),
        ],
    );
}

#[test]
fn s6_unless_told_otherwise_the_admin_listener_is_on_loopback() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_zonal"))
        .args(["agent", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("[default: 127.0.0.1:9690]"), "{help}");
}

/// What the agent says of itself, but for what time changes.
fn status(agent: &Agent) -> (u64, String, String) {
    let status: serde_json::Value = serde_json::from_str(&agent.get("/api/v1/status")).unwrap();
    let text = |key: &str| status[key].to_string();
    let generation = status["generation"].as_u64().unwrap();
    (generation, text("services"), text("zone"))
}

/// More than the deadline for a header, twice: those that wait come after those that are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const MALL: &str = "
apiVersion: v1
kind: Node
metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9}]
endpoints: [{addresses: [127.0.0.1], nodeName: edge-a, targetRef: {kind: Pod, name: web-0, uid: u0}}]
";
