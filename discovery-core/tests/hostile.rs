// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects as nobody should write them: each with what exactly becomes of it.
//!
//! Every case changes one object of a small, good cluster and tells it as a watch would. What can be read of it counts,
//! what cannot is named with kind, namespace, name and field, counted and shown, and an object that is refused as a whole
//! leaves its last good version in force.

mod mall;

use discovery_core::{
    model::ZoneKeys,
    source::ManifestContent,
    store::{Kind, ServiceView, Tier, Update},
};
use mall::{Mall, OWN, SOURCE, name};
use serde_json::{Value, json};

fn endpoint(pod: &str, address: &str) -> Value {
    json!({
        "addresses": [address], "nodeName": OWN,
        "targetRef": {"kind": "Pod", "name": pod, "uid": format!("uid-{pod}")},
    })
}

/// The good object of the kind that a case changes.
fn good(kind: &str) -> Value {
    match kind {
        "node" => json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": OWN, "labels": {"topology.kubernetes.io/zone": "mall-1"}},
        }),
        "service" => json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web"}, "spec": {"ports": [{"port": 80}]},
        }),
        _ => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [endpoint("good", "10.0.0.1"), endpoint("bad", "10.0.0.2")],
        }),
    }
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

/// The object of a case.
fn bad(kind: &str, patch: &str) -> Value {
    let crowd: Vec<Value> = (0..1_001)
        .map(|n| {
            endpoint(
                &format!("pod-{n:04}"),
                &format!("10.1.{}.{}", n / 250, n % 250 + 1),
            )
        })
        .collect();
    let many: Vec<Value> = (0..1_000)
        .map(|n| json!({"name": format!("z{n}")}))
        .collect();
    let patch = patch
        .replace("LONG", &format!("{:?}", "z".repeat(64 * 1024)))
        .replace("MANY", &json!(many).to_string())
        .replace("CROWD", &json!(crowd).to_string())
        .replace("BRACKETS", &format!("{:?}", "[".repeat(64 * 1024)))
        .replace("DEEP", &format!("{}{}", "[".repeat(100), "]".repeat(100)));
    let patch: Value = serde_json::from_str(&patch).unwrap();
    let mut object = good(kind);
    match kind {
        "endpoint" => merge(&mut object["endpoints"][1], patch),
        "bare" => object["endpoints"][1] = patch,
        _ => merge(&mut object, patch),
    }
    object
}

/// Tells the object as a watch does.
fn tell(mall: &mut Mall, object: &Value) {
    let text = object.to_string();
    let content = ManifestContent::parse("m", &text, &name(OWN), &ZoneKeys::default());
    for update in content.updates() {
        let update = match update {
            Update::Upsert(_, object) => Update::Upsert(SOURCE, object),
            Update::Reject(_, problem) => Update::Reject(SOURCE, problem),
            _ => continue,
        };
        mall.writer.apply(update);
    }
    mall.writer.publish();
}

/// Usable endpoints with their sockets, the others with their reason, then what was refused of which object.
fn outcome(mall: &Mall) -> String {
    let snapshot = mall.reader.load();
    let mut words: Vec<String> = Vec::new();
    let view = snapshot.service(&"shop/web".parse().unwrap());
    words.extend(view.into_iter().flat_map(|view| endpoints(view)));
    if words.len() > 5 {
        words = vec![format!(
            "{} usable",
            view.map_or(0, |view| view.usable().count())
        )];
    }
    words.extend(snapshot.problems().iter().map(|problem| {
        let field = problem
            .place
            .split_once(": ")
            .map_or("", |(_, field)| field);
        assert!(problem.reason.len() < 400, "{} bytes", problem.reason.len());
        format!("!{} {field}", problem.object).trim_end().to_owned()
    }));
    words.join(" ")
}

fn endpoints(view: &ServiceView) -> Vec<String> {
    let members = view.tiers().iter().flat_map(Tier::members).map(|endpoint| {
        let socket = endpoint.socket(None).map_or_else(
            || endpoint.addresses()[0].to_string(),
            |socket| socket.to_string(),
        );
        if endpoint.is_usable() {
            format!("{}={socket}", endpoint.identity())
        } else {
            format!("{}:{}", endpoint.identity(), endpoint.reason())
        }
    });
    let refused = view
        .refused()
        .iter()
        .map(|r| format!("{}:{}", r.identity, r.reason));
    members.chain(refused).collect()
}

#[test]
fn b5_every_hostile_object_has_its_outcome_and_costs_nobody_else() {
    let mut failures = Vec::new();
    for (kind, case, patch, expected) in CASES {
        let mut mall = Mall::new();
        for kind in ["node", "service", "slice"] {
            tell(&mut mall, &good(kind));
        }
        for kind in Kind::ALL {
            mall.writer.apply(Update::Synced(SOURCE, kind));
        }
        tell(&mut mall, &bad(kind, patch));
        let outcome = outcome(&mall);
        if outcome != *expected {
            failures.push(format!("{case}: {outcome:?} and not {expected:?}"));
        }
        // A good version mends it.
        for kind in ["node", "service", "slice"] {
            tell(&mut mall, &good(kind));
        }
        let left = self::outcome(&mall);
        if !left.starts_with("bad=10.0.0.2:8080 good=10.0.0.1:8080") {
            failures.push(format!("{case}: afterwards {left:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(CASES.len() >= 60, "{} cases", CASES.len());
}

/// Which object, what is odd about it, the change, what becomes of it.
#[rustfmt::skip]
const CASES: &[(&str, &str, &str, &str)] = &[
    ("endpoint", "a null endpoint", "null", "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1]"),
    ("bare", "an empty endpoint", "{}", "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "an endpoint that is a text", r#""x""#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1]"),
    ("bare", "an endpoint that is a list", "[]", "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "null addresses", r#"{"addresses": null}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "no address", r#"{"addresses": []}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "a text for addresses", r#"{"addresses": "10.0.0.2"}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "a number for an address", r#"{"addresses": [7]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "a null address", r#"{"addresses": [null]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses"),
    ("endpoint", "a domain for an address", r#"{"addresses": ["web.example"]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "an address with leading zeros", r#"{"addresses": ["010.0.0.2"]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "an address with a port", r#"{"addresses": ["10.0.0.2:80"]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "an address with an interface", r#"{"addresses": ["fe80::1%eth0"]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "an address of 64 KiB", r#"{"addresses": [LONG]}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].addresses[0]"),
    ("endpoint", "a second address that is none", r#"{"addresses": ["10.0.0.2", "bad"]}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "an IPv6 address", r#"{"addresses": ["FD00::A"]}"#, "bad=[fd00::a]:8080 good=10.0.0.1:8080"),
    ("endpoint", "a mapped IPv4 address", r#"{"addresses": ["::ffff:10.0.0.2"]}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "the loopback", r#"{"addresses": ["127.0.0.1"]}"#, "good=10.0.0.1:8080 bad:bad-address:loopback"),
    ("endpoint", "the mapped loopback", r#"{"addresses": ["::ffff:127.0.0.1"]}"#, "good=10.0.0.1:8080 bad:bad-address:loopback"),
    ("endpoint", "the metadata service of clouds", r#"{"addresses": ["169.254.169.254"]}"#, "good=10.0.0.1:8080 bad:bad-address:link-local"),
    ("endpoint", "a multicast address", r#"{"addresses": ["ff02::1"]}"#, "good=10.0.0.1:8080 bad:bad-address:multicast"),
    ("endpoint", "the address of nobody", r#"{"addresses": ["0.0.0.0"]}"#, "good=10.0.0.1:8080 bad:bad-address:unspecified"),
    ("endpoint", "the address of the good one", r#"{"addresses": ["10.0.0.1"]}"#, "bad=10.0.0.1:8080 good:duplicate"),
    ("endpoint", "nil conditions", r#"{"conditions": null}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "empty conditions", r#"{"conditions": {}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "nil in conditions", r#"{"conditions": {"ready": null, "serving": null, "terminating": null}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "not ready", r#"{"conditions": {"ready": false}}"#, "bad:not-ready good=10.0.0.1:8080"),
    ("endpoint", "serving and terminating", r#"{"conditions": {"ready": false, "serving": true, "terminating": true}}"#, "bad:terminating good=10.0.0.1:8080"),
    ("endpoint", "ready and terminating", r#"{"conditions": {"ready": true, "serving": true, "terminating": true}}"#, "bad:terminating good=10.0.0.1:8080"),
    ("endpoint", "ready and not serving", r#"{"conditions": {"ready": true, "serving": false}}"#, "bad:not-ready good=10.0.0.1:8080"),
    ("endpoint", "a text for a condition", r#"{"conditions": {"ready": "yes"}}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].conditions.ready"),
    ("endpoint", "a list for conditions", r#"{"conditions": []}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].conditions"),
    ("endpoint", "no node", r#"{"nodeName": null}"#, "good=10.0.0.1:8080 bad:no-zone-on-endpoint"),
    ("endpoint", "an empty node", r#"{"nodeName": ""}"#, "good=10.0.0.1:8080 bad:no-zone-on-endpoint"),
    ("endpoint", "a node that is no name", r#"{"nodeName": "Edge_A"}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].nodeName"),
    ("endpoint", "a node of 64 KiB", r#"{"nodeName": LONG}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].nodeName"),
    ("endpoint", "a number for a node", r#"{"nodeName": 7}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].nodeName"),
    ("endpoint", "an unknown node", r#"{"nodeName": "edge-x"}"#, "good=10.0.0.1:8080 bad:other-zone"),
    ("endpoint", "an unknown node and our zone", r#"{"nodeName": "edge-x", "zone": "mall-1"}"#, "good=10.0.0.1:8080 bad:other-zone"),
    ("endpoint", "our node and another zone", r#"{"zone": "mall-9"}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "a stated zone that is none", r#"{"zone": "mall 1"}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].zone"),
    ("endpoint", "a number for a stated zone", r#"{"zone": 1}"#, "good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].zone"),
    ("endpoint", "no pod", r#"{"targetRef": null}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "a pod without a name", r#"{"targetRef": {"kind": "Pod", "name": null}}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].targetRef.name"),
    ("endpoint", "a pod with a control character", r#"{"targetRef": {"name": "a\u0007b"}}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].targetRef.name"),
    ("endpoint", "a pod of 64 KiB", r#"{"targetRef": {"name": LONG}}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].targetRef.name"),
    ("endpoint", "a target that is no pod", r#"{"targetRef": {"kind": "Node", "name": "edge-a"}}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "a UID of 64 KiB", r#"{"targetRef": {"uid": LONG}}"#, "10.0.0.2:8080=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].targetRef.uid"),
    ("endpoint", "the name of the good pod with another UID", r#"{"targetRef": {"name": "good", "uid": "other"}}"#, "good=10.0.0.1:8080"),
    ("endpoint", "a number for hints", r#"{"hints": 7}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].hints"),
    ("endpoint", "a text for zones in hints", r#"{"hints": {"forZones": "mall-1"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].hints.forZones"),
    ("endpoint", "hints without names", r#"{"hints": {"forZones": [{}, null]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].hints.forZones"),
    ("endpoint", "a thousand hints", r#"{"hints": {"forZones": MANY}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints[1].hints.forZones"),
    ("endpoint", "unknown fields", r#"{"colour": {"deep": [[[]]]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("endpoint", "nesting without end", r#"{"colour": DEEP}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !document 1"),
    ("slice", "a list for metadata", r#"{"metadata": []}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice default/(without a name) metadata"),
    ("slice", "null endpoints", r#"{"endpoints": null}"#, ""),
    ("slice", "no endpoints", r#"{"endpoints": []}"#, ""),
    ("slice", "an object for endpoints", r#"{"endpoints": {}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 endpoints"),
    ("slice", "1,001 endpoints", r#"{"endpoints": CROWD}"#, "1001 usable"),
    ("slice", "domain names", r#"{"addressType": "FQDN"}"#, "!EndpointSlice shop/web-1 addressType"),
    ("slice", "no address type", r#"{"addressType": null}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("slice", "a number for the address type", r#"{"addressType": 4}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 addressType"),
    ("slice", "null ports", r#"{"ports": null}"#, "bad=10.0.0.2 good=10.0.0.1"),
    ("slice", "a null port", r#"{"ports": [null, {"name": "http", "port": 80}]}"#, "bad=10.0.0.2:80 good=10.0.0.1:80 !EndpointSlice shop/web-1 ports[0]"),
    ("slice", "a port without a number", r#"{"ports": [{"name": "all"}, {"name": "http", "port": 80}]}"#, "bad=10.0.0.2:80 good=10.0.0.1:80 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "port 0", r#"{"ports": [{"name": "http", "port": 0}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "port 65536", r#"{"ports": [{"name": "http", "port": 65536}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "port -1", r#"{"ports": [{"name": "http", "port": -1}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "half a port", r#"{"ports": [{"name": "http", "port": 80.5}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "a text for a port", r#"{"ports": [{"name": "http", "port": "80"}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].port"),
    ("slice", "a port without a name", r#"{"ports": [{"name": null, "port": 81}]}"#, "bad=10.0.0.2:81 good=10.0.0.1:81"),
    ("slice", "two ports of one name", r#"{"ports": [{"name": "http", "port": 80}, {"name": "http", "port": 81}]}"#, "bad=10.0.0.2:80 good=10.0.0.1:80 !EndpointSlice shop/web-1 ports[1].name"),
    ("slice", "a port with an odd name", r#"{"ports": [{"name": "a b\n", "port": 80}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].name"),
    ("slice", "an unknown protocol", r#"{"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]}"#, "bad=10.0.0.2 good=10.0.0.1 !EndpointSlice shop/web-1 ports[0].protocol"),
    ("slice", "no protocol", r#"{"ports": [{"name": "http", "port": 82, "protocol": null}]}"#, "bad=10.0.0.2:82 good=10.0.0.1:82"),
    ("slice", "a service that is a wildcard", r#"{"metadata": {"labels": {"kubernetes.io/service-name": "*"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 metadata.labels[kubernetes.io/service-name]"),
    ("slice", "a service with a dot", r#"{"metadata": {"labels": {"kubernetes.io/service-name": "a.b"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 metadata.labels[kubernetes.io/service-name]"),
    ("slice", "a service of 64 KiB", r#"{"metadata": {"labels": {"kubernetes.io/service-name": LONG}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 metadata.labels[kubernetes.io/service-name]"),
    ("slice", "a name in capitals", r#"{"metadata": {"name": "Web"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/Web metadata.name"),
    ("slice", "a number for a name", r#"{"metadata": {"name": 7}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/(without a name) metadata.name"),
    ("slice", "a number for a label", r#"{"metadata": {"labels": {"a": 1}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 metadata.labels.a"),
    ("slice", "a zone of the slice that is none", r#"{"metadata": {"annotations": {"zonal.dev/zone": "*"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice shop/web-1 metadata.annotations[zonal.dev/zone]"),
    ("slice", "a version that is no number", r#"{"metadata": {"resourceVersion": "abc"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("slice", "a text for metadata", r#"{"metadata": "x"}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !EndpointSlice default/(without a name) metadata"),
    ("node", "an empty zone", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": ""}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a zone of 64 KiB", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": LONG}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a zone in unicode", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": "zöne"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a zone with a dot at its end", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": "mall."}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a zone that is a wildcard", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": "*"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a null zone", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": null}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "a zone with dots inside", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": "mall.1"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("node", "a number for a zone", r#"{"metadata": {"labels": {"topology.kubernetes.io/zone": 1}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a metadata.labels[topology.kubernetes.io/zone]"),
    ("node", "null labels", r#"{"metadata": {"labels": null}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("node", "a node address that is none", r#"{"status": {"addresses": [{"type": "InternalIP", "address": "x"}]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a status.addresses[0].address"),
    ("node", "conditions that are none", r#"{"status": {"conditions": [null, 7, {"type": "Ready", "status": "Maybe"}]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a status.conditions[1]"),
    ("node", "taints that are none", r#"{"spec": {"taints": [null, 7]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a spec.taints[1]"),
    ("node", "a text for a specification", r#"{"spec": "x"}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Node edge-a spec"),
    ("service", "a policy that is none", r#"{"metadata": {"annotations": {"zonal.dev/zone-policy": "Any"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web metadata.annotations[zonal.dev/zone-policy]"),
    ("service", "a number for a policy", r#"{"metadata": {"annotations": {"zonal.dev/zone-policy": 1}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web metadata.annotations[zonal.dev/zone-policy]"),
    ("service", "a zone key that is none", r#"{"metadata": {"annotations": {"zonal.dev/zone-key": "a b"}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[zonal.dev/zone-key]"),
    ("service", "a zone key of 64 KiB", r#"{"metadata": {"annotations": {"zonal.dev/zone-key": LONG}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[zonal.dev/zone-key]"),
    ("service", "topology keys that are no JSON", r#"{"metadata": {"annotations": {"topologyKeys": "[oops"}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[topologyKeys]"),
    ("service", "topology keys of a wrong type", r#"{"metadata": {"annotations": {"topologyKeys": "{}"}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[topologyKeys]"),
    ("service", "topology keys without end", r#"{"metadata": {"annotations": {"topologyKeys": BRACKETS}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[topologyKeys]"),
    ("service", "no topology keys", r#"{"metadata": {"annotations": {"topologyKeys": "[]"}}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("service", "a pool key that is none", r#"{"metadata": {"annotations": {"openyurt.io/topologyKeys": "region"}}}"#, "bad:no-own-zone good:no-own-zone !Service shop/web metadata.annotations[openyurt.io/topologyKeys]"),
    ("service", "a distribution that is none", r#"{"spec": {"trafficDistribution": "Far"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web spec.trafficDistribution"),
    ("service", "a number for a distribution", r#"{"spec": {"trafficDistribution": 1}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web spec.trafficDistribution"),
    ("service", "null ports of a service", r#"{"spec": {"ports": null}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080"),
    ("service", "a node port that is none", r#"{"spec": {"ports": [{"port": 80, "nodePort": 70000}]}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web spec.ports[0].nodePort"),
    ("service", "an external name that is none", r#"{"spec": {"type": "ExternalName", "externalName": "a b"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/web spec.externalName"),
    ("service", "a service in capitals", r#"{"metadata": {"name": "Web"}}"#, "bad=10.0.0.2:8080 good=10.0.0.1:8080 !Service shop/Web metadata.name"),
];
