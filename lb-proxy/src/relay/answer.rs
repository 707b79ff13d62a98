// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a client that spoke first is answered.
//!
//! In: that bytes went a way, the age of the connection. Out: what to tell of the endpoint. Pure. An endpoint that speaks first has
//! answered.

use std::time::Duration;

/// How far a connection is: one word, since every idle connection has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Answer(u32);

/// Nobody has spoken.
const UNASKED: u32 = 0;
/// Something came back, or the endpoint is done.
const SETTLED: u32 = u32::MAX;
/// The client has spoken, and nothing came back in time.
const LATE: u32 = u32::MAX - 1;
// Everything else: the client spoke at that age, in milliseconds from 1.

impl Answer {
    /// Takes in that bytes went these ways; whether the endpoint answered by that.
    pub(super) fn moved(&mut self, age: Duration, up: bool, down: bool) -> bool {
        match self.0 {
            SETTLED => false,
            _ if down => {
                self.0 = SETTLED;
                true
            }
            UNASKED if up => {
                let millis = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
                self.0 = millis.saturating_add(1).min(LATE - 1);
                false
            }
            _ => false,
        }
    }

    /// Takes in that the endpoint finished.
    pub(super) fn finished(&mut self) {
        self.0 = SETTLED;
    }

    /// The age at which it will be late.
    pub(super) fn deadline(self, timeout: Option<Duration>) -> Option<Duration> {
        let asked = self
            .is_awaited()
            .then(|| Duration::from_millis((self.0 - 1).into()));
        Some(asked? + timeout?)
    }

    /// Whether it is late now; said once.
    pub(super) fn is_late(&mut self, age: Duration, timeout: Option<Duration>) -> bool {
        let is_late = self
            .deadline(timeout)
            .is_some_and(|deadline| age >= deadline);
        if is_late {
            self.0 = LATE;
        }
        is_late
    }

    /// Whether a client that leaves now gave up waiting, rather than changed its mind.
    pub(super) fn is_given_up(self, age: Duration, timeout: Option<Duration>) -> bool {
        let patience = timeout.map(|timeout| timeout.min(PATIENCE));
        self.deadline(patience)
            .is_some_and(|deadline| age >= deadline)
    }

    pub(super) fn is_awaited(self) -> bool {
        ![UNASKED, LATE, SETTLED].contains(&self.0)
    }
}

/// Who leaves earlier may have changed its mind.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(10));

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn f48_silence_is_told_once_and_an_answer_after_that_too() {
        let mut answer = Answer::default();
        assert_eq!(answer.deadline(TIMEOUT), None, "nobody has asked");
        assert!(!answer.moved(seconds(3), true, false));
        assert!(!answer.moved(seconds(8), true, false));
        assert_eq!(answer.deadline(TIMEOUT), Some(seconds(13)));
        assert!(!answer.is_late(Duration::from_millis(12_999), TIMEOUT));
        assert!(answer.is_late(seconds(13), TIMEOUT));
        assert!(!answer.is_late(seconds(13), TIMEOUT), "it is told once");
        assert!(answer.moved(seconds(14), false, true));
        assert!(!answer.moved(seconds(15), false, true));
    }

    #[test]
    fn f48_who_speaks_first_has_answered_and_nobody_asks_where_there_is_no_timeout() {
        let mut answer = Answer::default();
        assert!(answer.moved(seconds(1), true, true));
        assert_eq!(answer.deadline(TIMEOUT), None);
        let mut asked = Answer::default();
        asked.moved(seconds(1), true, false);
        assert!(!asked.is_late(seconds(100), None) && !asked.is_given_up(seconds(100), None));
    }

    #[test]
    fn f48_a_client_that_waited_and_gave_up_counts_and_one_in_a_hurry_does_not() {
        let mut answer = Answer::default();
        answer.moved(seconds(5), true, false);
        assert!(!answer.is_given_up(seconds(6), TIMEOUT));
        assert!(answer.is_given_up(seconds(7), TIMEOUT));
        answer.finished();
        assert!(!answer.is_given_up(seconds(7), TIMEOUT));
    }

    #[test]
    fn f48_a_client_that_speaks_after_years_is_no_special_value() {
        let mut answer = Answer::default();
        answer.moved(Duration::MAX, true, false);
        assert!(answer.is_awaited());
    }
}
