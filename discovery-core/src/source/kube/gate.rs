// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides which list may ask the API server while the server as such is sick: the one place where that is known.
//!
//! In: what became of each feed's requests, and the time. Out: go, or wait. As long as one feed is in good standing a
//! failure is that feed's own affair. When none is, the gate closes: one scout asks, at the pace of one backoff, and the
//! others are held until it was answered; then they go, each after a short draw. Connections that never come about
//! cost a server nothing and are tried again sooner than requests that it had. Pure: no I/O, no clock, randomness is seeded.

use super::failure::Failure;
use crate::source::{Backoff, BackoffRule};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A feed, as the gate knows it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct SeatId(u32);

/// Whether a feed may ask now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It may.
    Go,
    /// Not before then.
    Until(Instant),
    /// Not before the scout's request was answered.
    UntilNews,
}

/// The machine: one for each source.
#[derive(Debug)]
pub(super) struct Gate {
    seats: BTreeMap<SeatId, Seat>,
    seats_given: u32,
    closed: Option<Closed>,
    scouts: u64,
    backoff: Backoff,
    random: fastrand::Rng,
}

#[derive(Debug, Default)]
struct Seat {
    /// Its last request was answered well, and what came of it has not broken since.
    is_good: bool,
    held_until: Option<Instant>,
    /// Its place among those that were scouts; 0 for one that never was.
    scouted: u64,
}

#[derive(Debug)]
struct Closed {
    until: Instant,
    /// Whose request is on its way.
    scout: Option<SeatId>,
}

impl Gate {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seats: BTreeMap::new(),
            seats_given: 0,
            closed: None,
            scouts: 0,
            backoff: Backoff::new(RULE, seed),
            random: fastrand::Rng::with_seed(seed ^ 2),
        }
    }

    /// Takes a feed in.
    pub(super) fn join(&mut self) -> SeatId {
        self.seats_given += 1;
        let id = SeatId(self.seats_given);
        self.seats.insert(id, Seat::default());
        id
    }

    /// The feed has ended. Others may have waited for its answer.
    pub(super) fn leave(&mut self, id: SeatId) {
        self.seats.remove(&id);
        if let Some(closed) = &mut self.closed
            && closed.scout == Some(id)
        {
            closed.scout = None;
        }
    }

    /// Whether the feed may ask. Whoever is let through a closed gate is the scout, and owes a report.
    pub(super) fn admit(&mut self, id: SeatId, now: Instant) -> Admission {
        let turn = self.turn(id);
        let Some(seat) = self.seats.get_mut(&id) else {
            return Admission::UntilNews;
        };
        let Some(closed) = &mut self.closed else {
            return match seat.held_until {
                Some(until) if until > now => Admission::Until(until),
                _ => Admission::Go,
            };
        };
        if closed.scout.is_some_and(|scout| scout != id) {
            return Admission::UntilNews;
        }
        let until = closed.until + TURN * turn;
        if until > now {
            return Admission::Until(until);
        }
        self.scouts += 1;
        seat.scouted = self.scouts;
        closed.scout = Some(id);
        Admission::Go
    }

    /// How many feeds go before this one, should they wait: those that were scouts longer ago. What one feed asks for may
    /// be all that is sick.
    fn turn(&self, id: SeatId) -> u32 {
        let rank = |id: SeatId| (self.seats.get(&id).map(|seat| seat.scouted), id);
        let before = self
            .seats
            .keys()
            .filter(|other| rank(**other) < rank(id))
            .count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// A request was answered, be it with a refusal: the server as such is well.
    pub(super) fn answered(&mut self, id: SeatId, now: Instant) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.is_good = true;
            seat.held_until = None;
        }
        self.backoff.succeeded(now);
        if self.closed.take().is_some() {
            let random = &mut self.random;
            for (_, seat) in self.seats.iter_mut().filter(|(other, _)| **other != id) {
                seat.held_until = Some(now + SPREAD.mul_f64(random.f64()));
            }
        }
    }

    /// The server failed to answer. True when the gate says when to ask again, false when the feed has to.
    pub(super) fn failed(&mut self, id: SeatId, now: Instant, failure: &Failure) -> bool {
        self.lost(id);
        if self.closed.is_none() && self.seats.values().any(|seat| seat.is_good) {
            return false;
        }
        // A request that was on its way when the gate closed says nothing new.
        let is_news = self
            .closed
            .as_ref()
            .is_none_or(|closed| closed.scout == Some(id));
        if is_news {
            if let Some(seat) = self.seats.get_mut(&id) {
                self.scouts += 1;
                seat.scouted = self.scouts;
            }
            let cap = cap(failure);
            let wait = self.backoff.failed_asked(now, cap, failure.retry_after);
            self.closed = Some(Closed {
                until: now + wait,
                scout: None,
            });
        }
        true
    }

    /// What the feed was reading broke.
    pub(super) fn lost(&mut self, id: SeatId) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.is_good = false;
        }
    }

    /// Whether the server as such is taken for sick.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }
}

/// How long to wait at most after such a failure.
pub(super) fn cap(failure: &Failure) -> Duration {
    if failure.was_asked {
        RULE.cap
    } else {
        AWAY_CAP
    }
}

/// The figures of Kubernetes' own clients, forgiven sooner: what is asked first after an outage is a watch, not a list.
const RULE: BackoffRule = BackoffRule {
    first: Duration::from_millis(800),
    cap: Duration::from_secs(30),
    hold: Duration::from_secs(30),
};
/// A port that is closed costs its server nothing, and is found open that soon.
const AWAY_CAP: Duration = Duration::from_secs(5);
/// Among how long the held feeds spread once the scout was answered.
const SPREAD: Duration = Duration::from_millis(1500);
/// By how much each feed stands back for the one before it.
const TURN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
