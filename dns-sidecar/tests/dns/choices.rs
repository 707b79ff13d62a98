// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names that Consul does not have: by key, by zone, and what is known of a service.

use crate::{
    asker::Asker,
    mall::{HTTP, Mall, node, service_name},
    packet::{A, AAAA, ANY, SRV, TXT, words},
};
use discovery_core::{
    hash::HashKey,
    model::{Service, ZonePolicy},
    pick::candidates,
    store::{Object, SourceId},
};
use hickory_proto::rr::RData;

/// The addresses in the order of the library's candidates for the key.
fn order(mall: &mut Mall, service: &str, key: &str) -> Vec<String> {
    let snapshot = mall.reader.snapshot();
    let view = snapshot.service(&service_name(service)).unwrap();
    let endpoints = candidates(view, HashKey::of(key.as_bytes()));
    endpoints
        .map(|endpoint| endpoint.addresses()[0].to_string())
        .collect()
}

#[test]
fn a_key_is_answered_in_the_order_of_its_ring_as_the_library_has_it() {
    let mut mall = Mall::open();
    let mut asker = Asker::new(&mut mall);
    let mut owners = std::collections::HashSet::new();
    for key in (0..200).map(|number| format!("user-{number}")) {
        let expected = order(&mut mall, "shop/many", &key);
        let name = format!("{key}._key.many-shop.service.consul");
        let message = asker.ask(&name, A);
        let told: Vec<String> = message
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(told, expected, "{key}");
        owners.insert(told[0].clone());
        let message = asker.ask_tcp(&name, SRV);
        for (rank, record) in message.answers.iter().enumerate() {
            let RData::SRV(srv) = &record.data else {
                panic!("{record}")
            };
            assert_eq!(usize::from(srv.priority), rank + 1);
            let address = message
                .additionals
                .iter()
                .find(|glue| glue.name == srv.target)
                .unwrap();
            assert_eq!(address.data.to_string(), expected[rank]);
        }
        assert_eq!(message.answers.len(), 40);
    }
    assert!(owners.len() > 30, "keys spread: {}", owners.len());
}

#[test]
fn a_key_has_dots_and_no_case_and_goes_on_to_the_next_when_its_owner_is_gone() {
    let mut mall = Mall::open();
    let expected = order(&mut mall, "default/web", "user.42");
    let mut asker = Asker::new(&mut mall);
    for name in [
        "user.42._key.web.service.consul",
        "USER.42._Key.web.service.mall-1.consul",
    ] {
        let message = asker.ask(name, A);
        let told: Vec<String> = message
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(told, expected);
    }
    let pods = [
        ("web-0", "edge-a", "10.1.0.1"),
        ("web-1", "edge-a", "10.1.0.2"),
        ("web-2", "edge-b.rack.lan", "10.1.0.3"),
    ];
    let rest: Vec<_> = pods
        .into_iter()
        .filter(|(_, _, address)| *address != expected[0])
        .collect();
    mall.endpoints("default/web", "4", &[HTTP], &rest);
    mall.endpoints("default/web", "6", &[HTTP], &[]);
    mall.writer.publish();
    asker.follow(&mut mall);
    let message = asker.ask("user.42._key.web.service.consul", A);
    let told: Vec<String> = message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    assert_eq!(told, expected[1..]);
}

#[test]
fn names_with_a_mark_exist_where_something_stands_below_and_are_no_tags() {
    let mut asker = Asker::new(&mut Mall::open());
    for name in [
        "_key.web.service.consul",
        "_zone.web.service.consul",
        "pin._zone.web.service.consul",
        "_info.web.service.consul",
    ] {
        assert_eq!(asker.words(name, A), ["NODATA"], "{name}");
    }
    for name in [
        "a._key.nosuch.service.consul",
        "a._key.down-shop.service.consul",
        "a.other._zone.web.service.consul",
        "x._info.web.service.consul",
        "_http.web.service.consul",
    ] {
        assert_eq!(asker.words(name, A), ["NXDomain"], "{name}");
    }
    assert_eq!(asker.words("a._key.web.service.consul", TXT), ["NODATA"]);
    assert_eq!(asker.words("a._key.web.service.consul", ANY).len(), 4);
    assert_eq!(asker.words("a._key.web.service.consul", AAAA).len(), 1);
}

fn with_policy(policy: ZonePolicy) -> Mall {
    let mut mall = Mall::open();
    mall.upsert(Object::Service(Service {
        zone_policy: Some(policy),
        ..Service::new(service_name("default/web"))
    }));
    mall.writer.publish();
    mall
}

#[test]
fn a_zone_is_named_as_far_as_the_policy_lets_it_be_seen() {
    let names = [
        "mall-2.pin._zone.web.service.consul",
        "web.service.mall-2.consul",
        "web.service.mall-2.dc.consul",
    ];
    let mut strict = Asker::new(&mut with_policy(ZonePolicy::Strict));
    for name in names {
        assert_eq!(
            strict.words(name, A),
            ["NXDomain"],
            "{name}: the boundary holds by every name"
        );
    }
    let near = strict.words("mall-2.prefer._zone.web.service.consul", A);
    assert_eq!(near.len(), 3, "what may not be seen is not preferred");
    for policy in [ZonePolicy::Prefer, ZonePolicy::Any] {
        let mut asker = Asker::new(&mut with_policy(policy));
        for name in names
            .into_iter()
            .chain(["mall-2.prefer._zone.web.service.consul"])
        {
            assert_eq!(asker.words(name, A), [format!("{name}. 0 IN A 10.9.1.1")]);
        }
        assert_eq!(
            asker
                .words("mall-1.pin._zone.web.service.consul", AAAA)
                .len(),
            1
        );
        assert_eq!(
            asker.words("nowhere.pin._zone.web.service.consul", A),
            ["NXDomain"]
        );
    }
}

#[test]
fn a_service_tells_what_is_known_of_it() {
    let mut asker = Asker::new(&mut Mall::open());
    let info = asker.words("_info.web.service.consul", TXT);
    for word in [
        "service=default/web",
        "policy=strict",
        "usable=3",
        "in:own-zone=3",
        "out:other-zone=1",
        "source=synced",
        "age_seconds=0",
    ] {
        assert!(info[0].contains(word), "{word} in {info:?}");
    }
    let info = asker.words("_info.down-shop.service.consul", TXT);
    assert!(
        info[0].contains("usable=0"),
        "also of one that has nobody: {info:?}"
    );
    assert_eq!(
        asker.words("_info.nosuch.service.consul", TXT),
        ["NXDomain"]
    );
}

#[test]
fn old_answers_say_so_to_clients_that_can_read_it() {
    let mut asker = Asker::new(&mut Mall::open_by(SourceId::Disk));
    for name in ["web.service.consul", "nosuch.service.consul"] {
        let (reply, message) = asker.ask_bytes(name, A);
        assert!(
            reply.ends_with(&[0, 6, 0, 15, 0, 2, 0, 3]),
            "{name}: extended error 3"
        );
        assert!(message.metadata.authoritative);
    }
    let info = asker.words("_info.web.service.consul", TXT);
    assert!(info[0].contains("source=disk"), "{info:?}");
}

#[test]
fn a_change_of_the_zones_nodes_reaches_every_name() {
    let mut mall = Mall::open();
    let mut asker = Asker::new(&mut mall);
    let moved = node("edge-a", "Mall.1", &["10.0.0.7"]);
    mall.upsert(Object::Node(moved.clone()));
    mall.upsert(Object::OwnNode(moved));
    mall.writer.publish();
    asker.follow(&mut mall);
    let message = asker.ask("host-shop.service.consul", SRV);
    assert!(words(&message.answers)[0].ends_with("0a000001.addr.mall-1.consul."));
}
