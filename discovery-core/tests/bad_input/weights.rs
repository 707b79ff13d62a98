// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights: of nothing, beyond every limit, of no number.

use super::{annotated, is_told_and_asks_for_nothing, problems};
use discovery_core::{client::CallError, hash::HashKey, model::Weight, pick::PickError};

#[test]
fn a_weight_is_at_most_sixteen_endpoints() {
    assert_eq!(Weight::new(1_600), Some(Weight::MAX));
    for absurd in [1_601, u32::MAX] {
        assert_eq!(Weight::new(absurd), None);
        let text = absurd.to_string();
        assert!(serde_json::from_str::<Weight>(&text).is_err());
    }
}

#[tokio::test]
async fn weights_that_cannot_be_are_told_and_every_endpoint_keeps_its_own() {
    let rules = (0..65).map(|n| format!("web-{n}=1"));
    let many = rules.collect::<Vec<_>>().join(",");
    let long = format!("web-{}=1", "0".repeat(100_000));
    for value in [
        "web-0=4294967296",
        "web-0=4294967295",
        "web-0=1601",
        "web-0=-1",
        "web-0=1.5",
        "web-0=NaN",
        "web-0=",
        "web-0",
        "=5",
        "web-0=5=5",
        "web-*-1=5",
        &many,
        &long,
    ] {
        is_told_and_asks_for_nothing("weights", value).await;
    }
}

#[tokio::test]
async fn endpoints_whose_weights_are_all_zero_are_a_typed_error() {
    let (_folder, discovery) = annotated("weights", "*=0").await;
    assert_eq!(
        problems(&discovery),
        [""; 0],
        "to drain by weight is no mistake"
    );
    let mut web = discovery.service("shop/web".parse().unwrap());
    let key = HashKey::of(b"ann");
    let errors = [
        web.pick(key).unwrap_err(),
        web.pick_any().unwrap_err(),
        web.pick_n(key, 3).unwrap_err(),
    ];
    for error in errors {
        let is_typed = matches!(
            error,
            CallError::Pick(PickError::NoEligibleEndpoint { listed: 3, .. })
        );
        assert!(is_typed && error.is_retryable(), "{error}");
    }
    assert_eq!(discovery.in_flight(), 0, "a refused pick holds no place");
    discovery.stop().await;
}

#[tokio::test]
async fn an_endpoint_of_weight_zero_is_drained_and_one_of_the_greatest_takes_what_it_should() {
    let (_folder, discovery) = annotated("weights", "web-0=0,web-1=1600").await;
    let mut web = discovery.service("shop/web".parse().unwrap());
    let mut counts = [0; 3];
    for n in 0..1_700_u32 {
        let pick = web.pick(HashKey::of(&n.to_le_bytes())).unwrap();
        let number = pick.identity().as_str().strip_prefix("web-").unwrap();
        counts[number.parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!((1_500..1_680).contains(&counts[1]), "16 of 17: {counts:?}");
    discovery.stop().await;
}
