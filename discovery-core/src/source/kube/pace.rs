// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells a slow body from a dead one by its throughput. Pure: no I/O, no clock.
//!
//! A fixed deadline for a whole list is wrong twice: it waits long for a drip, and it kills a first list over a thin link
//! that would have come to its end. So a body may take as long as it likes, as long as it gets on.

use std::time::{Duration, Instant};

/// How a body is getting on.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// A body begins.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
        }
    }

    /// When to give up, unless more arrives.
    pub(super) fn deadline(&self) -> Instant {
        self.since + WINDOW
    }

    /// Bytes arrived, as they came over the wire.
    pub(super) fn arrived(&mut self, now: Instant, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= BYTES_MIN {
            *self = Self::new(now);
        }
    }
}

/// So long may it take until [`BYTES_MIN`] have arrived.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
/// 34 bytes a second: a thirtieth of what each of four lists has on a link of 32 kbit/s.
pub(super) const BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many seconds a body of this rate is given up; none when it is let come to its end.
    fn given_up_after(bytes_per_second: usize, size: usize) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let seconds = size.div_ceil(bytes_per_second) as u64;
        (1..=seconds).find(|second| {
            let now = start + Duration::from_secs(*second);
            let is_late = now >= pace.deadline();
            pace.arrived(now, bytes_per_second);
            is_late
        })
    }

    #[test]
    fn f10_a_drip_is_given_up_and_f23_a_thin_link_is_not() {
        assert_eq!(given_up_after(1, 10_000), Some(30));
        assert_eq!(given_up_after(1_000, 1_000_000), None);
        assert_eq!(given_up_after(100, 1_000_000), None);
    }

    #[test]
    fn what_came_fast_at_first_gains_nothing_for_later() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.arrived(start, 10_000_000);
        assert_eq!(pace.deadline(), start + WINDOW);
    }
}
