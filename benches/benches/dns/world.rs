// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services that every server is given, in each form that one of them reads, and what is asked of them.

use crate::question::{Expected, Question, Schema};
use discovery_core::{
    model::{
        Balancing, Conditions, Node, NodeName, Placement, PlacementWish, Protocol, Service,
        ServiceName, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone,
    },
    store::{Kind, Object, SourceId, Update, Writer},
};
use serde_json::{Value, json};
use std::{fmt::Write, net::Ipv4Addr, num::NonZeroU16};

/// As many as all but the section on scale have.
pub(crate) const SERVICES: u32 = 1_000;
/// Where services run, for servers that want to know.
const NODES: u32 = 250;

/// The addresses of a service: 4 to 16.
pub(crate) fn addresses(service: u32) -> impl Iterator<Item = Ipv4Addr> {
    let count = u32::from(address_count(service));
    (0..count).map(move |endpoint| Ipv4Addr::from(0x0a40_0000 + service * 16 + endpoint))
}

fn address_count(service: u32) -> u16 {
    // Less than 13.
    4 + u16::try_from(service % 13).unwrap_or(0)
}

fn label(service: u32) -> String {
    format!("svc-{service:04}")
}

/// As a source would tell them; the caller publishes.
///
/// More than a thousand are placed by rendezvous: the ring of the default takes 7 KiB for each endpoint of the own zone, which at a
/// hundred thousand services would be measured in place of DNS.
pub(crate) fn fill(writer: &mut Writer, name: &NodeName, services: u32) -> anyhow::Result<()> {
    let node = Node::new(name.clone(), Some(Zone::parse("mall-1")?));
    let mut upsert = |object| writer.apply(Update::Upsert(SourceId::Manifest, object));
    upsert(Object::OwnNode(node.clone()));
    upsert(Object::Node(node));
    let port = SlicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(8080).unwrap_or(NonZeroU16::MIN),
    };
    for service in 0..services {
        let service_name = ServiceName::new("default", &label(service))?;
        let endpoints = addresses(service).map(|address| SliceEndpoint {
            target: Some(TargetRef {
                name: format!("pod-{address}").into(),
                uid: format!("uid-{address}").into(),
            }),
            node: Some(name.clone()),
            conditions: Conditions::from_api(Some(true), None, None),
            ..SliceEndpoint::new(address.into())
        });
        if services > SERVICES {
            upsert(Object::Service(Service {
                balancing: Balancing {
                    placement: PlacementWish::Known(Placement::RendezvousV1),
                    ..Balancing::default()
                },
                ..Service::new(service_name.clone())
            }));
        }
        upsert(Object::Slice(Slice {
            ports: [port.clone()].into(),
            endpoints: endpoints.collect(),
            ..Slice::new(SliceKey::new("default", service_name.name())?, service_name)
        }));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    Ok(())
}

/// For servers that read a zone file.
pub(crate) fn zone_file() -> String {
    let mut zone = "$ORIGIN consul.\n$TTL 5\n@ 1 SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    for service in 0..SERVICES {
        let label = label(service);
        for address in addresses(service) {
            let hex = hex(address);
            // Writing to a string does not fail.
            let _ = writeln!(zone, "{label}.service A {address}");
            let _ = writeln!(zone, "{label}.service SRV 1 1 8080 {hex}.addr.mall-1");
            let _ = writeln!(zone, "{hex}.addr.mall-1 A {address}");
        }
    }
    zone
}

/// The label by which Consul names an address.
pub(crate) fn hex(address: Ipv4Addr) -> String {
    format!("{:08x}", address.to_bits())
}

/// For Consul: one operation of a transaction for each node, then one for each instance.
pub(crate) fn consul_operations() -> impl Iterator<Item = Value> {
    let nodes = (0..NODES).map(|number| {
        let address = Ipv4Addr::from(0x0a3f_0000 + number);
        json!({ "Node": { "Verb": "set", "Node": {
            "Node": format!("edge-{number}"), "Address": address,
        }}})
    });
    let instances = (0..SERVICES).flat_map(|service| {
        addresses(service).map(move |address| {
            json!({ "Service": { "Verb": "set", "Node": format!("edge-{}", service % NODES), "Service": {
                "ID": format!("{}-{}", label(service), hex(address)), "Service": label(service),
                "Address": address, "Port": 8080,
            }}})
        })
    });
    nodes.chain(instances)
}

/// For the API server: headless services, whose names stand for their endpoints, and their slices.
pub(crate) fn kubernetes_objects() -> impl Iterator<Item = Value> {
    (0..SERVICES).flat_map(|service| {
        let name = label(service);
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        let endpoints: Vec<Value> = addresses(service)
            .map(|address| json!({ "addresses": [address], "conditions": ready }))
            .collect();
        let port = json!([{ "name": "http", "protocol": "TCP", "port": 8080 }]);
        let of = json!({ "name": name, "labels": { "kubernetes.io/service-name": name }});
        [
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
                "spec": { "clusterIP": "None", "ports": port }}),
            json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": of,
                "addressType": "IPv4", "endpoints": endpoints, "ports": port }),
        ]
    })
}

/// 20,000 questions in a random order that is always the same: 70 % A, 20 % SRV, 5 % AAAA without data, 5 % names that do not
/// exist, half of them with EDNS.
pub(crate) fn questions(schema: Schema, services: u32) -> Vec<Question> {
    let mut random = fastrand::Rng::with_seed(7);
    let question = |_| {
        let kind = random.u32(..100);
        let service = random.u32(..services);
        let (qtype, expected) = match kind {
            0..70 => (1, with_answers(address_count(service))),
            70..90 => (33, with_answers(address_count(service))),
            90..95 => (28, with_answers(0)),
            _ => (1, Expected::ABSENT),
        };
        let label = if expected == Expected::ABSENT {
            format!("nosuch-{service:04}")
        } else {
            label(service)
        };
        Question::new(&schema.name(&label), qtype, random.bool(), expected)
    };
    (0..20_000).map(question).collect()
}

/// One question for each service and each of A and SRV, with the addresses of the answer, to read replies whole.
pub(crate) fn all(schema: Schema) -> impl Iterator<Item = (Question, Vec<Ipv4Addr>)> {
    (0..SERVICES).flat_map(move |service| {
        [1, 33].map(|qtype| {
            let expected = with_answers(address_count(service));
            let question = Question::new(&schema.name(&label(service)), qtype, true, expected);
            (question, addresses(service).collect())
        })
    })
}

fn with_answers(answers: u16) -> Expected {
    Expected { rcode: 0, answers }
}
