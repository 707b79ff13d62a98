// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcomes of the last seconds of one endpoint, in four words: a sliding window.
//!
//! A window, and no moving average: with little traffic an average of errors stays high for ever (linkerd2-proxy changed
//! over for that). Each word is a quarter of the window: the upper 12 bits tell which, then errors, then answers.

use crate::{clock::Tick, store::WINDOW_SLOTS, sync::AtomicU32};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Errors and answers that a window holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) errors: u32,
    pub(super) answers: u32,
}

/// Counts one answer and returns what the window holds with it.
pub(super) fn count(
    words: &[AtomicU32; WINDOW_SLOTS],
    now: Tick,
    window: Duration,
    is_error: bool,
) -> Counts {
    let part = part(now, window);
    let word = &words[part as usize % WINDOW_SLOTS];
    // Two at once: the later one counts upon the earlier.
    let _ = word.fetch_update(Relaxed, Relaxed, |word| Some(counted(word, part, is_error)));
    let parts = words.iter().map(|word| word.load(Relaxed));
    parts
        .filter_map(|word| counts(word, part))
        .fold(Counts::default(), |sum, counts| Counts {
            errors: sum.errors + counts.errors,
            answers: sum.answers + counts.answers,
        })
}

/// Forgets all outcomes.
pub(super) fn clear(words: &[AtomicU32; WINDOW_SLOTS]) {
    for word in words {
        word.store(0, Relaxed);
    }
}

/// The number of the quarter, from 1 to 4,095 and around; 0 is that of an empty word.
fn part(now: Tick, window: Duration) -> u32 {
    let length = (u64::try_from(window.as_millis()).unwrap_or(u64::MAX) / PARTS).max(1);
    u32::try_from(now.0 / length % PART_MAX).unwrap_or(0) + 1
}

fn counted(word: u32, part: u32, is_error: bool) -> u32 {
    let counts = counts_of(word)
        .filter(|_| word >> PART_SHIFT == part)
        .unwrap_or_default();
    let (mut errors, mut answers) = (counts.errors + u32::from(is_error), counts.answers + 1);
    if answers > COUNT_MASK {
        (errors, answers) = (errors / 2, answers / 2);
    }
    part << PART_SHIFT | errors << COUNT_BITS | answers
}

/// What the word holds, unless it is older than the window.
fn counts(word: u32, now: u32) -> Option<Counts> {
    let max = u32::try_from(PART_MAX).unwrap_or(u32::MAX);
    let age = (now + max - (word >> PART_SHIFT)) % max;
    counts_of(word).filter(|_| u64::from(age) < PARTS)
}

fn counts_of(word: u32) -> Option<Counts> {
    (word != 0).then_some(Counts {
        errors: word >> COUNT_BITS & COUNT_MASK,
        answers: word & COUNT_MASK,
    })
}

const PARTS: u64 = WINDOW_SLOTS as u64;
const PART_SHIFT: u32 = 20;
/// A multiple of the parts, so that each has its word through the turn of the number.
const PART_MAX: u64 = 4_092;
const COUNT_BITS: u32 = 10;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(8);

    fn feed(outcomes: &[(u64, bool)]) -> Counts {
        let words = Default::default();
        let counts = outcomes
            .iter()
            .map(|&(tick, is_error)| count(&words, Tick(tick), WINDOW, is_error));
        counts.last().unwrap()
    }

    #[test]
    fn outcomes_leave_with_their_quarter() {
        let outcomes = [(1_000, true), (1_500, true), (3_000, false), (8_100, false)];
        assert_eq!(
            feed(&outcomes[..3]),
            Counts {
                errors: 2,
                answers: 3
            }
        );
        assert_eq!(
            feed(&outcomes),
            Counts {
                errors: 0,
                answers: 2
            }
        );
    }

    #[test]
    fn a_part_that_is_full_keeps_its_proportion() {
        let outcomes: Vec<_> = (0..10_000).map(|i| (1_000, i % 4 == 0)).collect();
        let counts = feed(&outcomes);
        assert!(
            (20..=30).contains(&(counts.errors * 100 / counts.answers)),
            "{counts:?}"
        );
    }

    proptest! {
        /// Through every turn of the number: a window holds no more than its last outcomes, and the last for certain.
        #[test]
        fn the_window_slides(start in 0..100_000_000_u64, steps in proptest::collection::vec((0..3_000_u64, any::<bool>()), 1..60)) {
            let mut tick = start;
            let outcomes: Vec<_> = steps.iter().map(|&(step, is_error)| {
                tick += step;
                (tick, is_error)
            }).collect();
            let counts = feed(&outcomes);
            let within = |age: u64| u32::try_from(outcomes.iter().filter(|(at, _)| tick - at < age).count()).unwrap();
            prop_assert!(counts.answers <= within(8_000));
            prop_assert!(counts.answers >= within(6_000).max(1));
            prop_assert!(counts.errors <= counts.answers);
        }
    }
}
