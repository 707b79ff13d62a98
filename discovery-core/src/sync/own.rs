// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stripe of this thread: claimed, or dealt, when it counts for the first time; given back when it ends.

use super::{AtomicU32, Claims, STRIPES, striped::OWNED};
use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

static CLAIMS: Claims = Claims::of(AtomicU32::new(0));

/// One more than the last stripe that any thread has written.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// How many threads were dealt a stripe to share.
static DEALT: AtomicUsize = AtomicUsize::new(0);

/// In place of a stripe: this thread has not counted yet.
const UNCLAIMED: usize = usize::MAX;

thread_local! {
    // Two words: the one that every pick reads has no destructor, so that to read it is a read and no more.
    static OWN: Cell<usize> = const { Cell::new(UNCLAIMED) };
    static HELD: Held = const { Held };
}

/// The stripe that this thread writes: its own, or one that it shares.
#[inline]
pub(crate) fn own_stripe() -> usize {
    match OWN.get() {
        UNCLAIMED => claim(),
        own => own,
    }
}

#[cold]
fn claim() -> usize {
    // A thread that is ending claims nothing: nobody would give it back.
    let is_held = HELD.try_with(|_| ()).is_ok();
    let claimed = is_held.then(|| CLAIMS.claim()).flatten();
    let own = claimed.unwrap_or_else(|| OWNED + DEALT.fetch_add(1, Relaxed) % (STRIPES - OWNED));
    IN_USE.fetch_max(own + 1, Relaxed);
    OWN.set(own);
    own
}

/// How many stripes may hold anything but 0.
#[inline]
pub(crate) fn stripes_in_use() -> usize {
    IN_USE.load(Relaxed)
}

/// Gives the stripe back when the thread ends; what it counts after that is shared.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        IN_USE.fetch_max(OWNED + 1, Relaxed);
        let own = OWN.replace(OWNED);
        if own < OWNED {
            CLAIMS.release(own);
        }
    }
}
