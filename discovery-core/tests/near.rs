// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is near: zones by any key, services with keys of their own, preferences, endpoints that are on no node.

mod mall;

use discovery_core::{
    model::{
        CidrMap, NodeName, Reason, Scope, Service, TopologyMode, TrafficDistribution, Unlocated,
        Zone, ZoneKey, ZoneKeys, ZonePolicy,
    },
    store::{
        Coverage, Kind, Object, SourceId, Update, ZoneStatus,
        persist::{Owner, Shelf},
    },
};
use mall::{
    Mall, OWN, SOURCE, hinted, labelled, map, node, pod, slice, unready, with_conditions, zone,
};
use std::{collections::BTreeMap, time::SystemTime};

/// Pods `a` on our node, `b` on a node of our zone, `c` on one of another.
fn pods(mall: &mut Mall) {
    mall.slice(slice(
        "web-1",
        vec![
            pod("a", "10.0.0.1", OWN),
            pod("b", "10.0.0.2", "edge-b"),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
}

const NODES: [(&str, &str); 3] = [(OWN, "mall-1"), ("edge-b", "mall-1"), ("edge-c", "mall-2")];

fn scoped(keys: &[&str]) -> Mall {
    let mut mall = Mall::of_nodes(&NODES);
    pods(&mut mall);
    let scope = Scope::parse(keys.iter().copied()).unwrap();
    mall.service(|web| web.scope = Some(scope));
    mall
}

#[test]
fn the_zone_by_configuration_goes_before_everything() {
    let mut mall = Mall::with(|config| config.zone(zone("mall-2")).pod_zone(zone("mall-1")));
    mall.nodes(&NODES);
    mall.synced();
    pods(&mut mall);
    assert_eq!(mall.usable(), ["c"]);
}

#[test]
fn the_label_of_our_pod_needs_no_node_and_goes_before_it() {
    let mut mall = Mall::with(|config| config.pod_zone(zone("mall-2")));
    mall.nodes(&NODES[1..]);
    for kind in [Kind::Nodes, Kind::Services, Kind::Slices] {
        mall.writer.apply(Update::Synced(SOURCE, kind));
    }
    pods(&mut mall);
    assert_eq!(mall.usable(), ["c"]);
    assert!(mall.reader.snapshot().is_authoritative());
    mall.node(node(OWN, "mall-1"));
    assert_eq!(mall.usable(), ["c"]);
}

#[test]
fn the_label_of_our_pod_says_nothing_under_another_key() {
    let keys = ZoneKeys::parse(["site"]).unwrap();
    let mut mall = Mall::with(|config| config.zone_keys(keys).pod_zone(zone("mall-2")));
    mall.nodes(&NODES);
    mall.synced();
    pods(&mut mall);
    assert_eq!(mall.usable(), ["a", "b"]);
}

#[test]
fn the_last_snapshot_tells_the_zone_until_our_node_does() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner {
        cluster: "c".into(),
        node: NodeName::parse(OWN).unwrap(),
        zone: None,
    };
    let shelf = Shelf::new(folder.path().to_owned(), owner);
    let mut saved = scoped(&["floor"]);
    saved.node(labelled(node(OWN, "mall-1"), &[("floor", "one")]));
    saved.node(labelled(node("edge-c", "mall-2"), &[("floor", "one")]));
    shelf
        .save(
            saved.writer.objects_of_zone(),
            BTreeMap::new(),
            SystemTime::now(),
        )
        .unwrap();
    let mut mall = Mall::new();
    for update in shelf.load().unwrap().updates {
        mall.writer.apply(update);
    }
    assert_eq!(
        mall.usable(),
        ["a", "c"],
        "also what is near by a key of the service"
    );
    assert_eq!(mall.reader.snapshot().coverage(), Coverage::Disk);
    mall.apply(Object::OwnNode(node(OWN, "mall-2")));
    assert_eq!(mall.usable(), ["a", "c"], "the new zone is not known yet");
}

#[test]
fn an_unresolved_zone_serves_nothing_under_any_policy() {
    for policy in [ZonePolicy::Strict, ZonePolicy::Prefer, ZonePolicy::Any] {
        let mut mall = Mall::with(|config| config.policy(policy));
        mall.nodes(&[(OWN, ""), ("edge-b", "mall-1")]);
        mall.synced();
        pods(&mut mall);
        assert_eq!(mall.reader.snapshot().services().count(), 0, "{policy}");
        assert!(matches!(
            mall.reader.snapshot().zone(),
            ZoneStatus::NoLabel { .. }
        ));
    }
}

#[test]
fn a_service_with_a_key_of_its_own_finds_its_zone_under_it() {
    let mut mall = scoped(&["site"]);
    assert_eq!(
        mall.reasons(),
        map([
            ("a", "no-own-zone"),
            ("b", "no-own-zone"),
            ("c", "no-own-zone")
        ]),
        "our node does not carry the label: closed"
    );
    mall.node(labelled(node(OWN, "mall-1"), &[("site", "x")]));
    mall.node(labelled(node("edge-b", "mall-1"), &[("site", "y")]));
    mall.node(labelled(node("edge-c", "mall-2"), &[("site", "x")]));
    assert_eq!(
        mall.reasons(),
        map([("a", "own-zone"), ("b", "other-zone"), ("c", "own-zone")])
    );
    let view = mall.web();
    assert_eq!(
        view.refused()[0].zone,
        zone("y"),
        "the zone under the key of the service"
    );
    assert_eq!(
        mall.reader.snapshot().zone(),
        &ZoneStatus::Known(Zone::parse("mall-1").unwrap())
    );
}

#[test]
fn the_first_configured_key_named_by_a_service_changes_nothing() {
    let mut mall = scoped(&[ZoneKey::STANDARD]);
    assert_eq!(mall.usable(), ["a", "b"]);
    // A zone by configuration is one under that key.
    let mut mall = Mall::with(|config| config.zone(zone("mall-2")));
    mall.nodes(&NODES);
    mall.synced();
    pods(&mut mall);
    let scope = Scope::parse([ZoneKey::STANDARD]).unwrap();
    mall.service(|web| web.scope = Some(scope));
    assert_eq!(mall.usable(), ["c"]);
}

#[test]
fn to_share_one_of_several_keys_is_enough_and_there_is_nothing_to_fall_back_to() {
    let mut mall = scoped(&["kubernetes.io/hostname", "rack"]);
    assert_eq!(mall.usable(), ["a"], "our node is near by its name");
    mall.node(labelled(node(OWN, "mall-1"), &[("rack", "r1")]));
    mall.node(labelled(node("edge-c", "mall-2"), &[("rack", "r1")]));
    assert_eq!(mall.usable(), ["a", "c"]);
    mall.slice(slice(
        "web-1",
        vec![
            unready(pod("a", "10.0.0.1", OWN)),
            pod("b", "10.0.0.2", "edge-b"),
        ],
    ));
    assert!(mall.usable().is_empty());
}

#[test]
fn a_node_in_several_units_is_near_by_the_group_that_the_service_names() {
    let unit = "nodeunits.superedge.io";
    let own = labelled(
        node(OWN, "mall-1"),
        &[
            ("shop", "shop-1"),
            ("floor", "two"),
            ("shop-1", unit),
            ("two", unit),
        ],
    );
    let b = labelled(
        node("edge-b", "mall-1"),
        &[("shop", "shop-2"), ("floor", "two"), ("two", unit)],
    );
    let c = labelled(
        node("edge-c", "mall-2"),
        &[("shop", "shop-1"), ("floor", "one"), ("shop-1", unit)],
    );
    for (key, expected) in [
        ("shop", ["a", "c"]),
        ("floor", ["a", "b"]),
        ("shop-1", ["a", "c"]),
        ("two", ["a", "b"]),
    ] {
        let mut mall = scoped(&[key]);
        for node in [&own, &b, &c] {
            mall.node(node.clone());
        }
        assert_eq!(mall.usable(), expected, "{key}");
    }
}

#[test]
fn a_boundary_that_could_not_be_read_is_closed() {
    let mut mall = Mall::of_nodes(&NODES);
    pods(&mut mall);
    mall.service(|web| web.scope = Some(Scope::nothing()));
    assert_eq!(mall.reasons()["a"], "no-own-zone");
    assert!(mall.usable().is_empty());
}

/// A pod on a node that is not known in each zone, as the slice states it.
fn stated(mall: &mut Mall) {
    let mut near = pod("a", "10.0.0.1", "edge-x");
    let mut far = pod("b", "10.0.0.2", "edge-y");
    (near.zone, far.zone) = (zone("mall-1"), zone("mall-2"));
    mall.slice(slice("web-1", vec![near, far]));
}

#[test]
fn the_zone_that_a_slice_states_counts_only_where_nodes_may_not_be_read() {
    let mut mall = Mall::with(|config| config.pod_zone(zone("mall-1")));
    mall.synced();
    stated(&mut mall);
    assert!(
        mall.usable().is_empty(),
        "nodes can be read and do not say so"
    );
    let mut mall = Mall::with(|config| config.pod_zone(zone("mall-1")));
    stated(&mut mall);
    for kind in [Kind::Services, Kind::Slices] {
        mall.writer.apply(Update::Synced(SOURCE, kind));
    }
    mall.writer.publish();
    assert_eq!(mall.reader.snapshot().coverage(), Coverage::Partial);
    mall.writer.apply(Update::Denied(SOURCE, Kind::Nodes));
    assert_eq!(
        mall.reasons(),
        map([("a", "own-zone-as-stated"), ("b", "other-zone")])
    );
    assert!(mall.reader.snapshot().is_degraded());
    mall.node(node("edge-x", "mall-2"));
    mall.writer.apply(Update::Synced(SOURCE, Kind::Nodes));
    assert_eq!(
        mall.reasons(),
        map([("a", "other-zone"), ("b", "other-zone")])
    );
    assert!(!mall.reader.snapshot().is_degraded());
}

#[test]
fn a_source_that_may_not_read_nodes_says_nothing_about_another_ones() {
    let mut mall = Mall::with(|config| config.pod_zone(zone("mall-1")));
    stated(&mut mall);
    mall.synced();
    mall.writer
        .apply(Update::Denied(SourceId::Consul, Kind::Nodes));
    assert_eq!(
        mall.reasons(),
        map([("a", "other-zone"), ("b", "other-zone")])
    );
    assert!(mall.reader.snapshot().is_degraded(), "somebody's are");
}

#[test]
fn stated_zones_are_of_no_use_under_another_key() {
    let keys = ZoneKeys::parse(["site"]).unwrap();
    let mut mall = Mall::with(|config| config.zone_keys(keys).zone(zone("mall-1")));
    mall.writer.apply(Update::Denied(SOURCE, Kind::Nodes));
    for kind in [Kind::Services, Kind::Slices] {
        mall.writer.apply(Update::Synced(SOURCE, kind));
    }
    mall.writer.publish();
    assert_eq!(mall.reader.snapshot().coverage(), Coverage::Partial);
}

#[test]
fn a_flip_in_our_zone_leaves_what_is_out_as_it_was() {
    let mut mall = Mall::of_nodes(&NODES);
    let far = |number: u8| {
        pod(
            &format!("far-{number:02}"),
            &format!("10.1.0.{number}"),
            "edge-c",
        )
    };
    let far_v6 = |number: u8| {
        pod(
            &format!("far-{number:02}"),
            &format!("fd00::{number}"),
            "edge-x",
        )
    };
    let put = |mall: &mut Mall, own| {
        let fars = (0..40).map(far);
        mall.slice(slice(
            "web-1",
            [own, pod("lost", "10.0.0.9", "")]
                .into_iter()
                .chain(fars)
                .collect(),
        ));
    };
    put(&mut mall, pod("a", "10.0.0.1", OWN));
    mall.slice(slice("web-2", (30..50).map(far_v6).collect()));
    let before = mall.web();
    assert_eq!(
        before.out(),
        [(Reason::OtherZone, 50), (Reason::NoZoneOnEndpoint, 1)],
        "a pod of two families is one"
    );
    put(&mut mall, unready(pod("a", "10.0.0.1", OWN)));
    let after = mall.web();
    assert!(after.usable().next().is_none());
    assert_eq!(
        (after.out(), after.refused()),
        (before.out(), before.refused())
    );
    // A change of what is far is seen by the next view, whatever was kept for the one before.
    mall.slice(slice("web-2", (60..62).map(far_v6).collect()));
    assert_eq!(mall.web().out()[0], (Reason::OtherZone, 42));
    mall.node(node("edge-c", "mall-1"));
    put(&mut mall, pod("a", "10.0.0.1", OWN));
    assert_eq!(mall.usable().len(), 41);
}

fn preferring(change: impl FnOnce(&mut Service)) -> Mall {
    let mut mall = Mall::of_nodes(&NODES);
    pods(&mut mall);
    mall.service(|web| {
        web.zone_policy = Some(ZonePolicy::Prefer);
        change(web);
    });
    mall
}

#[test]
fn a_preference_for_the_own_node_orders_and_never_isolates() {
    let same_node =
        |web: &mut Service| web.traffic_distribution = Some(TrafficDistribution::SameNode);
    let mut mall = preferring(same_node);
    assert_eq!(
        mall.reasons(),
        map([
            ("a", "own-node"),
            ("b", "less-preferred"),
            ("c", "other-zone")
        ])
    );
    mall.slice(slice(
        "web-1",
        vec![
            unready(pod("a", "10.0.0.1", OWN)),
            pod("b", "10.0.0.2", "edge-b"),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "not-ready"), ("b", "own-zone"), ("c", "other-zone")])
    );
    mall.slice(slice(
        "web-1",
        vec![
            unready(pod("a", "10.0.0.1", OWN)),
            pod("c", "10.0.0.3", "edge-c"),
        ],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "not-ready"), ("c", "spilled-in")])
    );
}

#[test]
fn what_terminates_on_our_node_waits_until_the_zone_has_nothing_ready() {
    let same_node =
        |web: &mut Service| web.traffic_distribution = Some(TrafficDistribution::SameNode);
    let mut mall = preferring(same_node);
    let leaving = with_conditions(pod("a", "10.0.0.1", OWN), false, true, true);
    mall.slice(slice(
        "web-1",
        vec![leaving.clone(), pod("b", "10.0.0.2", "edge-b")],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "terminating"), ("b", "own-zone")])
    );
    mall.slice(slice(
        "web-1",
        vec![leaving, pod("c", "10.0.0.3", "edge-c")],
    ));
    assert_eq!(
        mall.reasons(),
        map([("a", "last-serving"), ("c", "other-zone")])
    );
}

#[test]
fn a_preference_for_the_own_zone_is_what_prefer_means() {
    for wish in [None, Some(TrafficDistribution::SameZone)] {
        let mut mall = preferring(|web| web.traffic_distribution = wish);
        assert_eq!(
            mall.reasons(),
            map([("a", "own-zone"), ("b", "own-zone"), ("c", "other-zone")])
        );
    }
}

#[test]
fn under_strict_and_any_nobody_asks_for_preferences() {
    for policy in [ZonePolicy::Strict, ZonePolicy::Any] {
        let mut mall = Mall::of_nodes(&NODES);
        mall.service(|web| {
            web.zone_policy = Some(policy);
            web.traffic_distribution = Some(TrafficDistribution::SameNode);
        });
        mall.slice(slice(
            "web-1",
            vec![
                hinted(pod("a", "10.0.0.1", OWN), &["mall-2"], &["edge-c"]),
                hinted(pod("b", "10.0.0.2", "edge-b"), &["mall-2"], &["edge-c"]),
                hinted(pod("c", "10.0.0.3", "edge-c"), &["mall-1"], &[OWN]),
            ],
        ));
        let expected: &[&str] = if policy == ZonePolicy::Any {
            &["a", "b", "c"]
        } else {
            &["a", "b"]
        };
        assert_eq!(mall.usable(), expected, "{policy}");
        assert_eq!(mall.reasons()["a"], "own-zone", "{policy}");
    }
}

/// The pods with the hints of each; `-` for one that is not ready.
fn hints(mall: &mut Mall, of: [(&str, &[&str], &[&str]); 3]) {
    let places = [
        ("10.0.0.1", OWN),
        ("10.0.0.2", "edge-b"),
        ("10.0.0.3", "edge-c"),
    ];
    let pods = of
        .into_iter()
        .zip(places)
        .map(|((name, zones, nodes), (address, node))| {
            let endpoint = hinted(
                pod(name.trim_start_matches('-'), address, node),
                zones,
                nodes,
            );
            if name.starts_with('-') {
                unready(endpoint)
            } else {
                endpoint
            }
        });
    mall.slice(slice("web-1", pods.collect()));
}

#[test]
fn hints_follow_the_rule_of_kube_proxy() {
    let mut mall = preferring(|_| {});
    // Zones: every ready endpoint has one, and one names ours.
    hints(
        &mut mall,
        [
            ("a", &["mall-2"], &[]),
            ("b", &["mall-1"], &[]),
            ("c", &["mall-1"], &[]),
        ],
    );
    assert_eq!(
        mall.reasons(),
        map([("a", "less-preferred"), ("b", "hinted"), ("c", "hinted")])
    );
    // One without any: none counts.
    hints(
        &mut mall,
        [
            ("a", &["mall-2"], &[]),
            ("b", &["mall-1"], &[]),
            ("c", &[], &[]),
        ],
    );
    assert_eq!(
        mall.reasons(),
        map([("a", "own-zone"), ("b", "own-zone"), ("c", "other-zone")])
    );
    // None for us: none counts.
    hints(
        &mut mall,
        [
            ("a", &["mall-3"], &[]),
            ("b", &["mall-3"], &[]),
            ("c", &["mall-2"], &[]),
        ],
    );
    assert_eq!(mall.usable(), ["a", "b"]);
    // What is not ready has no say.
    hints(
        &mut mall,
        [
            ("a", &["mall-2"], &[]),
            ("-b", &[], &[]),
            ("c", &["mall-1"], &[]),
        ],
    );
    assert_eq!(
        mall.reasons(),
        map([
            ("a", "less-preferred"),
            ("b", "less-preferred"),
            ("c", "hinted")
        ])
    );
    // Nodes go before zones, under the same rule.
    hints(
        &mut mall,
        [
            ("a", &["mall-1"], &["edge-b"]),
            ("b", &["mall-1"], &[OWN]),
            ("c", &["mall-1"], &["edge-c"]),
        ],
    );
    assert_eq!(
        mall.reasons(),
        map([
            ("a", "less-preferred"),
            ("b", "hinted"),
            ("c", "other-zone")
        ])
    );
    hints(
        &mut mall,
        [
            ("a", &["mall-1"], &["edge-b"]),
            ("b", &["mall-2"], &[]),
            ("c", &["mall-2"], &[OWN]),
        ],
    );
    assert_eq!(
        mall.reasons(),
        map([
            ("a", "hinted"),
            ("b", "less-preferred"),
            ("c", "other-zone")
        ])
    );
}

#[test]
fn hints_that_the_service_does_not_want_are_not_looked_at() {
    let mut mall = preferring(|web| web.topology_mode = Some(TopologyMode::Disabled));
    hints(
        &mut mall,
        [
            ("a", &["mall-2"], &[]),
            ("b", &["mall-1"], &[]),
            ("c", &["mall-1"], &[]),
        ],
    );
    assert_eq!(mall.usable(), ["a", "b"]);
    let mut mall = preferring(|web| web.topology_mode = Some(TopologyMode::Auto));
    hints(
        &mut mall,
        [
            ("a", &["mall-2"], &[]),
            ("b", &["mall-1"], &[]),
            ("c", &["mall-1"], &[]),
        ],
    );
    assert_eq!(mall.usable(), ["b", "c"]);
}

#[test]
fn hints_name_zones_under_the_standard_key_whatever_ours_is() {
    let keys = ZoneKeys::parse(["site", ZoneKey::STANDARD]).unwrap();
    let mut mall = Mall::with(|config| config.zone_keys(keys).policy(ZonePolicy::Prefer));
    for (name, standard, site) in [
        (OWN, "mall-1", "x"),
        ("edge-b", "mall-1", "x"),
        ("edge-c", "mall-2", "y"),
    ] {
        let mut node = labelled(node(name, standard), &[("site", site)]);
        node.zone = zone(site);
        mall.node(node);
    }
    mall.synced();
    hints(
        &mut mall,
        [
            ("a", &["x"], &[]),
            ("b", &["mall-1"], &[]),
            ("c", &["x"], &[]),
        ],
    );
    assert_eq!(mall.usable(), ["b"]);
}

#[test]
fn endpoints_on_no_node_are_out_or_in_or_where_their_network_is() {
    let networks = CidrMap::parse([("10.1.0.0/16", "mall-1"), ("10.2.0.0/16", "mall-2")]).unwrap();
    for (policy, expected) in [
        (Unlocated::Drop, ["no-zone-on-endpoint"; 3]),
        (Unlocated::Include, ["unlocated-included"; 3]),
        (
            Unlocated::CidrMap(networks),
            ["own-zone", "other-zone", "no-zone-on-endpoint"],
        ),
    ] {
        let mut mall = Mall::with(|config| config.unlocated(policy.clone()));
        mall.nodes(&NODES);
        mall.synced();
        let bare = |name, address| pod(name, address, "");
        mall.slice(slice(
            "web-1",
            vec![
                bare("x", "10.1.0.1"),
                bare("y", "10.2.0.1"),
                bare("z", "10.3.0.1"),
            ],
        ));
        let [x, y, z] = expected;
        assert_eq!(
            mall.reasons(),
            map([("x", x), ("y", y), ("z", z)]),
            "{policy:?}"
        );
    }
}

#[test]
fn a_slice_names_the_zone_of_its_endpoints_on_no_node_and_of_no_others() {
    for (of, expected) in [("mall-1", "own-zone"), ("mall-2", "other-zone")] {
        let mut mall = Mall::of_nodes(&NODES);
        let mut slice = slice(
            "web-1",
            vec![pod("x", "10.1.0.1", ""), pod("c", "10.0.0.3", "edge-c")],
        );
        slice.zone = zone(of);
        mall.slice(slice);
        assert_eq!(
            mall.reasons(),
            map([("c", "other-zone"), ("x", expected)]),
            "{of}"
        );
    }
}

#[test]
fn an_endpoint_of_another_source_is_not_near_by_the_name_of_our_neighbour() {
    let mut mall = Mall::of_nodes(&NODES);
    let elsewhere = slice("web-1", vec![pod("b", "10.0.0.2", "edge-b")]);
    mall.writer
        .apply(Update::Upsert(SourceId::Consul, Object::Slice(elsewhere)));
    assert_eq!(mall.reasons()["b"], "other-zone");
}
