// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots for benches, made the way the product makes them.

use discovery_core::{
    model::{
        Conditions, Node, NodeName, Protocol, Service, Slice, SliceEndpoint, SliceKey, SlicePort,
        TargetRef, Zone,
    },
    store::{Kind, Object, Reader, SourceId, StateConfig, Update, Writer, channel},
};
use std::{net::Ipv4Addr, num::NonZeroU16, time::Duration};

/// The slice of `default/web` with `count` ready pods of our zone.
///
/// # Panics
/// If `count` does not fit into 2^24 addresses.
pub fn slice(count: usize) -> Slice {
    let endpoint = |i: usize| SliceEndpoint {
        target: Some(TargetRef {
            name: format!("web-{i:05}").into(),
            uid: format!("uid-{i}").into(),
        }),
        node: Some(node().name),
        conditions: Conditions::from_api(None, None, None),
        ..SliceEndpoint::new(address(i).into())
    };
    let port = NonZeroU16::new(8080).expect("not zero");
    Slice {
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port,
        }]
        .into(),
        endpoints: (0..count).map(endpoint).collect(),
        ..Slice::new(
            SliceKey::new("default", "web-1").expect("a valid name"),
            "web".parse().expect("a valid name"),
        )
    }
}

/// The address of pod `i`.
///
/// # Panics
/// If `i` does not fit into 2^24 addresses.
pub fn address(i: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + u32::try_from(i).expect("at most 2^24 pods"))
}

/// A writer that has published that slice, and a reader.
pub fn published(count: usize) -> (Writer, Reader) {
    let (mut writer, reader) = channel(StateConfig::new(node().name));
    for object in [
        Object::OwnNode(node()),
        Object::Node(node()),
        Object::Slice(slice(count)),
    ] {
        writer.apply(Update::Upsert(SourceId::Manifest, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    (writer, reader)
}

/// How many pods the service has that [`published_crowd`] publishes, one in 500 of them in our zone.
pub const CROWD: usize = 5_000;

/// A writer that has published `default/web` with [`CROWD`] pods in slices of a hundred, as the control plane packs them.
///
/// # Panics
/// Never: every name in it is valid.
pub fn published_crowd() -> (Writer, Reader) {
    let config = StateConfig::new(node().name).grace(Duration::from_secs(1));
    let (mut writer, reader) = channel(config);
    let service = Object::Service(Service::new("web".parse().expect("a valid name")));
    let slices = (0..CROWD / PER_SLICE).map(crowd_slice).map(Object::Slice);
    for object in [Object::OwnNode(node()), Object::Node(node()), service]
        .into_iter()
        .chain(slices)
    {
        writer.apply(Update::Upsert(SourceId::Kube, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Kube, kind));
    }
    writer.publish();
    (writer, reader)
}

/// One of these slices, in which a pod of our zone is ready or not: not after an odd number of calls. Where one is to be
/// replaced, the pod of another zone beside it is a new one each time.
///
/// # Panics
/// If the number of calls does not fit into 64 bits.
pub fn flipped(calls: usize, replaces: bool) -> Slice {
    let mut slice = crowd_slice(0);
    if replaces {
        slice.endpoints[1].target = Some(TargetRef {
            name: format!("web-7d9c6b8f5d-new-{calls}").into(),
            uid: format!("8f4d0101-93a1-4c2e-8d5b-{calls:012x}").into(),
        });
    }
    let is_ready = calls.is_multiple_of(2);
    slice.endpoints[0].conditions = Conditions::from_api(Some(is_ready), Some(is_ready), None);
    slice.version = calls as u64 + 1;
    slice
}

fn crowd_slice(number: usize) -> Slice {
    let first = number * PER_SLICE;
    let endpoint = |i: usize| {
        let uid = format!("7f4d0101-93a1-4c2e-8d5b-{i:012x}");
        // Every fifth slice has one of ours.
        let place = if i.is_multiple_of(PER_SLICE * 5) {
            node().name
        } else {
            NodeName::parse(&format!("edge-{i}.mall-{}.example", i % 499)).expect("a valid name")
        };
        SliceEndpoint {
            target: Some(TargetRef {
                name: format!("web-7d9c6b8f5d-{i:05}").into(),
                uid: uid.into(),
            }),
            node: Some(place),
            ..SliceEndpoint::new(address(i).into())
        }
    };
    let whole = slice(1);
    Slice {
        key: SliceKey::new("default", &format!("web-{number:05}")).expect("a valid name"),
        endpoints: (first..first + PER_SLICE).map(endpoint).collect(),
        version: 1,
        announces_end: true,
        ..whole
    }
}

/// As the controller packs them.
const PER_SLICE: usize = 100;

/// 4,096 keys of 24 bytes, the same in every run.
pub fn keys() -> Vec<[u8; 24]> {
    keys_of(4_096).collect()
}

/// As many keys of 24 bytes, the same in every run.
pub fn keys_of(count: usize) -> impl Iterator<Item = [u8; 24]> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(move |_| {
        let mut key = [0; 24];
        random.fill(&mut key);
        key
    })
}

fn node() -> Node {
    Node::new(
        NodeName::parse("edge-a").expect("a valid name"),
        Some(Zone::parse("mall-1").expect("a valid zone")),
    )
}
