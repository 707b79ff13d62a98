// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pick path allocates nothing: counted, not believed.

use discovery_core::{
    hash::HashKey,
    model::{
        Conditions, Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef,
        Zone,
    },
    pick::{Bound, Picker},
    store::{Kind, Object, SourceId, StateConfig, Update, channel},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, net::Ipv4Addr, num::NonZeroU16};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn picker(count: u32) -> Picker {
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
    let (mut writer, reader) = channel(StateConfig::new(name.clone()));
    for object in [
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
fn picks_and_their_retries_allocate_nothing() {
    for count in [3, 100, 1_000] {
        let mut picker = picker(count).bound(Bound::new(150, 8));
        // The first pick fills the handle's own copy.
        drop(picker.any().unwrap());
        let region = Region::new(ALLOCATOR);
        for number in 0..1_000_u64 {
            let key = HashKey::of(&number.to_ne_bytes());
            let pick = picker.keyed(key).unwrap();
            assert!(pick.socket(Some("")).is_some());
            drop(pick);
            drop(picker.any().unwrap());
            assert!(picker.candidates(key).unwrap().take(3).count() >= 2);
        }
        let change = region.change();
        assert_eq!(
            (change.allocations, change.reallocations),
            (0, 0),
            "{count} endpoints: {change:?}"
        );
    }
}
