// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long to wait after a failure: the one backoff of all sources.
//!
//! In: failures and successes with their time. Out: the wait. Full jitter (a uniform draw between nothing and a bound that
//! doubles) spreads a fleet that lost its server at one moment. A success resets the bound only after it has held: a
//! server that answers every second request would otherwise be asked at full speed. Pure: no clock, its randomness is
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
        let held = self.good_since.take();
        if held.is_some_and(|since| now.saturating_duration_since(since) >= self.rule.hold) {
            self.failures = 0;
        }
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(self.random.f64())
    }

    /// Notes that things have gone well since `since`, unless they have for longer.
    pub fn succeeded(&mut self, since: Instant) {
        self.good_since.get_or_insert(since);
    }

    /// Failures since the last success that held.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn bound(&self) -> Duration {
        // 2^20 times the shortest sensible wait is beyond any cap; more would overflow.
        let doubled = self.rule.first.saturating_mul(1 << self.failures.min(20));
        doubled.min(self.rule.cap)
    }
}

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
    fn a_sick_server_is_asked_three_times_a_minute_at_most() {
        let start = Instant::now();
        let mut backoff = Backoff::new(BackoffRule::default(), 42);
        let (mut now, mut attempts) = (start, 0);
        while now < start + Duration::from_secs(600) {
            now += backoff.failed(now);
            attempts += 1;
        }
        assert!(attempts < 70, "{attempts} attempts in ten minutes");
    }
}
