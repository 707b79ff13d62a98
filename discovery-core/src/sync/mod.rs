// SPDX-License-Identifier: MIT OR Apache-2.0
//! What threads share: the pointer to the snapshot, counters, flags, and the lock over those that have to agree.
//!
//! They are named here and nowhere else in `store` and `pick`, so that the models of `tests/models` can put others in their
//! place whose every interleaving is tried.

mod own;
mod striped;

pub(crate) use arc_swap::{ArcSwap, Cache};
pub(crate) use own::{own_stripe, stripes_in_use};
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64},
};
pub(crate) use striped::{Claims, Striped};

/// Stripes of a counter, each a cache line: half a KiB an endpoint, whose place on a ring, where somebody picks by key, takes eight.
const STRIPES: usize = 8;
