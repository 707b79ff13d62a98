// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an answer allocates: nothing, once buffers have grown.

use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{
    Config, IndexBuilder, Responder, Verdict,
    catalog::{Catalog, CatalogInstance, CatalogNode, InstanceAddress},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, net::Ipv4Addr, sync::Arc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn catalog() -> Catalog {
    let node = Arc::new(CatalogNode {
        name: "edge-a".to_owned(),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        ..CatalogNode::default()
    });
    let instance = |last| CatalogInstance {
        address: Some(InstanceAddress::Ip(Ipv4Addr::new(10, 1, 0, last).into())),
        ..CatalogInstance::new(node.clone(), 8080)
    };
    let mut catalog = Catalog {
        datacenter: "mall-1".to_owned(),
        nodes: vec![node.clone()],
        ..Catalog::default()
    };
    catalog
        .services
        .entry("web".to_owned())
        .or_default()
        .instances = (1..=16).map(instance).collect();
    catalog
}

fn query(name: &str, qtype: u8, has_edns: bool) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend([0, 0, qtype, 0, 1]);
    if has_edns {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    message
}

#[test]
fn answers_of_every_day_allocate_nothing() {
    let config = Config::default();
    let index = IndexBuilder::build_catalog(&config, &catalog());
    let mut responder = Responder::new(&config);
    let mut reply = Vec::new();
    let names = [
        "web.service.consul",
        "_web._tcp.service.mall-1.consul",
        "nosuch.service.consul",
        "edge-a.node.consul",
        "service.consul",
        "x.org",
    ];
    let requests: Vec<Vec<u8>> = names
        .iter()
        .flat_map(|name| [1, 28, 33, 255].map(|qtype| (*name, qtype)))
        .flat_map(|(name, qtype)| [false, true].map(|has_edns| query(name, qtype, has_edns)))
        .collect();
    let mut ask_all = || {
        for request in &requests {
            for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
                let verdict = responder.answer(&index, request, transport, &mut reply);
                assert!(matches!(verdict, Verdict::Answered(_)));
            }
        }
    };
    ask_all();
    let region = Region::new(ALLOCATOR);
    ask_all();
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
}
