// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both directions of a connection together: who ended first, what a failure of one means for the other, which deadline
//! holds.
//!
//! In: readiness of two sockets and the time. Out: events. It waits for nothing itself.

use super::{
    Ended, Relay,
    answer::Answer,
    direction::{Broken, Direction},
    pipe::Lent,
    stall::Stall,
    wire::Sink,
};
use crate::{
    reason::{Reason, Side},
    sockets::{give_up_after, keep_alive},
};
use bytes::Bytes;
use discovery_core::telemetry::{ByteDirection, EjectionCause, ProxyPhase};
use rustix::io::Errno;
use std::{
    cell::RefCell,
    mem,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};

/// What a poll of the flow can come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// What has to be watched, or the deadline, is another.
    Changed,
    /// It is over.
    Ended(Reason),
}

/// The two directions of one connection.
#[derive(Debug)]
pub(super) struct Flow<'c> {
    relay: &'c Relay<'c>,
    up: Direction<Lent>,
    down: Direction<Lent>,
    up_is_done: bool,
    down_is_done: bool,
    /// The endpoint took no more bytes; what it has sent before is still delivered.
    upstream_failed: Option<Reason>,
    client_finished_first: bool,
    age: Age,
    /// The age at which a byte moved last, in microseconds: half of what an `Instant` takes.
    active_at: u64,
    answer: Answer,
    /// Of the endpoint, which takes what goes up.
    upstream_stall: Stall,
    client_stall: Stall,
}

/// How long a connection is there: the endpoint's socket is set anew for one that lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Age {
    Young,
    Lasting,
}

impl<'c> Flow<'c> {
    pub(super) fn new(relay: &'c Relay<'c>, lead: &mut Bytes) -> Self {
        Self {
            relay,
            up: Direction::beginning_with(mem::take(lead)),
            down: Direction::default(),
            up_is_done: false,
            down_is_done: false,
            upstream_failed: None,
            client_finished_first: false,
            age: Age::Young,
            active_at: micros(relay.live.age()),
            answer: Answer::default(),
            upstream_stall: Stall::default(),
            client_stall: Stall::default(),
        }
    }

    /// Moves what can be moved.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let before = self.shape();
        let moved = self.moved();
        let ended = BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(BUFFER_BYTES, 0);
            self.poll_up(cx, buffer)
                .or_else(|| self.poll_down(cx, buffer))
        });
        self.count(moved);
        if let Some(reason) = ended {
            return Poll::Ready(Event::Ended(reason));
        }
        if self.shape() == before {
            Poll::Pending
        } else {
            Poll::Ready(Event::Changed)
        }
    }

    /// When it ends, is late with an answer or has lasted, unless a byte moves.
    pub(super) fn deadline(&self) -> Instant {
        let active_at = self.relay.live.began() + Duration::from_micros(self.active_at);
        let end = active_at + self.silence().0;
        let answer = self.answer.deadline(self.relay.timeouts.answer);
        let lasting = (self.age == Age::Young).then_some(LASTING_AFTER);
        let peer = self.relay.timeouts.peer;
        let [up, down] = [self.upstream_stall, self.client_stall].map(|stall| stall.deadline(peer));
        let ages = [answer, lasting, up, down].into_iter().flatten();
        ages.map(|age| self.relay.live.began() + age)
            .fold(end, Instant::min)
    }

    /// Why it has to end now, when no byte moved for too long. An answer that is late is told of, and ends nothing.
    pub(super) fn expired(&mut self) -> Option<Reason> {
        let (timeout, age) = (self.relay.timeouts.answer, self.relay.live.age());
        if self.answer.is_late(age, timeout) {
            self.unanswered();
        }
        if self.age == Age::Young && age >= LASTING_AFTER {
            self.age = Age::Lasting;
            self.lasts();
        }
        if let Some(reason) = self.lost() {
            return Some(reason);
        }
        let (timeout, reason) = self.silence();
        let active_at = Duration::from_micros(self.active_at);
        (self.relay.live.age() >= active_at + timeout).then_some(reason)
    }

    /// Has both peers looked after. It fails only on a socket that is gone, and reading tells why.
    fn lasts(&self) {
        let Relay {
            client,
            upstream,
            timeouts,
            ..
        } = *self.relay;
        let _ = keep_alive(client, timeouts.peer);
        let _ = keep_alive(upstream, timeouts.peer);
        if !self.upstream_stall.is_ours() {
            let _ = give_up_after(upstream, Some(timeouts.peer));
        }
    }

    /// Who has not taken a byte for too long, as it is called then.
    fn lost(&mut self) -> Option<Reason> {
        let (peer, age) = (self.relay.timeouts.peer, self.relay.live.age());
        let moved = self.moved();
        let up = self.upstream_stall.is_over(age, peer);
        let up = up.then(|| (Side::Upstream, self.up.push(self.relay.upstream)));
        let down = self.client_stall.is_over(age, peer);
        let down = down.then(|| (Side::Client, self.down.push(self.relay.client)));
        self.count(moved);
        [up, down]
            .into_iter()
            .flatten()
            .find_map(|(side, pushed)| match pushed {
                Ok(0) => Some(side.failed(&Errno::TIMEDOUT.into())),
                Ok(_) => None,
                Err(error) => Some(side.failed(&error)),
            })
    }

    /// What is relayed.
    pub(super) fn relay(&self) -> &'c Relay<'c> {
        self.relay
    }

    /// The side's socket, when a failure of it would go unnoticed, because it is not being read.
    ///
    /// An endpoint whose bytes the client is slow to take may fail meanwhile: what it sent is delivered first.
    pub(super) fn watched(&self, side: Side) -> Option<&'c TcpStream> {
        match side {
            Side::Client => self.up.is_not_reading().then_some(self.relay.client),
            Side::Upstream => self.down_is_done.then_some(self.relay.upstream),
        }
    }

    /// The end with its figures.
    pub(super) fn ended(&self, reason: Reason) -> Ended {
        let gave_up = matches!(
            reason,
            Reason::ClientReset | Reason::Idle | Reason::HalfCloseTimeout
        );
        let timeout = self.relay.timeouts.answer;
        if gave_up && self.answer.is_given_up(self.relay.live.age(), timeout) {
            self.unanswered();
        }
        let (up, down) = (self.up.bytes(), self.down.bytes());
        let is_clean = matches!(reason, Reason::Ok | Reason::ClientReset);
        let is_probe = is_clean && self.client_finished_first && (up, down) == (0, 0);
        Ended {
            reason: if is_probe { Reason::Probe } else { reason },
            is_reset: reason != Reason::Ok,
            phase: if self.up_is_done || self.down_is_done {
                ProxyPhase::Last
            } else {
                ProxyPhase::Data
            },
            up,
            down,
            spliced: self.spliced(),
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<Reason> {
        if self.up_is_done {
            return None;
        }
        let Relay {
            client,
            upstream,
            pipes,
            ..
        } = *self.relay;
        match self.up.poll(cx, client, upstream, buffer, pipes) {
            Poll::Pending => return None,
            Poll::Ready(Ok(())) => {
                self.client_finished_first |= !self.down_is_done;
                // Where both ways are done the sockets are closed next, which says the same.
                if !self.down_is_done
                    && let Err(error) = upstream.finish()
                {
                    self.upstream_failed = Some(Side::Upstream.failed(&error));
                }
            }
            Poll::Ready(Err(Broken::Source(error))) => {
                self.client_finished_first |= !self.down_is_done;
                return Some(Side::Client.failed(&error));
            }
            Poll::Ready(Err(Broken::Sink(error))) => {
                self.upstream_failed = Some(Side::Upstream.failed(&error));
            }
        }
        self.up_is_done = true;
        self.relay.live.finished(ByteDirection::Up);
        self.active_at = micros(self.relay.live.age());
        self.down_is_done
            .then(|| self.upstream_failed.unwrap_or(Reason::Ok))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<Reason> {
        if self.down_is_done {
            return None;
        }
        let Relay {
            client,
            upstream,
            pipes,
            ..
        } = *self.relay;
        match self.down.poll(cx, upstream, client, buffer, pipes) {
            Poll::Pending => return None,
            // All that it sent is delivered; a FIN now would make the client take it for whole.
            Poll::Ready(Ok(())) if self.upstream_failed.is_some() => return self.upstream_failed,
            Poll::Ready(Ok(())) => {
                if !self.up_is_done
                    && let Err(error) = client.finish()
                {
                    return Some(Side::Client.failed(&error));
                }
            }
            Poll::Ready(Err(Broken::Source(error))) => return Some(Side::Upstream.failed(&error)),
            Poll::Ready(Err(Broken::Sink(error))) => return Some(Side::Client.failed(&error)),
        }
        self.down_is_done = true;
        self.answer.finished();
        self.relay.live.finished(ByteDirection::Down);
        self.active_at = micros(self.relay.live.age());
        self.up_is_done.then_some(Reason::Ok)
    }

    /// Bytes so far: up, down, and those of both that never left the kernel.
    fn moved(&self) -> (u64, u64, u64) {
        (self.up.bytes(), self.down.bytes(), self.spliced())
    }

    /// Counts what moved since.
    fn count(&mut self, (up, down, spliced): (u64, u64, u64)) {
        let (up, down) = (self.up.bytes() - up, self.down.bytes() - down);
        if self.spliced() > spliced {
            self.relay.counted.spliced(self.spliced() - spliced);
        }
        let (relay, age) = (self.relay, || self.relay.live.age());
        // What a way owes that is over will never be taken.
        let up_owes = if self.up_is_done { 0 } else { self.up.owed() };
        let down_owes = if self.down_is_done {
            0
        } else {
            self.down.owed()
        };
        self.upstream_stall.turned(relay.upstream, up, up_owes, age);
        self.client_stall.turned(relay.client, down, down_owes, age);
        if up > 0 {
            self.relay.counted.moved(ByteDirection::Up, up);
        }
        if down > 0 {
            self.relay.counted.moved(ByteDirection::Down, down);
        }
        if up + down > 0 {
            self.relay.live.moved(up, down);
            let age = self.relay.live.age();
            self.active_at = micros(age);
            let was_asked = self.relay.timeouts.answer.is_some();
            if was_asked && self.answer.moved(age, up > 0, down > 0) {
                self.relay.live.life().answered();
            }
        }
    }

    /// Tells that the client was left without an answer.
    fn unanswered(&self) {
        self.relay.counted.unanswered();
        let life = self.relay.live.life();
        if life.unanswered() {
            self.relay.counted.ejected(EjectionCause::Silence);
            let address = life.address();
            tracing::info!(%address, "Endpoint ejected: it leaves clients without an answer while others answer");
        }
    }

    fn spliced(&self) -> u64 {
        self.up.spliced() + self.down.spliced()
    }

    /// How long it may be silent, and what it ends as then.
    fn silence(&self) -> (Duration, Reason) {
        if self.up_is_done || self.down_is_done {
            (self.relay.timeouts.half_close, Reason::HalfCloseTimeout)
        } else {
            let asked = self.relay.idle_seconds;
            let asked = asked.map(|seconds| Duration::from_secs(seconds.get().into()));
            (asked.unwrap_or(self.relay.timeouts.idle), Reason::Idle)
        }
    }

    /// What decides on the deadline and on what is watched.
    fn shape(&self) -> [bool; 5] {
        [
            self.up.is_not_reading(),
            self.down.is_not_reading(),
            self.up_is_done,
            self.down_is_done,
            self.answer.is_awaited(),
        ]
    }
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

thread_local! {
    /// The one buffer of a thread. Nobody keeps it beyond one poll.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Most connections are over by then, and spare four system calls. No peer is given up sooner.
const LASTING_AFTER: Duration = Duration::from_secs(1);

/// A full receive queue of a fast stream in one call; measured, twice as fast as 16 KiB.
const BUFFER_BYTES: usize = 64 * 1_024;
