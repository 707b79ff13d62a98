// SPDX-License-Identifier: MIT OR Apache-2.0
//! Factors: of the load bound, of slow start, of spilling, of ejection and of latency.

use super::{annotated, is_told_and_asks_for_nothing, mall, problems, service, slice, web};
use discovery_core::{
    client::CallError,
    hash::HashKey,
    model::{LoadFactor, SlowStart, SpillBelow, WithoutKey},
    pick::{Bound, EjectRule, PickError},
};
use std::time::Duration;

#[tokio::test]
async fn bounds_windows_and_thresholds_that_cannot_be_are_told_and_ask_for_nothing() {
    for (key, values) in [
        (
            "bounded-load",
            &["", "0", "1", "-1", "NaN", "inf", "1e9", "101", "1.255"][..],
        ),
        (
            "slow-start",
            &["", "0s", "-5s", "2h", "30", "99999999999999999999s", "1d"],
        ),
        ("spill-below", &["", "0", "101", "-1", "70.5", "4294967296"]),
        ("balance", &["", "fastest", "EWMA", "ewma=0"]),
        ("hash-on", &["", "cookie"]),
    ] {
        for value in values {
            is_told_and_asks_for_nothing(key, value).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_placement_is_told_and_refuses_keyed_picks_alone() {
    for value in ["", "ring/v9", "md5", &"r".repeat(100_000)] {
        let (_folder, discovery) = annotated("hash-algorithm", value).await;
        assert_eq!(problems(&discovery).len(), 1);
        let mut web = discovery.service("shop/web".parse().unwrap());
        let error = web.pick(HashKey::of(b"ann")).unwrap_err();
        let is_typed = matches!(error, CallError::Pick(PickError::UnknownPlacement { .. }));
        assert!(is_typed && !error.is_retryable(), "{error}");
        assert!(web.pick_any().is_ok());
        discovery.stop().await;
    }
}

#[test]
fn values_of_the_library_have_the_same_limits() {
    for absurd in [0, 100, 10_001, u32::MAX] {
        assert!(LoadFactor::new(absurd).is_none(), "{absurd}");
    }
    for absurd in [0, 3_601, u32::MAX] {
        assert!(SlowStart::new(absurd).is_none(), "{absurd}");
    }
    for absurd in [0, 101, u32::MAX] {
        assert!(SpillBelow::new(absurd).is_none(), "{absurd}");
    }
}

#[test]
fn a_bound_at_the_end_of_its_range_holds_and_picks_go_on() {
    assert!(Bound::new(0, 0).is_none() && Bound::new(100, u32::MAX).is_none());
    let pods = [("web-0", 0), ("web-1", 1), ("web-2", 2)];
    let (_writer, reader) = mall(service(), [slice("web-1", pods)]);
    for (factor, floor) in [
        (101, 0),
        (101, u32::MAX),
        (u32::MAX, 0),
        (u32::MAX, u32::MAX),
    ] {
        let bound = Bound::new(factor, floor).unwrap();
        for total in [0, 1, u32::MAX] {
            for usable in [0, 1, usize::MAX] {
                assert!(bound.cap(total, usable) >= floor);
            }
        }
        let mut web = web(&reader).bound(Some(bound));
        let key = HashKey::of(b"ann");
        let held: Vec<_> = (0..99).map(|_| web.pick(key).unwrap()).collect();
        let most = held
            .iter()
            .map(|pick| pick.load().in_flight())
            .max()
            .unwrap();
        let is_even = factor == 101 && floor == 0;
        assert_eq!(most, if is_even { 34 } else { 99 }, "{factor} {floor}");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_of_ejection_at_the_end_of_their_range_never_take_the_last() {
    let pods = [("web-0", 0), ("web-1", 1), ("web-2", 2)];
    for extreme in [0, 1, u32::MAX] {
        for length in [Duration::ZERO, Duration::MAX] {
            let (_writer, reader) = mall(service(), [slice("web-1", pods)]);
            let mut web = web(&reader).eject(Some(EjectRule {
                errors_in_row: extreme,
                error_percent: extreme,
                answers_min: extreme,
                window: length,
                backoff: length,
                backoff_max: length,
                ejected_percent_max: extreme,
            }));
            for key in 0..200_u32 {
                let pick = web.pick(HashKey::of(&key.to_le_bytes())).unwrap();
                pick.failure();
                tokio::time::advance(Duration::from_millis(7)).await;
            }
            let all = web.pick_n(HashKey::of(b"ann"), 3).unwrap();
            assert!(all.iter().any(|endpoint| !endpoint.load().is_ejected()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_after_no_time_and_after_a_century_leave_picks_by_latency_in_order() {
    let mut service = service();
    service.balancing.without_key = WithoutKey::Ewma;
    let pods = [("web-0", 0), ("web-1", 1)];
    let (_writer, reader) = mall(service, [slice("web-1", pods)]);
    let mut web = web(&reader);
    for takes in [Duration::ZERO, Duration::from_secs(100 * 365 * 86_400)] {
        let pick = web.pick_any().unwrap();
        tokio::time::advance(takes).await;
        pick.success();
        assert!(web.pick_any().is_ok());
    }
}
