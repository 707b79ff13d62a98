// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent's state told to a client's: whatever happened, and however it was cut into transactions, both build one view.

use super::{
    frame::{self, FrameKind},
    message::{self, Hello},
    session::{Event, Session, SessionError},
    view::View,
};
use crate::{
    hash::HashKey,
    model::{
        Conditions, Node, NodeName, Protocol, Service, ServiceName, Slice, SliceEndpoint, SliceKey,
        SlicePort, TargetRef, Zone, ZonePolicy,
    },
    pick::candidates,
    store::{
        Kind, Object, ObjectKey, Reader, SourceId, StateConfig, Tier, Update, Writer, channel,
    },
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::{net::Ipv4Addr, num::NonZeroU16};

fn config() -> StateConfig {
    let lists = Kind::ALL.map(|kind| (SourceId::Kube, kind));
    StateConfig::new(NodeName::parse("edge-0").unwrap()).lists(lists)
}

fn node(number: u8, zone: u8) -> Node {
    Node::new(
        NodeName::parse(&format!("edge-{number}")).unwrap(),
        Some(Zone::parse(&format!("mall-{zone}")).unwrap()),
    )
}

fn service(number: u8) -> ServiceName {
    format!("shop/web-{number}").parse().unwrap()
}

fn slice(number: u8, of: u8, version: u64, pods: &[(u8, u8, bool)]) -> Slice {
    let endpoint = |&(pod, node, ready): &(u8, u8, bool)| SliceEndpoint {
        target: Some(TargetRef {
            name: format!("pod-{pod}").into(),
            uid: format!("uid-{pod}").into(),
        }),
        node: Some(NodeName::parse(&format!("edge-{}", node % 4)).unwrap()),
        conditions: Conditions::from_api(Some(ready), None, None),
        ..SliceEndpoint::new(Ipv4Addr::new(10, 1, of, pod).into())
    };
    let port = SlicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(8080).unwrap(),
    };
    let key = SliceKey::new("shop", &format!("slice-{number}")).unwrap();
    Slice {
        ports: [port].into(),
        endpoints: pods.iter().map(endpoint).collect(),
        version,
        ..Slice::new(key, service(of))
    }
}

/// What can happen to an agent.
#[derive(Clone, Debug)]
enum Step {
    Slice(u8, u8, u64, Vec<(u8, u8, bool)>),
    NoSlice(u8),
    Node(u8, u8),
    NoNode(u8),
    Policy(u8, u8),
    /// A new full list of all slices, these alone.
    Relist(Vec<(u8, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    let pods = || proptest::collection::vec((0_u8..12, 0_u8..4, any::<bool>()), 0..8);
    prop_oneof![
        4 => (0_u8..5, 0_u8..3, 0_u64..6, pods()).prop_map(|(n, of, v, pods)| Step::Slice(n, of, v, pods)),
        1 => (0_u8..5).prop_map(Step::NoSlice),
        2 => (0_u8..4, 0_u8..2).prop_map(|(n, zone)| Step::Node(n, zone)),
        1 => (1_u8..4).prop_map(Step::NoNode),
        1 => (0_u8..3, 0_u8..4).prop_map(|(n, policy)| Step::Policy(n, policy)),
        1 => proptest::collection::vec((0_u8..5, 0_u8..3), 0..4).prop_map(Step::Relist),
    ]
}

fn apply(writer: &mut Writer, step: &Step) {
    let kube = SourceId::Kube;
    let upsert = |object| Update::Upsert(kube, object);
    let updates = match step {
        Step::Slice(n, of, v, pods) => vec![upsert(Object::Slice(slice(*n, *of, *v, pods)))],
        Step::NoSlice(n) => {
            let key = SliceKey::new("shop", &format!("slice-{n}")).unwrap();
            vec![Update::Remove(kube, ObjectKey::Slice(key))]
        }
        Step::Node(0, zone) => vec![
            upsert(Object::Node(node(0, *zone))),
            upsert(Object::OwnNode(node(0, *zone))),
        ],
        Step::Node(n, zone) => vec![upsert(Object::Node(node(*n, *zone)))],
        Step::NoNode(n) => vec![Update::Remove(kube, ObjectKey::Node(node(*n, 0).name))],
        Step::Policy(n, policy) => {
            let policies = [ZonePolicy::Strict, ZonePolicy::Prefer, ZonePolicy::Any];
            let zone_policy = policies.get(usize::from(*policy)).copied();
            vec![upsert(Object::Service(Service {
                zone_policy,
                ..Service::new(service(*n))
            }))]
        }
        Step::Relist(slices) => {
            let mut updates = vec![Update::Reset(kube, Kind::Slices)];
            updates.extend(slices.iter().map(|(n, of)| {
                upsert(Object::Slice(slice(
                    *n,
                    *of,
                    1,
                    &[(*n, 0, true), (*n + 5, 1, true)],
                )))
            }));
            updates.push(Update::Synced(kube, Kind::Slices));
            updates
        }
    };
    for update in updates {
        writer.apply(update);
    }
}

fn agent() -> (Writer, Reader) {
    let (mut writer, reader) = channel(config());
    apply(&mut writer, &Step::Node(0, 0));
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Kube, kind));
    }
    writer.publish();
    (writer, reader)
}

/// A client's end of a socket: bytes in, one publication for each transaction.
struct Client {
    session: Session,
    buffer: BytesMut,
    writer: Writer,
    reader: Reader,
}

impl Client {
    fn new() -> Self {
        let (writer, reader) = channel(StateConfig::new(NodeName::parse("unknown").unwrap()));
        let mut client = Self {
            session: Session::new(true),
            buffer: BytesMut::new(),
            writer,
            reader,
        };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.session = Session::new(true);
        let hello = Hello {
            version: message::VERSION,
            config: config(),
        };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, FrameKind::Hello, &message::encode(&hello));
        self.take(&[bytes.into()]);
    }

    fn take(&mut self, parts: &[Bytes]) {
        for part in parts {
            self.buffer.extend_from_slice(part);
            while let Some(frame) = frame::take(&mut self.buffer).unwrap() {
                if let Event::Transaction(transaction) = self.session.take(frame).unwrap() {
                    let is_new = self.reader.load().generation().0 == 0;
                    if let Some(config) = transaction.config.filter(|_| is_new) {
                        self.writer.restart(config);
                    }
                    for update in transaction.updates {
                        self.writer.apply(update);
                    }
                    self.writer.accept();
                    self.writer.publish();
                }
            }
        }
    }
}

/// Everything that a caller can see, in the order in which keys are tried.
fn seen(reader: &Reader) -> Vec<String> {
    let snapshot = reader.load();
    let mut all = vec![format!("{} {:?}", snapshot.zone(), snapshot.coverage())];
    for number in 0..3 {
        let Some(view) = snapshot.service(&service(number)) else {
            all.push(format!("{number} absent"));
            continue;
        };
        all.push(format!("{number} {}", view.policy()));
        for key in 0..20_u64 {
            let order = candidates(view, HashKey(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let order = order.map(|e| format!("{}@{:?}", e.identity(), e.socket(None)));
            all.push(order.collect::<Vec<_>>().join(","));
        }
        for endpoint in view.tiers().iter().flat_map(Tier::members) {
            let (identity, reason) = (endpoint.identity(), endpoint.reason());
            all.push(format!(
                "{identity} {reason:?} {:?} {:?}",
                endpoint.zone(),
                endpoint.ports()
            ));
        }
    }
    all
}

proptest! {
    /// A client sees what the agent sees after each transaction, whatever happened in between, and also when it was away.
    #[test]
    fn a_client_builds_the_agents_view(
        steps in proptest::collection::vec((step(), 0_u8..10), 1..40),
    ) {
        let (mut writer, reader) = agent();
        let mut client = Client::new();
        let mut told: Option<View> = None;
        for (step, then) in steps {
            apply(&mut writer, &step);
            // Not every change is told by itself.
            if then < 3 {
                continue;
            }
            writer.publish();
            let (view, left_out) = View::new(writer.stated(), reader.load().generation().0, None, told.as_ref());
            prop_assert!(left_out.is_empty());
            if let Some(before) = told.take().filter(|_| then != 9) {
                let parts = view.since(&before);
                client.take(&parts.unwrap_or_default());
            } else {
                client.connect();
                client.take(&view.whole());
            }
            told = Some(view);
            prop_assert_eq!(seen(&client.reader), seen(&reader));
        }
        // The disk says the same to a client that begins from it.
        if told.is_some() {
            let mut begun = Client::new();
            let file = client.session.file().unwrap();
            begun.session = Session::new(false);
            begun.take(&file);
            prop_assert_eq!(seen(&begun.reader), seen(&client.reader));
        }
    }

    /// Any messages in any order are transactions or errors, never a panic.
    #[test]
    fn hostile_messages_are_refused(
        frames in proptest::collection::vec((0_usize..8, prop_oneof![
            Just(&b"{}"[..]), Just(&b"null"[..]), Just(&br#"{"is_whole":true}"#[..]), Just(&br#"{"is_whole":false}"#[..]),
            Just(&br#"{"generation":1,"synced":[["kube","slices"]],"denied":[["kube","nodes"]],"age_seconds":null}"#[..]),
            Just(&br#"{"source":"kube","key":{"service":"shop/web"}}"#[..]),
            Just(&br#"{"source":"disk","object":{"own-node":{}}}"#[..]), Just(&br#"{"reason":"x"}"#[..]),
        ]), 0..20),
        begins in any::<bool>(),
    ) {
        let mut session = Session::new(true);
        if begins {
            let hello = message::encode(&Hello { version: message::VERSION, config: config() });
            session.take(frame::Frame { kind: FrameKind::Hello, payload: hello.into() }).unwrap();
        }
        for (kind, payload) in frames {
            let kind = FrameKind::ALL[kind];
            if session.take(frame::Frame { kind, payload: Bytes::from_static(payload) }).is_err() {
                break;
            }
        }
        let _ = session.file();
    }
}

#[test]
fn changes_before_a_whole_view_are_out_of_place() {
    let mut session = Session::new(false);
    let mut take = |kind, payload: Vec<u8>| {
        session.take(frame::Frame {
            kind,
            payload: payload.into(),
        })
    };
    let hello = Hello {
        version: message::VERSION,
        config: config(),
    };
    assert!(matches!(
        take(FrameKind::Beat, b"{\"age_seconds\":1}".to_vec()),
        Err(SessionError::OutOfPlace(FrameKind::Beat))
    ));
    take(FrameKind::Hello, message::encode(&hello)).unwrap();
    let refused = take(FrameKind::Begin, b"{\"is_whole\":false}".to_vec());
    assert!(matches!(
        refused,
        Err(SessionError::OutOfPlace(FrameKind::Begin))
    ));
}

#[test]
fn another_version_of_the_messages_is_refused() {
    let hello = Hello {
        version: message::VERSION + 1,
        config: config(),
    };
    let refused = Session::new(false).take(frame::Frame {
        kind: FrameKind::Hello,
        payload: message::encode(&hello).into(),
    });
    assert!(matches!(refused, Err(SessionError::Version(2))));
}
