// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in the place of the words of `src/sync.rs`.

pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64},
};
use std::{cell::Cell, sync::Arc};
pub(crate) use striped::{Claims, Striped};

#[path = "../../../src/sync/striped.rs"]
mod striped;

/// One that a thread has alone, and the one that is shared.
const STRIPES: usize = 2;

loom::lazy_static! {
    static ref CLAIMS: Claims = Claims::of(AtomicU32::new(0));
}

loom::thread_local! {
    static OWN: Cell<Option<usize>> = Cell::new(None);
}

/// The stripe of a thread: claimed when it counts first.
pub(crate) fn own_stripe() -> usize {
    OWN.with(|own| {
        let stripe = own.get().or_else(|| CLAIMS.claim());
        own.set(stripe);
        stripe.unwrap_or(striped::OWNED)
    })
}

pub(crate) fn stripes_in_use() -> usize {
    STRIPES
}

/// Gives the stripe back, as a thread does that ends.
pub(crate) fn give_back_stripe() {
    if let Some(stripe) = OWN.with(Cell::take) {
        CLAIMS.release(stripe);
    }
}

#[derive(Debug)]
pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        *self.0.lock().unwrap() = value;
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.lock().unwrap().clone()
    }
}

/// A copy that is renewed when the shared pointer is another.
#[derive(Clone, Debug)]
pub(crate) struct Cache<A, T> {
    shared: A,
    cached: T,
}

impl<T> Cache<Arc<ArcSwap<T>>, Arc<T>> {
    pub(crate) fn new(shared: Arc<ArcSwap<T>>) -> Self {
        let cached = shared.load_full();
        Self { shared, cached }
    }

    pub(crate) fn load(&mut self) -> &Arc<T> {
        self.cached = self.shared.load_full();
        &self.cached
    }

    pub(crate) fn arc_swap(&self) -> &ArcSwap<T> {
        &self.shared
    }
}
