// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which upstream servers are asked, in which order, and for how long each is waited for. Time is handed in; no I/O.
//!
//! A server that does not reply in time is out for a second, then for two, four, up to thirty. No client waits for a server
//! that is out while another is not: when its time is over, a copy of one question is sent to it beside the others, and any
//! reply brings it back. When all are out, all are asked: better late than not at all. A server whose questions come back
//! to us is not asked at all until that is over.

use crate::config::Strategy;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// The servers of the configuration, in its order.
#[derive(Debug)]
pub(super) struct Upstreams {
    servers: Vec<Server>,
    strategy: Strategy,
    timeout: Duration,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    state: State,
    /// Smoothed, from question to reply.
    round_trip: Option<Duration>,
    looped: Looped,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Up,
    /// Out until a moment, after so many failures in a row.
    Out {
        until: Instant,
        failures: u32,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Looped {
    No,
    /// What it is sent comes back to us; looked at again then.
    Until(Instant),
    /// It is ourselves.
    Always,
}

/// One server that is to be asked, by its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Try {
    pub(super) server: usize,
    pub(super) address: SocketAddr,
    /// How long to wait for the reply.
    pub(super) patience: Duration,
}

/// What to do with a question.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    /// One after another.
    pub(super) tries: Vec<Try>,
    /// At once, beside the others: servers that are out and may be back.
    pub(super) probes: Vec<Try>,
}

/// How an upstream server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UpstreamState {
    /// It is asked.
    Up,
    /// It did not reply in time, and is tried again now and then.
    Down,
    /// What it is sent comes back to this server; it is not asked.
    Loop,
}

impl UpstreamState {
    /// The word that status and logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Loop => "loop",
        }
    }
}

impl Upstreams {
    /// Servers that are all up, but those that are ourselves.
    pub(super) fn new(
        servers: &[SocketAddr],
        own: &[SocketAddr],
        strategy: Strategy,
        timeout: Duration,
    ) -> Self {
        let server = |address: &SocketAddr| Server {
            address: *address,
            state: State::Up,
            round_trip: None,
            looped: if own.iter().any(|own| is_same(*own, *address)) {
                Looped::Always
            } else {
                Looped::No
            },
        };
        Self {
            servers: servers.iter().map(server).collect(),
            strategy,
            timeout,
        }
    }

    /// Whom to ask now; `round` is 0 at first and 1 when nobody replied, which doubles the patience.
    pub(super) fn plan(&mut self, now: Instant, round: u32) -> Plan {
        let count = self.servers.len();
        let first = match self.strategy {
            Strategy::Sequential => 0,
            Strategy::Random => fastrand::usize(..count.max(1)),
        };
        let numbers = (0..count).map(|at| (first + at) % count);
        let asked = numbers.filter(|at| self.servers[*at].looped == Looped::No);
        let (up, out): (Vec<_>, Vec<_>) =
            asked.partition(|at| self.servers[*at].state == State::Up);
        let is_any_up = !up.is_empty();
        let mut plan = Plan::default();
        for at in out.iter().filter(|_| is_any_up && round == 0) {
            if self.servers[*at].is_due(now) {
                plan.probes.push(self.attempt(*at, 0));
            }
        }
        let in_order = up.into_iter().chain(out);
        plan.tries = in_order.map(|at| self.attempt(at, round)).collect();
        plan
    }

    fn attempt(&self, server: usize, round: u32) -> Try {
        let Server {
            address,
            round_trip,
            ..
        } = self.servers[server];
        let expected = round_trip.map_or(UNKNOWN_PATIENCE, |time| time * 2);
        let patience = expected.clamp(PATIENCE_MIN, PATIENCE_MAX) * (1 + round);
        Try {
            server,
            address,
            patience: patience.min(self.timeout),
        }
    }

    /// The server replied, whatever it said, after this time.
    pub(super) fn replied(&mut self, server: usize, took: Duration) {
        let server = &mut self.servers[server];
        if server.state != State::Up {
            tracing::info!(server = %server.address, "DNS upstream is back");
        }
        server.state = State::Up;
        // RFC 6298 2.3.
        server.round_trip = Some(match server.round_trip {
            None => took,
            Some(before) => (before * 7 + took) / 8,
        });
    }

    /// The server was asked at `asked` and did not reply.
    pub(super) fn failed(&mut self, server: usize, asked: Instant, now: Instant) {
        let server = &mut self.servers[server];
        let failures = match server.state {
            State::Up => {
                tracing::warn!(server = %server.address, "DNS upstream does not reply");
                1
            }
            // Questions that were open when it went out, and probes, say nothing new.
            State::Out { until, .. } if asked < until => return,
            State::Out { failures, .. } => failures + 1,
        };
        server.state = State::Out {
            until: now + back_off(failures),
            failures,
        };
    }

    /// A question that it was sent came back to us.
    pub(super) fn looped(&mut self, server: usize, now: Instant) {
        let server = &mut self.servers[server];
        if server.looped == Looped::No {
            tracing::error!(
                server = %server.address,
                help = LOOP_HELP,
                "DNS upstream sends our questions back to us; it is not asked"
            );
        }
        if server.looped != Looped::Always {
            server.looped = Looped::Until(now + LOOPED_FOR);
        }
    }

    /// The servers whose loop may be over: their questions are to be followed once more.
    pub(super) fn loops_to_check(&mut self, now: Instant) -> Vec<(usize, SocketAddr)> {
        let mut due = Vec::new();
        for (at, server) in self.servers.iter_mut().enumerate() {
            if matches!(server.looped, Looped::Until(until) if until <= now) {
                // One check at a time.
                server.looped = Looped::Until(now + LOOPED_FOR);
                due.push((at, server.address));
            }
        }
        due
    }

    /// It replied to a question that did not come back.
    pub(super) fn loop_ended(&mut self, server: usize) {
        let server = &mut self.servers[server];
        if matches!(server.looped, Looped::Until(_)) {
            tracing::info!(server = %server.address, "DNS upstream is asked again: the loop is over");
            server.looped = Looped::No;
        }
    }

    /// The servers that are asked, with their numbers.
    pub(super) fn asked(&self) -> Vec<(usize, SocketAddr)> {
        let servers = self.servers.iter().enumerate();
        let asked = servers.filter(|(_, server)| server.looped == Looped::No);
        asked.map(|(at, server)| (at, server.address)).collect()
    }

    /// Each server with its state.
    pub(super) fn states(&self) -> Vec<(SocketAddr, UpstreamState)> {
        let state = |server: &Server| match (server.looped, server.state) {
            (Looped::Until(_) | Looped::Always, _) => UpstreamState::Loop,
            (Looped::No, State::Up) => UpstreamState::Up,
            (Looped::No, State::Out { .. }) => UpstreamState::Down,
        };
        let servers = self.servers.iter();
        servers
            .map(|server| (server.address, state(server)))
            .collect()
    }
}

impl Server {
    /// Whether its time out is over; asked once, since the next probe has its own time.
    fn is_due(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Out { until, failures } if *until <= now => {
                // Taken to fail until it replies, so that one is sent for each time out.
                *failures += 1;
                *until = now + back_off(*failures);
                true
            }
            _ => false,
        }
    }
}

/// Whether asking `other` is asking the one who listens at `own`.
fn is_same(own: SocketAddr, other: SocketAddr) -> bool {
    let is_here = own.ip().is_unspecified() && other.ip().is_loopback();
    own.port() == other.port() && (own.ip() == other.ip() || is_here)
}

/// 1, 2, 4 … 30 s.
fn back_off(failures: u32) -> Duration {
    let doubled = BACK_OFF_MIN * (1 << failures.saturating_sub(1).min(8));
    doubled.min(BACK_OFF_MAX)
}

/// What to do about a loop.
pub(crate) const LOOP_HELP: &str = "name in `recursors` a server that does not forward to this one, not the host's own resolver such as 127.0.0.53";
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Two round trips of a poor link.
const PATIENCE_MIN: Duration = Duration::from_millis(200);
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// Of a server that never replied yet: so that the next one is asked within a second.
const UNKNOWN_PATIENCE: Duration = Duration::from_millis(800);
/// Whoever mends a loop sees it within a minute.
const LOOPED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [&str; 3] = ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"];

    fn upstreams() -> Upstreams {
        let servers = SERVERS.map(|text| text.parse().unwrap());
        Upstreams::new(&servers, &[], Strategy::Sequential, Duration::from_secs(2))
    }

    fn numbers(tries: &[Try]) -> Vec<usize> {
        tries.iter().map(|attempt| attempt.server).collect()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_reply_is_asked_last_and_probed_once_for_each_time_out() {
        let (mut upstreams, began) = (upstreams(), Instant::now());
        assert_eq!(numbers(&upstreams.plan(began, 0).tries), [0, 1, 2]);
        upstreams.failed(0, began, began);
        // Others were asked before it went out.
        upstreams.failed(0, began, began + seconds(1) / 2);
        let plan = upstreams.plan(began + seconds(1) / 2, 0);
        assert_eq!(
            (numbers(&plan.tries), plan.probes.len()),
            (vec![1, 2, 0], 0)
        );
        let mut at = began + seconds(1);
        for wait in [2, 4, 8, 16, 30, 30] {
            let plan = upstreams.plan(at, 0);
            assert_eq!(
                (numbers(&plan.tries), numbers(&plan.probes)),
                (vec![1, 2, 0], vec![0])
            );
            assert!(upstreams.plan(at, 0).probes.is_empty(), "one is on its way");
            upstreams.failed(0, at, at + seconds(1) / 2);
            assert!(upstreams.plan(at + seconds(wait) / 2, 0).probes.is_empty());
            at += seconds(wait);
        }
        upstreams.replied(0, Duration::from_millis(20));
        assert_eq!(numbers(&upstreams.plan(at, 0).tries), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_out_all_are_asked_and_none_is_probed() {
        let (mut upstreams, began) = (upstreams(), Instant::now());
        for server in 0..3 {
            upstreams.failed(server, began, began);
        }
        let plan = upstreams.plan(began + seconds(5), 0);
        assert_eq!(
            (numbers(&plan.tries), plan.probes.len()),
            (vec![0, 1, 2], 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn patience_follows_the_round_trip_within_bounds() {
        let (mut upstreams, now) = (upstreams(), Instant::now());
        let patience =
            |upstreams: &mut Upstreams, round| upstreams.plan(now, round).tries[0].patience;
        assert_eq!(patience(&mut upstreams, 0), UNKNOWN_PATIENCE);
        upstreams.replied(0, Duration::from_millis(1));
        assert_eq!(patience(&mut upstreams, 0), PATIENCE_MIN);
        assert_eq!(patience(&mut upstreams, 1), PATIENCE_MIN * 2);
        for _ in 0..40 {
            upstreams.replied(0, Duration::from_millis(300));
        }
        let learned = patience(&mut upstreams, 0);
        assert!((590..=600).contains(&learned.as_millis()), "{learned:?}");
        upstreams.timeout = Duration::from_millis(100);
        assert_eq!(patience(&mut upstreams, 1), upstreams.timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_ends_when_a_question_does_not_come_back_and_we_ourselves_are_never_asked() {
        let own = ["127.0.0.1:8600", "0.0.0.0:53"].map(|text| text.parse().unwrap());
        let servers = ["127.0.0.1:8600", "127.0.0.1:53", "192.0.2.1:53"];
        let servers = servers.map(|text| text.parse().unwrap());
        let mut upstreams = Upstreams::new(&servers, &own, Strategy::Sequential, seconds(2));
        let now = Instant::now();
        assert_eq!(numbers(&upstreams.plan(now, 0).tries), [2]);
        upstreams.looped(2, now);
        upstreams.looped(0, now);
        assert_eq!(upstreams.plan(now, 0), Plan::default());
        assert!(upstreams.loops_to_check(now + seconds(59)).is_empty());
        let due = upstreams.loops_to_check(now + seconds(60));
        assert_eq!(due, [(2, servers[2])]);
        assert!(upstreams.loops_to_check(now + seconds(60)).is_empty());
        upstreams.loop_ended(2);
        upstreams.loop_ended(0);
        assert_eq!(numbers(&upstreams.plan(now, 0).tries), [2]);
        let states = upstreams
            .states()
            .into_iter()
            .map(|(_, state)| state.as_str());
        assert_eq!(states.collect::<Vec<_>>(), ["loop", "loop", "up"]);
    }
}
