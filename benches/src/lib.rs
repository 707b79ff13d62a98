// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots for benches, made the way the product makes them.

use discovery_core::{
    model::{
        Conditions, Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef,
        Zone,
    },
    store::{Kind, Object, Reader, SourceId, StateConfig, Update, Writer, channel},
};
use std::{net::Ipv4Addr, num::NonZeroU16};

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
