// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers see of a pod that the control plane moves from one slice to another, and is in none for a moment.

mod mall;

use discovery_core::{
    model::{Slice, SliceEndpoint, TargetRef, ZonePolicy},
    store::{Change, GraceCounts, Kind, Object, ObjectKey, StateConfig, Update},
};
use mall::*;
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_secs(1);

/// `web` of pod `a` on our node in `web-1`, and of `b` and `c` in `web-2`.
fn mall() -> Mall {
    with(|config| config.grace(GRACE))
}

fn with(change: impl FnOnce(StateConfig) -> StateConfig) -> Mall {
    let mut mall = Mall::with(change);
    mall.nodes(&[(OWN, "mall-1"), ("edge-b", "mall-1"), ("edge-c", "mall-2")]);
    mall.synced();
    mall.service(|_| {});
    mall.slice(announced("web-1", vec![a()]));
    mall.slice(announced("web-2", vec![b(), c()]));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall
}

fn a() -> SliceEndpoint {
    pod("a", "10.0.0.1", OWN)
}

fn b() -> SliceEndpoint {
    pod("b", "10.0.0.2", "edge-b")
}

/// Of another zone.
fn c() -> SliceEndpoint {
    pod("c", "10.0.0.3", "edge-c")
}

/// A slice of a control plane that says `terminating` of its pods.
fn announced(text: &str, endpoints: Vec<SliceEndpoint>) -> Slice {
    Slice {
        announces_end: true,
        ..slice(text, endpoints)
    }
}

fn tick(mall: &mut Mall, now: Instant) -> Change {
    mall.writer.tick(now).0
}

#[test]
fn it_is_picked_all_the_while_and_no_generation_tells_of_it() {
    let mut mall = mall();
    let before = mall.reader.load().generation();
    assert_eq!(
        mall.slice(announced("web-2", vec![c()])),
        Change::Gained,
        "nothing is lost"
    );
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.slice(announced("web-3", vec![b()])), Change::Gained);
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.reader.load().generation(), before);
    let now = Instant::now();
    tick(&mut mall, now);
    tick(&mut mall, now + GRACE);
    assert_eq!(mall.usable(), ["a", "b"], "the other slice has it");
    let moved = GraceCounts {
        moved: 1,
        ..GraceCounts::default()
    };
    assert_eq!(mall.writer.take_grace_counts(), moved);
}

#[test]
fn a_slice_that_is_deleted_before_the_next_one_is_made_takes_nothing_away_at_once() {
    let mut mall = mall();
    let change = mall.remove(ObjectKey::Slice(slice_key("web-2")));
    assert_eq!(change, Change::Gained);
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.slice(announced("web-3", vec![b(), c()]));
    assert_eq!(mall.usable(), ["a", "b"]);
}

#[test]
fn one_that_is_in_no_slice_for_a_second_is_gone() {
    let mut mall = mall();
    mall.slice(announced("web-2", vec![c()]));
    let start = Instant::now();
    assert_eq!(
        mall.writer.tick(start),
        (Change::Nothing, Some(start + GRACE))
    );
    tick(&mut mall, start + GRACE.mul_f64(0.9));
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.writer.tick(start + GRACE), (Change::Lost, None));
    assert_eq!(mall.usable(), ["a"]);
    let gone = GraceCounts {
        gone: 1,
        ..GraceCounts::default()
    };
    assert_eq!(mall.writer.take_grace_counts(), gone);
}

#[test]
fn a_word_that_it_is_not_ready_ends_it_at_once() {
    for word in [
        announced("web-2", vec![unready(b()), c()]),
        announced("web-3", vec![with_conditions(b(), false, true, true)]),
        announced("web-1", vec![a(), unready(pod("b", "fd00::2", "edge-b"))]),
    ] {
        let mut mall = mall();
        mall.slice(announced("web-2", vec![c()]));
        assert_eq!(mall.slice(word.clone()), Change::Lost, "{word:?}");
        assert_eq!(mall.usable(), ["a"], "{word:?}");
    }
}

#[test]
fn another_pod_of_its_name_or_at_its_address_ends_it() {
    let mut anew = unready(pod("b", "10.0.0.9", "edge-b"));
    anew.target = Some(TargetRef {
        name: "b".into(),
        uid: "made-anew".into(),
    });
    for other in [anew, unready(pod("d", "10.0.0.2", "edge-b"))] {
        let mut mall = mall();
        mall.slice(announced("web-2", vec![c()]));
        mall.slice(announced("web-3", vec![other.clone()]));
        assert_eq!(mall.usable(), ["a"], "{other:?}");
    }
}

#[test]
fn what_was_not_ready_is_gone_at_once() {
    for before in [unready(b()), with_conditions(b(), true, true, true)] {
        let mut mall = mall();
        mall.slice(announced("web-2", vec![before]));
        mall.slice(announced("web-2", vec![]));
        assert_eq!(mall.reasons(), map([("a", "own-zone")]));
    }
}

#[test]
fn a_control_plane_that_never_says_terminating_takes_out_what_ends() {
    let mut mall = mall();
    mall.slice(slice("web-2", vec![b(), c()]));
    assert_eq!(mall.slice(slice("web-2", vec![c()])), Change::Lost);
    assert_eq!(mall.usable(), ["a"]);
}

#[test]
fn it_is_off_where_nobody_has_switched_it_on() {
    let mut mall = with(|config| config);
    assert_eq!(mall.slice(announced("web-2", vec![c()])), Change::Lost);
    assert_eq!(mall.usable(), ["a"]);
}

#[test]
fn with_its_node_or_its_service_it_is_gone() {
    for key in [
        ObjectKey::Node(name("edge-b")),
        ObjectKey::Service("web".parse().unwrap()),
    ] {
        let mut mall = mall();
        mall.slice(announced("web-2", vec![c()]));
        mall.remove(key.clone());
        assert_eq!(mall.usable(), ["a"], "{key}");
    }
    let mut mall = mall();
    mall.remove(ObjectKey::Service("web".parse().unwrap()));
    mall.remove(ObjectKey::Slice(slice_key("web-2")));
    assert_eq!(mall.usable(), ["a"], "its slices go with a service");
}

#[test]
fn a_person_who_accepts_ends_it() {
    let mut mall = mall();
    mall.slice(announced("web-2", vec![c()]));
    assert_eq!(mall.writer.accept(), Change::Lost);
    assert_eq!(mall.usable(), ["a"]);
}

#[test]
fn a_source_that_is_in_another_cluster_ends_it() {
    let mut mall = mall();
    // The nodes were told before there was a list, as the disk tells them; now they are of this cluster.
    mall.nodes(&[(OWN, "mall-1"), ("edge-b", "mall-1")]);
    mall.slice(announced("web-2", vec![c()]));
    mall.writer.apply(Update::Foreign(SOURCE));
    assert_eq!(mall.usable(), ["a"], "what it has stated itself stays");
}

#[test]
fn an_endpoint_that_callers_are_not_given_does_not_wait() {
    let mut mall = mall();
    mall.slice(announced("web-2", vec![b()]));
    assert_eq!(mall.reasons().get("c"), None);
    mall.service(|web| web.zone_policy = Some(ZonePolicy::Any));
    mall.slice(announced("web-2", vec![b(), c()]));
    mall.slice(announced("web-2", vec![b()]));
    assert_eq!(mall.usable(), ["a", "b", "c"], "now they are");
}

#[test]
fn it_is_told_to_a_peer_and_not_to_the_disk() {
    let mut mall = mall();
    mall.slice(announced("web-2", vec![c()]));
    let names_b = |object: &Object| match object {
        Object::Slice(slice) => slice.endpoints.contains(&b()),
        _ => false,
    };
    let on_disk = mall.writer.objects_of_zone();
    assert!(!on_disk.iter().any(|(_, object)| names_b(object)));
    let mut peer = Mall::with(|config| config.grace(GRACE));
    for (source, object) in mall.writer.stated().objects {
        peer.writer.apply(Update::Upsert(source, object));
    }
    peer.synced();
    assert_eq!(peer.usable(), mall.usable());
}

#[test]
fn a_list_counts_what_it_names_and_nothing_that_waits() {
    let mut mall = mall();
    mall.slice(announced("web-2", vec![]));
    mall.writer.apply(Update::Reset(SOURCE, Kind::Slices));
    for slice in [announced("web-1", vec![a()]), announced("web-2", vec![])] {
        mall.apply(Object::Slice(slice));
    }
    mall.writer.apply(Update::Synced(SOURCE, Kind::Slices));
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.reader.load().held(), []);
}
