// SPDX-License-Identifier: MIT OR Apache-2.0
//! Knows whether what the server says comes late, and says how long watches are to last and whether a second one may
//! begin beside one that is overdue.
//!
//! In: which watches ended in their time, and where a new connection was quicker than one that stood. Out: times. On a
//! link that loses packets the server's TCP waits ever longer with what it has to say, and nothing that its peer does
//! shortens that wait; a new connection has none of it. So watches are short while the link is late, and an overdue one
//! gets a second. A server that ends no watch when asked to says nothing by that. Watches are short, too, in the first
//! minute: nobody knows the link yet. Pure: no I/O, no clock, randomness is seeded. Decision 0031 has the figures.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The machine: one for each source.
#[derive(Debug)]
pub(super) struct Link {
    /// When a new connection was last quicker than one that stood.
    late_at: Option<Instant>,
    /// Whether the server ends watches when it was asked to.
    ends_watches: bool,
    /// When the first watch began.
    tried_since: Option<Instant>,
    /// Second watches that may begin at once.
    allowance: u32,
    /// From when on the allowance has grown.
    grown_at: Option<Instant>,
    random: fastrand::Rng,
}

/// How long a watch is to last.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchTime {
    /// After this time the server should end it.
    pub(super) asked: Duration,
    /// Silence up to here is no reason for doubt: a server that knows no such time is not dead for that.
    pub(super) believed: Duration,
}

impl Link {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            late_at: None,
            ends_watches: false,
            tried_since: None,
            allowance: SECONDS_MAX,
            grown_at: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// How long a watch that begins now is to last.
    pub(super) fn watch_time(&mut self, now: Instant, is_second: bool) -> WatchTime {
        let is_untried = self.is_untried(now);
        let is_short = self.is_late(now) || is_second && self.ends_watches;
        let draw = self.random.f64();
        let time = |(least, spread): (Duration, Duration)| least + spread.mul_f64(draw);
        WatchTime {
            asked: time(if is_short || is_untried {
                LATE_TIME
            } else {
                WATCH_TIME
            }),
            believed: time(if is_short { LATE_TIME } else { WATCH_TIME }),
        }
    }

    /// Whether packets are lost, as far as can be known.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.late_at
            .is_some_and(|at| now.saturating_duration_since(at) < LATE_FOR)
    }

    /// Whether too little was seen of the link to believe it.
    fn is_untried(&mut self, now: Instant) -> bool {
        let since = *self.tried_since.get_or_insert(now);
        now.saturating_duration_since(since) < TRIED_FOR
    }

    /// The server ended a watch when it was asked to.
    pub(super) fn ended_in_time(&mut self) {
        self.ends_watches = true;
    }

    /// A new connection was quicker than one that stood. True when that is news.
    pub(super) fn was_late(&mut self, now: Instant) -> bool {
        let is_news = self.ends_watches && !self.is_late(now);
        if self.ends_watches {
            self.late_at = Some(now);
        }
        is_news
    }

    /// Whether a second watch may begin now; it is counted as begun.
    pub(super) fn second(&mut self, now: Instant) -> bool {
        let since = *self.grown_at.get_or_insert(now);
        let grown = now.saturating_duration_since(since).as_secs() / SECOND_EVERY.as_secs();
        if grown > 0 {
            let grown = u32::try_from(grown).unwrap_or(u32::MAX);
            self.allowance = self.allowance.saturating_add(grown).min(SECONDS_MAX);
            self.grown_at = Some(now);
        }
        let may_begin = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        may_begin
    }
}

/// The machine of a source, shared by its feeds.
#[derive(Clone, Debug)]
pub(super) struct SharedLink(Arc<Mutex<Link>>);

impl SharedLink {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Link::new(seed))))
    }

    // Guards a few figures; held for one call of the machine, never across an await.
    pub(super) fn link(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches are renewed after 28 to 35 seconds: with the margin of [`super::feed`] a server that went silent is known for
/// that within 45 s.
const WATCH_TIME: (Duration, Duration) = (Duration::from_secs(28), Duration::from_secs(7));
/// While the link is late: an overdue watch is noticed within 12 s, for three times as many requests.
const LATE_TIME: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(2));
/// After a start watches are as short, so that loss is found before a change is held back by it for long.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// A link of which nothing of the kind was seen for so long is believed again.
const LATE_FOR: Duration = Duration::from_secs(300);
/// Four lists may be overdue in one moment; 64 namespaces take turns.
const SECONDS_MAX: u32 = 8;
const SECOND_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A link after its first minute, and the time then.
    fn tried() -> (Link, Instant) {
        let (mut link, start) = (Link::new(7), Instant::now());
        link.watch_time(start, false);
        (link, start + TRIED_FOR)
    }

    #[test]
    fn w7_k7_watches_are_asked_to_end_within_35_seconds() {
        let (mut link, now) = tried();
        for _ in 0..100 {
            let time = link.watch_time(now, false);
            assert!((secs(28)..=secs(35)).contains(&time.asked), "{time:?}");
            assert_eq!(time.asked, time.believed);
        }
    }

    #[test]
    fn f24_watches_are_short_in_the_first_minute() {
        let (mut link, now) = (Link::new(7), Instant::now());
        for passed in [0, 30, 59] {
            let time = link.watch_time(now + secs(passed), false);
            assert!(time.asked <= secs(10), "{time:?}");
            assert!(time.believed >= secs(28), "silence is no more suspect");
        }
        assert!(link.watch_time(now + secs(60), false).asked >= secs(28));
    }

    #[test]
    fn f24_watches_are_short_while_the_link_is_late_and_long_again_after_five_minutes() {
        let (mut link, now) = tried();
        link.ended_in_time();
        assert!(link.was_late(now));
        assert!(!link.was_late(now + secs(60)), "it is known");
        for passed in [60, 359] {
            let time = link.watch_time(now + secs(passed), false);
            assert!((secs(8)..=secs(10)).contains(&time.asked), "{time:?}");
            assert_eq!(time.asked, time.believed);
        }
        assert!(link.watch_time(now + secs(360), false).asked >= secs(28));
    }

    #[test]
    fn a_server_that_never_ends_a_watch_is_not_late() {
        let (mut link, now) = tried();
        assert!(!link.was_late(now));
        assert!(!link.is_late(now));
        assert!(link.watch_time(now, true).asked >= secs(28));
        link.ended_in_time();
        let second = link.watch_time(now, true).asked;
        assert!(second <= secs(10), "a second is a try");
    }

    #[test]
    fn second_watches_are_one_in_two_seconds_at_most() {
        let (mut link, now) = (Link::new(7), Instant::now());
        let begun = |link: &mut Link, now| (0..100).filter(|_| link.second(now)).count();
        assert_eq!(begun(&mut link, now), 8);
        assert_eq!(begun(&mut link, now + secs(1)), 0);
        assert_eq!(begun(&mut link, now + secs(5)), 2);
        assert_eq!(begun(&mut link, now + secs(3600)), 8);
    }
}
