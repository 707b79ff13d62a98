// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monotonic and wall clock as a trait, so that pure machines are handed their time and tests own it.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// A moment in milliseconds of this process, from 1 on, so that counters can hold it in one word and 0 means never.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick of a moment; the first for one before the process began to count.
    pub fn at(now: Instant) -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let passed = now.saturating_duration_since(*START);
        Self(u64::try_from(passed.as_millis()).map_or(u64::MAX - 1, |ms| ms.saturating_add(1)))
    }

    /// Milliseconds from the other tick to this one; 0 when it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time of the runtime: that of the machine, unless a test has paused it.
///
/// Whoever measures a call and whoever picks for it read the same clock, so that both stand still in such a test.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time: ages and deadlines.
    fn now(&self) -> Instant;
    /// Wall time: what is written to disk or shown to people.
    fn wall(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is told to move; clones share one time and one wall clock.
///
/// ```
/// use discovery_core::clock::{Clock, TestClock};
/// use std::time::Duration;
///
/// let clock = TestClock::default();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.now() - start, Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct TestClock {
    start: (Instant, SystemTime),
    // Guards the time passed; held for one addition or read.
    passed: Arc<Mutex<Duration>>,
    // Guards the wall clock's own error in seconds; held likewise.
    wrong: Arc<Mutex<i64>>,
}

impl TestClock {
    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// Sets the wall clock alone, forward or back by so many seconds, as a person or NTP does; time passes as before.
    pub fn set_wall(&self, seconds: i64) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
    }

    fn passed(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            start: (Instant::now(), SystemTime::now()),
            passed: Arc::default(),
            wrong: Arc::default(),
        }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.start.0 + self.passed()
    }

    fn wall(&self) -> SystemTime {
        let right = self.start.1 + self.passed();
        let wrong = *self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let by = Duration::from_secs(wrong.unsigned_abs());
        if wrong < 0 { right - by } else { right + by }
    }
}
