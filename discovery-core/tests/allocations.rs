// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pick path allocates nothing: counted, not believed.

use discovery_core::{
    hash::HashKey,
    model::{
        Conditions, Node, NodeName, Placement, PlacementWish, Protocol, Service, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, WithoutKey, Zone,
    },
    pick::{Bound, EjectRule, Outcome, Picker},
    store::{Kind, Object, SourceId, StateConfig, Update, channel},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    net::Ipv4Addr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn picker(count: u32, placement: Placement) -> Picker {
    let name = NodeName::parse("edge-a").unwrap();
    let node = Node::new(name.clone(), Some(Zone::parse("mall-1").unwrap()));
    let endpoint = |i: u32| SliceEndpoint {
        target: Some(TargetRef {
            name: format!("web-{i}").into(),
            uid: "".into(),
        }),
        node: Some(name.clone()),
        // Every third is not ready, so that the walk has to skip.
        conditions: Conditions::from_api(Some(!i.is_multiple_of(3)), None, None),
        ..SliceEndpoint::new(Ipv4Addr::from(0x0a00_0001 + i).into())
    };
    let slice = Slice {
        ports: [SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: NonZeroU16::new(80).unwrap(),
        }]
        .into(),
        endpoints: (0..count).map(endpoint).collect(),
        ..Slice::new(
            SliceKey::new("default", "web-1").unwrap(),
            "web".parse().unwrap(),
        )
    };
    let mut service = Service::new("web".parse().unwrap());
    service.balancing.placement = PlacementWish::Known(placement);
    service.balancing.weights = "web-1=50".parse().unwrap();
    let (mut writer, reader) = channel(StateConfig::new(name.clone()));
    for object in [
        Object::Service(service),
        Object::OwnNode(node.clone()),
        Object::Node(node),
        Object::Slice(slice),
    ] {
        writer.apply(Update::Upsert(SourceId::Manifest, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    Picker::new(reader, "web".parse().unwrap())
}

// One test only: the counter is of the whole process.
#[test]
fn picks_of_every_policy_their_retries_and_outcomes_allocate_nothing() {
    for placement in Placement::ALL {
        for count in [3, 100, 1_000] {
            // Rendezvous looks at every member: as many keys as show it.
            let keys = if count == 1_000 { 100 } else { 1_000 };
            let picker = picker(count, placement).bound(Bound::new(150, 8));
            // The test's own main thread allocates now and then: a pick that did would do so every time.
            let change = (0..3).map(|_| allocated(&picker, keys)).min();
            assert_eq!(change, Some((0, 0)), "{count} endpoints, {placement}");
        }
    }
}

/// Allocations and reallocations of so many picks of each kind.
fn allocated(picker: &Picker, keys: u64) -> (usize, usize) {
    let ways = [
        WithoutKey::LeastRequests,
        WithoutKey::Ewma,
        WithoutKey::RoundRobin,
        WithoutKey::Random,
    ];
    let mut pickers = ways.map(|way| picker.clone().without_key(way));
    // The first picks fill the handles' own copies.
    for picker in &mut pickers {
        drop(picker.any().unwrap());
    }
    let (rule, now) = (EjectRule::default(), Instant::now());
    let region = Region::new(ALLOCATOR);
    for number in 0..keys {
        let key = HashKey::of(&number.to_ne_bytes());
        for picker in &mut pickers {
            drop(picker.any().unwrap());
        }
        let picker = &mut pickers[0];
        assert!(picker.candidates(key).unwrap().take(3).count() >= 1);
        let pick = picker.keyed(key).unwrap();
        assert!(pick.socket(Some("")).is_some());
        // Some are ejected on the way, and passed over from then on.
        let outcome = Outcome {
            is_error: number % 3 != 0,
            latency: Duration::from_millis(1),
        };
        pick.end(outcome, now, Some(&rule));
    }
    let change = region.change();
    (change.allocations, change.reallocations)
}
