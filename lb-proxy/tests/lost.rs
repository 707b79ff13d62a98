// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a connection whose peer is gone without a word: its cable is cut, in a namespace of its own.

mod site;

use lb_proxy::{Config, ListenerState, Reason};
use site::{Endpoint, Site, assert_reset, carried, read_all, until, within};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};
use testbed::Netns;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// What a child does: `client` or `server`, and an address.
const CHILD: &str = "ZONAL_TEST_LOST_CHILD";

/// Soon enough for a test, and long enough that a busy machine does not lose who is there.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);

/// A process in the namespace; it ends with its input.
struct Inside(Child);

impl Inside {
    fn spawn(netns: &Netns, role: &str, address: SocketAddr) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command: Command = netns.command(program.to_str().unwrap());
        let child = command
            .args(["--ignored", "--exact", "the_child_in_the_namespace"])
            .env(CHILD, format!("{role} {address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "other tests start it"]
fn the_child_in_the_namespace() {
    let Ok(role) = std::env::var(CHILD) else {
        return;
    };
    let (role, address) = role.split_once(' ').unwrap();
    let stream = if role == "client" {
        TcpStream::connect(address).unwrap()
    } else {
        let (mut stream, _) = TcpListener::bind(address).unwrap().accept().unwrap();
        stream.write_all(b"pod-0\n").unwrap();
        stream
    };
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(stream);
}

fn cut(netns: &Netns) {
    let down = ["link", "set", netns.inner_link(), "down"];
    netns.run("ip", &down).unwrap();
}

/// A proxy whose only listener is reached from the namespace, and where.
async fn reached_from(netns: &Netns, endpoint: &Endpoint) -> (Site, SocketAddr) {
    let config = Config::default()
        .bind_addresses(vec![netns.host_ip().into()])
        .peer_timeout(PEER_TIMEOUT);
    let mut site = Site::start_on(config);
    let free = TcpListener::bind((netns.host_ip(), 0)).unwrap();
    let front = free.local_addr().unwrap();
    drop(free);
    site.service("web", front.port());
    site.endpoint("web", endpoint);
    site.publish();
    site.state(&ListenerState::Serving).await;
    (site, front)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x24_a_client_that_is_cut_off_is_lost_idle_or_not_and_its_endpoint_is_reset() {
    let test = "x24_a_client_that_is_cut_off_is_lost_idle_or_not_and_its_endpoint_is_reset";
    for is_idle in [true, false] {
        let Some(netns) = Netns::new_or_skip(test) else {
            return;
        };
        let (told, mut ends) = mpsc::channel(1);
        let endpoint = Endpoint::new("pod-0", move |mut stream| {
            let told = told.clone();
            async move {
                let end = loop {
                    // Bytes that the client never reads: few enough to fit into its window.
                    if !is_idle && let Err(error) = stream.write_all(b"tick").await {
                        break Err(error);
                    }
                    let pause = Duration::from_millis(100);
                    if let Ok(end) = tokio::time::timeout(pause, stream.read_u8()).await {
                        break end;
                    }
                };
                let _ = told.send(end).await;
                Ok(())
            }
        })
        .await;
        let (site, front) = reached_from(&netns, &endpoint).await;
        let counters = site.counters(front);
        let client = Inside::spawn(&netns, "client", front);
        until(|| counters.accepted() == 1 && site.status.listeners()[0].active == 1).await;
        until(|| counters.bytes(discovery_core::telemetry::ByteDirection::Down) >= 6).await;
        cut(&netns);
        until(|| counters.ended(Reason::ClientLost) == 1).await;
        assert_reset(within(ends.recv()).await.unwrap());
        drop(client);
        assert_eq!(site.end(&counters).await, [("client-lost", 1)].into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x24_an_endpoint_that_is_cut_off_is_lost_idle_or_not_and_its_client_is_reset() {
    let test = "x24_an_endpoint_that_is_cut_off_is_lost_idle_or_not_and_its_client_is_reset";
    for is_idle in [true, false] {
        let Some(netns) = Netns::new_or_skip(test) else {
            return;
        };
        let mut site = Site::start(Config::default().peer_timeout(PEER_TIMEOUT));
        let (front, address) = (
            site::free_port(),
            SocketAddr::from((netns.inner_ip(), 7_000)),
        );
        site.service("web", front.port());
        site.listed("web", "pod-0", address, true);
        site.publish();
        assert_eq!(site.status.serving().await, Some(front));
        let server = Inside::spawn(&netns, "server", address);
        let listens = || {
            let sockets = netns.run("cat", &["/proc/net/tcp"]).unwrap();
            String::from_utf8_lossy(&sockets.stdout).contains(":1B58 ")
        };
        until(listens).await;
        let counters = site.counters(front);
        let mut client = carried(front).await;
        cut(&netns);
        if !is_idle {
            client.write_all(b"nobody hears this").await.unwrap();
        }
        until(|| counters.ended(Reason::UpstreamLost) == 1).await;
        assert_reset(read_all(&mut client).await.1);
        drop(server);
        assert_eq!(site.end(&counters).await, [("upstream-lost", 1)].into());
    }
}

/// A client with little room for what it has not read, and an endpoint that sends it so many bytes and then ends.
async fn reader_of(length: usize) -> (Site, SocketAddr, tokio::net::TcpStream) {
    let endpoint = Endpoint::new("pod-0", move |mut stream| async move {
        stream.write_all(&vec![7; length]).await?;
        stream.shutdown().await
    })
    .await;
    let mut site = Site::start(Config::default().peer_timeout(SLOW_TIMEOUT));
    let front = site::free_port();
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    assert_eq!(site.status.serving().await, Some(front));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(20_000).unwrap();
    (site, front, socket.connect(front).await.unwrap())
}

/// The least that can be set.
const SLOW_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x24_who_reads_slowly_is_not_lost() {
    let length = 24 << 20;
    let (site, front, mut client) = reader_of(length).await;
    let counters = site.counters(front);
    let (began, mut got) = (std::time::Instant::now(), 0);
    let mut bytes = vec![0; 1 << 20];
    while began.elapsed() < 4 * SLOW_TIMEOUT {
        // The pace of the reader: its window is at zero most of the time, and opens by less than a segment.
        tokio::time::sleep(Duration::from_millis(300)).await;
        got += within(client.read_exact(&mut bytes[..40_000]))
            .await
            .unwrap();
    }
    let rest = within(async {
        let mut rest = 0;
        loop {
            match client.read(&mut bytes).await {
                Ok(0) => return Ok(rest),
                Ok(read) => rest += read,
                Err(error) => return Err(error),
            }
        }
    });
    got += rest.await.unwrap();
    assert_eq!(got, length + "pod-0\n".len());
    drop(client);
    assert_eq!(site.end(&counters).await, [("ok", 1)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x24_who_reads_nothing_is_lost_in_time() {
    let (site, front, client) = reader_of(64 << 20).await;
    let counters = site.counters(front);
    let began = std::time::Instant::now();
    until(|| counters.ended(Reason::ClientLost) == 1).await;
    let took = began.elapsed();
    assert!(took >= SLOW_TIMEOUT, "{took:?}");
    drop(client);
    assert_eq!(site.end(&counters).await, [("client-lost", 1)].into());
}
