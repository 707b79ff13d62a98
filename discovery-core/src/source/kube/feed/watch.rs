// SPDX-License-Identifier: MIT OR Apache-2.0
//! One watch: from its request to its end, event by event.

use super::{Closed, Feed, OwnNode, now};
use crate::source::{
    FailureReason,
    kube::{
        answer::Answer, decode::Event, engine::SHORT_STREAM, failure::Failure, framing::Lines,
        request::Asked,
    },
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a watch ended.
enum End {
    /// The server closed it.
    Closed,
    /// It was given up for a new list.
    Relist(FailureReason),
    Failed(Failure),
    NobodyListens,
}

/// The moments in the life of a watch at which its silence means something.
struct Life {
    /// It has stood long enough to be one; none once that was noted.
    lives_at: Option<Instant>,
    /// The server should have ended it by now; none once that was noted.
    suspect_at: Option<Instant>,
    /// It is given up.
    deadline: Instant,
    last_line: Option<Instant>,
}

impl Life {
    fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            lives_at: Some(now + SHORT_STREAM),
            suspect_at: Some(now + timeout + WATCH_TIME_MARGIN / 2),
            deadline: now + timeout + WATCH_TIME_MARGIN,
            last_line: None,
        }
    }

    fn next(&self) -> Instant {
        let moments = [self.lives_at, self.suspect_at].into_iter().flatten();
        moments.fold(self.deadline, Instant::min)
    }

    /// Whether it spoke so recently that it cannot be dead.
    fn spoke_lately(&self) -> bool {
        self.last_line
            .is_some_and(|line| line.elapsed() < SPOKE_LATELY)
    }
}

impl Feed {
    pub(super) async fn watch(&mut self, version: &str, timeout: Duration) -> Result<(), Closed> {
        let uri = self.resource.watch_uri(version, timeout);
        self.out.status().watch_begun(self.out.kind());
        let asked = Asked::Resource("watch", &self.resource);
        let end = match self.asker.ask(&asked, &uri, WATCH_ANSWER_TIME).await {
            Ok(answer) => self.follow(answer, timeout).await,
            Err(failure) => End::Failed(failure),
        };
        self.watch_ended(end).await
    }

    async fn follow(&mut self, mut answer: Answer, timeout: Duration) -> End {
        self.seat.answered();
        if let Some(reason) = self.engine.watching(now()) {
            return End::Relist(reason);
        }
        self.out.watching();
        let (mut lines, mut life) = (Lines::default(), Life::new(timeout));
        loop {
            let piece = match timeout_at(life.next(), answer.next()).await {
                Ok(Ok(Some(piece))) => piece,
                // What is left in `lines` was cut off with the stream: the next watch repeats it.
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(failure)) => return End::Failed(failure),
                Err(_) => match self.moment(&mut life) {
                    Some(end) => return end,
                    None => continue,
                },
            };
            let (status, kind) = (self.out.status(), self.out.kind());
            status.add_bytes(kind, piece.wire_bytes, piece.bytes.len());
            lines.push(&piece.bytes);
            if let Err(end) = self.read_lines(&mut lines, &mut life).await {
                return end;
            }
        }
    }

    /// Nothing came up to the next moment of the watch's life; some end when that is its last.
    fn moment(&self, life: &mut Life) -> Option<End> {
        let now = Instant::now();
        if life.lives_at.take_if(|at| *at <= now).is_some() {
            // A watch that stands and has nothing to tell is a sign of life; caches that are cut off end it at once.
            self.out.heard();
        }
        if life.suspect_at.take_if(|at| *at <= now).is_some() && !life.spoke_lately() {
            self.out.suspect();
        }
        if now < life.deadline {
            return None;
        }
        if life.spoke_lately() {
            // It does not know the parameter by which watches end.
            return Some(End::Closed);
        }
        Some(End::Failed(silent()))
    }

    /// Takes in the whole lines.
    async fn read_lines(&mut self, lines: &mut Lines, life: &mut Life) -> Result<(), End> {
        while let Some(line) = lines.next().map_err(|_| End::Failed(too_long()))? {
            let names = &mut self.translator.names;
            let event = self.resource.event(line, &self.out.keys, names);
            self.event(event).await?;
            self.out.heard();
            life.last_line = Some(Instant::now());
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        let updates = match event {
            Event::Stated(reading) => {
                self.progressed(&reading.version)?;
                if let Some(node) = self.translator.own_node(&reading) {
                    self.out.tell_own(node);
                }
                let identified = self.out.identify(reading.cluster_uid.as_deref()).await;
                identified.map_err(|Closed| End::NobodyListens)?;
                self.translator.changed(reading)
            }
            Event::Gone { named, version } => {
                self.progressed(&version)?;
                self.out.tell_own(OwnNode::default());
                self.translator.gone(named)
            }
            Event::Bookmark { version } => return self.progressed(&version),
            Event::Error { code, message } => return Err(End::Failed(in_stream(code, &message))),
            Event::Refused(reading) => {
                self.progressed(&reading.version)?;
                let name = reading.name.clone();
                let problems = self.translator.changed(reading);
                self.send_all(problems).await?;
                return self.undecodable(FailureReason::Undecodable, &name);
            }
            Event::Undecodable { reason, why } => return self.undecodable(reason, &why),
        };
        self.send_all(updates).await
    }

    async fn send_all(&self, updates: Vec<crate::store::Update>) -> Result<(), End> {
        let sent = self.out.send_all(updates).await;
        sent.map_err(|Closed| End::NobodyListens)
    }

    fn progressed(&mut self, version: &str) -> Result<(), End> {
        let progressed = self.engine.progressed(now(), version);
        progressed.map_err(End::Failed)?;
        self.out.reached(self.engine.version());
        Ok(())
    }

    fn undecodable(&mut self, reason: FailureReason, what: &str) -> Result<(), End> {
        self.out.status().failed(self.out.kind(), reason);
        self.out.status().rejected(self.out.kind(), reason);
        tracing::warn!(kind = %self.out.kind(), %reason, what, "Watch event refused");
        if self.engine.undecodable(now(), reason) {
            return Err(End::Relist(reason));
        }
        Ok(())
    }

    async fn watch_ended(&mut self, end: End) -> Result<(), Closed> {
        let mut failure = match end {
            End::NobodyListens => return Err(Closed),
            End::Relist(reason) => {
                self.out.relisting(reason);
                return Ok(());
            }
            End::Failed(failure) => failure,
            End::Closed => match self.engine.watch_closed(now()) {
                Err(failure) => failure,
                Ok(relist) => {
                    self.out.heard();
                    if let Some(reason) = relist {
                        self.out.relisting(reason);
                    }
                    return Ok(());
                }
            },
        };
        self.report(&mut failure);
        if failure.reason == FailureReason::TooLarge {
            self.out.status().rejected(self.out.kind(), failure.reason);
        }
        if self.engine.watch_failed(now(), &failure) {
            self.out.relisting(failure.reason);
        }
        self.out.failed("watch", &failure).await
    }
}

fn in_stream(code: u16, message: &str) -> Failure {
    let reason = match code {
        410 => FailureReason::Expired,
        _ => FailureReason::InStream,
    };
    let message: String = message.chars().take(400).collect();
    Failure::new(reason, format!("error {code} inside the watch: {message}"))
}

fn silent() -> Failure {
    let text = "the watch was silent beyond its end";
    Failure::new(FailureReason::Silent, text)
}

fn too_long() -> Failure {
    let text = "a line of the watch is longer than the limit";
    Failure::new(FailureReason::TooLarge, text)
}

/// Servers send the head of a watch at once.
const WATCH_ANSWER_TIME: Duration = Duration::from_secs(15);
/// How much longer than asked for a watch may last.
const WATCH_TIME_MARGIN: Duration = Duration::from_secs(5);
const SPOKE_LATELY: Duration = Duration::from_secs(10);
