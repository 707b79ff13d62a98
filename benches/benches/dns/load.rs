// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks as fast as answers come, at a fixed rate, and over connections; and an echo, the most that any server could do.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts of seconds of load are far below what a float holds, and ids wrap on purpose"
)]

use crate::Server;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use std::{
    fs,
    io::{ErrorKind, IoSlice, IoSliceMut, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// What a closed loop saw.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) cpu_us: f64,
    pub(crate) mean_reply: u64,
    pub(crate) lost: u64,
}

/// What single questions waited.
#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) lost: u64,
}

/// The generator leaves the first core to the servers.
pub(crate) fn pin_to_last_core() {
    let id = std::process::id().to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let last = (cores - 1).to_string();
    // Without the program the scheduler decides, which shows as spread.
    let _ = std::process::Command::new("taskset")
        .args(["-p", "-c", &last, &id])
        .output();
}

/// One client socket with batches in both directions.
struct Client {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
}

impl Client {
    fn new(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            socket,
            state,
            buffer: vec![0; BATCH_SIZE * SLOT],
        })
    }

    /// Replies that are there: how many, how many bytes.
    fn receive(&mut self) -> (usize, u64) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slots = self.buffer.chunks_mut(SLOT);
        let mut slots: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let count = self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slots, &mut metas)
            .unwrap_or(0);
        let datagrams = metas[..count]
            .iter()
            .map(|meta| meta.len.div_ceil(meta.stride.max(1)));
        let bytes = metas[..count].iter().map(|meta| meta.len as u64).sum();
        (datagrams.sum(), bytes)
    }

    fn send(&self, requests: &[&[u8]]) {
        let slices: Vec<[IoSlice<'_>; 1]> = requests
            .iter()
            .map(|request| [IoSlice::new(request)])
            .collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = requests
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<MMsgHdr<'_>> = slices
            .iter()
            .zip(&mut controls)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        // What the system does not take is missed as lost.
        let _ = rustix::net::sendmmsg(&self.socket, &mut messages, SendFlags::DONTWAIT);
    }
}

/// 8 sockets with 24 questions under way each.
pub(crate) fn closed_loop(
    server: &Server,
    requests: &[Vec<u8>],
    duration: Duration,
) -> anyhow::Result<Figures> {
    let mut clients = (0..8)
        .map(|_| Client::new(server.address))
        .collect::<Result<Vec<_>, _>>()?;
    let mut next = requests.iter().map(Vec::as_slice).cycle();
    let mut under_way = [(0_usize, Instant::now()); 8];
    let (mut answers, mut bytes, mut lost) = (0_u64, 0_u64, 0_u64);
    let cpu = cpu_ticks(server.child.id());
    let started = Instant::now();
    while started.elapsed() < duration {
        for (client, (open, heard)) in clients.iter_mut().zip(&mut under_way) {
            let (count, size) = client.receive();
            if count > 0 {
                *heard = Instant::now();
                answers += count as u64;
                bytes += size;
                *open = open.saturating_sub(count);
            } else if *open > 0 && heard.elapsed() > LOST_AFTER {
                lost += *open as u64;
                (*open, *heard) = (0, Instant::now());
            }
            if *open <= OPEN - SEND_FROM {
                let batch: Vec<&[u8]> = next.by_ref().take(OPEN - *open).collect();
                client.send(&batch);
                *open = OPEN;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = (cpu_ticks(server.child.id()) - cpu) as f64 / TICKS_PER_SECOND;
    Ok(Figures {
        rate: answers as f64 / seconds,
        cpu_us: cpu_seconds * 1e6 / answers.max(1) as f64,
        mean_reply: bytes / answers.max(1),
        lost,
    })
}

/// Questions at fixed times, whether or not answers come; waited from when each should have been sent.
pub(crate) fn fixed_rate(
    server: &Server,
    requests: &[Vec<u8>],
    rate: u32,
    duration: Duration,
) -> anyhow::Result<Latency> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server.address)?;
    socket.set_nonblocking(true)?;
    let gap = Duration::from_secs(1) / rate;
    let count = (duration.as_nanos() / gap.as_nanos()) as usize;
    let mut due: Vec<Option<Instant>> = vec![None; count];
    let mut waited = Vec::with_capacity(count);
    let started = Instant::now();
    let (mut sent, mut reply) = (0, vec![0; SLOT]);
    while started.elapsed() < duration + LOST_AFTER {
        let at = started + gap * u32::try_from(sent)?;
        if sent < count && Instant::now() >= at {
            let mut request = requests[sent % requests.len()].clone();
            request[..2].copy_from_slice(&(sent as u16).to_be_bytes());
            due[sent] = Some(at);
            let _ = socket.send(&request);
            sent += 1;
        }
        while let Ok(length) = socket.recv(&mut reply) {
            let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            if length >= 2
                && let Some(at) = due.get_mut(id).and_then(Option::take)
            {
                waited.push(at.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    waited.sort_by(f64::total_cmp);
    let at = |share: usize| {
        waited
            .get(waited.len() * share / 100)
            .copied()
            .unwrap_or(f64::NAN)
    };
    Ok(Latency {
        p50_us: at(50),
        p90_us: at(90),
        lost: (count - waited.len()) as u64,
    })
}

/// 8 connections with 25 questions under way each; answers a second.
pub(crate) fn pipelined(
    server: &Server,
    requests: &[Vec<u8>],
    duration: Duration,
) -> anyhow::Result<f64> {
    let framed: Vec<Vec<u8>> = requests
        .iter()
        .map(|request| {
            let length = u16::try_from(request.len()).unwrap_or(0);
            [&length.to_be_bytes()[..], request].concat()
        })
        .collect();
    let mut next = framed.iter().cycle();
    let mut connections = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        let first: Vec<u8> = next.by_ref().take(25).flatten().copied().collect();
        stream.write_all(&first)?;
        stream.set_nonblocking(true)?;
        connections.push((stream, Vec::new(), Vec::new()));
    }
    let (mut answers, started) = (0_u64, Instant::now());
    let mut buffer = vec![0; 65_536];
    while started.elapsed() < duration {
        for (stream, received, waiting) in &mut connections {
            match stream.read(&mut buffer) {
                Ok(0) => anyhow::bail!("{} closed a connection", server.name),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let mut at = 0;
            while let Some(&[high, low]) = received.get(at..at + 2) {
                let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
                if end > received.len() {
                    break;
                }
                at = end;
                answers += 1;
                waiting.extend(next.next().into_iter().flatten());
            }
            received.drain(..at);
            if !waiting.is_empty() {
                match stream.write(waiting) {
                    Ok(count) => drop(waiting.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(answers as f64 / started.elapsed().as_secs_f64())
}

/// Waits until the server answers a question.
pub(crate) fn wait_until_answered(server: SocketAddr, requests: &[Vec<u8>]) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut reply = vec![0; SLOT];
    while Instant::now() < deadline {
        socket.send_to(&requests[0], server)?;
        if socket
            .recv_from(&mut reply)
            .is_ok_and(|(length, _)| length > 12)
        {
            return Ok(());
        }
    }
    anyhow::bail!("{server} does not answer")
}

/// Sends every datagram back, `bytes` long: receiving and sending in batches, and nothing else.
pub(crate) fn echo(port: u16, bytes: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    socket.set_nonblocking(false)?;
    let mut buffer = vec![0; BATCH_SIZE * SLOT];
    loop {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = {
            let mut slots = buffer.chunks_mut(SLOT);
            let mut slots: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
            match state.recv(UdpSockRef::from(&socket), &mut slots, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let mut replies: Vec<(SocketAddrAny, &[u8])> = Vec::new();
        for (slot, meta) in buffer.chunks(SLOT).zip(&metas[..count]) {
            for _ in 0..meta.len.div_ceil(meta.stride.max(1)) {
                replies.push((meta.addr.into(), &slot[..bytes.min(SLOT)]));
            }
        }
        for replies in replies.chunks(64) {
            let slices: Vec<[IoSlice<'_>; 1]> = replies
                .iter()
                .map(|(_, bytes)| [IoSlice::new(bytes)])
                .collect();
            let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = replies
                .iter()
                .map(|_| SendAncillaryBuffer::default())
                .collect();
            let mut messages: Vec<MMsgHdr<'_>> = replies
                .iter()
                .zip(&slices)
                .zip(&mut controls)
                .map(|(((address, _), slice), control)| {
                    MMsgHdr::new_with_addr(address, slice, control)
                })
                .collect();
            let _ = rustix::net::sendmmsg(&socket, &mut messages, SendFlags::empty());
        }
    }
}

/// Processor time of a process with its threads and ended children, in ticks.
fn cpu_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}

const OPEN: usize = 24;
/// Questions that are sent together at least.
const SEND_FROM: usize = 8;
const SLOT: usize = 65_536;
const LOST_AFTER: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: f64 = 100.0;
