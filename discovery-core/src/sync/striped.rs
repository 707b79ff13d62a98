// SPDX-License-Identifier: MIT OR Apache-2.0
//! A counter that threads add to without a locked addition: each of the first seven has a stripe that it alone writes.
//!
//! A locked addition takes about 20 cycles wherever its line lies (Fog, instruction tables), and a pick takes two: one to
//! enter, one to leave. A stripe with one writer takes a load and a store. The threads beyond the seventh share the last
//! stripe, by locked additions.

use super::{AtomicU32, AtomicU64, STRIPES, own_stripe};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The stripe of all threads that have none of their own.
pub(super) const SHARED: usize = STRIPES - 1;

/// A number that wraps, in stripes. What one thread added another may take away again: their sum is right, no stripe is.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Striped([AtomicU64; STRIPES]);

impl Striped {
    /// Adds, wrapping: what is to be taken away is added as its complement.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        let stripe = own_stripe().min(SHARED);
        let count = &self.0[stripe];
        if stripe == SHARED {
            count.fetch_add(amount, Relaxed);
        } else {
            // Nobody else writes it, until this thread has ended.
            count.store(count.load(Relaxed).wrapping_add(amount), Relaxed);
        }
    }

    /// The sum of all that was added, as far as this thread can know: what is added meanwhile may be in it or not, each
    /// by itself.
    #[inline]
    pub(crate) fn sum(&self) -> u64 {
        let counts = self.0.iter().map(|count| count.load(Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

/// Which stripes have a thread: one set for all counters of the process.
#[derive(Debug)]
pub(crate) struct Claims {
    taken: AtomicU32,
}

impl Claims {
    /// The claims that stand in the word: a bit for each stripe.
    pub(super) const fn of(taken: AtomicU32) -> Self {
        Self { taken }
    }

    /// A stripe for the calling thread alone; none while all are taken. It sees what the thread before it wrote there.
    pub(super) fn claim(&self) -> Option<usize> {
        let mut taken = self.taken.load(Relaxed);
        loop {
            let free = taken.trailing_ones();
            if free as usize >= SHARED {
                return None;
            }
            let with = taken | 1 << free;
            match (self.taken).compare_exchange_weak(taken, with, Acquire, Relaxed) {
                Ok(_) => return Some(free as usize),
                Err(now) => taken = now,
            }
        }
    }

    /// Gives a claimed stripe back.
    pub(super) fn release(&self, stripe: usize) {
        self.taken.fetch_and(!(1 << stripe), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn threads_that_come_and_go_lose_nothing() {
        let count = Striped::default();
        for _ in 0..20 {
            thread::scope(|scope| {
                for _ in 0..2 * STRIPES {
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            count.add(3);
                            count.add(1_u64.wrapping_neg());
                        }
                    });
                }
            });
        }
        assert_eq!(count.sum(), 20 * 2 * STRIPES as u64 * 1_000 * 2);
    }

    #[test]
    fn all_but_the_last_stripe_are_claimed_once_and_again_when_given_back() {
        let claims = Claims::of(AtomicU32::new(0));
        let claimed: Vec<_> = std::iter::from_fn(|| claims.claim()).collect();
        assert_eq!(claimed, (0..SHARED).collect::<Vec<_>>());
        claims.release(3);
        assert_eq!((claims.claim(), claims.claim()), (Some(3), None));
    }
}
