// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clients: one suite for a while, and how much of it was done.

use rustix::net::{RecvFlags, recv};
use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

/// Runs the suite and says how much was done in a second, and for how long it was measured.
pub(crate) async fn run(suite: &str, address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    if suite == "idle" {
        return idle(address).await;
    }
    let local = LocalSet::new();
    let done = Rc::new(Cell::new(0_u64));
    for _ in 0..clients(suite) {
        let (done, suite) = (done.clone(), suite.to_owned());
        local.spawn_local(async move {
            // A client that fails ends; the figure then shows it.
            let _ = client(&suite, address, &done).await;
        });
    }
    local
        .run_until(async {
            sleep(WARM_UP).await;
            println!("said begin");
            let (started, before) = (Instant::now(), done.get());
            sleep(MEASURED).await;
            let rate = (done.get() - before) * 1_000_000
                / u64::try_from(started.elapsed().as_micros())?.max(1);
            println!("said {rate}");
            anyhow::Ok(())
        })
        .await
}

/// Opens connections with one exchange on each, and keeps them.
async fn idle(address: SocketAddr) -> anyhow::Result<()> {
    let mut open = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut stream = connect(address).await?;
        stream.write_all(b"e").await?;
        stream.read_u8().await?;
        open.push(stream);
    }
    println!("said begin");
    std::future::pending().await
}

fn clients(suite: &str) -> usize {
    match suite {
        "connections" | "udp" => 64,
        "ping-pong" => 100,
        "bulk-16" => 16,
        _ => 1,
    }
}

async fn client(suite: &str, address: SocketAddr, done: &Cell<u64>) -> io::Result<()> {
    let count = |number: u64| done.set(done.get() + number);
    match suite {
        "connections" => loop {
            let mut stream = connect(address).await?;
            stream.write_all(b"e").await?;
            stream.read_u8().await?;
            count(1);
        },
        "ping-pong" => {
            let mut stream = connect(address).await?;
            let (ping, mut pong) = ([b'e'; 1_024], [0; 1_024]);
            loop {
                stream.write_all(&ping).await?;
                stream.read_exact(&mut pong).await?;
                count(1);
            }
        }
        "udp" => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            socket.connect(address).await?;
            let mut pong = [0; 64];
            loop {
                // A window of eight; what is not answered within 50 ms is lost.
                for _ in 0..WINDOW {
                    socket.send(&[b'e'; 64]).await?;
                }
                for _ in 0..WINDOW {
                    if timeout(LOST_AFTER, socket.recv(&mut pong)).await.is_err() {
                        break;
                    }
                    count(1);
                }
            }
        }
        _ => {
            let mut stream = connect(address).await?;
            stream.write_all(b"b").await?;
            let mut nowhere = vec![0; 1 << 20];
            loop {
                stream.readable().await?;
                let read = stream.try_io(Interest::READABLE, || {
                    // TRUNC throws the bytes away instead of copying them (tcp(7)).
                    Ok(recv(&stream, &mut nowhere[..], RecvFlags::TRUNC)?.1)
                });
                match read {
                    Ok(0) => return Ok(()),
                    Ok(read) => count(read as u64),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connections that idle; servers and clients have a descriptor for each.
pub(crate) const IDLE: usize = 2_000;

const WINDOW: usize = 8;
const LOST_AFTER: Duration = Duration::from_millis(50);
const WARM_UP: Duration = Duration::from_millis(300);
pub(crate) const MEASURED: Duration = Duration::from_secs(1);
