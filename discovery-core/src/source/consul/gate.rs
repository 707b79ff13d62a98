// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps a Consul that refuses us from being asked by every watch: after some refusals in a row, or one of the token itself,
//! one question a minute goes out in the name of all. Pure: time is handed in.

use std::time::{Duration, Instant};

/// How Consul's refusals stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    refusals: u32,
    /// When the next question may go out while the gate is closed.
    next: Option<Instant>,
}

impl Gate {
    /// Whether a question may go out now, or how long to wait before asking the gate again. While it is closed, who is let
    /// through is the one of this minute.
    pub(super) fn pass(&mut self, now: Instant) -> Result<(), Duration> {
        match self.next {
            Some(next) if now < next => Err(next - now),
            Some(_) => {
                self.next = Some(now + REFUSED_PAUSE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes a refusal.
    pub(super) fn refused(&mut self, now: Instant, is_of_token: bool) {
        self.refusals = self.refusals.saturating_add(1);
        if is_of_token || self.refusals >= REFUSALS_MAX {
            self.next.get_or_insert(now + REFUSED_PAUSE);
        }
    }

    /// Notes an answer: the gate is open.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

/// How long a refused question waits: a person has to act, and does so in minutes.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Refusals in a row that make all watches wait for one.
const REFUSALS_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f29_a_refused_token_is_tried_once_a_minute_by_all_watches_together() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        gate.refused(start, true);
        let mut asked = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            for _watch in 0..50 {
                if gate.pass(now).is_ok() {
                    asked += 1;
                    gate.refused(now, true);
                }
            }
        }
        assert_eq!(asked, 9);
        gate.answered();
        assert!(gate.pass(start + Duration::from_secs(601)).is_ok());
    }

    #[test]
    fn one_service_that_is_forbidden_holds_nobody_else_up() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        for _ in 0..100 {
            gate.refused(now, false);
            gate.answered();
            assert!(gate.pass(now).is_ok());
        }
        for _ in 0..REFUSALS_MAX {
            assert!(gate.pass(now).is_ok());
            gate.refused(now, false);
        }
        assert!(gate.pass(now).is_err());
    }
}
