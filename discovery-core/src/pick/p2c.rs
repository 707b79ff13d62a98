// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pick without a key: the power of two choices (Mitzenmacher, 2001), by requests in flight.

use super::Pick;
use crate::store::{Endpoint, ServiceView, Tier};
use std::sync::Arc;

/// Picks the less busy of two random usable endpoints; none when no endpoint is usable.
///
/// Constant time, about 10 ns. Where most members are unusable it scans from a random place: O(n).
#[inline]
pub fn p2c(view: &ServiceView) -> Option<Pick<'_>> {
    let tier = view.serving_tier()?;
    let first = draw(tier, None)?;
    let endpoint = match draw(tier, Some(first)) {
        Some(second) if second.load().in_flight() < first.load().in_flight() => second,
        _ => first,
    };
    Some(Pick::new(endpoint))
}

/// A random usable member other than `not`.
#[inline]
fn draw<'v>(tier: &'v Tier, not: Option<&'v Arc<Endpoint>>) -> Option<&'v Arc<Endpoint>> {
    let members = tier.members();
    let fits = |endpoint: &&Arc<Endpoint>| {
        endpoint.is_usable() && !not.is_some_and(|other| Arc::ptr_eq(endpoint, other))
    };
    if tier.usable() <= usize::from(not.is_some()) {
        return None;
    }
    let drawn = (0..DRAWS_MAX)
        .map(|_| &members[fastrand::usize(..members.len())])
        .find(fits);
    drawn.or_else(|| {
        let (before, after) = members.split_at(fastrand::usize(..members.len()));
        after.iter().chain(before).find(fits)
    })
}

/// Draws before scanning: with half of the members usable 1 draw in 256 comes to it.
const DRAWS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::view;

    #[test]
    fn the_idle_one_of_two_is_taken() {
        let view = view(2, &[]);
        let busy = &view.tiers()[0].members()[0];
        let _held: Vec<_> = (0..3).map(|_| Pick::new(busy)).collect();
        for _ in 0..50 {
            assert_ne!(p2c(&view).unwrap().identity(), busy.identity());
        }
    }

    #[test]
    fn unusable_members_are_never_taken_however_many() {
        let view = view(100, &(1..100).collect::<Vec<_>>());
        for _ in 0..200 {
            assert_eq!(p2c(&view).unwrap().identity().as_str(), "pod-0000");
        }
    }

    #[test]
    fn held_picks_spread_evenly() {
        let view = view(10, &[]);
        let _held: Vec<_> = (0..1_000).map(|_| p2c(&view).unwrap()).collect();
        assert!(
            view.usable()
                .all(|endpoint| (90..=110).contains(&endpoint.load().in_flight()))
        );
    }
}
