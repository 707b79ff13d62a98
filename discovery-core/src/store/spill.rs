// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which share of the keys leaves the own zone while it can serve, but not all: policy `prefer` with `zonal.dev/spill-below`.
//!
//! In: the weights listed and usable in the zone, the threshold, and whether keys spill already. Out: a share of all keys.
//! Only shared facts go in, so that every caller that sees the same spills the same keys. Back in, the threshold lies ten
//! points higher: a zone at the edge does not send its keys to and fro.

use crate::model::SpillBelow;

/// The share of the keys, of 2⁶⁴, that belongs to the last tier.
///
/// `listed` and `usable` are sums of weights. Below the threshold t a usable share u keeps u/t of the keys.
pub(super) fn spilled(threshold: SpillBelow, listed: u64, usable: u64, is_spilling: bool) -> u64 {
    let close = if is_spilling { HYSTERESIS_PERCENT } else { 0 };
    let threshold = u128::from((threshold.percent() + close).min(100));
    let (usable, full) = (u128::from(usable) * 100, u128::from(listed) * threshold);
    let Some(missing) = full.checked_sub(usable).filter(|missing| *missing > 0) else {
        return 0;
    };
    u64::try_from((missing << 64) / full).unwrap_or(u64::MAX)
}

const HYSTERESIS_PERCENT: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(threshold: u32, listed: u64, usable: u64, is_spilling: bool) -> u64 {
        let share = spilled(
            SpillBelow::new(threshold).unwrap(),
            listed,
            usable,
            is_spilling,
        );
        u64::try_from((u128::from(share) * 100).div_ceil(1 << 64)).unwrap()
    }

    #[test]
    fn what_lacks_to_the_threshold_spills() {
        assert_eq!(percent(70, 1_000, 1_000, false), 0);
        assert_eq!(percent(70, 1_000, 700, false), 0);
        assert_eq!(percent(70, 1_000, 350, false), 50);
        assert_eq!(percent(100, 1_000, 900, false), 10);
        assert_eq!(percent(70, 1_000, 0, false), 100);
    }

    #[test]
    fn the_way_back_is_ten_points_longer() {
        assert_eq!(percent(70, 1_000, 700, true), 13);
        assert_eq!(percent(70, 1_000, 800, true), 0);
        assert_eq!(
            percent(95, 1_000, 1_000, true),
            0,
            "all of it is always enough"
        );
    }

    #[test]
    fn a_zone_of_nothing_spills_nothing_by_share() {
        assert_eq!(percent(70, 0, 0, false), 0);
    }
}
