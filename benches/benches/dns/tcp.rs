// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks over connections with many questions under way each: by our generator, which judges every answer, and by dnsperf.

use crate::{
    question::{Asked, Question},
    server::{GENERATORS_CORE, Server},
    udp::Figures,
};
use anyhow::{Context as _, ensure};
use std::{
    fmt::Write as _,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

/// One connection. Replies may come in any order: ids tell what they answer.
struct Connection<'q> {
    stream: TcpStream,
    received: Vec<u8>,
    waiting: Vec<u8>,
    asked: Asked<'q>,
}

impl<'q> Connection<'q> {
    fn new(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            waiting: Vec::new(),
            asked: Asked::default(),
        })
    }

    fn ask(&mut self, question: &'q Question) {
        let length = u16::try_from(question.bytes.len()).unwrap_or(0);
        self.waiting.extend(length.to_be_bytes());
        self.asked.write(question, &mut self.waiting);
    }

    /// Judges every whole reply that is there; how many.
    fn receive(&mut self, buffer: &mut [u8], figures: &mut Figures) -> anyhow::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => anyhow::bail!("it closed a connection"),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let (mut at, mut count) = (0, 0);
        while let Some(&[high, low]) = self.received.get(at..at + 2) {
            let start = at + 2;
            let end = start + usize::from(u16::from_be_bytes([high, low]));
            let Some(reply) = self.received.get(start..end) else {
                break;
            };
            figures.count(self.asked.judge(reply), reply.len());
            (at, count) = (end, count + 1);
        }
        self.received.drain(..at);
        Ok(count)
    }

    fn write(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.waiting) {
            Ok(count) => drop(self.waiting.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// 8 connections with 25 questions under way each.
pub(crate) fn pipelined(
    server: &Server,
    questions: &[Question],
    duration: Duration,
) -> anyhow::Result<Figures> {
    let mut next = questions
        .iter()
        .cycle()
        .skip(fastrand::usize(..questions.len()));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::new(server.address)?;
        next.by_ref()
            .take(OPEN)
            .for_each(|question| connection.ask(question));
        connection.write()?;
        connections.push(connection);
    }
    let mut buffer = vec![0; 65_536];
    let mut figures = Figures::default();
    let (busy, started) = (server.busy_seconds(), Instant::now());
    while started.elapsed() < duration {
        for connection in &mut connections {
            let count = connection
                .receive(&mut buffer, &mut figures)
                .with_context(|| server.name)?;
            next.by_ref()
                .take(count)
                .for_each(|question| connection.ask(question));
            connection.write()?;
        }
    }
    figures.seconds = started.elapsed().as_secs_f64();
    figures.busy_seconds = server.busy_seconds() - busy;
    Ok(figures)
}

/// Asks one question after the other on one connection.
pub(crate) fn ask(server: SocketAddr, questions: &[&Question]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut replies = Vec::new();
    for question in questions {
        let length = u16::try_from(question.bytes.len())?;
        stream.write_all(&[&length.to_be_bytes()[..], &question.bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply)?;
        replies.push(reply);
    }
    Ok(replies)
}

/// The same load by dnsperf, as far as it makes it; none where it is not installed.
pub(crate) fn dnsperf(
    server: &Server,
    names: &str,
    seconds: u32,
) -> anyhow::Result<Option<Figures>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("names");
    fs::write(&file, names)?;
    let busy = server.busy_seconds();
    let output = Command::new("taskset")
        .args(["-c", GENERATORS_CORE, "dnsperf", "-m", "tcp", "-T", "1"])
        .args(["-s", &server.address.ip().to_string()])
        .args(["-p", &server.address.port().to_string()])
        .args(["-c", &CONNECTIONS.to_string()])
        .args(["-q", &(CONNECTIONS * OPEN).to_string()])
        .args(["-l", &seconds.to_string(), "-d"])
        .arg(&file)
        .output()?;
    let busy_seconds = server.busy_seconds() - busy;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |what: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.trim().starts_with(what))?;
        let words = line.split_once(':')?.1.split_whitespace().next()?;
        words.parse().ok()
    };
    if output.status.code() == Some(127) {
        return Ok(None);
    }
    ensure!(output.status.success(), "dnsperf: {text}");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of answers"
    )]
    let count = |what| number(what).unwrap_or(0.0) as u64;
    Ok(Some(Figures {
        seconds: number("Run time (s)").context("dnsperf tells no time")?,
        answers: count("Queries completed"),
        lost: count("Queries lost"),
        busy_seconds,
        ..Figures::default()
    }))
}

/// The questions as dnsperf reads them.
pub(crate) fn names(questions: &[Question]) -> String {
    let mut text = String::new();
    for question in questions {
        let (name, qtype) = question.words();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name} {qtype}");
    }
    text
}

const CONNECTIONS: usize = 8;
const OPEN: usize = 25;
