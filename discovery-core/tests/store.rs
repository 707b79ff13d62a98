// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers see of what sources state: zones, tiers, lists, order of events, disk.

use discovery_core::{
    model::{
        AddressRules, Conditions, Node, NodeName, Reason, Service, ServiceName, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone, ZoneKeys, ZonePolicy,
    },
    pick::Picker,
    store::{
        Change, Coverage, HoldRule, Kind, Object, ObjectKey, Problem, Reader, ServiceView,
        Snapshot, SourceId, StateConfig, Tier, Update, Writer, ZoneStatus, channel,
        persist::{Owner, Shelf, ShelfError},
    },
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, SystemTime},
};

const SOURCE: SourceId = SourceId::Kube;

fn node(name: &str, zone: Option<&str>) -> Node {
    Node::new(
        NodeName::parse(name).unwrap(),
        zone.map(|zone| Zone::parse(zone).unwrap()),
    )
}

fn endpoint(pod: &str, address: &str, node: Option<&str>, ready: bool) -> SliceEndpoint {
    SliceEndpoint {
        target: Some(TargetRef {
            name: pod.into(),
            uid: format!("uid-{pod}").into(),
        }),
        node: node.map(|node| NodeName::parse(node).unwrap()),
        conditions: Conditions::from_api(Some(ready), None, None),
        ..SliceEndpoint::new(address.parse().unwrap())
    }
}

fn slice(name: &str, endpoints: Vec<SliceEndpoint>) -> Slice {
    Slice {
        ports: [SlicePort {
            name: "http".into(),
            protocol: discovery_core::model::Protocol::Tcp,
            port: NonZeroU16::new(8080).unwrap(),
        }]
        .into(),
        endpoints,
        ..Slice::new(
            SliceKey::new("default", name).unwrap(),
            "web".parse().unwrap(),
        )
    }
}

fn service(policy: Option<ZonePolicy>) -> Service {
    Service {
        zone_policy: policy,
        ..Service::new("web".parse().unwrap())
    }
}

fn upsert(object: Object) -> Update {
    Update::Upsert(SOURCE, object)
}

/// Two zones with a node each, the service `web` with two pods in our zone and one in the other.
fn mall(policy: Option<ZonePolicy>) -> Vec<Update> {
    let mut updates = vec![
        upsert(Object::OwnNode(node("edge-a", Some("mall-1")))),
        upsert(Object::Node(node("edge-a", Some("mall-1")))),
        upsert(Object::Node(node("edge-b", Some("mall-2")))),
        upsert(Object::Service(service(policy))),
        upsert(Object::Slice(slice(
            "web-1",
            vec![
                endpoint("web-0", "10.0.0.1", Some("edge-a"), true),
                endpoint("web-1", "10.0.0.2", Some("edge-a"), true),
                endpoint("web-2", "10.0.0.3", Some("edge-b"), true),
            ],
        ))),
    ];
    updates.extend(Kind::ALL.map(|kind| Update::Synced(SOURCE, kind)));
    updates
}

/// Nothing is held back here: `tests/holds.rs` is about that. Somebody picks by key, so that the table of each view is built
/// from the one before.
fn start() -> (Writer, Reader) {
    let none = HoldRule {
        mass_change: Duration::ZERO,
        zone: Duration::ZERO,
    };
    let config = StateConfig::new(NodeName::parse("edge-a").unwrap()).holds(none);
    let (writer, reader) = channel(config);
    Picker::new(reader.clone(), "web".parse().unwrap());
    (writer, reader)
}

fn apply(writer: &mut Writer, updates: impl IntoIterator<Item = Update>) {
    for update in updates {
        writer.apply(update);
    }
    writer.publish();
}

fn web(reader: &mut Reader) -> Arc<ServiceView> {
    reader
        .snapshot()
        .service(&"web".parse().unwrap())
        .unwrap()
        .clone()
}

/// Every endpoint with its reason, in or out.
fn reasons(view: &ServiceView) -> BTreeMap<String, Reason> {
    let members = view.tiers().iter().flat_map(Tier::members);
    let members = members.map(|endpoint| (endpoint.identity().to_string(), endpoint.reason()));
    members
        .chain(
            view.refused()
                .iter()
                .map(|r| (r.identity.to_string(), r.reason)),
        )
        .collect()
}

#[test]
fn strict_serves_the_own_zone_and_names_the_others() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let view = web(&mut reader);
    assert_eq!(view.usable().count(), 2);
    assert_eq!(reasons(&view)["web-0"], Reason::OwnZone);
    assert_eq!(reasons(&view)["web-2"], Reason::OtherZone);
}

#[test]
fn strict_fails_closed_when_the_own_zone_is_empty() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let gone = slice(
        "web-1",
        vec![endpoint("web-2", "10.0.0.3", Some("edge-b"), true)],
    );
    apply(&mut writer, [upsert(Object::Slice(gone))]);
    assert_eq!(web(&mut reader).usable().count(), 0);
}

#[test]
fn prefer_opens_the_other_zones_only_while_the_own_one_has_nothing() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(Some(ZonePolicy::Prefer)));
    assert_eq!(reasons(&web(&mut reader))["web-2"], Reason::OtherZone);
    let down = ["web-0", "web-1"]
        .map(|pod| endpoint(pod, &format!("10.0.0.{}", pod.len()), Some("edge-a"), false));
    let mut endpoints = vec![endpoint("web-2", "10.0.0.3", Some("edge-b"), true)];
    endpoints.push(down[0].clone());
    apply(
        &mut writer,
        [upsert(Object::Slice(slice("web-1", endpoints)))],
    );
    let view = web(&mut reader);
    assert_eq!(reasons(&view)["web-2"], Reason::SpilledIn);
    assert_eq!(view.usable().count(), 1);
}

#[test]
fn any_serves_all_zones_as_one_tier() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(Some(ZonePolicy::Any)));
    let view = web(&mut reader);
    assert_eq!((view.tiers().len(), view.usable().count()), (1, 3));
    assert_eq!(reasons(&view)["web-2"], Reason::PolicyAny);
}

#[test]
fn a_node_without_a_usable_label_serves_nothing_and_says_what_it_looked_for() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    apply(&mut writer, [upsert(Object::OwnNode(node("edge-a", None)))]);
    let snapshot = reader.snapshot();
    assert_eq!(snapshot.services().count(), 0);
    assert!(!snapshot.is_authoritative());
    let expected = ZoneStatus::NoLabel {
        node: NodeName::parse("edge-a").unwrap(),
        keys: ZoneKeys::default(),
    };
    assert_eq!(*snapshot.zone(), expected);
    assert!(
        expected.to_string().contains("topology.kubernetes.io/zone"),
        "{expected}"
    );
}

#[test]
fn a_node_that_is_absent_serves_nothing() {
    let (mut writer, mut reader) = start();
    let own = ObjectKey::OwnNode(NodeName::parse("edge-a").unwrap());
    apply(&mut writer, mall(None));
    apply(&mut writer, [Update::Absent(SOURCE, own)]);
    assert_eq!(reader.snapshot().services().count(), 0);
    assert!(matches!(
        reader.snapshot().zone(),
        ZoneStatus::NoNode { .. }
    ));
}

#[test]
fn nothing_is_served_before_every_list_is_complete() {
    let (mut writer, mut reader) = start();
    let updates = mall(None);
    apply(&mut writer, updates[..updates.len() - 1].to_vec());
    assert_eq!(reader.snapshot().coverage(), Coverage::Partial);
    let missing: Vec<_> = reader.snapshot().missing().iter().map(|l| l.kind).collect();
    assert_eq!(missing, [Kind::Slices]);
    assert_eq!(reader.snapshot().services().count(), 0);
    apply(&mut writer, [Update::Synced(SOURCE, Kind::Slices)]);
    assert!(reader.snapshot().is_authoritative());
}

#[test]
fn an_unchanged_set_gives_no_new_generation() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let before = reader.snapshot().generation();
    for update in mall(None) {
        assert_ne!(writer.apply(update), Change::Lost);
    }
    assert!(writer.publish().is_none());
    assert_eq!(reader.snapshot().generation(), before);
}

#[test]
fn a_relist_keeps_the_old_view_until_it_is_complete_and_drops_what_it_did_not_name() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let other = slice(
        "web-2",
        vec![endpoint("web-9", "10.0.0.9", Some("edge-a"), true)],
    );
    apply(
        &mut writer,
        [
            Update::Reset(SOURCE, Kind::Slices),
            upsert(Object::Slice(other)),
        ],
    );
    assert_eq!(
        web(&mut reader).usable().count(),
        3,
        "the old slice stays while the list is open"
    );
    apply(&mut writer, [Update::Synced(SOURCE, Kind::Slices)]);
    assert_eq!(
        reasons(&web(&mut reader)).into_keys().collect::<Vec<_>>(),
        ["web-9"]
    );
}

#[test]
fn readiness_flips_touch_no_ring() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let before = web(&mut reader);
    let endpoints = vec![
        endpoint("web-0", "10.0.0.1", Some("edge-a"), false),
        endpoint("web-1", "10.0.0.2", Some("edge-a"), true),
    ];
    apply(
        &mut writer,
        [upsert(Object::Slice(slice("web-1", endpoints)))],
    );
    let after = web(&mut reader);
    let (old, new) = (before.tiers()[0].table(), after.tiers()[0].table());
    assert!(new.is_taken_over(old));
    assert_eq!(reasons(&after)["web-0"], Reason::NotReady);
    assert!(Arc::ptr_eq(
        before.tiers()[0].members()[0].load(),
        after.tiers()[0].members()[0].load()
    ));
}

#[test]
fn a_terminating_endpoint_serves_only_while_nothing_is_ready() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let mut last = endpoint("web-0", "10.0.0.1", Some("edge-a"), false);
    last.conditions = Conditions::from_api(Some(false), Some(true), Some(true));
    let ready = endpoint("web-1", "10.0.0.2", Some("edge-a"), true);
    apply(
        &mut writer,
        [upsert(Object::Slice(slice(
            "web-1",
            vec![last.clone(), ready],
        )))],
    );
    assert_eq!(reasons(&web(&mut reader))["web-0"], Reason::Terminating);
    apply(
        &mut writer,
        [upsert(Object::Slice(slice("web-1", vec![last])))],
    );
    assert_eq!(reasons(&web(&mut reader))["web-0"], Reason::LastServing);
}

#[test]
fn addresses_of_both_families_are_one_endpoint() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let six = slice(
        "web-6",
        vec![endpoint("web-0", "fd00::1", Some("edge-a"), true)],
    );
    apply(&mut writer, [upsert(Object::Slice(six))]);
    let view = web(&mut reader);
    assert_eq!(view.usable().count(), 2);
    let both = &view.tiers()[0].members()[0];
    assert_eq!(
        both.addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.1", "fd00::1"]
    );
}

#[test]
fn bad_and_doubled_and_unlocated_endpoints_are_out_with_their_reason() {
    let own = "10.0.0.9:8080".parse().unwrap();
    let config = StateConfig::new(NodeName::parse("edge-a").unwrap())
        .addresses(AddressRules::new(false, [own]));
    let (mut writer, mut reader) = channel(config);
    apply(&mut writer, mall(None));
    let endpoints = vec![
        endpoint("a", "10.0.0.1", Some("edge-a"), true),
        endpoint("b", "10.0.0.1", Some("edge-a"), true),
        endpoint("c", "127.0.0.1", Some("edge-a"), true),
        endpoint("d", "10.0.0.9", Some("edge-a"), true),
        endpoint("e", "10.0.0.4", None, true),
        endpoint("f", "10.0.0.5", Some("edge-unknown"), true),
    ];
    apply(
        &mut writer,
        [upsert(Object::Slice(slice("web-1", endpoints)))],
    );
    let words: BTreeMap<_, _> = reasons(&web(&mut reader))
        .into_iter()
        .map(|(pod, reason)| (pod, reason.to_string()))
        .collect();
    let expected = [
        ("a", "own-zone"),
        ("b", "duplicate"),
        ("c", "bad-address:loopback"),
        ("d", "bad-address:own-listener"),
        ("e", "no-zone-on-endpoint"),
        ("f", "other-zone"),
    ];
    assert_eq!(
        words,
        expected
            .map(|(pod, reason)| (pod.to_owned(), reason.to_owned()))
            .into()
    );
}

#[test]
fn a_problem_is_shown_until_its_object_is_stated_again() {
    let (mut writer, mut reader) = start();
    apply(&mut writer, mall(None));
    let problem = Problem {
        kind: Kind::Slices,
        object: "EndpointSlice default/web-1".into(),
        place: "endpoints[0]".into(),
        reason: "no address".into(),
    };
    apply(&mut writer, [Update::Reject(SOURCE, problem.clone())]);
    assert_eq!(reader.snapshot().problems(), [problem]);
    let mended = slice("web-1", vec![]);
    apply(&mut writer, [upsert(Object::Slice(mended))]);
    assert!(reader.snapshot().problems().is_empty());
}

#[test]
fn a_loss_is_told_from_a_gain() {
    let (mut writer, _) = start();
    apply(&mut writer, mall(None));
    let zero = endpoint("web-0", "10.0.0.1", Some("edge-a"), true);
    let one = endpoint("web-1", "10.0.0.2", Some("edge-a"), true);
    let two = endpoint("web-2", "10.0.0.3", Some("edge-b"), true);
    let more = endpoint("web-3", "10.0.0.4", Some("edge-a"), true);
    let gain = slice("web-1", vec![zero.clone(), one, two, more]);
    assert_eq!(writer.apply(upsert(Object::Slice(gain))), Change::Gained);
    assert_eq!(
        writer.apply(upsert(Object::Slice(slice("web-1", vec![zero])))),
        Change::Lost
    );
}

proptest! {
    /// Events that arrive in any order, in any batches, end in the same snapshot.
    #[test]
    fn the_order_and_batching_of_events_do_not_matter(
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
        batches in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let mut events = mall(Some(ZonePolicy::Prefer));
        let synced = events.split_off(5);
        events.push(upsert(Object::Slice(slice("web-2", vec![endpoint("web-7", "10.0.0.7", Some("edge-a"), false)]))));
        events.push(upsert(Object::Node(node("edge-c", Some("mall-3")))));
        events.push(upsert(Object::Slice(slice("web-3", vec![endpoint("web-8", "10.0.0.8", Some("edge-c"), true)]))));
        let (mut expected_writer, mut expected) = start();
        apply(&mut expected_writer, events.iter().chain(&synced).cloned());
        let (mut writer, mut reader) = start();
        apply(&mut writer, synced);
        for (at, publish) in order.iter().zip(batches) {
            writer.apply(events[*at].clone());
            if publish {
                writer.publish();
            }
        }
        writer.publish();
        let (ours, theirs) = (web(&mut reader), web(&mut expected));
        prop_assert_eq!(reasons(&ours), reasons(&theirs));
        prop_assert_eq!(ours.tiers()[0].table(), theirs.tiers()[0].table());
    }

    /// A snapshot tells of its last forerunners which services are others since, and all of them.
    #[test]
    fn what_changed_since_an_older_snapshot_is_what_differs(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut writer, reader) = start();
        apply(&mut writer, mall(None));
        let mut published = vec![reader.load()];
        for step in steps {
            match step {
                Some(update) => drop(writer.apply(update)),
                None => published.extend(writer.publish()),
            }
        }
        let newest = published.last().unwrap();
        for (age, before) in published.iter().rev().enumerate() {
            let mark = before.mark();
            let told = newest.changed_since(&mark);
            prop_assert_eq!(told.is_some(), age < 8, "{} publications ago", age);
            let Some(told) = told else { continue };
            let told: BTreeSet<_> = told.cloned().collect();
            let differ = differing(before, newest);
            prop_assert!(differ.is_subset(&told), "{:?} are told, {:?} differ", told, differ);
            // What went and came, or changed back, differs in no way and is told.
            prop_assert!(age != 1 || differ == told, "{:?} are told, {:?} differ", told, differ);
        }
    }
}

/// An update, or a publication.
fn step() -> impl Strategy<Value = Option<Update>> {
    let name = |number: usize| format!("s-{number}");
    let slice = (0..4_usize, any::<bool>()).prop_map(move |(number, ready)| {
        let pod = endpoint("pod", "10.0.1.1", Some("edge-a"), ready);
        upsert(Object::Slice(Slice {
            service: name(number).parse().unwrap(),
            ..slice(&name(number), vec![pod])
        }))
    });
    let gone = (0..4_usize).prop_map(move |number| {
        let key = SliceKey::new("default", &name(number)).unwrap();
        Update::Remove(SOURCE, ObjectKey::Slice(key))
    });
    let zone = proptest::sample::select(&["mall-1", "mall-2"][..]);
    let moved = zone.prop_map(|zone| upsert(Object::Node(node("edge-b", Some(zone)))));
    let relist = Just(Update::Reset(SOURCE, Kind::Services));
    let listed = Just(Update::Synced(SOURCE, Kind::Services));
    prop_oneof![
        6 => slice.prop_map(Some),
        2 => gone.prop_map(Some),
        1 => moved.prop_map(Some),
        1 => relist.prop_map(Some),
        1 => listed.prop_map(Some),
        6 => Just(None),
    ]
}

/// The services of which the snapshots have other views.
fn differing(before: &Snapshot, after: &Snapshot) -> BTreeSet<ServiceName> {
    let both = before.services().chain(after.services());
    let differ = both.filter(|view| {
        let views = [before, after].map(|snapshot| snapshot.service(view.name()).map(Arc::as_ptr));
        views[0] != views[1]
    });
    differ.map(|view| view.name().clone()).collect()
}

fn shelf(folder: &std::path::Path, cluster: &str, node: &str) -> Shelf {
    shelf_in(folder, cluster, node, None)
}

/// The shelf of who has its zone by configuration.
fn shelf_in(folder: &std::path::Path, cluster: &str, node: &str, zone: Option<&str>) -> Shelf {
    let owner = Owner {
        cluster: cluster.into(),
        node: NodeName::parse(node).unwrap(),
        zone: zone.map(|zone| Zone::parse(zone).unwrap()),
    };
    Shelf::new(folder.to_owned(), owner)
}

fn save(shelf: &Shelf) {
    let (mut writer, _) = start();
    apply(&mut writer, mall(None));
    shelf
        .save(writer.objects_of_zone(), BTreeMap::new(), SystemTime::now())
        .unwrap();
}

#[test]
fn what_was_saved_serves_again_and_says_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path(), "c", "edge-a");
    save(&shelf);
    let (mut writer, mut reader) = start();
    apply(&mut writer, shelf.load().unwrap().updates);
    assert_eq!(reader.snapshot().coverage(), Coverage::Disk);
    assert_eq!(
        reasons(&web(&mut reader)).into_keys().collect::<Vec<_>>(),
        ["web-0", "web-1"],
        "own zone only"
    );
    apply(&mut writer, mall(None));
    assert_eq!(reader.snapshot().coverage(), Coverage::Synced);
}

#[test]
fn a_live_list_replaces_what_the_disk_said() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path(), "c", "edge-a");
    save(&shelf);
    let (mut writer, mut reader) = start();
    apply(&mut writer, shelf.load().unwrap().updates);
    let mut live: Vec<_> = Kind::ALL.map(|kind| Update::Reset(SOURCE, kind)).into();
    let fresh = slice(
        "web-5",
        vec![endpoint("web-5", "10.0.0.5", Some("edge-a"), true)],
    );
    live.extend(
        mall(None)
            .into_iter()
            .filter(|update| !matches!(update, Update::Upsert(_, Object::Slice(_)))),
    );
    live.insert(4, upsert(Object::Slice(fresh)));
    apply(&mut writer, live);
    assert_eq!(
        reasons(&web(&mut reader)).into_keys().collect::<Vec<_>>(),
        ["web-5"]
    );
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path(), "c", "edge-a");
    assert!(matches!(shelf.load(), Err(ShelfError::Missing { .. })));
    save(&shelf);
    save(&shelf);
    let newest = folder.path().join("snapshot");
    let good = fs::read(&newest).unwrap();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&newest, &bad).unwrap();
        assert!(shelf.load().unwrap().passed_over.is_some(), "bit {at}");
    }
    for length in [0, 1, 20, good.len() - 1] {
        fs::write(&newest, &good[..length]).unwrap();
        assert!(
            shelf.load().unwrap().passed_over.is_some(),
            "cut at {length}"
        );
    }
    fs::remove_file(&newest).unwrap();
    assert!(
        shelf.load().is_ok(),
        "a crash between the two renames leaves the one before"
    );
}

#[test]
fn b12_a_snapshot_of_another_cluster_node_zone_or_schema_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    save(&shelf_in(folder.path(), "c", "edge-a", Some("mall-1")));
    for (cluster, node, zone, expected) in [
        ("other", "edge-a", Some("mall-1"), "cluster: c, not other"),
        ("c", "edge-b", Some("mall-1"), "node: edge-a, not edge-b"),
        ("c", "edge-a", Some("mall-2"), "zone: mall-1, not mall-2"),
    ] {
        let error = shelf_in(folder.path(), cluster, node, zone).load();
        let error = error.unwrap_err();
        let is_foreign = matches!(error, ShelfError::Foreign { .. });
        let says = format!("is of another {expected}");
        assert!(is_foreign && error.to_string().ends_with(&says), "{error}");
    }
    let own = shelf_in(folder.path(), "c", "edge-a", Some("mall-1"));
    assert!(own.load().is_ok());
    let newest = folder.path().join("snapshot");
    let text = fs::read_to_string(&newest).unwrap();
    for schema in [0, 2, 4, u32::MAX] {
        let head = format!("zonal-snapshot {schema} ");
        fs::write(&newest, text.replacen("zonal-snapshot 3 ", &head, 1)).unwrap();
        let error = own.load().unwrap_err();
        let is_told = matches!(error, ShelfError::Schema { found, .. } if found == schema);
        assert!(is_told, "{schema}: {error}");
    }
}
