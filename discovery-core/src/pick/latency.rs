// SPDX-License-Identifier: MIT OR Apache-2.0
//! How soon an endpoint should answer: an average that jumps up with a slow answer and comes down with time (peak EWMA, as
//! in Finagle and linkerd).
//!
//! In: answers and the time. Out: microseconds. It serves picks without a key only, so that floating point is allowed: no
//! two callers have to agree. One word: microseconds in the upper half, the tick of the last answer in the lower.

use crate::{clock::Tick, sync::AtomicU64};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Takes an answer in.
pub(super) fn observe(word: &AtomicU64, now: Tick, latency: Duration) {
    let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
    let _ = word.fetch_update(Relaxed, Relaxed, |word| Some(observed(word, now, micros)));
}

/// The estimate now, in microseconds; that of an endpoint that never answered until it does.
pub(super) fn estimate(word: &AtomicU64, now: Tick) -> u64 {
    match word.load(Relaxed) {
        0 => UNKNOWN_MICROS,
        word => fade(micros(word), age(word, now)).max(1),
    }
}

fn observed(word: u64, now: Tick, micros: u32) -> u64 {
    let latest = u64::from(micros.max(1));
    let before = self::micros(word);
    let estimate = if word == 0 || latest >= before {
        latest
    } else {
        latest + fade(before - latest, age(word, now))
    };
    estimate << 32 | now.0 & TICK_MASK
}

fn micros(word: u64) -> u64 {
    word >> 32
}

fn age(word: u64, now: Tick) -> u64 {
    // Ticks wrap after 49 days: the age of an answer does not care, unless it is as old.
    now.0.wrapping_sub(word) & TICK_MASK
}

/// What is left of a value after so many milliseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate between 0 and the value"
)]
fn fade(value: u64, millis: u64) -> u64 {
    (value as f64 * (-(millis as f64) / HALF_LIFE_MILLIS).exp2()) as u64
}

/// After so long half of a peak is forgotten: with linkerd's decay of 10 s it is 6.9.
const HALF_LIFE_MILLIS: f64 = 7_000.0;
/// What an endpoint that never answered is taken for: 30 ms, as linkerd does. Less would send all traffic to a new one.
const UNKNOWN_MICROS: u64 = 30_000;
const TICK_MASK: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_with_time() {
        let word = AtomicU64::new(0);
        assert_eq!(estimate(&word, Tick(5)), UNKNOWN_MICROS);
        observe(&word, Tick(10), Duration::from_millis(1));
        assert_eq!(estimate(&word, Tick(10)), 1_000);
        observe(&word, Tick(20), Duration::from_millis(400));
        assert_eq!(estimate(&word, Tick(20)), 400_000);
        observe(&word, Tick(30), Duration::from_millis(1));
        assert!(
            estimate(&word, Tick(30)) > 390_000,
            "one good answer proves little"
        );
        assert_eq!(estimate(&word, Tick(7_030)), estimate(&word, Tick(30)) / 2);
        assert_eq!(estimate(&word, Tick(10_000_000)), 1);
    }

    #[test]
    fn absurd_latencies_and_wrapping_ticks_are_borne() {
        let word = AtomicU64::new(0);
        observe(&word, Tick(u64::MAX - 1), Duration::MAX);
        assert_eq!(estimate(&word, Tick(u64::MAX - 1)), u64::from(u32::MAX));
        observe(&word, Tick(0), Duration::ZERO);
        assert!(estimate(&word, Tick(0)) > 0);
    }
}
