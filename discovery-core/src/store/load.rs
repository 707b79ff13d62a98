// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one process counts and knows by itself about endpoints and services: in flight, latency, ejected, ramping.
//!
//! It lives outside the snapshot and is shared by its generations, so that no rebuild loses it. All of it is local: it
//! decides whom to skip, never where a key belongs. Each word is right by itself, and no two have to agree; only whoever is
//! about to be ejected is looked at together with the others, under a lock that no pick takes.

use super::Endpoint;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Striped};
use std::sync::{Arc, PoisonError, atomic::Ordering::Relaxed};

/// What one process counts about one endpoint, on cache lines of its own: one for what a pick only reads, and for each thread, the
/// first few of them, one that it writes.
///
/// Picks and those under way share one word, so that a pick costs one addition and its end another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    /// Picks so far in the upper bits, picks under way in the lower ones.
    counts: Striped,
    /// Why to skip the endpoint for now: bits of [`Flag`].
    flags: AtomicU32,
    /// Errors in a row.
    pub(crate) errors_in_row: AtomicU32,
    /// When the slow start began, in ticks of the process; [`RAMP_PENDING`] until a pick sees it first.
    pub(crate) ramp_from: AtomicU64,
    /// Until when it is ejected, in ticks of the process.
    pub(crate) ejected_until: AtomicU64,
    /// How often it was ejected without an answer between.
    pub(crate) ejections_in_row: AtomicU32,
    /// Its latency: see `pick::latency`.
    pub(crate) latency: AtomicU64,
    /// Its last outcomes: see `pick::window`.
    pub(crate) window: [AtomicU32; WINDOW_SLOTS],
}

/// Parts of the window of outcomes, the one under way included.
pub(crate) const WINDOW_SLOTS: usize = 4;

/// A reason to skip an endpoint that only this process knows: all of them soft, ignored when nobody else is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// Failures that this process has seen.
    Ejected = 1,
    /// An active check failed.
    CheckFailed = 2,
    /// New: takes a growing share of its keys.
    Ramping = 4,
    /// Ejected, and one request is on its way to find out whether it is well again.
    Trying = 8,
}

/// In place of the tick at which a slow start began: no pick has seen the endpoint yet.
pub(crate) const RAMP_PENDING: u64 = u64::MAX;

impl Load {
    /// Requests or connections of this process that are under way to the endpoint, at most 8 million.
    ///
    /// Those that other threads begin or end meanwhile may be counted or not.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        let count = self.counts.sum() & IN_FLIGHT_MASK;
        // The end of one may be seen before its beginning, where they were on two threads: then it is below zero.
        if count >= IN_FLIGHT_MAX {
            return 0;
        }
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Picks of the endpoint so far.
    pub fn picks(&self) -> u64 {
        self.counts.sum().wrapping_add(IN_FLIGHT_MAX) >> IN_FLIGHT_BITS
    }

    /// Whether this process skips the endpoint because of failures that it has seen.
    pub fn is_ejected(&self) -> bool {
        self.has(Flag::Ejected)
    }

    /// Tells what an active check said; a failed one makes this process skip the endpoint while another is left.
    pub fn set_check_failed(&self, has_failed: bool) {
        if has_failed {
            self.raise(Flag::CheckFailed);
        } else {
            self.lower(Flag::CheckFailed);
        }
    }

    /// Counts one pick, under way.
    #[inline]
    pub(crate) fn enter(&self) {
        self.counts.add((1 << IN_FLIGHT_BITS) | 1);
    }

    /// Counts one less under way.
    #[inline]
    pub(crate) fn leave(&self) {
        self.counts.add(1_u64.wrapping_neg());
    }

    /// Whether there is any reason to look closer before the endpoint is picked.
    #[inline]
    pub(crate) fn is_flagged(&self) -> bool {
        self.flags.load(Relaxed) != 0
    }

    #[inline]
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.load(Relaxed) & flag as u32 != 0
    }

    /// Whether it is skipped for more than a share of its keys.
    pub(crate) fn is_left_out(&self) -> bool {
        let left_out = Flag::Ejected as u32 | Flag::CheckFailed as u32;
        self.flags.load(Relaxed) & left_out != 0
    }

    /// Raises the flag; whether it was down.
    pub(crate) fn raise(&self, flag: Flag) -> bool {
        self.flags.fetch_or(flag as u32, Relaxed) & flag as u32 == 0
    }

    /// Lowers the flag; whether it was up.
    pub(crate) fn lower(&self, flag: Flag) -> bool {
        self.flags.fetch_and(!(flag as u32), Relaxed) & flag as u32 != 0
    }

    /// Begins a slow start, at the first pick that sees the endpoint.
    pub(super) fn begin_ramp(&self) {
        self.ramp_from.store(RAMP_PENDING, Relaxed);
        self.raise(Flag::Ramping);
    }
}

const IN_FLIGHT_BITS: u32 = 24;
const IN_FLIGHT_MASK: u64 = (1 << IN_FLIGHT_BITS) - 1;
const IN_FLIGHT_MAX: u64 = 1 << (IN_FLIGHT_BITS - 1);

/// What one process counts about a whole service beside its endpoints.
#[derive(Debug, Default)]
pub struct ServiceLoad {
    /// Picks of endpoints that are gone.
    gone_local: AtomicU64,
    gone_spill: AtomicU64,
    none: AtomicU64,
    /// Picks that ignored soft reasons, since nobody else was left.
    panics: AtomicU64,
    /// The usable endpoints of the serving tier. The lock guards that no more of them are ejected than may be: it is held
    /// for a look at each when one is to be ejected, and when a generation is published; never by a pick or over an await.
    usable: Mutex<Box<[Arc<Load>]>>,
    /// Ejections so far, by cause.
    ejections: [AtomicU64; EjectCause::ALL.len()],
}

/// What an endpoint was ejected for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EjectCause {
    /// Errors in a row.
    ErrorsInRow,
    /// The share of errors in a window.
    ErrorShare,
}

impl EjectCause {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ErrorsInRow, Self::ErrorShare];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorsInRow => "errors-in-row",
            Self::ErrorShare => "error-share",
        }
    }
}

impl ServiceLoad {
    /// Picks that ignored an ejection or a failed check, since nobody else was left.
    pub fn panic_picks(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// Ejections so far.
    pub fn ejections(&self) -> u64 {
        EjectCause::ALL
            .map(|cause| self.ejections_for(cause))
            .iter()
            .sum()
    }

    /// Ejections for this cause so far.
    pub fn ejections_for(&self, cause: EjectCause) -> u64 {
        self.ejections[cause as usize].load(Relaxed)
    }

    /// Endpoints that are ejected now.
    pub fn ejected(&self) -> u32 {
        let usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        ejected_of(&usable)
    }

    /// Ejects the endpoint unless it is already, or too many of those that are usable are; `max` says for their number how
    /// many may be, and `before` is done just before picks skip it. O(usable).
    ///
    /// They are counted where they are: a count of their own would have to agree with the flags whatever is published, ejected
    /// and restored meanwhile.
    pub(crate) fn eject(
        &self,
        load: &Load,
        cause: EjectCause,
        max: impl FnOnce(u32) -> u32,
        before: impl FnOnce(),
    ) -> bool {
        let usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(usable.len()).unwrap_or(u32::MAX);
        if load.is_ejected() || ejected_of(&usable) >= max(count) {
            return false;
        }
        before();
        load.raise(Flag::Ejected);
        self.ejections[cause as usize].fetch_add(1, Relaxed);
        true
    }

    /// Counts a pick that found nobody.
    pub(crate) fn found_none(&self) {
        self.none.fetch_add(1, Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// Keeps the count of an endpoint that leaves.
    pub(super) fn retire(&self, endpoint: &Endpoint) {
        let gone = if endpoint.is_foreign {
            &self.gone_spill
        } else {
            &self.gone_local
        };
        gone.fetch_add(endpoint.load.picks(), Relaxed);
    }

    /// Takes over who may be picked now, against which the cap of ejections is measured.
    pub(super) fn published<'e>(&self, usable: impl Iterator<Item = &'e Endpoint>) {
        let next: Box<[_]> = usable.map(|endpoint| endpoint.load.clone()).collect();
        let mut usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *usable, next);
        drop(usable);
        drop(before);
    }

    /// What is counted beside the endpoints that are there.
    pub(super) fn counts(&self) -> PickCounts {
        PickCounts {
            local: self.gone_local.load(Relaxed),
            spill: self.gone_spill.load(Relaxed),
            none: self.none.load(Relaxed),
        }
    }
}

fn ejected_of(usable: &[Arc<Load>]) -> u32 {
    let ejected = usable.iter().filter(|load| load.is_ejected());
    u32::try_from(ejected.count()).unwrap_or(u32::MAX)
}

/// How many picks ended how, since the process began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PickCounts {
    /// Picks of an endpoint of our zone.
    pub local: u64,
    /// Picks of an endpoint of another zone, by policy.
    pub spill: u64,
    /// Picks that found no usable endpoint.
    pub none: u64,
}
