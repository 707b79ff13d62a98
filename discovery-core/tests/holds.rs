// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers see while a source denies what it said before: a wiped or restored server, a lost label.

use discovery_core::{
    model::{Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone},
    store::{
        Change, HoldReason, HoldRule, Kind, Object, ObjectKey, Reader, SourceId, StateConfig,
        Update, Writer, ZoneStatus, channel,
    },
};
use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

const KUBE: SourceId = SourceId::Kube;

/// A synced mall: one node, a service in each of five slices with one pod each.
struct Scene {
    writer: Writer,
    reader: Reader,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        Self::with(KUBE, HoldRule::default())
    }

    fn with(source: SourceId, rule: HoldRule) -> Self {
        let config = StateConfig::new(edge().name).holds(rule);
        let (writer, reader) = channel(config);
        let mut scene = Self {
            writer,
            reader,
            start: Instant::now(),
        };
        scene.state([
            Update::Upsert(source, Object::OwnNode(edge())),
            Update::Upsert(source, Object::Node(edge())),
        ]);
        scene.state((0..5).map(|n| Update::Upsert(source, slice(n))));
        scene.state(Kind::ALL.map(|kind| Update::Synced(source, kind)));
        scene
    }

    fn state(&mut self, updates: impl IntoIterator<Item = Update>) {
        for update in updates {
            self.writer.apply(update);
        }
        self.writer.tick(self.start);
        self.writer.publish();
    }

    /// A full list that names these slices alone.
    fn relist(&mut self, source: SourceId, slices: &[u8]) {
        let named = slices.iter().map(|n| Update::Upsert(source, slice(*n)));
        let begin = [Update::Reset(source, Kind::Slices)];
        let end = [Update::Synced(source, Kind::Slices)];
        self.state(begin.into_iter().chain(named).chain(end));
    }

    fn after(&mut self, seconds: u64) {
        self.start += Duration::from_secs(seconds);
        self.writer.tick(self.start);
        self.writer.publish();
    }

    fn served(&mut self) -> usize {
        let snapshot = self.reader.snapshot();
        snapshot.services().map(|view| view.usable().count()).sum()
    }

    fn held(&mut self) -> Vec<(HoldReason, usize)> {
        let held = self.reader.snapshot().held().iter();
        held.map(|held| (held.reason, held.objects)).collect()
    }
}

fn edge() -> Node {
    Node::new(
        NodeName::parse("edge-a").unwrap(),
        Zone::parse("mall-1").ok(),
    )
}

fn key(number: u8) -> SliceKey {
    SliceKey::new("default", &format!("web-{number}")).unwrap()
}

fn slice(number: u8) -> Object {
    Object::Slice(Slice {
        ports: [SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: NonZeroU16::MIN,
        }]
        .into(),
        endpoints: vec![SliceEndpoint {
            target: Some(TargetRef {
                name: format!("web-{number}").into(),
                uid: format!("uid-{number}").as_str().into(),
            }),
            node: Some(edge().name),
            ..SliceEndpoint::new([10, 0, 0, number].into())
        }],
        ..Slice::new(key(number), format!("web-{number}").parse().unwrap())
    })
}

#[test]
fn f22_w17_an_emptied_server_takes_nothing_away_for_ten_minutes_and_says_so() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[]);
    assert_eq!(scene.served(), 5);
    assert_eq!(scene.held(), [(HoldReason::Emptied, 5)]);
    let text = scene.reader.snapshot().held()[0].to_string();
    assert_eq!(text, "kube says that all 5 slices are gone; they are kept");
    scene.after(599);
    assert_eq!(scene.served(), 5);
    scene.after(1);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
}

#[test]
fn f22_an_empty_list_is_believed_when_it_is_said_again_a_minute_later() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[]);
    scene.after(30);
    scene.relist(KUBE, &[]);
    assert_eq!(scene.served(), 5);
    scene.after(30);
    scene.relist(KUBE, &[]);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
}

#[test]
fn a_list_that_lacks_more_than_half_is_held_and_what_it_names_is_taken_in() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[0, 7]);
    assert_eq!(scene.served(), 6);
    assert_eq!(scene.held(), [(HoldReason::MassRemoval, 4)]);
    scene.relist(KUBE, &[0, 1, 2, 7]);
    assert_eq!((scene.served(), scene.held()), (4, vec![]));
}

#[test]
fn a_list_of_an_older_version_takes_nothing_away() {
    let mut scene = Scene::new();
    let named = (0..4).map(|n| Update::Upsert(KUBE, slice(n)));
    let begin = [
        Update::Reset(KUBE, Kind::Slices),
        Update::WentBack(KUBE, Kind::Slices),
    ];
    let end = [Update::Synced(KUBE, Kind::Slices)];
    scene.state(begin.into_iter().chain(named).chain(end));
    assert_eq!(scene.served(), 5);
    assert_eq!(scene.held(), [(HoldReason::VersionWentBack, 1)]);
}

#[test]
fn f18_what_was_deleted_while_disconnected_is_gone_after_the_list() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[0, 1, 2]);
    assert_eq!((scene.served(), scene.held()), (3, vec![]));
}

#[test]
fn a_deletion_that_the_watch_tells_is_never_held_and_ends_a_hold() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[]);
    let gone = (0..5).map(|n| Update::Remove(KUBE, ObjectKey::Slice(key(n))));
    scene.state(gone);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
}

#[test]
fn a_file_is_believed() {
    let mut scene = Scene::with(SourceId::Manifest, HoldRule::default());
    scene.relist(SourceId::Manifest, &[]);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
}

#[test]
fn a_hold_of_no_length_is_none() {
    let rule = HoldRule {
        mass_change: Duration::ZERO,
        zone: Duration::ZERO,
    };
    let mut scene = Scene::with(KUBE, rule);
    scene.relist(KUBE, &[]);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
    let own = ObjectKey::OwnNode(edge().name);
    scene.state([Update::Absent(KUBE, own)]);
    assert!(matches!(
        scene.reader.snapshot().zone(),
        ZoneStatus::NoNode { .. }
    ));
}

#[test]
fn a_person_may_accept_what_the_server_says() {
    let mut scene = Scene::new();
    scene.relist(KUBE, &[]);
    assert_eq!(scene.writer.accept(), Change::Lost);
    scene.state([]);
    assert_eq!((scene.served(), scene.held()), (0, vec![]));
}

#[test]
fn a_lost_label_keeps_the_zone_for_ten_minutes_and_then_fails_closed() {
    let mut scene = Scene::new();
    let bare = Node {
        zone: None,
        ..edge()
    };
    scene.state([
        Update::Upsert(KUBE, Object::OwnNode(bare)),
        Update::Remove(KUBE, ObjectKey::Node(edge().name)),
    ]);
    assert_eq!(scene.served(), 5);
    assert_eq!(scene.held(), [(HoldReason::ZoneLost, 1)]);
    scene.after(600);
    assert_eq!(scene.served(), 0);
    assert!(matches!(
        scene.reader.snapshot().zone(),
        ZoneStatus::NoLabel { .. }
    ));
}

#[test]
fn a_label_that_comes_back_ends_the_hold() {
    let mut scene = Scene::new();
    let own = ObjectKey::OwnNode(edge().name);
    scene.state([Update::Absent(KUBE, own)]);
    assert_eq!(scene.held(), [(HoldReason::ZoneLost, 1)]);
    scene.state([Update::Upsert(KUBE, Object::OwnNode(edge()))]);
    assert_eq!((scene.served(), scene.held()), (5, vec![]));
}

#[test]
fn half_a_list_is_no_reason_to_publish() {
    let mut scene = Scene::new();
    scene.writer.apply(Update::Reset(KUBE, Kind::Slices));
    assert_eq!(
        scene.writer.apply(Update::Upsert(KUBE, slice(9))),
        Change::Nothing
    );
    for number in 0..5 {
        scene.writer.apply(Update::Upsert(KUBE, slice(number)));
    }
    let synced = Update::Synced(KUBE, Kind::Slices);
    assert_eq!(scene.writer.apply(synced), Change::Gained);
}
