// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hostile and odd objects: what is kept of them, and what is said of the rest.

use super::*;
use crate::model::{
    Affinity, Balancing, Conditions, Front, HashOn, LoadFactor, NodeReadiness, Placement,
    PlacementWish, Protocol, ProxyProtocol, ServiceKind, SlowStart, SpillBelow, TopologyMode,
    TrafficDistribution, TrafficPolicy, WithoutKey, ZonePolicy,
};
use serde_json::json;

fn read(format: Format, value: Value) -> Reading {
    read_value(format, value, &ZoneKeys::default(), &mut Names::default())
}

fn slice(rest: Value) -> Reading {
    let mut value = json!({
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [],
    });
    merge(&mut value, rest);
    read(Format::EndpointSlice, value)
}

fn node(labels: &Value, addresses: &Value) -> Reading {
    let value =
        json!({"metadata": {"name": "n1", "labels": labels}, "status": {"addresses": addresses}});
    read(Format::Node, value)
}

fn service(rest: Value) -> Reading {
    let mut value = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"ports": [{"port": 80}]}});
    merge(&mut value, rest);
    read(Format::Service, value)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The reading in one line: the addresses, `ports`, then the places of the flaws.
fn summary(reading: &Reading) -> String {
    let mut parts: Vec<String> = Vec::new();
    for object in &reading.objects {
        let Object::Slice(slice) = object else {
            continue;
        };
        parts.extend(slice.endpoints.iter().map(|e| e.address.to_string()));
        parts.extend(
            slice
                .ports
                .iter()
                .map(|p| format!("{:?}:{}", p.name, p.port)),
        );
    }
    if reading.refused {
        parts.push("refused".into());
    }
    parts.extend(reading.flaws.iter().map(|flaw| format!("!{}", flaw.place)));
    parts.join(" ")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn hostile_slices_keep_what_is_good_and_name_the_rest() {
    let good = json!({"addresses": ["10.0.0.1"]});
    let long = "z".repeat(64 * 1024);
    let with = |endpoint: Value| json!({"endpoints": [good, endpoint]});
    let ports = |ports: Value| json!({"ports": ports, "endpoints": [good]});
    let meta = |meta: Value| json!({"metadata": meta, "endpoints": [good]});
    for (case, rest, expected) in [
        (
            "null endpoints",
            json!({"endpoints": null}),
            r#""http":8080"#,
        ),
        ("no endpoints", json!({"endpoints": []}), r#""http":8080"#),
        (
            "a null endpoint",
            with(json!(null)),
            r#"10.0.0.1 "http":8080 !endpoints[1]"#,
        ),
        (
            "an empty endpoint",
            with(json!({})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses"#,
        ),
        (
            "null addresses",
            with(json!({"addresses": null})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses"#,
        ),
        (
            "no address",
            with(json!({"addresses": []})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses"#,
        ),
        (
            "a null address",
            with(json!({"addresses": [null]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses"#,
        ),
        (
            "text for a list",
            with(json!({"addresses": "10.0.0.2"})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses"#,
        ),
        (
            "number for an address",
            with(json!({"addresses": [7]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses[0]"#,
        ),
        (
            "an endpoint that is text",
            with(json!("x")),
            r#"10.0.0.1 "http":8080 !endpoints[1]"#,
        ),
        (
            "a host name",
            with(json!({"addresses": ["web.example"]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses[0]"#,
        ),
        (
            "leading zeros",
            with(json!({"addresses": ["010.0.0.1"]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses[0]"#,
        ),
        (
            "a scoped address",
            with(json!({"addresses": ["fe80::1%eth0"]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses[0]"#,
        ),
        (
            "a port in the address",
            with(json!({"addresses": ["10.0.0.2:80"]})),
            r#"10.0.0.1 "http":8080 !endpoints[1].addresses[0]"#,
        ),
        (
            "only the first address counts",
            with(json!({"addresses": ["10.0.0.2", "bad"]})),
            r#"10.0.0.1 10.0.0.2 "http":8080"#,
        ),
        (
            "a mapped address",
            with(json!({"addresses": ["::ffff:10.0.0.3"]})),
            r#"10.0.0.1 10.0.0.3 "http":8080"#,
        ),
        (
            "IPv6",
            with(json!({"addresses": ["FD00::A"]})),
            r#"10.0.0.1 fd00::a "http":8080"#,
        ),
        (
            "the same address twice",
            with(good.clone()),
            r#"10.0.0.1 10.0.0.1 "http":8080"#,
        ),
        (
            "conditions of a wrong type",
            with(json!({"addresses": ["10.0.0.2"], "conditions": {"ready": "yes"}})),
            r#"10.0.0.1 "http":8080 !endpoints[1].conditions.ready"#,
        ),
        (
            "a bad node name",
            with(json!({"addresses": ["10.0.0.2"], "nodeName": "Node_1"})),
            r#"10.0.0.1 "http":8080 !endpoints[1].nodeName"#,
        ),
        (
            "a long node name",
            with(json!({"addresses": ["10.0.0.2"], "nodeName": long})),
            r#"10.0.0.1 "http":8080 !endpoints[1].nodeName"#,
        ),
        (
            "a bad pod name",
            with(
                json!({"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod", "name": "a\u{0}b"}}),
            ),
            r#"10.0.0.1 10.0.0.2 "http":8080 !endpoints[1].targetRef.name"#,
        ),
        (
            "a pod without a name",
            with(json!({"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod"}})),
            r#"10.0.0.1 10.0.0.2 "http":8080 !endpoints[1].targetRef.name"#,
        ),
        (
            "a target that is no pod",
            with(json!({"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "\n"}})),
            r#"10.0.0.1 10.0.0.2 "http":8080"#,
        ),
        (
            "unknown fields",
            with(
                json!({"addresses": ["10.0.0.2"], "hints": {"forZones": [{"name": "x"}]}, "new": [1, {}]}),
            ),
            r#"10.0.0.1 10.0.0.2 "http":8080"#,
        ),
        ("null ports", ports(json!(null)), "10.0.0.1"),
        ("no ports", ports(json!([])), "10.0.0.1"),
        (
            "a null port",
            ports(json!([null, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "b":2 !ports[0]"#,
        ),
        (
            "a port without a number",
            ports(json!([{"name": "a"}, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "b":2 !ports[0].port"#,
        ),
        (
            "port 0",
            ports(json!([{"name": "a", "port": 0}, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "b":2 !ports[0].port"#,
        ),
        (
            "port 65536",
            ports(json!([{"name": "a", "port": 65536}, {"name": "b", "port": 65535}])),
            r#"10.0.0.1 "b":65535 !ports[0].port"#,
        ),
        (
            "a negative port",
            ports(json!([{"name": "a", "port": -1}])),
            "10.0.0.1 !ports[0].port",
        ),
        (
            "half a port",
            ports(json!([{"name": "a", "port": 80.5}, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "b":2 !ports[0].port"#,
        ),
        (
            "a port that is text",
            ports(json!([{"name": "a", "port": "80"}, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "b":2 !ports[0].port"#,
        ),
        (
            "one port without a name",
            ports(json!([{"port": 80}])),
            r#"10.0.0.1 "":80"#,
        ),
        (
            "two ports, one without a name",
            ports(json!([{"port": 80}, {"name": "b", "port": 2}])),
            r#"10.0.0.1 "":80 "b":2"#,
        ),
        (
            "two ports of one name",
            ports(json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}])),
            r#"10.0.0.1 "a":80 !ports[1].name"#,
        ),
        (
            "an odd port name",
            ports(json!([{"name": "a b\n", "port": 80}])),
            "10.0.0.1 !ports[0].name",
        ),
        (
            "an unknown protocol",
            ports(json!([{"name": "a", "port": 80, "protocol": "HTTP"}])),
            "10.0.0.1 !ports[0].protocol",
        ),
        (
            "FQDN",
            json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}),
            r#""http":8080 !addressType"#,
        ),
        (
            "no address type",
            json!({"addressType": null, "endpoints": [good]}),
            r#"10.0.0.1 "http":8080"#,
        ),
        (
            "a list for a slice's endpoints",
            json!({"endpoints": {"addresses": []}}),
            "refused !endpoints",
        ),
        (
            "labels of a wrong type",
            meta(json!({"labels": {"a": 1}})),
            "refused !metadata.labels.a",
        ),
        (
            "a name of a wrong type",
            meta(json!({"name": ["a"]})),
            "refused !metadata.name",
        ),
        (
            "a bad name",
            meta(json!({"name": "Web_1"})),
            "refused !metadata.name",
        ),
        (
            "a bad service name",
            meta(json!({"labels": {"kubernetes.io/service-name": "*"}})),
            "refused !metadata.labels[kubernetes.io/service-name]",
        ),
        (
            "a long service name",
            meta(json!({"labels": {"kubernetes.io/service-name": long}})),
            "refused !metadata.labels[kubernetes.io/service-name]",
        ),
        (
            "a foreign slice",
            meta(json!({"labels": {"kubernetes.io/service-name": null}})),
            "",
        ),
    ] {
        let reading = slice(rest);
        assert_eq!(summary(&reading), expected, "{case}: {:?}", reading.flaws);
        for flaw in &reading.flaws {
            assert!(flaw.reason.len() < 400, "{case}: {}", flaw.reason.len());
        }
    }
}

#[test]
fn what_is_no_object_at_all_is_refused() {
    for format in [
        Format::Node,
        Format::Service,
        Format::EndpointSlice,
        Format::Endpoints,
    ] {
        for value in [json!(3), json!("x"), json!({"metadata": 7}), json!([[[]]])] {
            let reading = read(format, value.clone());
            assert!(reading.refused, "{format:?} {value}");
            assert!(!reading.flaws.is_empty(), "{format:?} {value}");
        }
    }
}

#[test]
fn a_slice_announces_the_end_of_its_endpoints_when_each_says_whether_it_is_terminating() {
    let (said, unsaid) = (
        json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true, "terminating": false}}),
        json!({"addresses": ["10.0.0.2"], "conditions": {"ready": true}}),
    );
    for (endpoints, expected) in [
        (json!([said]), true),
        (json!([said, unsaid]), false),
        (json!([unsaid]), false),
        (json!([]), false),
    ] {
        let reading = slice(json!({"endpoints": endpoints}));
        let Object::Slice(slice) = &reading.objects[0] else {
            panic!("no slice")
        };
        assert_eq!(slice.announces_end, expected, "{endpoints}");
    }
}

#[test]
fn conditions_take_the_defaults_of_the_api() {
    for (conditions, expected) in [
        (json!(null), Conditions::from_api(None, None, None)),
        (json!({}), Conditions::from_api(None, None, None)),
        (
            json!({"ready": null}),
            Conditions::from_api(None, None, None),
        ),
        (
            json!({"ready": false}),
            Conditions::from_api(Some(false), None, None),
        ),
        (
            json!({"ready": false, "serving": true, "terminating": true}),
            Conditions::from_api(Some(false), Some(true), Some(true)),
        ),
    ] {
        let reading =
            slice(json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}));
        let Object::Slice(slice) = &reading.objects[0] else {
            panic!("no slice")
        };
        assert_eq!(slice.endpoints[0].conditions, expected, "{conditions}");
    }
}

#[test]
fn the_node_comes_from_node_name_or_from_the_topology_of_v1beta1() {
    for (endpoint, expected) in [
        (json!({"nodeName": "n1"}), Some("n1")),
        (
            json!({"topology": {"kubernetes.io/hostname": "n2"}}),
            Some("n2"),
        ),
        (
            json!({"nodeName": "n1", "topology": {"kubernetes.io/hostname": "n2"}}),
            Some("n1"),
        ),
        (json!({"nodeName": "", "zone": "mall-1"}), None),
        (
            json!({"topology": {"topology.kubernetes.io/zone": "mall-1"}}),
            None,
        ),
    ] {
        let mut endpoint = endpoint;
        merge(&mut endpoint, json!({"addresses": ["10.0.0.1"]}));
        let reading = slice(json!({"endpoints": [endpoint]}));
        let Object::Slice(slice) = &reading.objects[0] else {
            panic!("no slice")
        };
        let node = slice.endpoints[0].node.as_ref().map(NodeName::as_str);
        assert_eq!((node, reading.flaws.len()), (expected, 0));
    }
}

#[test]
fn a_slice_may_hold_more_than_the_api_allows_and_flaws_stay_bounded() {
    let endpoints: Vec<Value> = (0..1001)
        .map(|n| json!({"addresses": [if n == 0 { json!("10.0.0.1") } else { json!(n) }]}))
        .collect();
    let reading = slice(json!({"endpoints": endpoints}));
    assert!(reading.flaws.len() < 40);
    assert!(summary(&reading).starts_with("10.0.0.1 "));
    let good: Vec<Value> = (0..1001)
        .map(|n| json!({"addresses": [format!("10.0.{}.{}", n / 250, n % 250)]}))
        .collect();
    let Object::Slice(slice) = &slice(json!({"endpoints": good})).objects[0] else {
        panic!("no slice")
    };
    assert_eq!(slice.endpoints.len(), 1001);
}

#[test]
fn a_zone_that_is_none_is_refused_with_its_label() {
    let key = "topology.kubernetes.io/zone";
    for bad in ["", " ", "mall 1", "*", "zöne", "-a", &"z".repeat(64 * 1024)] {
        let reading = node(&json!({key: bad}), &json!(null));
        let Object::Node(node) = &reading.objects[0] else {
            panic!("no node")
        };
        assert_eq!(node.zone, None, "{bad:?}");
        assert_eq!(reading.flaws[0].place, format!("metadata.labels[{key}]"));
        assert!(reading.flaws[0].reason.len() < 400);
    }
    let reading = node(&json!({key: "mall-1"}), &json!(null));
    assert_eq!(
        reading.zone_key.map(|key| key.to_string()).as_deref(),
        Some(key)
    );
}

#[test]
fn a_node_has_its_internal_addresses() {
    let reading = node(
        &json!({}),
        &json!([
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.168.1.7"},
            {"type": "ExternalIP", "address": "8.8.8.8"},
            {"type": "InternalIP", "address": "bad"},
            {"type": "InternalIP"},
            {"type": 7},
            null,
            {"type": "InternalIP", "address": "fd00::7"},
        ]),
    );
    let Object::Node(node) = &reading.objects[0] else {
        panic!("no node")
    };
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.168.1.7", "fd00::7"]);
    let places: Vec<_> = reading
        .flaws
        .iter()
        .map(|flaw| flaw.place.as_str())
        .collect();
    assert_eq!(
        places,
        [
            "status.addresses[5].type",
            "status.addresses[3].address",
            "status.addresses[4].address",
            "status.addresses[6]",
        ]
    );
}

#[test]
fn a_service_tells_what_it_asks_of_us() {
    let reading = service(json!({
        "metadata": {
            "labels": {"service.kubernetes.io/service-proxy-name": "zonal"},
            "annotations": {"zonal.dev/zone-policy": "prefer", "zonal.dev/host-port": "8080"},
        },
        "spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]},
    }));
    let Object::Service(service) = &reading.objects[0] else {
        panic!("no service")
    };
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.zone_policy, Some(ZonePolicy::Prefer));
    assert!(service.owns_node_ports);
    assert_eq!(service.host_port.map(|port| port.0.get()), Some(8080));
    assert_eq!(service.ports[0].protocol, Protocol::Udp);
    assert_eq!(
        service.ports[0].node_port.map(std::num::NonZeroU16::get),
        Some(30053)
    );
}

#[test]
fn a_service_tells_how_it_wants_to_be_fronted() {
    let front = |rest: Value| match &service(rest).objects[0] {
        Object::Service(service) => service.front.clone(),
        _ => panic!("no service"),
    };
    assert!(front(json!({})).is_default());
    let all = front(json!({
        "metadata": {
            "deletionTimestamp": "2026-11-25T00:00:00Z",
            "annotations": {
                "zonal.dev/hash-on": "source-ip-port", "zonal.dev/proxy-protocol": "v2",
                "zonal.dev/proxy-idle-seconds": "90", "zonal.dev/proxy-udp-replies": "1",
            },
        },
        "spec": {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000},
    }));
    assert_eq!(
        all,
        Front {
            traffic_policy: TrafficPolicy::Local,
            health_port: std::num::NonZeroU16::new(31_000),
            is_deleting: true,
            affinity: Affinity::SourcePort,
            proxy_protocol: Some(ProxyProtocol::V2),
            idle_seconds: std::num::NonZeroU32::new(90),
            udp_replies: Some(1),
        }
    );
    let sticky = front(json!({
        "metadata": {"annotations": {"zonal.dev/hash-on": "none"}},
        "spec": {"sessionAffinity": "ClientIP"},
    }));
    assert_eq!(sticky.affinity, Affinity::Source);
}

#[test]
fn a_service_tells_how_it_is_to_be_picked() {
    let reading = service(json!({"metadata": {"annotations": {
        "zonal.dev/hash-on": "source-ip-port",
        "zonal.dev/hash-algorithm": "maglev",
        "zonal.dev/balance": "ewma",
        "zonal.dev/bounded-load": "1.25",
        "zonal.dev/slow-start": "30s",
        "zonal.dev/spill-below": "70",
        "zonal.dev/weights": "web-canary-*=10",
    }}}));
    let Object::Service(service) = &reading.objects[0] else {
        panic!("no service")
    };
    let asked = Balancing {
        hash_on: Some(HashOn::SourceIpPort),
        placement: PlacementWish::Known(Placement::MaglevV1),
        without_key: WithoutKey::Ewma,
        load_factor: LoadFactor::new(125),
        slow_start: SlowStart::new(30),
        spill_below: SpillBelow::new(70),
        weights: "web-canary-*=10".parse().unwrap(),
    };
    assert_eq!((&service.balancing, reading.flaws.len()), (&asked, 0));
}

#[test]
fn a_bad_wish_about_picking_is_named_and_an_unknown_placement_is_kept() {
    for (key, value) in [
        ("hash-on", "cookie"),
        ("balance", "fastest"),
        ("bounded-load", "0.5"),
        ("slow-start", "soon"),
        ("spill-below", "1000"),
        ("weights", "web=4294967296"),
        ("hash-algorithm", "ring/v2"),
    ] {
        let key = format!("zonal.dev/{key}");
        let reading = service(json!({"metadata": {"annotations": {&key: value}}}));
        assert_eq!(
            reading.flaws[0].place,
            format!("metadata.annotations[{key}]")
        );
        let Object::Service(service) = &reading.objects[0] else {
            panic!("no service")
        };
        let expected = Balancing {
            placement: if value == "ring/v2" {
                value.into()
            } else {
                PlacementWish::default()
            },
            ..Balancing::default()
        };
        assert_eq!(service.balancing, expected, "{key}");
    }
}

#[test]
fn bad_wishes_of_a_service_are_named_and_the_rest_is_kept() {
    let annotated = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    for (rest, place) in [
        (
            annotated("zonal.dev/zone-policy", json!("Strict")),
            "metadata.annotations[zonal.dev/zone-policy]",
        ),
        (
            annotated("zonal.dev/zone-policy", json!("")),
            "metadata.annotations[zonal.dev/zone-policy]",
        ),
        (
            annotated("zonal.dev/host-port", json!("0")),
            "metadata.annotations[zonal.dev/host-port]",
        ),
        (
            annotated("zonal.dev/host-port", json!("65536")),
            "metadata.annotations[zonal.dev/host-port]",
        ),
        (
            annotated("zonal.dev/host-port", json!("http")),
            "metadata.annotations[zonal.dev/host-port]",
        ),
        (
            annotated("zonal.dev/proxy-protocol", json!("v3")),
            "metadata.annotations[zonal.dev/proxy-protocol]",
        ),
        (
            annotated("zonal.dev/proxy-idle-seconds", json!("0")),
            "metadata.annotations[zonal.dev/proxy-idle-seconds]",
        ),
        (
            annotated("zonal.dev/proxy-udp-replies", json!("-1")),
            "metadata.annotations[zonal.dev/proxy-udp-replies]",
        ),
        (
            json!({"spec": {"ports": [{"port": 80, "nodePort": 70000}]}}),
            "spec.ports[0].nodePort",
        ),
        (
            json!({"spec": {"ports": [{"port": 80, "nodePort": "x"}]}}),
            "spec.ports[0].nodePort",
        ),
    ] {
        let reading = service(rest);
        assert_eq!(reading.flaws[0].place, place);
        assert_eq!(reading.objects.len(), 1, "{place}");
    }
    let wrong = service(annotated("zonal.dev/host-port", json!(8080)));
    assert!(wrong.refused);
    assert_eq!(
        wrong.flaws[0].place,
        "metadata.annotations[zonal.dev/host-port]"
    );
}

#[test]
fn each_subset_of_endpoints_is_a_slice() {
    let reading = read(
        Format::Endpoints,
        json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "subsets": [
                {
                    "addresses": [{"ip": "10.0.0.1", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-0"}}],
                    "notReadyAddresses": [{"ip": "10.0.0.2"}, {"ip": "bad"}],
                    "ports": [{"port": 80}],
                },
                null,
                {"addresses": null, "ports": null},
            ],
        }),
    );
    let slices: Vec<_> = reading
        .objects
        .iter()
        .map(|object| match object {
            Object::Slice(slice) => slice,
            _ => panic!("no slice"),
        })
        .collect();
    assert_eq!(slices.len(), 2);
    assert_eq!(slices[0].key.to_string(), "shop/web-endpoints-0");
    assert_eq!(slices[0].service.to_string(), "shop/web");
    let ready: Vec<bool> = slices[0]
        .endpoints
        .iter()
        .map(|e| e.conditions.ready)
        .collect();
    assert_eq!(ready, [true, false]);
    let places: Vec<_> = reading
        .flaws
        .iter()
        .map(|flaw| flaw.place.as_str())
        .collect();
    assert_eq!(places, ["subsets[0].notReadyAddresses[1].ip", "subsets[1]"]);
}

#[test]
fn names_that_go_to_logs_are_short_and_plain() {
    let name = format!("a\nb\u{7}{}", "x".repeat(100_000));
    let reading = read(Format::Service, json!({"metadata": {"name": name}}));
    assert!(reading.name.len() < 600);
    assert!(!reading.name.contains(char::is_control));
}

fn scope_of(metadata: &Value) -> (Option<String>, Vec<String>) {
    let reading = service(json!({"metadata": metadata}));
    let Object::Service(service) = &reading.objects[0] else {
        panic!("no service")
    };
    let places = reading.flaws.iter().map(|flaw| flaw.place.clone());
    (
        service.scope.as_ref().map(ToString::to_string),
        places.collect(),
    )
}

#[test]
fn what_is_near_for_a_service_is_asked_in_order_of_rank() {
    let ours = json!({"zonal.dev/zone-key": "site", "topologyKeys": "[\"a\"]"});
    let grid = json!({"superedge.io/grid-uniq-key": "grid"});
    let keys = |text: &str| json!({"annotations": {"topologyKeys": text}});
    let pool = |text: &str| json!({"annotations": {"openyurt.io/topologyKeys": text}});
    for (metadata, expected) in [
        (json!({}), None),
        (json!({"annotations": ours, "labels": grid}), Some("site")),
        (
            json!({"labels": grid, "annotations": {"topologyKeys": "[\"a\"]"}}),
            Some("grid"),
        ),
        (
            keys(r#"["zone1", "kubernetes.io/hostname"]"#),
            Some("kubernetes.io/hostname or zone1"),
        ),
        (keys("[]"), None),
        (
            json!({"annotations": {"topologyKeys": "[]", "openyurt.io/topologyKeys": "openyurt.io/nodepool"}}),
            Some("apps.openyurt.io/nodepool"),
        ),
        (
            pool("kubernetes.io/hostname"),
            Some("kubernetes.io/hostname"),
        ),
        (
            pool("kubernetes.io/zone"),
            Some("apps.openyurt.io/nodepool"),
        ),
        (pool(""), None),
    ] {
        let (scope, flaws) = scope_of(&metadata);
        assert_eq!(scope.as_deref(), expected, "{metadata}");
        assert!(flaws.is_empty(), "{metadata}: {flaws:?}");
    }
}

#[test]
fn a_boundary_that_cannot_be_read_closes_and_is_named() {
    for (key, text) in [
        ("zonal.dev/zone-key", "a b"),
        ("zonal.dev/zone-key", "*"),
        ("topologyKeys", "not json"),
        ("topologyKeys", r#"{"a": 1}"#),
        ("topologyKeys", r"[1]"),
        ("topologyKeys", r#"["*"]"#),
        ("topologyKeys", &format!("[{}", "[".repeat(100_000))),
        ("openyurt.io/topologyKeys", "region"),
    ] {
        let (scope, flaws) = scope_of(&json!({"annotations": {key: text}}));
        assert_eq!(scope.as_deref(), Some("nothing"), "{key}");
        assert_eq!(flaws, [format!("metadata.annotations[{key}]")]);
    }
}

#[test]
fn a_service_tells_its_kind_and_its_preferences() {
    let reading = service(json!({
        "metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "publishNotReadyAddresses": true,
                 "trafficDistribution": "PreferClose"},
    }));
    let Object::Service(service) = &reading.objects[0] else {
        panic!("no service")
    };
    assert!(service.has_selector && service.publish_not_ready);
    assert_eq!(
        service.traffic_distribution,
        Some(TrafficDistribution::SameZone)
    );
    assert_eq!(service.kind, ServiceKind::Headless);
    assert_eq!(service.topology_mode, Some(TopologyMode::Auto));
    for (spec, name, place) in [
        (
            json!({"type": "ExternalName", "externalName": "db.example"}),
            Some("db.example"),
            None,
        ),
        (
            json!({"type": "ExternalName", "externalName": "a b"}),
            None,
            Some("spec.externalName"),
        ),
        (json!({"externalName": "db.example"}), None, None),
        (
            json!({"trafficDistribution": "Far"}),
            None,
            Some("spec.trafficDistribution"),
        ),
    ] {
        let reading = self::service(json!({"spec": spec}));
        let Object::Service(service) = &reading.objects[0] else {
            panic!("no service")
        };
        let external = match &service.kind {
            ServiceKind::ExternalName(name) => Some(&**name),
            _ => None,
        };
        assert_eq!(external, name, "{spec}");
        assert_eq!(
            reading.flaws.first().map(|flaw| &*flaw.place),
            place,
            "{spec}"
        );
    }
}

#[test]
fn a_node_tells_its_zone_under_every_key_and_whether_it_is_heard_of() {
    let reading = read(
        Format::Node,
        json!({
            "metadata": {"name": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z",
                         "labels": {"site": "mall-1", "empty": "", "feature.node.kubernetes.io/cpu": "x"}},
            "spec": {"taints": [null, {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        }),
    );
    let Object::Node(node) = &reading.objects[0] else {
        panic!("no node")
    };
    let labels: Vec<_> = node
        .labels
        .iter()
        .map(|(key, zone)| format!("{key}={zone}"))
        .collect();
    assert_eq!(labels, ["site=mall-1"]);
    assert!(node.is_unreachable && node.is_deleting);
    for (conditions, expected) in [
        (
            json!([{"type": "Ready", "status": "True"}]),
            NodeReadiness::Ready,
        ),
        (
            json!([{"type": "Ready", "status": "False"}]),
            NodeReadiness::NotReady,
        ),
        (
            json!([{"type": "Ready", "status": "Maybe"}]),
            NodeReadiness::Unknown,
        ),
        (json!([{"type": 7}, null]), NodeReadiness::Unknown),
        (json!(null), NodeReadiness::Unknown),
    ] {
        let value = json!({"metadata": {"name": "n1"}, "status": {"conditions": conditions}});
        let reading = read(Format::Node, value);
        let Object::Node(node) = &reading.objects[0] else {
            panic!("no node")
        };
        assert_eq!(node.readiness, expected, "{conditions}");
    }
}

#[test]
fn an_endpoint_tells_its_stated_zone_its_hints_and_its_host_name() {
    let nine: Vec<Value> = (0..9).map(|n| json!({"name": format!("z{n}")})).collect();
    for (endpoint, expected, place) in [
        (
            json!({"zone": "mall-1", "hostname": "web-0"}),
            "mall-1 [] [] web-0",
            None,
        ),
        (
            json!({"topology": {"topology.kubernetes.io/zone": "mall-2"}}),
            "mall-2 [] [] -",
            None,
        ),
        (json!({"zone": "", "hostname": ""}), "- [] [] -", None),
        (
            json!({"zone": "mall 1"}),
            "- [] [] -",
            Some("endpoints[0].zone"),
        ),
        (
            json!({"hostname": "A_b"}),
            "- [] [] -",
            Some("endpoints[0].hostname"),
        ),
        (
            json!({"hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]}}),
            "- [a b] [n1] -",
            None,
        ),
        (json!({"hints": {"forZones": null}}), "- [] [] -", None),
        (json!({"hints": 7}), "- [] [] -", Some("endpoints[0].hints")),
        (
            json!({"hints": {"forZones": "a"}}),
            "- [] [] -",
            Some("endpoints[0].hints.forZones"),
        ),
        (
            json!({"hints": {"forZones": [{}]}}),
            "- [] [] -",
            Some("endpoints[0].hints.forZones"),
        ),
        (
            json!({"hints": {"forZones": nine}}),
            "- [] [] -",
            Some("endpoints[0].hints.forZones"),
        ),
        (
            json!({"hints": {"forNodes": [{"name": "N_1"}]}}),
            "- [] [] -",
            Some("endpoints[0].hints.forNodes"),
        ),
    ] {
        let mut endpoint = endpoint;
        merge(&mut endpoint, json!({"addresses": ["10.0.0.1"]}));
        let reading = slice(json!({"endpoints": [endpoint]}));
        let Object::Slice(slice) = &reading.objects[0] else {
            panic!("no slice")
        };
        let told = &slice.endpoints[0];
        let hints = told.hints.as_deref().cloned().unwrap_or_default();
        let words = |names: Vec<String>| names.join(" ");
        let told = format!(
            "{} [{}] [{}] {}",
            told.zone.as_ref().map_or("-", crate::model::Zone::as_str),
            words(hints.zones.iter().map(ToString::to_string).collect()),
            words(hints.nodes.iter().map(ToString::to_string).collect()),
            told.hostname.as_deref().unwrap_or("-"),
        );
        assert_eq!(told, expected, "{endpoint}");
        assert_eq!(
            reading.flaws.first().map(|flaw| &*flaw.place),
            place,
            "{endpoint}"
        );
    }
}

#[test]
fn a_slice_may_name_the_zone_of_its_endpoints() {
    let zone = "zonal.dev/zone";
    for (metadata, expected, place) in [
        (json!({"labels": {zone: "mall-1"}}), Some("mall-1"), None),
        (
            json!({"annotations": {zone: "mall-2"}}),
            Some("mall-2"),
            None,
        ),
        (
            json!({"labels": {zone: "mall-1"}, "annotations": {zone: "mall-2"}}),
            Some("mall-1"),
            None,
        ),
        (
            json!({"annotations": {zone: "mall 1"}}),
            None,
            Some("metadata.annotations[zonal.dev/zone]"),
        ),
    ] {
        let reading = slice(json!({"metadata": metadata}));
        let Object::Slice(slice) = &reading.objects[0] else {
            panic!("no slice")
        };
        assert_eq!(
            slice.zone.as_ref().map(crate::model::Zone::as_str),
            expected
        );
        assert_eq!(reading.flaws.first().map(|flaw| &*flaw.place), place);
    }
    let reading = slice(json!({"metadata": {"resourceVersion": "42"}}));
    assert!(matches!(&reading.objects[0], Object::Slice(slice) if slice.version == 42));
}
