// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent with every face, on one node with one service of some endpoints that echo.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};
use tempfile::TempDir;
use testbed::Process;

/// More than any step here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The files of the agent, and where its faces are.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) front: SocketAddr,
    pub(crate) dns: SocketAddr,
    metrics: SocketAddr,
}

impl Site {
    pub(crate) fn new(endpoints: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Whoever the agent runs as has to find its files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ports = testbed::free_ports().unwrap();
        let [admin, metrics, dns] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let front = SocketAddr::from(([127, 0, 0, 1], quiet_port()));
        let port = echo(endpoints);
        fs::write(
            folder.path().join("mall.yaml"),
            manifest(front.port(), port, endpoints),
        )
        .unwrap();
        let config = format!(
            "{{node_name: edge-a, source: {{static: {}}}, allow_loopback_endpoints: true,\n\
             dns: {{listen: ['{dns}']}}, admin: {{listen: '{admin}'}}, metrics: {{listen: '{metrics}'}}}}\n",
            folder.path().join("mall.yaml").display(),
        );
        fs::write(folder.path().join("zonal.yaml"), config).unwrap();
        Self {
            folder,
            front,
            dns,
            metrics,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the agent, by a command that may wrap its own.
    pub(crate) fn start(&self, wrap: impl FnOnce(Command) -> Command) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
        command
            .args(["agent", "--config"])
            .arg(self.folder.path().join("zonal.yaml"));
        let log = self.folder.path().join("log");
        Process::start("zonal agent", &wrap(command), &log).unwrap()
    }

    /// The first connection that is carried to an endpoint.
    pub(crate) async fn served(&self) {
        let carried = || {
            let mut stream = TcpStream::connect(self.front).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            exchange(&mut stream).ok()
        };
        self.until("the port is served", || carried().is_some())
            .await;
    }

    /// Waits until something is so; with the agent's log where it never is.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let probe = || std::future::ready(is_so().then_some(()));
        if let Err(error) = testbed::wait_for(what, PATIENCE, probe).await {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            panic!("{error}: {log}");
        }
    }

    /// What the agent exposes.
    pub(crate) async fn metrics(&self) -> String {
        let mut page = String::new();
        self.until("the metrics", || {
            page.clear();
            read_page(self.metrics, &mut page).is_ok() && page.starts_with("HTTP/1.1 200")
        })
        .await;
        page
    }
}

fn read_page(address: SocketAddr, page: &mut String) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    stream.read_to_string(page).map(drop)
}

pub(crate) fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"hello");
    Ok(())
}

/// A free port that the system gives to no connection: thousands are opened here, and one that ends keeps its port for a while.
fn quiet_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Relaxed)) % 10_000;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Servers that echo, on one port of an address each; for ever.
fn echo(endpoints: u8) -> u16 {
    let mut port = 0;
    for last in 1..=endpoints {
        let bound =
            std::net::TcpListener::bind(SocketAddr::from(([127, 0, 1, last], port))).unwrap();
        bound.set_nonblocking(true).unwrap();
        port = bound.local_addr().unwrap().port();
        let listener = tokio::net::TcpListener::from_std(bound).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
    }
    port
}

fn manifest(node_port: u16, port: u16, endpoints: u8) -> String {
    let mut listed = String::new();
    for last in 1..=endpoints {
        let _ = writeln!(
            listed,
            "- {{addresses: [127.0.1.{last}], nodeName: edge-a, \
             targetRef: {{kind: Pod, name: web-{last}, uid: u{last}}}}}"
        );
    }
    format!(
        "
apiVersion: v1
kind: Node
metadata: {{name: edge-a, labels: {{topology.kubernetes.io/zone: mall-1}}}}
status:
  addresses: [{{type: InternalIP, address: 127.0.0.1}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, labels: {{service.kubernetes.io/service-proxy-name: zonal}}}}
spec:
  ports: [{{name: http, port: 80, nodePort: {node_port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints:
{listed}"
    )
}
