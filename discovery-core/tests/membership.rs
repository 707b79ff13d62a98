// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that come, go and move, pods in more than one slice: who is a member of a zone's view, and when.

mod mall;

use discovery_core::{
    model::{
        Conditions, Node, Protocol, ScopeKey, Service, SliceEndpoint, SlicePort, TargetRef,
        ZonePolicy,
    },
    store::{Change, HoldRule, Kind, Object, ObjectKey, Update, ZoneStatus},
};
use mall::{
    Mall, OWN, SOURCE, labelled, map, name, node, pod, port, reasons, slice, slice_key, unready,
    with_conditions, zone,
};
use std::time::{Duration, Instant};

/// A pod on each of three nodes, two of them in our zone.
fn three() -> Mall {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-b", "mall-1"), ("edge-c", "mall-2")]);
    mall.slice(slice(
        "web-1",
        vec![
            pod("a", "10.0.0.1", OWN),
            pod("b", "10.0.0.2", "edge-b"),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    mall
}

fn remove_node(mall: &mut Mall, text: &str) -> Change {
    mall.remove(ObjectKey::Node(name(text)))
}

#[test]
fn a_node_that_leaves_the_zone_takes_its_endpoints_along_at_once() {
    let mut mall = three();
    assert_eq!(mall.node(node("edge-b", "mall-2")), Change::Lost);
    assert_eq!(
        mall.reasons(),
        map([("a", "own-zone"), ("b", "other-zone"), ("c", "other-zone")])
    );
    // A watch by label tells the same as a deletion.
    let mut mall = three();
    assert_eq!(remove_node(&mut mall, "edge-b"), Change::Lost);
    assert_eq!(mall.reasons()["b"], "other-zone");
    assert_eq!(
        mall.web().refused()[0].zone,
        None,
        "nothing is known of its node any more"
    );
}

#[test]
fn a_node_that_joins_brings_the_endpoints_that_were_listed_before() {
    let mut mall = three();
    remove_node(&mut mall, "edge-c");
    mall.writer.publish();
    assert_eq!(mall.node(node("edge-c", "mall-1")), Change::Gained);
    assert_eq!(mall.usable(), ["a", "b", "c"]);
}

#[test]
fn a_node_that_moves_between_other_zones_changes_nothing_here() {
    let mut mall = three();
    let before = mall.web();
    mall.node(node("edge-c", "mall-3"));
    let after = mall.web();
    assert_eq!(reasons(&before), reasons(&after));
    let (old, new) = (before.tiers()[0].table(), after.tiers()[0].table());
    assert!(new.is_taken_over(old));
    assert_eq!(after.refused()[0].zone, zone("mall-3"));
}

#[test]
fn our_own_node_moves_and_the_old_view_serves_until_the_new_one_is_complete() {
    let mut mall = three();
    // Our node tells first; the nodes of the new zone are not listed yet.
    mall.apply(Object::OwnNode(node(OWN, "mall-2")));
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(
        *mall.reader.snapshot().zone(),
        ZoneStatus::Known(zone("mall-1").unwrap())
    );
    assert_eq!(mall.reader.snapshot().moving_to(), zone("mall-2").as_ref());
    // The list of the new zone: nothing of it is seen before its end.
    mall.writer.apply(Update::Reset(SOURCE, Kind::Nodes));
    mall.apply(Object::Node(node("edge-c", "mall-2")));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.apply(Object::Node(node(OWN, "mall-2")));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.writer.apply(Update::Synced(SOURCE, Kind::Nodes));
    assert_eq!(mall.usable(), ["a", "c"]);
    let snapshot = mall.reader.snapshot();
    assert_eq!(
        (snapshot.moving_to(), snapshot.held()),
        (None, &[][..]),
        "no alarm for it"
    );
}

#[test]
fn our_own_node_moves_also_when_the_list_of_nodes_knows_it_first() {
    let mut mall = three();
    mall.apply(Object::Node(node(OWN, "mall-2")));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.apply(Object::OwnNode(node(OWN, "mall-2")));
    assert_eq!(mall.usable(), ["a", "c"]);
}

#[test]
fn a_move_that_no_list_of_nodes_ends_is_over_after_a_minute() {
    let mut mall = three();
    let start = Instant::now();
    mall.apply(Object::OwnNode(node(OWN, "mall-2")));
    mall.writer.tick(start);
    let (_, due) = mall.writer.tick(start + Duration::from_secs(59));
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(due, Some(start + Duration::from_secs(60)));
    mall.writer.tick(start + Duration::from_secs(60));
    assert_eq!(mall.usable(), ["a", "c"]);
}

#[test]
fn our_own_node_that_moves_back_at_once_has_not_moved() {
    let mut mall = three();
    let generation = mall.reader.snapshot().generation();
    mall.apply(Object::OwnNode(node(OWN, "mall-2")));
    mall.apply(Object::OwnNode(node(OWN, "mall-1")));
    assert!(mall.writer.publish().is_none());
    assert_eq!(mall.reader.snapshot().generation(), generation);
}

#[test]
fn a_lost_own_label_keeps_the_zone_and_raises_an_alarm() {
    let mut mall = three();
    let start = Instant::now();
    mall.node(node(OWN, ""));
    mall.writer.tick(start);
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.reader.snapshot().held().len(), 1);
    mall.writer.tick(start + HoldRule::default().zone);
    mall.writer.publish();
    assert_eq!(mall.reader.snapshot().services().count(), 0);
}

#[test]
fn a_deleted_own_node_keeps_the_zone_until_the_hold_is_over() {
    let mut mall = three();
    let start = Instant::now();
    mall.remove(ObjectKey::OwnNode(name(OWN)));
    remove_node(&mut mall, OWN);
    mall.writer.tick(start);
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.writer
        .tick(start + HoldRule::default().zone.mul_f64(0.9));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.writer.tick(start + HoldRule::default().zone);
    mall.writer.publish();
    assert!(matches!(
        mall.reader.snapshot().zone(),
        ZoneStatus::NoNode { .. }
    ));
}

#[test]
fn a_new_zone_elsewhere_is_none_of_our_business() {
    let mut mall = three();
    mall.node(node("edge-z", "mall-9"));
    mall.slice(slice("web-9", vec![pod("z", "10.9.0.1", "edge-z")]));
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.reasons()["z"], "other-zone");
}

#[test]
fn a_zone_without_nodes_serves_nothing_and_the_service_is_still_known() {
    let mut mall = Mall::with(|config| config.zone(zone("mall-1")));
    mall.nodes(&[("edge-b", "mall-1"), ("edge-c", "mall-2")]);
    mall.slice(slice(
        "web-1",
        vec![
            pod("b", "10.0.0.2", "edge-b"),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    mall.synced();
    assert_eq!(mall.usable(), ["b"]);
    remove_node(&mut mall, "edge-b");
    assert!(mall.usable().is_empty());
    assert!(mall.reader.snapshot().is_authoritative());
    assert_eq!(mall.web().listed(), 2);
}

#[test]
fn what_a_node_says_of_its_health_is_shown_and_moves_nobody() {
    let mut mall = three();
    let before = mall.web();
    let mut sick = node("edge-b", "mall-1");
    sick.is_unreachable = true;
    assert_eq!(mall.node(sick), Change::Gained);
    assert!(std::sync::Arc::ptr_eq(&before, &mall.web()));
    assert!(mall.reader.snapshot().nodes()[1].is_unreachable);
}

#[test]
fn a_pod_in_two_slices_is_one_endpoint_and_ready_wins() {
    for swapped in [false, true] {
        let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
        let (ready, stale) = (
            pod("a", "10.0.0.1", OWN),
            unready(pod("a", "10.0.0.1", OWN)),
        );
        let (first, second) = if swapped {
            (stale, ready)
        } else {
            (ready, stale)
        };
        mall.slice(slice("web-1", vec![first]));
        mall.slice(slice("web-2", vec![second]));
        assert_eq!(
            mall.reasons(),
            map([("a", "own-zone")]),
            "swapped: {swapped}"
        );
    }
}

#[test]
fn of_two_slices_that_say_the_same_of_a_pod_the_later_one_tells_its_port() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    let mut old = slice("web-1", vec![pod("a", "10.0.0.1", OWN)]);
    let mut new = slice("web-0", vec![pod("a", "10.0.0.1", OWN)]);
    (old.version, new.version) = (7, 12);
    new.ports = [port("http", 9090)].into();
    mall.slice(new);
    mall.slice(old);
    let view = mall.web();
    assert_eq!(
        view.usable().next().unwrap().socket(None).unwrap().port(),
        9090
    );
}

#[test]
fn a_condition_of_another_zone_is_no_news_unless_it_makes_the_slice_the_later_one() {
    let of = |far: SliceEndpoint, version, http| {
        let mut slice = slice("web-1", vec![pod("a", "10.0.0.1", OWN), far]);
        slice.version = version;
        slice.ports = [port("http", http)].into();
        slice
    };
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-c", "mall-2")]);
    let far = || pod("c", "10.0.0.3", "edge-c");
    mall.slice(of(far(), 7, 8080));
    mall.web();
    assert_eq!(mall.slice(of(unready(far()), 8, 8080)), Change::Nothing);
    // The pod is in another slice too, which is the later one, until a far condition makes it the earlier one.
    let mut other = slice("web-2", vec![pod("a", "10.0.0.1", OWN)]);
    (other.version, other.ports) = (9, [port("http", 9090)].into());
    mall.slice(other);
    let port_of = |mall: &mut Mall| {
        let view = mall.web();
        view.usable().next().unwrap().socket(None).unwrap().port()
    };
    assert_eq!(port_of(&mut mall), 9090);
    assert_ne!(mall.slice(of(far(), 10, 8080)), Change::Nothing);
    assert_eq!(port_of(&mut mall), 8080);
}

#[test]
fn a_pod_in_no_slice_for_a_moment_is_gone_and_comes_back_with_its_keys() {
    let mut mall = three();
    let before = mall.web();
    mall.slice(slice("web-1", vec![pod("a", "10.0.0.1", OWN)]));
    assert_eq!(mall.usable(), ["a"]);
    mall.slice(slice("web-2", vec![pod("b", "10.0.0.2", "edge-b")]));
    assert_eq!(mall.web().tiers()[0].table(), before.tiers()[0].table());
}

#[test]
fn a_late_event_of_a_slice_is_not_taken_for_news() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    let mut new = slice("web-1", vec![pod("a", "10.0.0.1", OWN)]);
    new.version = 9;
    mall.slice(new.clone());
    let mut late = slice("web-1", vec![]);
    late.version = 8;
    assert_eq!(mall.slice(late.clone()), Change::Nothing);
    assert_eq!(mall.usable(), ["a"]);
    // A list is a new beginning, whatever its versions are.
    mall.writer.apply(Update::Reset(SOURCE, Kind::Slices));
    mall.apply(Object::Slice(late));
    mall.writer.apply(Update::Synced(SOURCE, Kind::Slices));
    assert!(mall.usable().is_empty());
}

#[test]
fn a_late_event_of_a_node_or_a_service_is_not_taken_for_news() {
    let mut mall = three();
    let edge_b = |zone: &str, version| Node {
        version,
        ..node("edge-b", zone)
    };
    mall.node(edge_b("mall-2", 9));
    assert_eq!(mall.node(edge_b("mall-1", 8)), Change::Nothing);
    assert_eq!(mall.reasons()["b"], "other-zone");
    assert_eq!(
        mall.node(edge_b("mall-2", 10)),
        Change::Nothing,
        "a heartbeat"
    );
    let policy = |zone_policy, version| Service {
        zone_policy: Some(zone_policy),
        version,
        ..Service::new("web".parse().unwrap())
    };
    mall.apply(Object::Service(policy(ZonePolicy::Any, 12)));
    mall.apply(Object::Service(policy(ZonePolicy::Strict, 11)));
    assert_eq!(mall.web().policy(), ZonePolicy::Any);
    // A list is a new beginning, whatever its versions are; and so is an object that was gone.
    mall.writer.apply(Update::Reset(SOURCE, Kind::Services));
    mall.apply(Object::Service(policy(ZonePolicy::Strict, 3)));
    mall.writer.apply(Update::Synced(SOURCE, Kind::Services));
    assert_eq!(mall.web().policy(), ZonePolicy::Strict);
    remove_node(&mut mall, "edge-b");
    mall.node(edge_b("mall-1", 2));
    assert_eq!(mall.reasons()["b"], "own-zone");
}

#[test]
fn two_pods_at_one_socket_are_told_apart_by_standing_then_by_the_later_slice() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-c", "mall-2")]);
    let (mut old, mut new) = (
        slice(
            "web-1",
            vec![pod("a-old", "10.0.0.1", OWN), pod("b-old", "10.0.0.2", OWN)],
        ),
        slice(
            "web-2",
            vec![
                pod("z-new", "10.0.0.1", OWN),
                unready(pod("y-new", "10.0.0.2", OWN)),
            ],
        ),
    );
    (old.version, new.version) = (7, 12);
    mall.slice(new);
    mall.slice(old);
    assert_eq!(
        mall.reasons(),
        map([
            ("a-old", "duplicate"),
            ("b-old", "own-zone"),
            ("y-new", "duplicate"),
            ("z-new", "own-zone")
        ])
    );
}

#[test]
fn a_pod_of_another_zone_with_our_addresses_displaces_nobody() {
    for policy in [ZonePolicy::Strict, ZonePolicy::Prefer, ZonePolicy::Any] {
        let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-c", "mall-2")]);
        mall.service(|web| web.zone_policy = Some(policy));
        let mut far = slice(
            "web-2",
            vec![
                pod("a-far", "10.0.0.1", "edge-c"),
                pod("web-0", "10.0.0.9", "edge-c"),
            ],
        );
        far.version = 99;
        mall.slice(slice(
            "web-1",
            vec![
                unready(pod("b", "10.0.0.1", OWN)),
                unready(pod("web-0", "10.0.0.8", OWN)),
            ],
        ));
        mall.slice(far);
        assert_eq!(mall.reasons()["b"], "not-ready", "{policy}");
        let view = mall.web();
        let ours = view.tiers()[0]
            .members()
            .iter()
            .find(|e| e.identity().as_str() == "web-0");
        assert_eq!(
            ours.unwrap().addresses()[0].to_string(),
            "10.0.0.8",
            "{policy}"
        );
    }
}

#[test]
fn slices_of_one_service_may_have_different_numbers_for_one_port() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    mall.slice(slice("web-1", vec![pod("a", "10.0.0.1", OWN)]));
    let mut other = slice("web-2", vec![pod("b", "10.0.0.2", OWN)]);
    other.ports = [port("http", 9090)].into();
    mall.slice(other);
    let view = mall.web();
    let sockets: Vec<_> = view
        .usable()
        .map(|e| e.socket(Some("http")).unwrap().to_string())
        .collect();
    assert_eq!(sockets, ["10.0.0.1:8080", "10.0.0.2:9090"]);
}

#[test]
fn a_pod_in_two_slices_with_different_ports_has_both() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    mall.slice(slice("web-1", vec![pod("a", "10.0.0.1", OWN)]));
    let mut other = slice("web-2", vec![pod("a", "10.0.0.1", OWN)]);
    let udp = SlicePort {
        protocol: Protocol::Udp,
        ..port("dns", 53)
    };
    other.ports = [port("http", 8080), udp, port("", 7070)].into();
    mall.slice(other);
    let view = mall.web();
    let endpoint = view.usable().next().unwrap();
    let ports: Vec<_> = endpoint
        .ports()
        .iter()
        .map(|p| format!("{}/{}:{}", p.name, p.protocol, p.port))
        .collect();
    assert_eq!(ports, ["http/tcp:8080", "dns/udp:53", "/tcp:7070"]);
    assert_eq!(endpoint.socket(Some("")).unwrap().port(), 7070);
}

#[test]
fn host_network_pods_share_an_address_and_not_a_socket() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    mall.slice(slice("web-1", vec![pod("a", "192.168.1.7", OWN)]));
    let mut other = slice("web-2", vec![pod("b", "192.168.1.7", OWN)]);
    other.ports = [port("http", 9090)].into();
    mall.slice(other);
    let mut udp = slice("web-3", vec![pod("c", "192.168.1.7", OWN)]);
    udp.ports = [SlicePort {
        protocol: Protocol::Udp,
        ..port("http", 8080)
    }]
    .into();
    mall.slice(udp);
    assert_eq!(mall.usable(), ["a", "b", "c"]);
}

#[test]
fn addresses_of_both_families_are_one_endpoint_by_the_uid_of_the_pod() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    mall.slice(slice("web-4", vec![pod("a", "10.0.0.1", OWN)]));
    mall.slice(slice("web-6", vec![pod("a", "fd00::1", OWN)]));
    let view = mall.web();
    let texts: Vec<_> = view.tiers()[0].members()[0]
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["10.0.0.1", "fd00::1"]);
    // A new pod of that name is not the old one: its address does not mix with the old ones.
    let mut new = pod("a", "10.0.0.9", OWN);
    new.target = Some(TargetRef {
        name: "a".into(),
        uid: "another".into(),
    });
    mall.slice(slice("web-4", vec![new]));
    mall.slice(slice("web-6", vec![unready(pod("a", "fd00::1", OWN))]));
    let view = mall.web();
    let texts: Vec<_> = view.tiers()[0].members()[0]
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["10.0.0.9"]);
}

#[test]
fn what_terminates_serves_only_where_its_own_zone_has_nothing_ready() {
    let terminating =
        |text, address, node| with_conditions(pod(text, address, node), false, true, true);
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-c", "mall-2")]);
    mall.service(|web| web.zone_policy = Some(ZonePolicy::Prefer));
    mall.slice(slice(
        "web-1",
        vec![
            terminating("a", "10.0.0.1", OWN),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "last-serving"), ("c", "other-zone")]),
        "before the spill-over"
    );
    mall.slice(slice(
        "web-1",
        vec![
            with_conditions(pod("a", "10.0.0.1", OWN), false, false, true),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "terminating"), ("c", "spilled-in")]),
        "what does not serve is never used"
    );
}

#[test]
fn published_although_not_ready_is_not_ready() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    mall.service(|web| web.publish_not_ready = true);
    mall.slice(slice(
        "web-1",
        vec![
            with_conditions(pod("fine", "10.0.0.1", OWN), true, true, false),
            with_conditions(pod("failing", "10.0.0.2", OWN), true, false, false),
            with_conditions(pod("leaving", "10.0.0.3", OWN), true, true, true),
            with_conditions(pod("gone", "10.0.0.4", OWN), true, false, true),
        ],
    ));
    assert_eq!(
        mall.reasons(),
        map([
            ("failing", "not-ready"),
            ("fine", "own-zone"),
            ("gone", "terminating"),
            ("leaving", "terminating")
        ])
    );
}

#[test]
fn conditions_that_old_servers_do_not_state_mean_ready() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    let silent = SliceEndpoint {
        conditions: Conditions::from_api(None, None, None),
        ..pod("a", "10.0.0.1", OWN)
    };
    mall.slice(slice("web-1", vec![silent]));
    assert_eq!(mall.usable(), ["a"]);
}

#[test]
fn endpoints_without_ports_are_endpoints() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1")]);
    let mut bare = slice(
        "web-1",
        vec![pod("a", "10.0.0.1", OWN), pod("b", "10.0.0.2", OWN)],
    );
    bare.ports = [].into();
    mall.slice(bare);
    assert_eq!(mall.usable(), ["a", "b"]);
    assert_eq!(mall.web().usable().next().unwrap().socket(None), None);
}

#[test]
fn a_foreign_change_is_never_a_loss() {
    let mut mall = three();
    let without_c = slice(
        "web-1",
        vec![pod("a", "10.0.0.1", OWN), pod("b", "10.0.0.2", "edge-b")],
    );
    assert_eq!(mall.slice(without_c), Change::Gained);
    let without_b = slice("web-1", vec![pod("a", "10.0.0.1", OWN)]);
    assert_eq!(mall.slice(without_b), Change::Lost);
}

#[test]
fn a_service_that_is_gone_leaves_its_slices_under_the_configured_policy() {
    let mut mall = three();
    mall.service(|web| web.zone_policy = Some(ZonePolicy::Any));
    assert_eq!(mall.usable().len(), 3);
    mall.remove(ObjectKey::Service("web".parse().unwrap()));
    assert_eq!(mall.usable(), ["a", "b"]);
    mall.remove(ObjectKey::Slice(slice_key("web-1")));
    mall.writer.publish();
    assert_eq!(mall.reader.snapshot().services().count(), 0);
}

#[test]
fn thousands_of_foreign_endpoints_are_counted_and_some_are_named() {
    let mut mall = Mall::of_nodes(&[(OWN, "mall-1"), ("edge-c", "mall-2")]);
    let far = |n: u32| {
        pod(
            &format!("far-{n}"),
            &std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string(),
            "edge-c",
        )
    };
    let mut endpoints: Vec<_> = (0..4_962).map(far).collect();
    endpoints.push(pod("a", "10.0.0.1", OWN));
    mall.slice(slice("web-1", endpoints));
    let view = mall.web();
    assert_eq!((view.refused().len(), view.listed()), (32, 4_963));
    assert_eq!(
        view.out(),
        [(discovery_core::model::Reason::OtherZone, 4_962)]
    );
    let explanation =
        discovery_core::runtime::explain(mall.reader.snapshot(), &"web".parse().unwrap(), None)
            .unwrap();
    assert_eq!(explanation.endpoints.len(), 33);
    assert_eq!(explanation.more["other-zone"], 4_930);
}

#[test]
fn our_node_only_is_a_boundary_that_no_zone_opens() {
    let mut mall = three();
    let scope = discovery_core::model::Scope::parse([ScopeKey::Node.as_str()]).unwrap();
    mall.service(|web: &mut Service| web.scope = Some(scope));
    assert_eq!(
        mall.reasons(),
        map([("a", "own-node"), ("b", "other-node"), ("c", "other-node")])
    );
    mall.slice(slice("web-1", vec![pod("b", "10.0.0.2", "edge-b")]));
    assert!(mall.usable().is_empty());
}

#[test]
fn a_label_that_a_service_goes_by_moves_its_endpoints_alone() {
    let mut mall = three();
    mall.node(labelled(node(OWN, "mall-1"), &[("floor", "one")]));
    mall.node(labelled(node("edge-c", "mall-2"), &[("floor", "one")]));
    let scope = discovery_core::model::Scope::parse(["floor"]).unwrap();
    mall.service(|web| web.scope = Some(scope));
    assert_eq!(
        mall.reasons(),
        map([("a", "own-zone"), ("b", "other-zone"), ("c", "own-zone")])
    );
    mall.node(labelled(node("edge-c", "mall-2"), &[("floor", "two")]));
    assert_eq!(mall.usable(), ["a"]);
}
