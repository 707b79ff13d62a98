// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom to skip for now, from what only this process knows: ejected, an active check failed, still ramping.
//!
//! In: an endpoint whose flags are up, the key and the time. Out: whether it is passed over, and why. None of this decides
//! where a key belongs: two callers that differ about an endpoint differ on its keys alone, and both send them to the same
//! next one.

use super::eject;
use crate::{
    clock::{self, Tick},
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

/// Why this process leaves the endpoint out, whatever the key: it is ejected, or a check of it failed.
pub fn left_out(endpoint: &Endpoint) -> Option<Skip> {
    let load = endpoint.load();
    let why = [
        (Flag::CheckFailed, Skip::CheckFailed),
        (Flag::Ejected, Skip::Ejected),
    ];
    why.into_iter()
        .find_map(|(flag, skip)| load.has(flag).then_some(skip))
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

    /// Whether that reason, or having none, keeps nobody out.
    pub(super) fn forgives(self, skip: Option<Skip>) -> bool {
        match skip {
            None => true,
            Some(Skip::Ramping) => self >= Self::Ramping,
            Some(Skip::Ejected | Skip::CheckFailed) => self >= Self::All,
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
    if load.has(Flag::Ramping) {
        // The first pick that sees it begins its slow start, the first after its window ends it.
        let pending = &load.ramp_from;
        let _ = pending.compare_exchange(RAMP_PENDING, now.0, Relaxed, Relaxed);
        if share(view, load, now).is_none() {
            load.lower(Flag::Ramping);
        }
    }
    skip_as_it_stands(view, endpoint, share_of, now)
}

/// The same, and nothing is begun or ended by it: for who only looks.
pub(super) fn skip_as_it_stands(
    view: &ServiceView,
    endpoint: &Endpoint,
    share_of: ShareOf,
    now: Tick,
) -> Option<Skip> {
    let load = endpoint.load();
    if let Some(skip) = left_out(endpoint) {
        return Some(skip);
    }
    if !load.has(Flag::Ramping) {
        return None;
    }
    let share = share(view, load, now)?;
    let is_taken = match share_of {
        ShareOf::Key(key) => key.is_within(share, RAMP_SALT, endpoint.hash()),
        ShareOf::Requests(random) => random < share,
    };
    (!is_taken).then_some(Skip::Ramping)
}

/// The share of its keys that an endpoint takes during its slow start; none once it takes all, or where none is asked for.
fn share(view: &ServiceView, load: &Load, now: Tick) -> Option<u64> {
    let window = view.balancing().slow_start?.window();
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    // Not begun: the pick that is to come begins it.
    let passed = match load.ramp_from.load(Relaxed) {
        RAMP_PENDING => 0,
        from => now.since(Tick(from)),
    };
    ramp_share(passed, window)
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

    pub(super) fn get(&mut self) -> Tick {
        if *self == Self::UNREAD {
            *self = Self::at(clock::now());
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
