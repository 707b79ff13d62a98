// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers see when several sources speak: who is in force, what a list takes back, what is missing, the disk.

use discovery_core::{
    model::{Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, Zone},
    store::{
        Coverage, HoldRule, Kind, MergePolicy, MergeRule, MergeRules, Object, ObjectKey, Problem,
        Reader,
        SourceId::{self, Consul, Disk, Kube},
        StateConfig, Tier, Update, Writer, channel,
        persist::{Owner, Shelf},
    },
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    time::{Duration, SystemTime},
};

const LISTS: [(SourceId, Kind); 7] = [
    (Kube, Kind::OwnNode),
    (Kube, Kind::Nodes),
    (Kube, Kind::Services),
    (Kube, Kind::Slices),
    (Consul, Kind::Nodes),
    (Consul, Kind::Services),
    (Consul, Kind::Slices),
];

/// Nothing is held for its mass here: `tests/holds.rs` is about that.
fn config() -> StateConfig {
    let none = HoldRule {
        mass_change: Duration::ZERO,
        zone: Duration::ZERO,
    };
    let config = StateConfig::new(NodeName::parse("edge-a").unwrap());
    config.lists(LISTS).holds(none)
}

fn node(name: &str, zone: &str) -> Node {
    let zone = Zone::parse(zone).unwrap();
    Node::new(NodeName::parse(name).unwrap(), Some(zone))
}

fn slice(service: &str, name: &str, address: &str, node: &str) -> Object {
    let port = SlicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(80).unwrap(),
    };
    Object::Slice(Slice {
        ports: [port].into(),
        endpoints: vec![SliceEndpoint {
            node: Some(NodeName::parse(node).unwrap()),
            ..SliceEndpoint::new(address.parse().unwrap())
        }],
        ..Slice::new(
            SliceKey::new("default", name).unwrap(),
            service.parse().unwrap(),
        )
    })
}

fn nodes() -> [Update; 3] {
    [
        Update::Upsert(Kube, Object::OwnNode(node("edge-a", "mall-1"))),
        Update::Upsert(Kube, Object::Node(node("edge-a", "mall-1"))),
        Update::Upsert(Consul, Object::Node(node("edge-c", "mall-1"))),
    ]
}

fn by_kube() -> Update {
    Update::Upsert(Kube, slice("web", "web-1", "10.0.0.1", "edge-a"))
}

fn by_consul() -> Update {
    Update::Upsert(Consul, slice("web", "web-1", "10.9.0.1", "edge-c"))
}

fn synced() -> impl Iterator<Item = Update> {
    LISTS
        .into_iter()
        .map(|(source, kind)| Update::Synced(source, kind))
}

fn apply(writer: &mut Writer, updates: impl IntoIterator<Item = Update>) {
    for update in updates {
        writer.apply(update);
    }
    writer.publish();
}

fn start(config: StateConfig) -> (Writer, Reader) {
    let (mut writer, reader) = channel(config);
    apply(&mut writer, nodes().into_iter().chain(synced()));
    (writer, reader)
}

/// The addresses of the usable endpoints of a service; none when it does not exist.
fn addresses(reader: &Reader, service: &str) -> Option<Vec<String>> {
    let snapshot = reader.load();
    let view = snapshot.service(&service.parse().unwrap())?;
    let members = view.tiers().iter().flat_map(Tier::members);
    let usable = members.filter(|endpoint| endpoint.is_usable());
    Some(
        usable
            .map(|endpoint| endpoint.identity().to_string())
            .collect(),
    )
}

fn problems(reader: &Reader) -> Vec<String> {
    let snapshot = reader.load();
    let text = |p: &Problem| format!("{} at {}: {}", p.object, p.place, p.reason);
    snapshot.problems().iter().map(text).collect()
}

#[test]
fn a_full_list_takes_back_only_what_its_own_source_stated() {
    let (mut writer, reader) = start(config());
    let api = Update::Upsert(Consul, slice("api", "api-1", "10.9.0.2", "edge-c"));
    apply(&mut writer, [by_kube(), api]);
    apply(
        &mut writer,
        [
            Update::Reset(Kube, Kind::Slices),
            Update::Synced(Kube, Kind::Slices),
        ],
    );
    assert_eq!(addresses(&reader, "web"), None);
    assert_eq!(addresses(&reader, "api"), Some(vec!["10.9.0.2:80".into()]));
}

#[test]
fn a_removal_by_another_source_takes_nothing() {
    let (mut writer, reader) = start(config());
    let key = ObjectKey::Slice(SliceKey::new("default", "web-1").unwrap());
    apply(&mut writer, [by_kube(), Update::Remove(Consul, key)]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
}

#[test]
fn nothing_is_served_before_every_list_of_every_source_was_read() {
    let (mut writer, reader) = channel(config());
    apply(
        &mut writer,
        nodes()
            .into_iter()
            .chain(synced().take(6))
            .chain([by_kube()]),
    );
    let snapshot = reader.load();
    assert_eq!(snapshot.coverage(), Coverage::Partial);
    let missing: Vec<_> = snapshot.missing().iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["list of slices of source consul"]);
    apply(&mut writer, [Update::Synced(Consul, Kind::Slices)]);
    assert_eq!(reader.load().coverage(), Coverage::Synced);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
}

#[test]
fn a_problem_stands_until_its_own_source_mends_it() {
    let (mut writer, reader) = start(config());
    let problem = |source| {
        let problem = Problem {
            kind: Kind::Slices,
            object: "EndpointSlice default/web-1".into(),
            place: "somewhere".into(),
            reason: format!("{source} is wrong"),
        };
        Update::Reject(source, problem)
    };
    apply(&mut writer, [problem(Kube), problem(Consul), by_kube()]);
    let left = "EndpointSlice default/web-1 at somewhere: consul is wrong";
    assert_eq!(problems(&reader), [left]);
    apply(&mut writer, [Update::Reset(Kube, Kind::Slices)]);
    assert_eq!(problems(&reader), [left]);
    apply(&mut writer, [Update::Reset(Consul, Kind::Slices)]);
    assert_eq!(problems(&reader), [""; 0]);
}

#[test]
fn of_two_sources_the_first_is_in_force_and_the_other_is_told_of() {
    let (mut writer, reader) = start(config());
    apply(&mut writer, [by_consul()]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.9.0.1:80".into()]));
    assert_eq!(problems(&reader), [""; 0]);
    apply(&mut writer, [by_kube()]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
    assert_eq!(
        problems(&reader),
        [
            "Service default/web at source consul: kube states it too and is in force by precedence; \
          what consul says is overruled"
        ]
    );
    assert_eq!(reader.load().overruled().len(), 1);
}

#[test]
fn the_overruled_one_takes_the_place_of_one_that_is_gone() {
    let (mut writer, reader) = start(config());
    apply(&mut writer, [by_kube(), by_consul()]);
    // A list under way proves nothing yet; a source that is away never completes it.
    apply(&mut writer, [Update::Reset(Kube, Kind::Slices)]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
    apply(&mut writer, [Update::Synced(Kube, Kind::Slices)]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.9.0.1:80".into()]));
    assert_eq!(problems(&reader), [""; 0]);
    assert!(reader.load().overruled().is_empty());
}

#[test]
fn a_service_may_have_a_precedence_of_its_own() {
    let first = MergeRule {
        precedence: vec![Consul],
        policy: MergePolicy::PreferFirst,
    };
    let rules = MergeRules::default().service("w*".parse().unwrap(), first);
    let (mut writer, reader) = start(config().merge(rules));
    apply(&mut writer, [by_kube(), by_consul()]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.9.0.1:80".into()]));
    assert!(problems(&reader)[0].contains("at source kube"));
}

#[test]
fn union_asked_for_gives_the_endpoints_of_both() {
    let union = MergeRule {
        precedence: vec![],
        policy: MergePolicy::Union,
    };
    let rules = MergeRules::default().service("web".parse().unwrap(), union);
    let (mut writer, reader) = start(config().merge(rules));
    apply(&mut writer, [by_kube(), by_consul()]);
    let both = Some(vec!["10.0.0.1:80".into(), "10.9.0.1:80".into()]);
    assert_eq!(addresses(&reader, "web"), both);
    assert_eq!(problems(&reader), [""; 0]);
}

#[test]
fn an_endpoint_is_joined_with_the_nodes_of_its_own_source() {
    let (mut writer, reader) = start(config());
    // Consul calls a host of another zone as Kubernetes calls ours.
    let namesake = Update::Upsert(Consul, Object::Node(node("edge-a", "mall-2")));
    let api = Update::Upsert(Consul, slice("api", "api-1", "10.9.0.2", "edge-a"));
    apply(&mut writer, [namesake, by_kube(), api]);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
    assert_eq!(addresses(&reader, "api"), Some(vec![]));
    let names: Vec<_> = reader
        .load()
        .nodes()
        .iter()
        .map(|n| n.name.to_string())
        .collect();
    assert_eq!(names, ["edge-a", "edge-c"]);
}

#[test]
fn what_the_disk_gives_back_belongs_to_the_source_that_stated_it() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner {
        cluster: "c".into(),
        node: NodeName::parse("edge-a").unwrap(),
        zone: None,
    };
    let shelf = Shelf::new(folder.path().to_owned(), owner);
    let (mut writer, _) = start(config());
    apply(&mut writer, [by_kube(), by_consul()]);
    shelf
        .save(writer.objects_of_zone(), BTreeMap::new(), SystemTime::now())
        .unwrap();

    let (mut writer, reader) = channel(config());
    apply(&mut writer, shelf.load().unwrap().updates);
    assert_eq!(reader.load().coverage(), Coverage::Disk);
    // Kubernetes is away and Consul is not: what Kubernetes said last stays in force.
    let consul = LISTS.into_iter().filter(|(source, _)| *source == Consul);
    let lists = consul.flat_map(|(source, kind)| {
        let objects = [nodes()[2].clone(), by_consul()];
        let objects = objects.into_iter().filter(move |update| {
            matches!(update, Update::Upsert(_, object) if object.key().kind() == kind)
        });
        let reset = [Update::Reset(source, kind)];
        reset
            .into_iter()
            .chain(objects)
            .chain([Update::Synced(source, kind)])
    });
    apply(&mut writer, lists);
    assert_eq!(reader.load().coverage(), Coverage::Disk);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
    let kube = LISTS.into_iter().filter(|(source, _)| *source == Kube);
    let lists =
        kube.flat_map(|(source, kind)| [Update::Reset(source, kind), Update::Synced(source, kind)]);
    let own = Update::Upsert(Kube, Object::OwnNode(node("edge-a", "mall-1")));
    apply(&mut writer, lists.chain([own]));
    assert_eq!(reader.load().coverage(), Coverage::Synced);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.9.0.1:80".into()]));
}

#[test]
fn a_disk_without_consul_is_not_enough_to_be_synced_but_serves() {
    let (mut writer, reader) = channel(config());
    let kinds = Kind::ALL.map(|kind| Update::Synced(Disk, kind));
    apply(
        &mut writer,
        nodes().into_iter().chain([by_kube()]).chain(kinds),
    );
    assert_eq!(reader.load().coverage(), Coverage::Disk);
    assert_eq!(addresses(&reader, "web"), Some(vec!["10.0.0.1:80".into()]));
}

/// What can happen to the service `web` and its hosts.
fn events() -> Vec<Update> {
    let key = || ObjectKey::Slice(SliceKey::new("default", "web-1").unwrap());
    let mut events: Vec<_> = nodes().into_iter().collect();
    events.extend([by_kube(), by_consul()]);
    events.extend([Update::Remove(Kube, key()), Update::Remove(Consul, key())]);
    events
}

proptest! {
    /// Events of different sources may come in any order and in any batches: each source's last word counts.
    #[test]
    fn the_order_between_sources_does_not_matter(history in prop::collection::vec(0..7_usize, 1..40),
                                                 published in prop::collection::vec(any::<bool>(), 40)) {
        let events = events();
        let source_of = |update: &Update| match update {
            Update::Upsert(source, _) | Update::Remove(source, _) => *source,
            _ => unreachable!("events are upserts and removals"),
        };
        let (mut mixed, reader) = start(config());
        for (event, publish) in history.iter().zip(&published) {
            mixed.apply(events[*event].clone());
            if *publish {
                mixed.publish();
            }
        }
        mixed.publish();
        let (mut sorted, expected) = start(config());
        for source in [Consul, Kube] {
            let own = history.iter().map(|event| events[*event].clone());
            apply(&mut sorted, own.filter(|update| source_of(update) == source));
        }
        prop_assert_eq!(addresses(&reader, "web"), addresses(&expected, "web"));
        prop_assert_eq!(problems(&reader), problems(&expected));
    }
}
