// SPDX-License-Identifier: MIT OR Apache-2.0
//! How old what is answered is, and whether that is too old: what the sources last said of themselves.
//!
//! Written once a second beside the questions, read within them as plain numbers.

use discovery_core::{source::SourceStatus, store::Kind};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The age of the answers. Each figure stands for itself, so that relaxed atomics are enough.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    age_seconds: AtomicU64,
    unheard_seconds: AtomicU64,
    is_stale: AtomicBool,
    is_told: AtomicBool,
}

impl Freshness {
    /// Notes what the sources say of themselves; answers are stale when one of them was not heard of for `limit` and cannot
    /// be reached.
    pub(crate) fn note(&self, sources: &[Arc<SourceStatus>], limit: Duration) {
        let age = sources.iter().filter_map(|source| source.age()).max();
        let away = sources.iter().filter(|source| {
            Kind::ALL
                .into_iter()
                .any(|kind| source.kind_age(kind).is_some() && !source.is_kind_connected(kind))
        });
        let unheard = away.filter_map(|source| source.age()).max();
        let is_cut_off = unheard.is_some_and(|age| age >= limit);
        self.unheard_seconds
            .store(unheard.unwrap_or_default().as_secs(), Relaxed);
        self.age_seconds
            .store(age.unwrap_or_default().as_secs(), Relaxed);
        self.is_stale.store(is_cut_off, Relaxed);
        self.is_told.store(age.is_some(), Relaxed);
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Relaxed)
    }

    /// How long ago the source that was heard of longest ago was heard of.
    pub(crate) fn age_seconds(&self) -> u64 {
        self.age_seconds.load(Relaxed)
    }

    /// For how long a source that is out of reach was not heard of; 0 while all are in reach.
    #[cfg(feature = "http")]
    pub(crate) fn unheard_seconds(&self) -> u64 {
        self.unheard_seconds.load(Relaxed)
    }

    /// Where the answers come from, in one word.
    pub(crate) fn word(&self, is_from_disk: bool) -> &'static str {
        match (is_from_disk, self.is_stale(), self.is_told.load(Relaxed)) {
            (true, ..) => "disk",
            (_, true, _) => "stale",
            (_, _, true) => "live",
            _ => "synced",
        }
    }
}
