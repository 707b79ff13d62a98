// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pick for a key: the owner on the ring, or the next one while the owner is unusable or over its bound.

use super::{Pick, candidates};
use crate::{
    hash::HashKey,
    model::LoadFactor,
    store::{Endpoint, Hop, Load, ServiceView, Tier},
};

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): no endpoint is given more than
/// `factor` times its share of what this caller has in flight, so that a hot key spills to its next owners.
///
/// Off unless asked for: it costs affinity. A factor of 1.5 holds the fullest of 50 endpoints at 1.5 times the mean under
/// Zipf keys that would reach 3.5 times.
///
/// ```
/// use discovery_core::pick::Bound;
///
/// let bound = Bound::new(150, 8).unwrap();
/// assert_eq!(bound.cap(0, 10), 8, "the floor, while there is little to bound");
/// assert_eq!(bound.cap(999, 10), 150);
/// assert_eq!(Bound::new(100, 8), None, "a bound of the mean itself could not be kept");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bound {
    factor_percent: u32,
    floor: u32,
}

impl Bound {
    /// In flight to one endpoint before a bound means anything: below it the counts are noise. With 8 ten callers of four
    /// requests each spill nothing for it.
    pub const FLOOR: u32 = 8;

    /// Endpoints looked at before the least busy one is taken.
    pub(super) const HOPS_MAX: usize = 10;

    /// A bound of `factor_percent`/100 times the mean, never below `floor` in flight; none unless above 100 %.
    pub fn new(factor_percent: u32, floor: u32) -> Option<Self> {
        (factor_percent > 100).then_some(Self {
            factor_percent,
            floor,
        })
    }

    /// The most in flight to one of `usable` endpoints of equal weight while `total` are in flight to all of them.
    pub fn cap(self, total: u32, usable: usize) -> u32 {
        self.cap_of(total, 1, (usable as u64).max(1))
    }

    /// Whether it means anything for an owner that has so much in flight.
    #[inline]
    pub(super) fn applies_to(self, owner: &Load) -> bool {
        owner.in_flight() >= self.floor
    }

    /// The most in flight to an endpoint of the weight, where all that are usable have `sum`.
    fn cap_of(self, total: u32, weight: u64, sum: u64) -> u32 {
        let share = (u64::from(total) + 1) * u64::from(self.factor_percent);
        let cap = (u128::from(share) * u128::from(weight)).div_ceil(100 * u128::from(sum.max(1)));
        u32::try_from(cap).unwrap_or(u32::MAX).max(self.floor)
    }
}

impl From<LoadFactor> for Bound {
    /// The factor with the floor of [`Bound::FLOOR`].
    fn from(factor: LoadFactor) -> Self {
        Self {
            factor_percent: factor.percent(),
            floor: Self::FLOOR,
        }
    }
}

/// Picks for the key; none when no endpoint is usable.
///
/// 10 to 20 ns for up to 100 endpoints. A bound costs a sum of eight counts while the owner is below the floor. Above it the
/// load of all usable endpoints is added up, about 1 ns each, and at most 10 endpoints are looked at; when all are over
/// the bound the least busy of them is taken.
#[inline]
pub fn keyed(view: &ServiceView, key: HashKey, bound: Option<Bound>) -> Option<Pick<'_>> {
    let owner = match plain_owner(view, key) {
        Some(owner) => owner,
        None => candidates(view, key).next_hop()?,
    };
    match bound {
        Some(bound) if bound.applies_to(owner.load()) => {
            Some(Pick::new(below_bound(view, key, bound, owner)))
        }
        _ => Some(Pick::new(owner)),
    }
}

/// The first on the walk, when nothing speaks against it: nearly always.
#[inline]
fn plain_owner(view: &ServiceView, key: HashKey) -> Option<&Hop> {
    let owner = view.tier_of(key)?.owner(key)?;
    (!owner.load().is_flagged()).then_some(owner)
}

/// The first endpoint in order that is below the bound, else the least busy one that was looked at.
#[cold]
fn below_bound<'v>(view: &'v ServiceView, key: HashKey, bound: Bound, owner: &'v Hop) -> &'v Hop {
    let loads = Loads::of(view, key);
    let mut best = owner;
    let mut candidates = candidates(view, key);
    for candidate in std::iter::from_fn(|| candidates.next_hop()).take(Bound::HOPS_MAX) {
        if loads.is_below(bound, candidate.endpoint()) {
            return candidate;
        }
        if candidate.load().in_flight() < best.load().in_flight() {
            best = candidate;
        }
    }
    best
}

/// What the tier of a key has in flight, and the weight of those that may take it.
pub(super) struct Loads {
    total: u32,
    weight: u64,
}

impl Loads {
    pub(super) fn of(view: &ServiceView, key: HashKey) -> Self {
        let loaded = view.tier_of(key).into_iter().flat_map(Tier::ready);
        let none = Self {
            total: 0,
            weight: 0,
        };
        // Who is left out takes no load: its weight must not make the cap of the others too small.
        loaded.fold(none, |sum, endpoint| {
            let load = endpoint.load();
            let weight = if load.is_left_out() {
                0
            } else {
                endpoint.weight().hundredths()
            };
            Self {
                total: sum.total.saturating_add(load.in_flight()),
                weight: sum.weight + u64::from(weight),
            }
        })
    }

    pub(super) fn is_below(&self, bound: Bound, endpoint: &Endpoint) -> bool {
        let weight = endpoint.weight().hundredths().into();
        endpoint.load().in_flight() < bound.cap_of(self.total, weight, self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::view;

    #[test]
    fn a_hot_key_spills_along_the_ring_and_no_endpoint_passes_the_bound() {
        let view = view(4, &[]);
        let bound = Bound::new(150, 2);
        let key = HashKey::of(b"hot");
        let order: Vec<_> = candidates(&view, key)
            .map(|e| e.identity().clone())
            .collect();
        let picks: Vec<_> = (0..40).map(|_| keyed(&view, key, bound).unwrap()).collect();
        assert_eq!(*picks[0].identity(), order[0]);
        assert_eq!(
            *picks[2].identity(),
            order[1],
            "the owner holds its floor of two"
        );
        let cap = bound.unwrap().cap(40, 4);
        assert!(
            view.usable()
                .all(|endpoint| endpoint.load().in_flight() <= cap)
        );
    }

    #[test]
    fn without_a_bound_the_owner_takes_all() {
        let view = view(4, &[]);
        let key = HashKey::of(b"hot");
        let picks: Vec<_> = (0..100).map(|_| keyed(&view, key, None).unwrap()).collect();
        assert!(
            picks
                .iter()
                .all(|pick| pick.identity() == picks[0].identity())
        );
        assert_eq!(picks[0].load().in_flight(), 100);
    }
}
