// SPDX-License-Identifier: MIT OR Apache-2.0
//! Picks without a key that look at no load: in turn (smooth weighted round robin) and at random by weight.

use super::{
    Pick,
    p2c::{draw, tier_for_any},
    skip::{Leniency, Now, ShareOf},
};
use crate::store::{Hop, ServiceView, Tier};

/// Smooth weighted round robin, as nginx has it: with weights 5, 1, 1 the turns are a a b a c a a.
///
/// One per caller; callers do not know of each other, so that the sum of their turns is smooth only by chance. O(n) a pick,
/// about 1 ns an endpoint.
///
/// ```
/// # use discovery_core::{model::NodeName, pick::Picker, store::{StateConfig, channel}};
/// use discovery_core::pick::RoundRobin;
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "web".parse().unwrap());
/// let mut turns = RoundRobin::default();
/// if let Ok(view) = picker.view() {
///     let pick = turns.pick(view);
///     assert!(pick.is_some());
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    /// What each member is owed: grows by its weight with every turn, falls by the sum of all with its own.
    owed: Vec<i64>,
}

impl RoundRobin {
    /// The next in turn; none when no endpoint is usable. It allocates only when the number of endpoints has grown.
    pub fn pick<'v>(&mut self, view: &'v ServiceView) -> Option<Pick<'v>> {
        let mut random = fastrand::Rng::new();
        let tier = tier_for_any(view, &mut random)?;
        // Members are in the order of their identity: after a change some turns are off by one, and even out.
        self.owed.resize(tier.usable(), 0);
        let mut leniency = Leniency::None;
        loop {
            if let Some(hop) = self.turn(view, tier, leniency, &mut random) {
                return Some(Pick::new(hop));
            }
            leniency = leniency.more()?;
            if leniency == Leniency::All {
                view.load().panicked();
            }
        }
    }

    fn turn<'v>(
        &mut self,
        view: &'v ServiceView,
        tier: &'v Tier,
        leniency: Leniency,
        random: &mut fastrand::Rng,
    ) -> Option<&'v Hop> {
        let mut now = Now::UNREAD;
        let mut sum = 0;
        let mut best: Option<(usize, &Hop)> = None;
        for (at, hop) in tier.hops().iter().enumerate() {
            let endpoint = hop.endpoint();
            let share_of = ShareOf::Requests(random.u64(..));
            if hop.load().is_flagged() && leniency.skips(view, endpoint, share_of, &mut now) {
                continue;
            }
            let weight = i64::from(endpoint.weight().hundredths());
            sum += weight;
            self.owed[at] += weight;
            if best.is_none_or(|(best, _)| self.owed[at] > self.owed[best]) {
                best = Some((at, hop));
            }
        }
        let (at, hop) = best?;
        self.owed[at] -= sum;
        Some(hop)
    }
}

/// Picks at random by weight; none when no endpoint is usable.
///
/// O(log n) where weights differ, constant otherwise.
pub fn weighted_random<'v>(view: &'v ServiceView, random: &mut fastrand::Rng) -> Option<Pick<'v>> {
    let tier = tier_for_any(view, random)?;
    let drawn = tier.weighted(random.u32(..))?;
    if !drawn.load().is_flagged() {
        return Some(Pick::new(drawn));
    }
    draw(view, tier, None, random).map(Pick::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::{View, view};

    #[test]
    fn turns_are_smooth() {
        let view = View::of(3).weights("pod-0000=500,*=100").build();
        let mut turns = RoundRobin::default();
        let order: String = (0..7)
            .filter_map(|_| turns.pick(&view)?.identity().as_str().chars().last())
            .collect();
        assert_eq!(order, "0010200");
    }

    #[test]
    fn turns_pass_over_who_is_left_out() {
        let view = view(3, &[]);
        view.tiers()[0].members()[1].load().set_check_failed(true);
        let mut turns = RoundRobin::default();
        for _ in 0..9 {
            assert_ne!(turns.pick(&view).unwrap().identity().as_str(), "pod-0001");
        }
    }

    #[test]
    fn random_picks_fall_by_weight() {
        let view = View::of(4).weights("pod-0000=300,pod-0001=0,*=100").build();
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            let pick = weighted_random(&view, &mut random).unwrap();
            let at = view.tiers()[0]
                .members()
                .binary_search_by(|e| e.identity().cmp(pick.identity()));
            counts[at.unwrap()] += 1;
        }
        assert_eq!(counts[1], 0, "a weight of 0 takes nothing");
        assert!((5_700..6_300).contains(&counts[0]), "{counts:?}");
        assert!((1_800..2_200).contains(&counts[2]), "{counts:?}");
    }
}
