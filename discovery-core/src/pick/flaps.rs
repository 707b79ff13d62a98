// SPDX-License-Identifier: MIT OR Apache-2.0
//! An endpoint that comes and goes ten times a second: what it costs, and that the others do not notice.

use super::owner;
use crate::{
    hash::HashKey,
    model::{
        Conditions, Node, NodeName, Service, ServiceName, Slice, SliceEndpoint, SliceKey,
        TargetRef, Zone,
    },
    store::{Kind, Object, Reader, ServiceView, SourceId, StateConfig, Tier, Update, channel},
};
use std::{
    env, fs,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How the last of the pods is.
#[derive(Clone, Copy, Debug)]
enum Flapper {
    Ready,
    Unready,
    Gone,
}

fn slice(service: &ServiceName, flapper: Flapper, version: u64) -> Slice {
    let pod = |number: u8, ready| SliceEndpoint {
        target: Some(TargetRef {
            name: format!("web-{number}").into(),
            uid: format!("uid-{number}").into(),
        }),
        node: NodeName::parse("edge-a").ok(),
        conditions: Conditions::from_api(Some(ready), None, None),
        ..SliceEndpoint::new(Ipv4Addr::new(10, 1, 0, number).into())
    };
    let stay = (1..PODS).map(|number| pod(number, true));
    let flaps = match flapper {
        Flapper::Gone => None,
        Flapper::Ready => Some(pod(PODS, true)),
        Flapper::Unready => Some(pod(PODS, false)),
    };
    Slice {
        endpoints: stay.chain(flaps).collect(),
        version,
        ..Slice::new(SliceKey::new("shop", "web-1").unwrap(), service.clone())
    }
}

/// The nanoseconds that this thread was on a CPU.
fn busy() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn tier(reader: &Reader, service: &ServiceName) -> Arc<ServiceView> {
    let snapshot = reader.load();
    snapshot.service(service).unwrap().clone()
}

#[test]
fn f52_an_endpoint_that_flaps_at_10_hz_builds_no_ring_and_moves_no_other_key() {
    let service: ServiceName = "shop/web".parse().unwrap();
    let lists = Kind::ALL.map(|kind| (SourceId::Kube, kind));
    let config = StateConfig::new(NodeName::parse("edge-a").unwrap())
        .lists(lists)
        // The moment for which a pod that left stays would hide half of the flaps.
        .grace(Duration::ZERO);
    let (mut writer, reader) = channel(config);
    let node = Node::new(
        NodeName::parse("edge-a").unwrap(),
        Zone::parse("mall-1").ok(),
    );
    for object in [
        Object::OwnNode(node.clone()),
        Object::Node(node),
        Object::Service(Service::new(service.clone())),
        Object::Slice(slice(&service, Flapper::Ready, 1)),
    ] {
        writer.apply(Update::Upsert(SourceId::Kube, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Kube, kind));
    }
    writer.publish().unwrap();
    let keys: Vec<_> = (0..400_u64)
        .map(|n| HashKey::of(&n.to_be_bytes()))
        .collect();
    let owners = |reader: &Reader| -> Vec<String> {
        let view = tier(reader, &service);
        let name = |key| owner(&view, key).unwrap().identity().to_string();
        keys.iter().map(|key| name(*key)).collect()
    };
    let (before, flapping) = (owners(&reader), format!("web-{PODS}"));
    assert!(before.contains(&flapping), "some keys are its own");
    let (mut now, mut rebuilt, mut published) = (Instant::now(), 0, 0);
    let is_long = env::var_os("ZONAL_LONG").is_some();
    let flaps = if is_long { FLAPS_LONG } else { FLAPS };
    let began = busy();
    for flap in 0..flaps {
        let down = if flap % 2 == 0 {
            Flapper::Unready
        } else {
            Flapper::Gone
        };
        for (half, state) in (0..).zip([down, Flapper::Ready]) {
            let old = tier(&reader, &service);
            let version = u64::from(2 + 2 * flap + half);
            let object = Object::Slice(slice(&service, state, version));
            writer.apply(Update::Upsert(SourceId::Kube, object));
            now += FLAP / 2;
            writer.tick(now);
            published += u32::from(writer.publish().is_some());
            let new = tier(&reader, &service);
            let tables = |view: &ServiceView| view.tiers().first().map(Tier::table).cloned();
            let is_shared = match (tables(&old), tables(&new)) {
                (Some(old), Some(new)) => new.shares_circle(&old),
                _ => false,
            };
            rebuilt += u32::from(!is_shared);
            if flap % 99 == 0 {
                let moved = owners(&reader).into_iter().zip(&before);
                let others = moved.filter(|(_, before)| **before != flapping);
                assert!(others.clone().count() > 0);
                for (after, before) in others {
                    assert_eq!(after, *before, "{state:?}");
                }
            }
        }
    }
    let busy = busy().saturating_sub(began);
    println!(
        "{published} generations in {:?}, {rebuilt} rings, {busy:?} of CPU",
        FLAP * flaps
    );
    assert_eq!(
        rebuilt, 0,
        "a flap is a skip on the ring, or a return to it"
    );
    assert_eq!(published, 2 * flaps, "each half of a flap is told");
    assert!(busy * 10 <= FLAP * flaps, "a tenth of a CPU: {busy:?}");
}

const PODS: u8 = 20;
/// A minute at 10 Hz; five with `ZONAL_LONG=1`.
const FLAPS: u32 = 600;
const FLAPS_LONG: u32 = 3_000;
const FLAP: Duration = Duration::from_millis(100);
