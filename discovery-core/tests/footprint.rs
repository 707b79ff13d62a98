// SPDX-License-Identifier: MIT OR Apache-2.0
//! What endpoints cost, those of other zones and those of our own: counted, not believed.

mod mall;

use discovery_core::{
    model::{Slice, SliceKey, SlicePort, TargetRef},
    pick::Picker,
};
use mall::{Mall, OWN, node, pod, port, zone};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, net::Ipv4Addr, sync::Arc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A slice as the control plane packs it: 100 pods of one service on as many nodes of other zones.
fn foreign(number: u32) -> Slice {
    let service = format!("service-{}", number % SERVICES);
    let endpoints = (0..PODS_PER_SLICE).map(|n| {
        let id = number * PODS_PER_SLICE + n;
        let node = id % NODES;
        let address = Ipv4Addr::from(0x0a80_0000 + id).to_string();
        let mut endpoint = pod(
            "",
            &address,
            &format!("mall-{:03}-host-{node:04}", node / 10),
        );
        endpoint.target = Some(TargetRef {
            name: format!("{service}-5d4f8c7b9d-{id:05x}").into(),
            uid: format!("7f4d0101-93a1-4c2e-8d5b-{id:012x}").into(),
        });
        endpoint.zone = zone(&format!("mall-{:03}", node / 10));
        endpoint
    });
    let ports: Arc<[SlicePort]> = [port("http", 8080), port("metrics", 9090)].into();
    Slice {
        ports,
        endpoints: endpoints.collect(),
        version: u64::from(number),
        ..Slice::new(
            SliceKey::new("default", &format!("{service}-{number:05}")).unwrap(),
            service.parse().unwrap(),
        )
    }
}

// One test only: the counter is of the whole process.
#[test]
fn an_endpoint_costs_little_in_the_state_and_the_snapshot_together() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-999")]);
    mall.node(node("mall-999-host-b", "mall-999"));
    let region = Region::new(ALLOCATOR);
    for number in 0..SLICES {
        mall.apply(discovery_core::store::Object::Slice(foreign(number)));
    }
    mall.writer.publish();
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let endpoints = (SLICES * PODS_PER_SLICE) as usize;
    let listed: usize = mall
        .reader
        .snapshot()
        .services()
        .map(|view| view.listed())
        .sum();
    assert_eq!(listed, endpoints);
    println!("{} bytes per foreign endpoint", held / endpoints);
    assert!(
        held <= endpoints * BYTES_MAX,
        "{} bytes per endpoint, the bound is {BYTES_MAX}",
        held / endpoints
    );
    own_endpoints_cost_a_ring_only_where_somebody_picks_by_key(&mut mall);
}

fn own_endpoints_cost_a_ring_only_where_somebody_picks_by_key(mall: &mut Mall) {
    let held = |region: Region<'_, _>| {
        let change = region.change();
        change.bytes_allocated - change.bytes_deallocated
    };
    let region = Region::new(ALLOCATOR);
    for number in 0..OWN_SERVICES {
        mall.apply(discovery_core::store::Object::Slice(own(number)));
    }
    mall.writer.publish();
    let endpoints = (OWN_SERVICES * OWN_PODS) as usize;
    let quiet = held(region) / endpoints;
    let region = Region::new(ALLOCATOR);
    for number in 0..OWN_SERVICES {
        Picker::new(mall.reader.clone(), own(number).service);
    }
    let ring = held(region) / endpoints;
    println!("{quiet} bytes per own endpoint, {ring} more where somebody picks by key");
    assert!(
        quiet <= OWN_BYTES_MAX,
        "{quiet} bytes per endpoint, the bound is {OWN_BYTES_MAX}"
    );
    assert!(ring > OWN_BYTES_MAX, "{ring} bytes per endpoint for a ring");
}

/// A service of ten pods on our own nodes.
fn own(number: u32) -> Slice {
    let pods = (0..OWN_PODS).map(|n| {
        let address = Ipv4Addr::from(0x0a90_0000 + number * OWN_PODS + n).to_string();
        pod(&format!("own-{number}-5d4f8c7b9d-{n:05x}"), &address, OWN)
    });
    Slice {
        ports: [port("http", 8080)].into(),
        endpoints: pods.collect(),
        ..Slice::new(
            SliceKey::new("default", &format!("own-{number}-abcde")).unwrap(),
            format!("own-{number}").parse().unwrap(),
        )
    }
}

const OWN_SERVICES: u32 = 100;
const OWN_PODS: u32 = 10;
const OWN_BYTES_MAX: usize = 1_500;

const SLICES: u32 = 200;
const PODS_PER_SLICE: u32 = 100;
const SERVICES: u32 = 20;
/// Thirty pods on each, as 150,000 endpoints on 5,000 nodes.
const NODES: u32 = 667;
/// 150,000 of them stay below 17 MB.
const BYTES_MAX: usize = 110;
