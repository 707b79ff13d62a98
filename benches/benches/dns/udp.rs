// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks over datagrams: as fast as answers come, at fixed times, and faster than answers can come.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts of seconds of load are far below what a float holds, and ids wrap on purpose"
)]

use crate::{
    question::{Asked, Judgement, Question},
    server::Server,
};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags};
use std::{
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// What a load saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) answers: u64,
    /// Replies with fewer records than there are, with another code or more, and none at all.
    pub(crate) cut: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    pub(crate) bytes: u64,
    /// What the server spent on its core.
    pub(crate) busy_seconds: f64,
}

impl Figures {
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Microseconds of the server's core for an answer.
    pub(crate) fn cost(&self) -> f64 {
        self.busy_seconds * 1e6 / self.answers.max(1) as f64
    }

    /// The part of the time for which the server was at work.
    pub(crate) fn busy(&self) -> f64 {
        self.busy_seconds / self.seconds
    }

    pub(crate) fn mean_reply(&self) -> u64 {
        self.bytes / self.answers.max(1)
    }

    pub(crate) fn count(&mut self, judgement: Judgement, bytes: usize) {
        self.answers += 1;
        self.bytes += bytes as u64;
        match judgement {
            Judgement::Whole => {}
            Judgement::Cut => self.cut += 1,
            Judgement::Wrong => self.wrong += 1,
        }
    }
}

impl std::ops::Add for Figures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            answers: self.answers + other.answers,
            cut: self.cut + other.cut,
            wrong: self.wrong + other.wrong,
            lost: self.lost + other.lost,
            bytes: self.bytes + other.bytes,
            busy_seconds: self.busy_seconds + other.busy_seconds,
        }
    }
}

/// What single questions waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) lost: u64,
    /// Microseconds of the server's core for an answer.
    pub(crate) cost: f64,
}

/// One client socket with batches in both directions, which knows what it asked by the ids.
pub(crate) struct Client<'q> {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    requests: Vec<u8>,
    asked: Asked<'q>,
}

impl<'q> Client<'q> {
    /// Takes over a bound socket.
    pub(crate) fn new(socket: UdpSocket, server: SocketAddr) -> anyhow::Result<Self> {
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            state: told_nothing()?,
            buffer: vec![0; BATCH_SIZE * SLOT],
            requests: Vec::new(),
            asked: Asked::default(),
        })
    }

    fn on_loopback(server: SocketAddr) -> anyhow::Result<Self> {
        Self::new(UdpSocket::bind("127.0.0.1:0")?, server)
    }

    /// How many replies are there, and how many of them say what a name server in trouble says.
    pub(crate) fn drain(&mut self) -> (u64, u64) {
        let (mut count, mut bad, mut reply) = (0, 0, [0; 2_048]);
        while let Ok(length) = self.socket.recv(&mut reply) {
            count += 1;
            let is_good = length >= 12 && reply[2] & 0x80 != 0 && matches!(reply[3] & 0x0f, 0 | 3);
            bad += u64::from(!is_good);
        }
        (count, bad)
    }

    /// Judges the replies that are there; how many.
    pub(crate) fn receive(&mut self, figures: &mut Figures) -> usize {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slots = self.buffer.chunks_mut(SLOT);
        let mut slots: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let count = self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slots, &mut metas)
            .unwrap_or(0);
        let mut datagrams = 0;
        for (slot, meta) in self.buffer.chunks(SLOT).zip(&metas[..count]) {
            for reply in slot[..meta.len].chunks(meta.stride.max(1)) {
                datagrams += 1;
                figures.count(self.asked.judge(reply), reply.len());
            }
        }
        datagrams
    }

    pub(crate) fn send(&mut self, questions: impl Iterator<Item = &'q Question>) {
        self.requests.clear();
        let mut ends = Vec::with_capacity(BATCH_SIZE);
        for question in questions {
            self.asked.write(question, &mut self.requests);
            ends.push(self.requests.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let slices: Vec<[IoSlice<'_>; 1]> = starts
            .zip(&ends)
            .map(|(start, end)| [IoSlice::new(&self.requests[start..*end])])
            .collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = slices
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

/// What receives in batches. quinn-udp asks the system to tell the time and the address of each datagram, which costs: here of a
/// socket that receives none.
pub(crate) fn told_nothing() -> std::io::Result<UdpSocketState> {
    let other = UdpSocket::bind("127.0.0.1:0")?;
    UdpSocketState::new(UdpSockRef::from(&other))
}

/// 8 sockets with 24 questions under way each, over loopback.
pub(crate) fn closed_loop(
    server: &Server,
    questions: &[Question],
    duration: Duration,
) -> anyhow::Result<Figures> {
    let clients = (0..8).map(|_| Client::on_loopback(server.address));
    let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
    Ok(closed_loop_of(&mut clients, server, questions, duration))
}

pub(crate) fn closed_loop_of<'q>(
    clients: &mut [Client<'q>],
    server: &Server,
    questions: &'q [Question],
    duration: Duration,
) -> Figures {
    let mut next = questions
        .iter()
        .cycle()
        .skip(fastrand::usize(..questions.len()));
    let mut under_way = vec![(0_usize, Instant::now()); clients.len()];
    let mut figures = Figures::default();
    let (busy, started) = (server.busy_seconds(), Instant::now());
    while started.elapsed() < duration {
        for (client, (open, heard)) in clients.iter_mut().zip(&mut under_way) {
            let count = client.receive(&mut figures);
            if count > 0 {
                *heard = Instant::now();
                *open = open.saturating_sub(count);
            } else if *open > 0 && heard.elapsed() > LOST_AFTER {
                figures.lost += *open as u64;
                (*open, *heard) = (0, Instant::now());
            }
            if *open <= OPEN - SEND_FROM {
                client.send(next.by_ref().take(OPEN - *open));
                *open = OPEN;
            }
        }
    }
    figures.seconds = started.elapsed().as_secs_f64();
    figures.busy_seconds = server.busy_seconds() - busy;
    if server.name == "echo" {
        // It answers nothing, and nothing is expected.
        (figures.cut, figures.wrong) = (0, 0);
    }
    figures
}

/// Questions at fixed times, whether or not answers come; waited from when each should have been sent.
pub(crate) fn fixed_rate(
    server: &Server,
    questions: &[Question],
    rate: u32,
    duration: Duration,
) -> anyhow::Result<Latency> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server.address)?;
    socket.set_nonblocking(true)?;
    let gap = Duration::from_secs(1) / rate;
    let count = (duration.as_nanos() / gap.as_nanos()) as usize;
    let mut due: Vec<Option<Instant>> = vec![None; count.min(1 << 16)];
    let mut waited = Vec::with_capacity(count);
    let (busy, started) = (server.busy_seconds(), Instant::now());
    let (mut sent, mut reply, mut request) = (0, vec![0; SLOT], Vec::new());
    while started.elapsed() < duration + LOST_AFTER {
        let at = started + gap * u32::try_from(sent)?;
        if sent < due.len() && Instant::now() >= at {
            request.clear();
            request.extend_from_slice(&questions[sent % questions.len()].bytes);
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
    let busy = server.busy_seconds() - busy;
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
        lost: (due.len() - waited.len()) as u64,
        cost: busy * 1e6 / waited.len().max(1) as f64,
    })
}

/// Sends at this rate, whatever is answered, and reads no reply; how many were sent.
pub(crate) fn flood<'q>(
    clients: &mut [Client<'q>],
    questions: &'q [Question],
    rate: f64,
    duration: Duration,
) -> u64 {
    let mut next = questions.iter().cycle();
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < duration {
        for client in &mut *clients {
            if (sent as f64) < started.elapsed().as_secs_f64() * rate {
                client.send(next.by_ref().take(FLOOD_BATCH));
                sent += FLOOD_BATCH as u64;
            }
        }
    }
    sent
}

/// Waits until the server answers this question wholly, or as wholly as it does.
pub(crate) fn wait_until_answered(server: &Server, question: &Question) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < ANSWERED_WITHIN {
        if let Some(reply) = ask(server.address, question)?
            && question.judge(&reply) != Judgement::Wrong
        {
            return Ok(());
        }
    }
    anyhow::bail!("{} does not answer", server.name)
}

/// One question, and the reply if there is one soon.
pub(crate) fn ask(server: SocketAddr, question: &Question) -> anyhow::Result<Option<Vec<u8>>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(LOST_AFTER))?;
    socket.send_to(&question.bytes, server)?;
    let mut reply = vec![0; SLOT];
    Ok(socket.recv(&mut reply).ok().map(|length| {
        reply.truncate(length);
        reply
    }))
}

const OPEN: usize = 24;
/// Questions that are sent together at least.
const SEND_FROM: usize = 8;
const FLOOD_BATCH: usize = 32;
/// What the system joins at most, and some lines of the cache against conflicts in it.
const SLOT: usize = 64 * 1024 + 128;
const LOST_AFTER: Duration = Duration::from_millis(50);
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
