// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of endpoints: none, more than a service may hold, the same one twice.

use super::{mall, service, slice, web};
use discovery_core::{
    client::CallError,
    hash::{HashKey, MEMBERS_MAX},
    model::{Placement, PlacementWish},
    pick::PickError,
    runtime::explain,
};

#[test]
fn a_service_without_endpoints_is_a_typed_error_at_every_placement() {
    for placement in Placement::ALL {
        let mut service = service();
        service.balancing.placement = PlacementWish::Known(placement);
        let (_writer, reader) = mall(service, []);
        let mut web = web(&reader);
        for error in [
            web.pick(HashKey::of(b"ann")).unwrap_err(),
            web.pick_any().unwrap_err(),
            web.pick_n(HashKey::of(b"ann"), 2).unwrap_err(),
        ] {
            let is_typed = matches!(
                error,
                CallError::Pick(PickError::NoEligibleEndpoint { listed: 0, .. })
            );
            assert!(is_typed && error.is_retryable(), "{placement}: {error}");
        }
        let explained = explain(&reader.load(), web.name(), Some(b"ann")).unwrap();
        assert_eq!(explained.order, Some(vec![]));
    }
}

#[test]
fn a_hundred_thousand_endpoints_are_picked_from_up_to_the_limit_and_the_rest_is_told() {
    let mut service = service();
    service.balancing.placement = PlacementWish::Known(Placement::MaglevV1);
    let names: Vec<_> = (0..100_000).map(|n| format!("web-{n:06}")).collect();
    let pods: Vec<_> = names.iter().map(String::as_str).zip(0..).collect();
    let slices = pods.chunks(1_000).enumerate();
    let slices = slices.map(|(n, pods)| slice(&format!("web-{n}"), pods.iter().copied()));
    let (_writer, reader) = mall(service, slices);
    let mut web = web(&reader);
    for key in 0..100_u32 {
        assert!(web.pick(HashKey::of(&key.to_le_bytes())).is_ok());
        assert!(web.pick_any().is_ok());
    }
    assert_eq!(web.pick_n(HashKey::of(b"ann"), 40).unwrap().len(), 40);
    let explained = explain(&reader.load(), web.name(), Some(b"ann")).unwrap();
    let out = explained
        .endpoints
        .iter()
        .filter(|e| e.reason == "over-limit");
    let out = out.count() + explained.more["over-limit"];
    assert_eq!(out, 100_000 - MEMBERS_MAX);
    let shown = (explained.order.unwrap().len(), explained.walk.len());
    assert_eq!(
        shown,
        (64, 64),
        "a walk of thousands is told by its beginning"
    );
    assert_eq!(explained.walk_more, MEMBERS_MAX - 64);
}

#[test]
fn one_pod_in_two_slices_is_one_endpoint_and_so_are_two_of_one_name_or_address() {
    let twice = [
        slice("web-1", [("web-0", 0), ("web-1", 1)]),
        slice("web-2", [("web-0", 0), ("web-2", 2)]),
    ];
    let of_one_name = [slice(
        "web-1",
        [("web-0", 0), ("web-0", 7), ("web-1", 1), ("web-2", 2)],
    )];
    let at_one_address = [slice(
        "web-1",
        [("web-0", 0), ("web-9", 0), ("web-1", 1), ("web-2", 2)],
    )];
    for slices in [Vec::from(twice), of_one_name.into(), at_one_address.into()] {
        let (_writer, reader) = mall(service(), slices);
        let order = web(&reader).pick_n(HashKey::of(b"ann"), 9).unwrap();
        let mut names: Vec<_> = order.iter().map(|e| e.identity().as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["web-0", "web-1", "web-2"]);
        let mut addresses: Vec<_> = order.iter().map(|e| e.socket(None)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 3, "no address takes two shares");
    }
}
