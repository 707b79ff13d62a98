// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stripe of this thread: claimed when it counts for the first time, given back when it ends.

use super::{AtomicU32, Claims, striped::SHARED};
use std::cell::Cell;

static CLAIMS: Claims = Claims::of(AtomicU32::new(0));

/// In place of a stripe: this thread has not counted yet.
const UNCLAIMED: usize = usize::MAX;

thread_local! {
    // Two words: the one that every pick reads has no destructor, so that to read it is a read and no more.
    static OWN: Cell<usize> = const { Cell::new(UNCLAIMED) };
    static HELD: Held = const { Held };
}

/// The stripe that this thread writes: its own, or the one that is shared.
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
    let own = is_held.then(|| CLAIMS.claim()).flatten().unwrap_or(SHARED);
    OWN.set(own);
    own
}

/// Gives the stripe back when the thread ends; what it counts after that is shared.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        let own = OWN.replace(SHARED);
        if own < SHARED {
            CLAIMS.release(own);
        }
    }
}
