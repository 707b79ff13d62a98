// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder in a process of its own with 64 descriptors, and more connections than that: it rests, UDP goes on, and it
//! accepts again when clients leave.

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "dns/packet.rs"]
mod packet;

use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{
    Config, DnsServer,
    catalog::{Catalog, CatalogInstance, CatalogNode, InstanceAddress},
    client::ask,
};
use packet::{A, query};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Set for the child.
const CHILD: &str = "ZONAL_TEST_DESCRIPTORS_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn r16_out_of_descriptors_it_rests_udp_goes_on_and_connections_are_accepted_again() {
    let (child, server) = Served::spawn();
    let clients: Vec<_> = (0..150)
        .map(|_| TcpStream::connect(server).unwrap())
        .collect();
    let ask = |transport| ask(server, "web.service.consul", "A", transport, PATIENCE);
    let (before, began) = (child.cpu(), Instant::now());
    let mut answered = 0;
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(ask(DnsTransport::Udp).await.unwrap().answers.len(), 1);
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let busy = child.cpu().saturating_sub(before);
    // Of 2 s; the questions are part of it.
    assert!(busy <= Duration::from_millis(100), "{busy:?} of CPU in 2 s");
    assert!(answered > 10);
    let mut waiting = TcpStream::connect(server).unwrap();
    let question = query("web.service.consul", A);
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    waiting
        .write_all(&[&length[..], &question].concat())
        .unwrap();
    drop(clients);
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reply = [0; 2];
    waiting.read_exact(&mut reply).unwrap();
    assert_eq!(ask(DnsTransport::Tcp).await.unwrap().answers.len(), 1);
}

/// A child that serves with 64 descriptors until its input ends.
struct Served(Child);

impl Served {
    fn spawn() -> (Self, SocketAddr) {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "the_child_that_starves",
            ])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The harness may have begun the line.
        let address = lines.find_map(|line| line.unwrap().rsplit_once("serving ")?.1.parse().ok());
        (Self(child), address.expect("it says where it serves"))
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

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "the child of the test above"]
fn the_child_that_starves() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let node = Arc::new(CatalogNode {
        name: "edge-a".to_owned(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))],
        ..CatalogNode::default()
    });
    let mut catalog = Catalog {
        datacenter: "mall-1".to_owned(),
        nodes: vec![node.clone()],
        ..Catalog::default()
    };
    let web = catalog.services.entry("web".to_owned()).or_default();
    web.instances = vec![CatalogInstance {
        address: Some(InstanceAddress::Ip(Ipv4Addr::new(10, 1, 0, 1).into())),
        ..CatalogInstance::new(node, 8080)
    }];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = Config::default().listen(vec!["127.0.0.1:0".parse().unwrap()]);
        let server = DnsServer::bind_catalog(config.unwrap(), &catalog, Arc::default()).unwrap();
        println!("serving {}", server.local_addrs()[0]);
        let stop = CancellationToken::new();
        let ended = stop.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ended.cancel();
        });
        server.run(stop).await;
    });
}
