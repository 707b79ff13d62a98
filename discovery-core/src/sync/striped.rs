// SPDX-License-Identifier: MIT OR Apache-2.0
//! A counter that threads add to without a locked addition: each of the first four has a stripe that it alone writes.
//!
//! A locked addition takes about 20 cycles wherever its line lies (Fog, instruction tables), and a pick takes two: one to
//! enter, one to leave. A stripe with one writer takes a load and a store. The threads beyond the fourth are dealt to four
//! stripes that they share, by locked additions.
//!
//! Each stripe is a cache line of its own: threads that pick the same endpoints write no line of one another. Who adds a counter
//! up reads as many lines as threads have counted so far.

use super::{AtomicU32, AtomicU64, STRIPES, own_stripe, stripes_in_use};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Stripes that a thread can have alone; the others are shared.
pub(super) const OWNED: usize = STRIPES / 2;

/// A number that wraps, in stripes. What one thread added another may take away again: their sum is right, no stripe is.
#[derive(Debug, Default)]
pub(crate) struct Striped([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

impl Striped {
    /// Adds, wrapping: what is to be taken away is added as its complement.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        let stripe = own_stripe() % STRIPES;
        let Stripe(count) = &self.0[stripe];
        if stripe < OWNED {
            // Nobody else writes it, until this thread has ended.
            count.store(count.load(Relaxed).wrapping_add(amount), Relaxed);
        } else {
            count.fetch_add(amount, Relaxed);
        }
    }

    /// The sum of all that was added, as far as this thread can know: what is added meanwhile may be in it or not, each
    /// by itself.
    #[inline]
    pub(crate) fn sum(&self) -> u64 {
        let used = &self.0[..stripes_in_use().min(STRIPES)];
        let counts = used.iter().map(|Stripe(count)| count.load(Relaxed));
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
            if free as usize >= OWNED {
                return None;
            }
            let with = taken | 1 << free;
            match (self.taken).compare_exchange_weak(taken, with, Acquire, Relaxed) {
                Ok(_) => return Some(free as usize),
                Err(now) => taken = now,
            }
        }
    }

    /// Gives the stripe back, where it was claimed.
    pub(super) fn release(&self, stripe: usize) {
        debug_assert!(stripe < OWNED, "{stripe} is shared");
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
    fn half_of_the_stripes_are_claimed_once_and_again_when_given_back() {
        let claims = Claims::of(AtomicU32::new(0));
        let claimed: Vec<_> = std::iter::from_fn(|| claims.claim()).collect();
        assert_eq!(claimed, (0..OWNED).collect::<Vec<_>>());
        claims.release(3);
        assert_eq!((claims.claim(), claims.claim()), (Some(3), None));
    }
}
