// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to ask Consul again, and what an answer is worth: the rules of blocking queries.
//!
//! In: answers with the time at which they came. Out: how to ask next, after which pause, and whether the answer says
//! something new. Pure: time is handed in, randomness is seeded.
//!
//! - An index that goes backward is forgotten and the next question asked without one. Index 0, or none, is never waited on.
//! - After a failure the next question waits for nothing: an agent that came back with less would let an index that it has
//!   not reached yet wait to the end.
//! - A return is no change: the same body says nothing new, and each early return without news doubles the pause.
//! - News costs a token of a bucket of two that refills in half a second, so that a flapping check is not asked about all day.
//! - An answer of a server without leader, or too far behind it, is believed only while the index moves forward; the next
//!   question goes to the leader.
//! - An index that went backward to an empty answer looks like a server that lost its data: what was known holds until the
//!   emptiness has stood for a minute.

use super::client::{Ask, Reply};
use std::time::{Duration, Instant};

/// The state of one blocking query.
#[derive(Clone, Debug)]
pub(super) struct Blocking {
    wait: Duration,
    stale_max: Duration,
    index: Option<u64>,
    /// What the last answer that counted said.
    digest: Option<u64>,
    asked_at: Option<Instant>,
    /// The last answer came from a server that lags: ask the leader.
    to_leader: bool,
    /// The last question failed: ask how things are before waiting for changes.
    asks_anew: bool,
    /// Since when an empty answer after a lost index is distrusted.
    emptied_at: Option<Instant>,
    held_nothing: bool,
    idle_returns: u32,
    tokens: f64,
    refilled_at: Option<Instant>,
    random: fastrand::Rng,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    /// It says something new and is to be believed.
    pub(super) is_news: bool,
    /// It tells that the view is current.
    pub(super) is_fresh: bool,
    /// How long to wait before asking again.
    pub(super) pause: Duration,
}

impl Blocking {
    /// A query that was never asked; `wait` is how long Consul may hold an answer back, `stale_max` how far the server that
    /// answers may lag behind its leader.
    pub(super) fn new(wait: Duration, stale_max: Duration, seed: u64) -> Self {
        Self {
            wait,
            stale_max,
            index: None,
            digest: None,
            asked_at: None,
            to_leader: false,
            asks_anew: false,
            emptied_at: None,
            held_nothing: true,
            idle_returns: 0,
            tokens: BURST,
            refilled_at: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// How to ask next; `share` is what part of the usual wait there is a connection for.
    pub(super) fn ask(&mut self, now: Instant, share: f64) -> Ask {
        self.asked_at = Some(now);
        let wait = self.wait.mul_f64(share).max(WAIT_MIN);
        Ask {
            block: self
                .index
                .filter(|_| !self.asks_anew)
                .map(|index| (index, wait)),
            stale: !self.to_leader,
        }
    }

    /// Takes an answer in; `is_empty` when it lists nothing.
    pub(super) fn answered(&mut self, now: Instant, reply: &Reply, is_empty: bool) -> Verdict {
        // What the same words leave out is part of what they say.
        let seed = u64::from(reply.is_filtered);
        let digest = xxhash_rust::xxh3::xxh3_64_with_seed(&reply.body, seed);
        let (before, next) = (self.index, reply.index.filter(|index| *index > 0));
        let lags = !reply.knows_leader || reply.last_contact > self.stale_max;
        let went_back = matches!((before, next), (Some(before), Some(next)) if next < before);
        let lost = went_back || (before.is_some() && next.is_none());
        self.to_leader = lags;
        self.asks_anew = false;
        if lags && lost {
            // A lagging server tells the past, which we know already.
            return self.nothing_new(now, false);
        }
        self.index = if went_back { None } else { next };
        if self.distrusts(now, lost, is_empty) {
            return self.nothing_new(now, true);
        }
        if self.digest.replace(digest) == Some(digest) {
            return self.nothing_new(now, !lags);
        }
        self.held_nothing = is_empty;
        self.idle_returns = 0;
        Verdict {
            is_news: true,
            is_fresh: !lags,
            pause: self.take_token(now),
        }
    }

    /// The next question waits for nothing: the agent may be another one than before.
    pub(super) fn ask_anew(&mut self) {
        self.asks_anew = true;
    }

    /// Notes that there was no answer. A server that lagged is better than a leader that is not there.
    pub(super) fn failed(&mut self) {
        self.to_leader = false;
        self.asks_anew = true;
    }

    /// Whether an answer looks like that of a server which lost its data.
    fn distrusts(&mut self, now: Instant, lost: bool, is_empty: bool) -> bool {
        if !is_empty || self.held_nothing {
            self.emptied_at = None;
            return false;
        }
        if lost {
            self.emptied_at.get_or_insert(now);
        }
        let held = self
            .emptied_at
            .map(|since| now.saturating_duration_since(since));
        let distrusts = held.is_some_and(|held| held < EMPTY_HOLD);
        if distrusts {
            // Asked without index, so that the answer is not waited for.
            self.index = None;
        } else {
            self.emptied_at = None;
        }
        distrusts
    }

    fn nothing_new(&mut self, now: Instant, is_fresh: bool) -> Verdict {
        let asked = self.asked_at.unwrap_or(now);
        let waited = now.saturating_duration_since(asked);
        let pause = if waited >= PAUSE_MAX {
            self.idle_returns = 0;
            Duration::ZERO
        } else {
            let doubled = PAUSE_MIN.saturating_mul(1 << self.idle_returns.min(16));
            self.idle_returns = self.idle_returns.saturating_add(1);
            self.jittered(doubled.min(PAUSE_MAX))
        };
        Verdict {
            is_news: false,
            is_fresh,
            pause,
        }
    }

    fn take_token(&mut self, now: Instant) -> Duration {
        let since = self.refilled_at.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since);
        self.tokens = BURST.min(self.tokens + passed.as_secs_f64() / REFILL.as_secs_f64()) - 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        let missing = REFILL.mul_f64(-self.tokens);
        self.jittered(missing)
    }

    /// Between three quarters and the whole, so that watchers of one agent do not keep step.
    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.75 + 0.25 * self.random.f64())
    }
}

/// Shorter waits are polling.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The first pause after a return without news, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Answers with news that may follow each other at once, and how long the next takes.
const BURST: f64 = 2.0;
const REFILL: Duration = Duration::from_millis(500);
/// Long enough for hosts to register again with a server that came back empty.
const EMPTY_HOLD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(45);
    const STALE_MAX: Duration = Duration::from_secs(30);

    fn query() -> Blocking {
        Blocking::new(WAIT, STALE_MAX, 7)
    }

    fn reply(index: u64, body: &str) -> Reply {
        Reply {
            body: body.into(),
            index: Some(index),
            knows_leader: true,
            ..Reply::default()
        }
    }

    /// Asks, and answers after `after`.
    fn turn(query: &mut Blocking, now: &mut Instant, after: Duration, reply: &Reply) -> Verdict {
        query.ask(*now, 1.0);
        *now += after;
        query.answered(*now, reply, reply.body == b"[]")
    }

    #[test]
    fn the_first_question_waits_for_nothing_and_the_next_for_the_index() {
        let (mut query, now) = (query(), Instant::now());
        assert_eq!(query.ask(now, 1.0).block, None);
        let verdict = query.answered(now, &reply(7, "[1]"), false);
        assert_eq!(
            verdict,
            Verdict {
                is_news: true,
                is_fresh: true,
                pause: Duration::ZERO
            }
        );
        assert_eq!(query.ask(now, 1.0).block, Some((7, WAIT)));
        assert_eq!(query.ask(now, 0.1).block, Some((7, WAIT / 10)));
    }

    #[test]
    fn f30_an_index_that_goes_backward_is_forgotten() {
        let (mut query, mut now) = (query(), Instant::now());
        turn(&mut query, &mut now, Duration::ZERO, &reply(900, "[1]"));
        let verdict = turn(&mut query, &mut now, Duration::ZERO, &reply(12, "[2]"));
        assert!(verdict.is_news, "a body that differs counts");
        assert_eq!(query.ask(now, 1.0).block, None, "asked from the start");
        turn(&mut query, &mut now, Duration::ZERO, &reply(12, "[2]"));
        assert_eq!(query.ask(now, 1.0).block, Some((12, WAIT)));
    }

    #[test]
    fn an_index_of_0_or_none_is_never_waited_on_and_never_spun_on() {
        for index in [Some(0), None] {
            let (mut query, mut now) = (query(), Instant::now());
            let answer = Reply {
                index,
                ..reply(0, "[1]")
            };
            assert!(turn(&mut query, &mut now, Duration::ZERO, &answer).is_news);
            let mut asked = 0;
            let end = now + Duration::from_secs(60);
            while now < end {
                let verdict = turn(&mut query, &mut now, Duration::ZERO, &answer);
                assert_eq!(query.ask(now, 1.0).block, None);
                now += verdict.pause;
                asked += 1;
            }
            assert!((8..20).contains(&asked), "{asked} questions in a minute");
        }
    }

    #[test]
    fn the_same_body_is_no_news_and_an_early_return_makes_the_pause_grow() {
        let (mut query, mut now) = (query(), Instant::now());
        turn(&mut query, &mut now, Duration::ZERO, &reply(7, "[1]"));
        let mut before = Duration::ZERO;
        for index in 8..14 {
            let verdict = turn(&mut query, &mut now, Duration::ZERO, &reply(index, "[1]"));
            assert!(!verdict.is_news && verdict.is_fresh);
            assert!(
                verdict.pause > before,
                "{:?} after {before:?}",
                verdict.pause
            );
            before = verdict.pause;
        }
        let verdict = turn(&mut query, &mut now, WAIT, &reply(14, "[1]"));
        assert_eq!(
            verdict.pause,
            Duration::ZERO,
            "a wait that ran out is no early return"
        );
        turn(&mut query, &mut now, Duration::ZERO, &reply(15, "[2]"));
        let verdict = turn(&mut query, &mut now, Duration::ZERO, &reply(15, "[2]"));
        assert!(verdict.pause <= PAUSE_MIN, "news start anew");
    }

    #[test]
    fn a_flapping_check_is_asked_about_twice_a_second() {
        let (mut query, mut now) = (query(), Instant::now());
        let (end, mut index) = (now + Duration::from_secs(20), 1);
        while now < end {
            index += 1;
            let answer = reply(index, &format!("[{index}]"));
            let verdict = turn(&mut query, &mut now, Duration::from_millis(1), &answer);
            now += verdict.pause;
        }
        assert!((38..60).contains(&index), "{index} questions in 20 s");
    }

    #[test]
    fn a_server_that_lags_never_takes_us_back() {
        let (mut query, mut now) = (query(), Instant::now());
        turn(&mut query, &mut now, Duration::ZERO, &reply(9, "[new]"));
        let past = Reply {
            knows_leader: false,
            ..reply(5, "[old]")
        };
        let verdict = turn(&mut query, &mut now, Duration::ZERO, &past);
        assert!(!verdict.is_news && !verdict.is_fresh);
        let ask = query.ask(now, 1.0);
        assert_eq!(
            ask,
            Ask {
                block: Some((9, WAIT)),
                stale: false
            },
            "the leader is asked"
        );
        query.failed();
        let ask = query.ask(now, 1.0);
        assert_eq!(ask.block, None, "after a failure nothing is waited for");
        assert!(ask.stale, "without a leader any server is better");
        let late = Reply {
            last_contact: STALE_MAX * 2,
            ..reply(10, "[newer]")
        };
        let verdict = turn(&mut query, &mut now, Duration::ZERO, &late);
        assert!(verdict.is_news && !verdict.is_fresh, "forward is forward");
    }

    #[test]
    fn a_server_that_came_back_empty_is_believed_after_a_minute() {
        let (mut query, mut now) = (query(), Instant::now());
        turn(&mut query, &mut now, Duration::ZERO, &reply(900, "[1]"));
        let start = now;
        loop {
            let verdict = turn(&mut query, &mut now, Duration::ZERO, &reply(12, "[]"));
            if verdict.is_news {
                break;
            }
            assert!(verdict.is_fresh);
            assert!(
                now < start + Duration::from_secs(120),
                "believed at some time"
            );
            now += verdict.pause;
        }
        assert!(now >= start + EMPTY_HOLD, "{:?}", now - start);
    }

    #[test]
    fn hosts_that_register_again_within_the_minute_were_never_gone() {
        let (mut query, mut now) = (query(), Instant::now());
        turn(&mut query, &mut now, Duration::ZERO, &reply(900, "[1]"));
        assert!(!turn(&mut query, &mut now, Duration::ZERO, &reply(12, "[]")).is_news);
        let back = turn(
            &mut query,
            &mut now,
            Duration::from_secs(5),
            &reply(14, "[1]"),
        );
        assert!(!back.is_news, "the same as before");
        let gone = turn(
            &mut query,
            &mut now,
            Duration::from_secs(5),
            &reply(15, "[]"),
        );
        assert!(
            gone.is_news,
            "an index that moved forward is believed at once"
        );
    }
}
