// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pick without a key: the power of two choices (Mitzenmacher, 2001), by requests in flight or by peak EWMA.

use super::{
    Pick, latency,
    skip::{Leniency, Now, ShareOf},
};
use crate::{
    clock::Tick,
    store::{Hop, ServiceView, Tier},
};
use std::time::Instant;

/// Picks of two random usable endpoints the one that has less in flight for its weight; none when no endpoint is usable.
///
/// Constant time, about 10 ns. Where most members are left out it scans from a random place: O(n).
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::pick::{Picker, p2c};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
/// if let Ok(view) = picker.view() {
///     assert_eq!(p2c(view).is_none(), view.usable().next().is_none());
/// }
/// ```
#[inline]
pub fn p2c(view: &ServiceView) -> Option<Pick<'_>> {
    p2c_with(view, &mut fastrand::Rng::new())
}

/// [`p2c`] with the caller's own random numbers: saves the look at those of the thread.
#[inline]
pub fn p2c_with<'v>(view: &'v ServiceView, random: &mut fastrand::Rng) -> Option<Pick<'v>> {
    let (first, second) = two(view, random)?;
    let (a, b) = (
        u64::from(first.load().in_flight()),
        u64::from(second.load().in_flight()),
    );
    let weight = |hop: &Hop| u64::from(hop.endpoint().weight().hundredths());
    let is_less = (b + 1) * weight(first) < (a + 1) * weight(second);
    Some(Pick::new(if is_less { second } else { first }))
}

/// Picks of two random usable endpoints the one that should answer sooner: the peak EWMA of its latency times requests in
/// flight, for its weight. None when no endpoint is usable.
///
/// Latencies come from [`report`](super::report); an endpoint that never answered counts as 30 ms. About 40 ns, for the
/// clock and the decay.
pub fn p2c_ewma<'v>(
    view: &'v ServiceView,
    now: Instant,
    random: &mut fastrand::Rng,
) -> Option<Pick<'v>> {
    let (first, second) = two(view, random)?;
    let now = Tick::at(now);
    let cost = |hop: &Hop| {
        let load = hop.load();
        let micros = latency::estimate(&load.latency, now);
        u128::from(micros) * u128::from(load.in_flight() + 1)
    };
    let weight = |hop: &Hop| u128::from(hop.endpoint().weight().hundredths());
    let is_less = cost(second) * weight(first) < cost(first) * weight(second);
    Some(Pick::new(if is_less { second } else { first }))
}

type Two<'v> = (&'v Hop, &'v Hop);

/// Two different usable endpoints; twice the same when it is the only one.
#[inline]
fn two<'v>(view: &'v ServiceView, random: &mut fastrand::Rng) -> Option<Two<'v>> {
    let tier = tier_for_any(view, random)?;
    // One random number for both, and no division: the upper half scaled to n, the lower to the others.
    let draw = random.u64(..);
    let count = tier.usable();
    let first = scale(draw >> 32, count);
    let second = scale(draw & u64::from(u32::MAX), count - 1);
    let second = if count > 1 && second >= first {
        second + 1
    } else {
        second
    };
    let (first, second) = (tier.nth_ready(first)?, tier.nth_ready(second)?);
    if first.load().is_flagged() || second.load().is_flagged() {
        return two_of_flagged(view, tier, random);
    }
    Some((first, second))
}

/// The tier that serves a request without a key: the share of requests that spills is the share of keys that does.
#[inline]
pub(super) fn tier_for_any<'v>(
    view: &'v ServiceView,
    random: &mut fastrand::Rng,
) -> Option<&'v Tier> {
    if view.spilled_share() > 0.0 {
        return view.tier_of(crate::hash::HashKey(random.u64(..)));
    }
    view.serving_tier()
}

#[inline]
fn scale(fraction: u64, count: usize) -> usize {
    usize::try_from((fraction * count as u64) >> 32).unwrap_or(0)
}

#[cold]
fn two_of_flagged<'v>(
    view: &'v ServiceView,
    tier: &'v Tier,
    random: &mut fastrand::Rng,
) -> Option<Two<'v>> {
    let first = draw(view, tier, None, random)?;
    let second = draw(view, tier, Some(first), random).unwrap_or(first);
    Some((first, second))
}

/// A random usable member other than `not`, with as little forgiven as there has to be.
pub(super) fn draw<'v>(
    view: &'v ServiceView,
    tier: &'v Tier,
    not: Option<&'v Hop>,
    random: &mut fastrand::Rng,
) -> Option<&'v Hop> {
    let (mut now, count) = (Now::UNREAD, tier.usable());
    let mut leniency = Leniency::None;
    loop {
        let mut fits = |hop: &Hop, share_of| {
            let is_other = !not.is_some_and(|other| std::ptr::eq(hop, other));
            let is_flagged = hop.load().is_flagged();
            is_other && !(is_flagged && leniency.skips(view, hop.endpoint(), share_of, &mut now))
        };
        let start = random.usize(..count.max(1));
        for draw in 0..DRAWS_MAX + count {
            // First here and there, then everywhere in turn.
            let at = if draw < DRAWS_MAX {
                random.usize(..count.max(1))
            } else {
                (start + draw) % count
            };
            let hop = tier.nth_ready(at)?;
            if fits(hop, ShareOf::Requests(random.u64(..))) {
                return Some(hop);
            }
        }
        // A second choice is worth no panic.
        leniency = leniency.more().filter(|_| not.is_none())?;
        if leniency == Leniency::All {
            view.load().panicked();
        }
    }
}

/// Draws before scanning: with half of the members usable 1 draw in 256 comes to it.
const DRAWS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::view;
    use std::time::Duration;

    #[test]
    fn the_idle_one_of_two_is_taken() {
        let view = view(2, &[]);
        let busy = view.tiers()[0].nth_ready(0).unwrap();
        let _held: Vec<_> = (0..3).map(|_| Pick::new(busy)).collect();
        for _ in 0..50 {
            assert_ne!(p2c(&view).unwrap().identity(), busy.endpoint().identity());
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
    fn left_out_members_are_taken_only_when_nobody_else_is_there() {
        let view = view(10, &[]);
        for endpoint in &view.tiers()[0].members()[1..] {
            endpoint.load().set_check_failed(true);
        }
        for _ in 0..200 {
            assert_eq!(p2c(&view).unwrap().identity().as_str(), "pod-0000");
        }
        view.tiers()[0].members()[0].load().set_check_failed(true);
        assert!(p2c(&view).is_some() && view.load().panic_picks() == 1);
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

    #[test]
    fn with_ewma_the_slow_one_of_two_gets_less() {
        let (view, now, mut random) = (view(2, &[]), Instant::now(), fastrand::Rng::with_seed(1));
        let [slow, fast] = [0, 1].map(|at| &view.tiers()[0].members()[at]);
        latency::observe(
            &slow.load().latency,
            Tick::at(now),
            Duration::from_millis(100),
        );
        latency::observe(
            &fast.load().latency,
            Tick::at(now),
            Duration::from_millis(10),
        );
        let held: Vec<_> = (0..22)
            .map(|_| p2c_ewma(&view, now, &mut random).unwrap())
            .collect();
        assert_eq!((slow.load().in_flight(), fast.load().in_flight()), (2, 20));
        drop(held);
        let forgotten = now + Duration::from_secs(600);
        let _again: Vec<_> = (0..20)
            .map(|_| p2c_ewma(&view, forgotten, &mut random).unwrap())
            .collect();
        assert_eq!(slow.load().in_flight(), 10, "what is long ago says nothing");
    }
}
