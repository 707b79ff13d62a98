// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom to skip for now, from what only this process knows: ejected, an active check failed, still ramping.
//!
//! In: an endpoint whose flags are up, the key and the time. Out: whether it is passed over, and why. None of this decides
//! where a key belongs: two callers that differ about an endpoint differ on its keys alone, and both send them to the same
//! next one.

use super::eject;
use crate::{
    clock::Tick,
    hash::{HashKey, RAMP_SALT},
    store::{Endpoint, Flag, Load, RAMP_PENDING, ServiceView},
};
use std::{sync::atomic::Ordering::Relaxed, time::Instant};

/// Why an endpoint that could serve is passed over for now: soft reasons, ignored when nobody else is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Skip {
    /// This process has seen it fail.
    Ejected,
    /// An active check of it failed.
    CheckFailed,
    /// It is new, and does not take this key yet.
    Ramping,
}

impl Skip {
    /// The word that metrics, JSON and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::CheckFailed => "check-failed",
            Self::Ramping => "ramping",
        }
    }
}

/// How much is forgiven on a walk: more each time that nobody was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Leniency {
    /// Nothing.
    None,
    /// That an endpoint is new: of a fresh deployment all are.
    Ramping,
    /// Everything that is soft: panic.
    All,
}

impl Leniency {
    pub(super) fn more(self) -> Option<Self> {
        match self {
            Self::None => Some(Self::Ramping),
            Self::Ramping => Some(Self::All),
            Self::All => None,
        }
    }

    /// Whether the endpoint is passed over. Only called for one with a flag up.
    #[cold]
    pub(super) fn skips(
        self,
        view: &ServiceView,
        endpoint: &Endpoint,
        share_of: ShareOf,
        now: &mut Now,
    ) -> bool {
        let load = endpoint.load();
        if self == Self::All {
            // Whoever is asked although ejected may prove that it is well.
            eject::try_again(load);
            return false;
        }
        let now = now.get();
        match skip(view, endpoint, share_of, now) {
            Some(Skip::Ramping) => self < Self::Ramping,
            Some(Skip::Ejected) => !eject::claims_trial(load, now),
            Some(Skip::CheckFailed) => true,
            None => false,
        }
    }
}

/// What is asked of an endpoint that ramps: a key of which it takes some already, or any request.
#[derive(Clone, Copy, Debug)]
pub(super) enum ShareOf {
    Key(HashKey),
    /// A random number decides.
    Requests(u64),
}

/// Why the endpoint is passed over, if it is.
pub(super) fn skip(
    view: &ServiceView,
    endpoint: &Endpoint,
    share_of: ShareOf,
    now: Tick,
) -> Option<Skip> {
    let load = endpoint.load();
    if load.has(Flag::CheckFailed) {
        return Some(Skip::CheckFailed);
    }
    if load.has(Flag::Ejected) {
        return Some(Skip::Ejected);
    }
    let window = view.balancing().slow_start?.window();
    if !load.has(Flag::Ramping) {
        return None;
    }
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let Some(share) = ramp_share(ramped(load, now), window) else {
        load.lower(Flag::Ramping);
        return None;
    };
    let is_taken = match share_of {
        ShareOf::Key(key) => key.is_within(share, RAMP_SALT, endpoint.hash()),
        ShareOf::Requests(random) => random < share,
    };
    (!is_taken).then_some(Skip::Ramping)
}

/// For how long the endpoint has ramped; the first pick that sees it begins.
fn ramped(load: &Load, now: Tick) -> u64 {
    let begun = load
        .ramp_from
        .compare_exchange(RAMP_PENDING, now.0, Relaxed, Relaxed);
    match begun {
        Ok(_) => 0,
        Err(from) => now.since(Tick(from)),
    }
}

/// The share of its keys, of 2⁶⁴, that an endpoint takes after so many milliseconds of its window; none once it takes all.
///
/// It grows evenly from a hundredth: a share of nothing would be answered by no request that warms it.
fn ramp_share(passed: u64, window: u64) -> Option<u64> {
    if passed >= window {
        return None;
    }
    let passed = u128::from(passed.max(window / 100).max(1));
    u64::try_from((passed << 64) / u128::from(window)).ok()
}

/// The time, read at most once, and only when somebody asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Now(Tick);

impl Now {
    pub(super) const UNREAD: Self = Self(Tick(0));

    pub(super) fn at(now: Instant) -> Self {
        Self(Tick::at(now))
    }

    fn get(&mut self) -> Tick {
        if *self == Self::UNREAD {
            *self = Self::at(Instant::now());
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_new_endpoint_grows_evenly_from_a_hundredth() {
        let percent = |passed| {
            let share = ramp_share(passed, 30_000)?;
            u64::try_from((u128::from(share) * 100).div_ceil(1 << 64)).ok()
        };
        assert_eq!(percent(0), Some(1));
        assert_eq!(percent(15_000), Some(50));
        assert_eq!(percent(29_999), Some(100));
        assert_eq!(percent(30_000), None);
        assert_eq!(percent(u64::MAX), None);
    }
}
