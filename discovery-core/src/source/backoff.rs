// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long to wait after a failure: the one backoff of all sources.
//!
//! In: failures and successes with their time. Out: the wait. Full jitter (a uniform draw between nothing and a bound that
//! doubles) spreads a fleet that lost its server at one moment; once the bound is at its cap the draw keeps to its upper
//! part, so that the rate stays low. A success resets the bound only after it has held: a server that answers every second
//! request would otherwise be asked at full speed. A server that names a time gets it. Pure: no clock, its randomness is
//! seeded.

use std::time::{Duration, Instant};

/// The figures of a backoff.
#[derive(Clone, Copy, Debug)]
pub struct BackoffRule {
    /// The bound of the first wait.
    pub first: Duration,
    /// The bound that waits grow to.
    pub cap: Duration,
    /// How long a success has to hold before waits are short again.
    pub hold: Duration,
}

impl Default for BackoffRule {
    /// 800 ms to 30 s, reset after 2 minutes: the figures of Kubernetes' own clients.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(800),
            cap: Duration::from_secs(30),
            hold: Duration::from_secs(120),
        }
    }
}

/// Counts failures and draws the waits between them.
///
/// ```
/// use discovery_core::source::{Backoff, BackoffRule};
/// use std::time::{Duration, Instant};
///
/// let (now, mut backoff) = (Instant::now(), Backoff::new(BackoffRule::default(), 7));
/// assert!(backoff.failed(now) <= Duration::from_millis(800));
/// assert!(backoff.failed(now) <= Duration::from_millis(1600));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    rule: BackoffRule,
    failures: u32,
    good_since: Option<Instant>,
    random: fastrand::Rng,
}

impl Backoff {
    /// A backoff without failures; equal seeds draw equal waits.
    pub fn new(rule: BackoffRule, seed: u64) -> Self {
        Self {
            rule,
            failures: 0,
            good_since: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Notes a failure and draws how long to wait before the next attempt.
    pub fn failed(&mut self, now: Instant) -> Duration {
        self.failed_asked(now, self.rule.cap, None)
    }

    /// As [`Backoff::failed`], with a cap of its own, and with the time for which the server asked to be left alone.
    ///
    /// The server's time is kept to within a fifth, always later. A short one does not shorten the wait: servers ask for one
    /// second by default, however long they have been failing.
    pub fn failed_asked(
        &mut self,
        now: Instant,
        cap: Duration,
        asked: Option<Duration>,
    ) -> Duration {
        let held = self.good_since.take();
        if held.is_some_and(|since| now.saturating_duration_since(since) >= self.rule.hold) {
            self.failures = 0;
        }
        let wait = self.draw(cap.min(self.rule.cap));
        self.failures = self.failures.saturating_add(1);
        let Some(asked) = asked else { return wait };
        let asked = asked.min(ASKED_MAX);
        let later = asked.mul_f64(1.0 + ASKED_SPREAD * self.random.f64());
        if asked >= ASKED_BELIEVED {
            later
        } else {
            later.max(wait)
        }
    }

    /// Notes that things have gone well since `since`, unless they have for longer.
    pub fn succeeded(&mut self, since: Instant) {
        self.good_since.get_or_insert(since);
    }

    /// Failures since the last success that held.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn draw(&mut self, cap: Duration) -> Duration {
        // 2^20 times the shortest sensible wait is beyond any cap; more would overflow.
        let doubled = self.rule.first.saturating_mul(1 << self.failures.min(20));
        if doubled < cap {
            return doubled.mul_f64(self.random.f64());
        }
        cap.mul_f64(AT_CAP_MIN + (1.0 - AT_CAP_MIN) * self.random.f64())
    }
}

/// At a cap of 30 s waits are 25.5 s in the mean: less than one request in 20 s, and spread over 9 s among a fleet.
const AT_CAP_MIN: f64 = 0.7;
/// A server that asks for more is asked again nevertheless.
const ASKED_MAX: Duration = Duration::from_secs(120);
/// A server that names that much is taken at its word, also when our own wait would be longer.
const ASKED_BELIEVED: Duration = Duration::from_secs(20);
const ASKED_SPREAD: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(failures: u32) -> Duration {
        let now = Instant::now();
        let draw = |seed| {
            let mut backoff = Backoff::new(BackoffRule::default(), seed);
            for _ in 0..failures {
                backoff.failed(now);
            }
            backoff.failed(now)
        };
        (0..400).map(draw).max().unwrap()
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        for (failures, bound) in [
            (0, 0.8),
            (1, 1.6),
            (2, 3.2),
            (5, 25.6),
            (6, 30.0),
            (1000, 30.0),
        ] {
            let longest = longest(failures).as_secs_f64();
            assert!(
                longest <= bound && longest > bound * 0.9,
                "{failures}: {longest}"
            );
        }
    }

    #[test]
    fn jitter_is_full() {
        let now = Instant::now();
        let waits: Vec<_> = (0..400)
            .map(|seed| Backoff::new(BackoffRule::default(), seed).failed(now))
            .collect();
        let short = waits
            .iter()
            .filter(|wait| **wait < Duration::from_millis(400))
            .count();
        assert!((150..250).contains(&short), "{short} of 400 below half");
    }

    #[test]
    fn a_success_resets_only_after_it_has_held() {
        let start = Instant::now();
        let mut backoff = Backoff::new(BackoffRule::default(), 1);
        for _ in 0..10 {
            backoff.failed(start);
        }
        backoff.succeeded(start);
        backoff.failed(start + Duration::from_secs(119));
        assert_eq!(backoff.failures(), 11);
        backoff.succeeded(start + Duration::from_secs(200));
        backoff.succeeded(start + Duration::from_secs(300));
        backoff.failed(start + Duration::from_secs(320));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn at_the_cap_a_server_is_asked_less_than_once_in_20_seconds() {
        for seed in 0..50 {
            let mut backoff = Backoff::new(BackoffRule::default(), seed);
            let start = Instant::now();
            for _ in 0..10 {
                backoff.failed(start);
            }
            let waits: Vec<_> = (0..200)
                .map(|_| backoff.failed(start).as_secs_f64())
                .collect();
            assert!(waits.iter().sum::<f64>() / 200.0 > 20.0, "seed {seed}");
            assert!(waits.iter().all(|wait| (21.0..=30.0).contains(wait)));
        }
    }

    #[test]
    fn a_cap_of_its_own_holds() {
        let mut backoff = Backoff::new(BackoffRule::default(), 3);
        let (now, cap) = (Instant::now(), Duration::from_secs(5));
        for _ in 0..50 {
            assert!(backoff.failed_asked(now, cap, None) <= cap);
        }
    }

    #[test]
    fn a_server_that_names_a_time_gets_it_to_within_a_fifth() {
        let now = Instant::now();
        for seed in 0..100 {
            let mut backoff = Backoff::new(BackoffRule::default(), seed);
            let mut asked = |seconds| {
                let asked = Some(Duration::from_secs(seconds));
                backoff
                    .failed_asked(now, Duration::MAX, asked)
                    .as_secs_f64()
            };
            for _ in 0..10 {
                assert!((20.0..=24.0).contains(&asked(20)), "seed {seed}");
            }
            assert!(asked(1) >= 21.0, "a short one does not undo the backoff");
            assert!(asked(86_400) <= 144.0);
        }
    }
}
