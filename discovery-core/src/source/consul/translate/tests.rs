// SPDX-License-Identifier: MIT OR Apache-2.0
//! What instances are read as: addresses, checks, zones, hostile values.

use super::{super::wire, *};
use crate::model::Standing;
use proptest::prelude::*;
use serde_json::{Value, json};

fn dictionary(zone_from: &str) -> Dictionary {
    Dictionary {
        namespace: "default".into(),
        zone_from: zone_from.parse().unwrap(),
        tag: None,
    }
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

fn entry(id: &str) -> Value {
    json!({
        "Node": { "Node": "edge-a", "Address": "10.0.0.9", "Datacenter": "dc1", "Meta": { "zone": "mall-1" } },
        "Service": { "ID": id, "Service": "web", "Address": "10.0.0.1", "Port": 8080, "Tags": ["v1"],
                     "Meta": { "zone": "mall-2" }, "CreateIndex": 7 },
        "Checks": [{ "CheckID": "serfHealth", "Status": "passing" }],
    })
}

fn with(mut entry: Value, pointer: &str, value: Value) -> Value {
    *entry.pointer_mut(pointer).unwrap() = value;
    entry
}

fn read(dictionary: &Dictionary, entries: &[Value], before: Option<&Translated>) -> Translated {
    let body = serde_json::to_vec(entries).unwrap();
    dictionary.translate(&web(), wire::entries(&body).unwrap(), before)
}

fn endpoints(translated: &Translated) -> Vec<String> {
    let slices = translated.slices(&web());
    let text = |slice: &Slice, endpoint: &SliceEndpoint| {
        let port = slice.ports.first().map_or(0, |port| port.port.get());
        let ready = endpoint.conditions.standing() == Standing::Ready;
        let state = if ready { "ready" } else { "out" };
        format!("{}:{port} {state}", endpoint.address)
    };
    let of = |slice: &Slice| {
        slice
            .endpoints
            .iter()
            .map(|e| text(slice, e))
            .collect::<Vec<_>>()
    };
    slices.values().flat_map(of).collect()
}

#[test]
fn an_instance_is_an_endpoint_on_its_node() {
    let read = read(&dictionary("datacenter"), &[entry("web-1")], None);
    assert_eq!(endpoints(&read), ["10.0.0.1:8080 ready"]);
    let node = &read.nodes()[&NodeName::parse("edge-a").unwrap()];
    assert_eq!(node.zone.as_ref().unwrap().as_str(), "dc1");
    assert_eq!(node.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(read.service(&web()).ports[0].port.get(), 8080);
    assert!(read.problems.is_empty());
}

#[test]
fn the_node_lends_its_address_to_an_instance_without_one() {
    let entry = with(entry("web-1"), "/Service/Address", json!(""));
    let read = read(&dictionary("datacenter"), &[entry], None);
    assert_eq!(endpoints(&read), ["10.0.0.9:8080 ready"]);
}

#[test]
fn each_port_has_a_slice_of_its_own() {
    let other = with(entry("web-2"), "/Service/Port", json!(9090));
    let none = with(entry("web-3"), "/Service/Port", json!(0));
    let read = read(
        &dictionary("datacenter"),
        &[entry("web-1"), other, none],
        None,
    );
    let keys: Vec<_> = read
        .slices(&web())
        .into_keys()
        .map(|key| key.to_string())
        .collect();
    assert_eq!(
        keys,
        ["default/web-0", "default/web-8080", "default/web-9090"]
    );
}

#[test]
fn critical_and_maintenance_are_out_and_warning_is_in() {
    for (statuses, expected) in [
        (&[][..], "ready"),
        (&["passing", "warning"], "ready"),
        (&["passing", "critical"], "out"),
        (&["maintenance"], "out"),
    ] {
        let checks: Vec<_> = statuses
            .iter()
            .map(|s| json!({ "CheckID": "c", "Status": s }))
            .collect();
        let entry = with(entry("web-1"), "/Checks", json!(checks));
        let read = read(&dictionary("datacenter"), &[entry], None);
        assert_eq!(
            endpoints(&read),
            [format!("10.0.0.1:8080 {expected}")],
            "{statuses:?}"
        );
    }
}

#[test]
fn the_zone_is_read_where_the_configuration_says() {
    let zone = |from: &str, entry: Value| {
        let read = read(&dictionary(from), &[entry], None);
        let nodes: Vec<_> = read.nodes().into_values().collect();
        (
            nodes[0].name.to_string(),
            nodes[0].zone.as_ref().map(ToString::to_string),
        )
    };
    let of = |name: &str, zone: &str| (name.to_owned(), Some(zone.to_owned()));
    assert_eq!(zone("node-meta:zone", entry("w")), of("edge-a", "mall-1"));
    assert_eq!(
        zone("service-meta:zone", entry("w")),
        of("edge-a.mall-2", "mall-2")
    );
    assert_eq!(zone("node-meta:other", entry("w")), ("edge-a".into(), None));
    let no_meta = with(entry("w"), "/Node/Meta", json!(null));
    assert_eq!(zone("node-meta:zone", no_meta), ("edge-a".into(), None));
}

#[test]
fn instances_of_one_host_may_be_of_two_zones_by_their_own_meta() {
    for zone in ["mall-3", "Mall-2", "mall_2"] {
        let other = with(entry("web-2"), "/Service/Meta/zone", json!(zone));
        let read = read(
            &dictionary("service-meta:zone"),
            &[entry("web-1"), other],
            None,
        );
        assert_eq!(read.nodes().len(), 2, "{zone}");
    }
}

#[test]
fn hostile_values_are_refused_with_instance_and_field() {
    for (pointer, value, field) in [
        ("/Service/ID", json!(""), "Service.ID"),
        ("/Service/ID", json!("a\u{0}b"), "Service.ID"),
        ("/Service/ID", json!("x".repeat(300)), "Service.ID"),
        (
            "/Service/Address",
            json!("web.example.com"),
            "Service.Address",
        ),
        ("/Service/Port", json!(-1), "Service.Port"),
        ("/Service/Port", json!(65_536), "Service.Port"),
        ("/Service/Port", json!("http"), "entry"),
        ("/Node/Node", json!("../etc"), "Node.Node"),
        ("/Node/Node", json!(7), "entry"),
        ("/Node/Datacenter", json!("a b"), "Node.Datacenter"),
        ("/Checks/0/Status", json!("fine"), "Checks.Status"),
        ("/Checks", json!({}), "entry"),
    ] {
        let bad = with(entry("web-1"), pointer, value);
        let read = read(&dictionary("datacenter"), &[bad, entry("web-2")], None);
        assert_eq!(
            endpoints(&read),
            ["10.0.0.1:8080 ready"],
            "{pointer}: the other one stays"
        );
        assert_eq!(read.problems.len(), 1, "{pointer}");
        let place = &read.problems[0].place;
        assert!(place.ends_with(&format!(", {field}")), "{pointer}: {place}");
        assert!(!place.contains('\u{0}') && place.len() < 300, "{place}");
    }
}

#[test]
fn the_last_good_version_of_an_instance_stays() {
    let dictionary = dictionary("datacenter");
    let good = read(&dictionary, &[entry("web-1")], None);
    let bad = with(entry("web-1"), "/Service/Port", json!("http"));
    let now = read(&dictionary, &[bad], Some(&good));
    assert_eq!(endpoints(&now), ["10.0.0.1:8080 ready"]);
    assert_eq!(now.problems.len(), 1);
    assert!(
        read(&dictionary, &[], Some(&good)).is_empty(),
        "one that is not listed is gone"
    );
}

#[test]
fn proxies_and_instances_without_the_tag_are_none_of_ours() {
    let mut proxy = entry("web-proxy");
    proxy["Service"]["Kind"] = json!("connect-proxy");
    assert!(read(&dictionary("datacenter"), &[proxy], None).is_empty());
    let tagged = Dictionary {
        tag: Some("v2".into()),
        ..dictionary("datacenter")
    };
    let v2 = with(entry("web-2"), "/Service/Tags", json!(["v1", "v2"]));
    assert_eq!(
        endpoints(&read(&tagged, &[entry("web-1"), v2], None)).len(),
        1
    );
}

#[test]
fn two_hosts_may_use_one_id() {
    let other = with(entry("web"), "/Node/Node", json!("edge-b"));
    let other = with(other, "/Service/Address", json!("10.0.0.2"));
    let read = read(&dictionary("datacenter"), &[entry("web"), other], None);
    let slices = read.slices(&web());
    let endpoints = slices.values().flat_map(|slice| &slice.endpoints);
    let names: BTreeSet<_> = endpoints
        .map(|e| e.target.as_ref().unwrap().name.to_string())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn names_are_read_without_case() {
    let dictionary = dictionary("datacenter");
    assert_eq!(
        dictionary.service("Web").unwrap().to_string(),
        "default/web"
    );
    for bad in ["", "a_b", "a.b", "ä", "a b"] {
        assert!(dictionary.service(bad).is_err(), "{bad:?}");
    }
    let upper = with(entry("web"), "/Node/Node", json!("EDGE-A"));
    let read = read(&dictionary, &[upper], None);
    assert_eq!(read.nodes().into_keys().next().unwrap().as_str(), "edge-a");
}

fn any_entry() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("web".to_owned()),
        "\\PC{0,12}",
        Just("10.0.0.1".to_owned())
    ];
    let port = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        Just(json!("x")),
        Just(json!(80))
    ];
    (text.clone(), text.clone(), text.clone(), text, port).prop_map(
        |(node, id, address, status, port)| {
            json!({ "Node": { "Node": node, "Address": address, "Datacenter": node },
                "Service": { "ID": id, "Address": address, "Port": port },
                "Checks": [{ "Status": status }] })
        },
    )
}

proptest! {
    /// Whatever is read, nothing panics, every refused entry is told, and the order of entries does not matter.
    #[test]
    fn any_answer_is_read_in_any_order(entries in prop::collection::vec(any_entry(), 0..6)) {
        let dictionary = dictionary("datacenter");
        let one = read(&dictionary, &entries, None);
        prop_assert!(one.instances.len() + one.problems.len() <= entries.len());
        let mut keys: Vec<_> = entries.iter().map(|e| (e["Node"]["Node"].clone(), e["Service"]["ID"].clone())).collect();
        let all = keys.len();
        keys.sort_by_key(|(node, id)| format!("{node} {id}"));
        keys.dedup();
        if keys.len() == all {
            let reversed: Vec<_> = entries.iter().rev().cloned().collect();
            prop_assert_eq!(one, read(&dictionary, &reversed, None));
        }
    }
}
