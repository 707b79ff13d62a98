// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an answer allocates: nothing, once buffers have grown, and whatever is asked.

use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{
    Config, DnsServer, IndexBuilder, Responder, Verdict,
    catalog::{Catalog, CatalogInstance, CatalogNode, InstanceAddress},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

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

/// What each name is asked for: every type of every day, with EDNS and without.
fn requests() -> Vec<Vec<u8>> {
    let names = [
        "web.service.consul",
        "_web._tcp.service.mall-1.consul",
        "nosuch.service.consul",
        "edge-a.node.consul",
        "service.consul",
        "x.org",
    ];
    names
        .iter()
        .flat_map(|name| [1, 28, 33, 255].map(|qtype| (*name, qtype)))
        .flat_map(|(name, qtype)| [false, true].map(|has_edns| query(name, qtype, has_edns)))
        .collect()
}

/// One test, since the allocator counts for the process.
#[test]
fn r1_r13_answers_of_every_day_allocate_nothing_whatever_the_names() {
    a_responder_allocates_nothing();
    names_that_were_asked_leave_nothing_behind();
    a_server_allocates_nothing_between_receiving_and_sending();
}

fn a_responder_allocates_nothing() {
    let config = Config::default();
    let index = IndexBuilder::build_catalog(&config, &catalog());
    let mut responder = Responder::new(&config);
    let mut reply = Vec::new();
    let requests = requests();
    let mut ask_all = || {
        for request in &requests {
            for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
                let verdict = responder.answer(&index, request, transport, &mut reply);
                assert!(matches!(verdict, Verdict::Answered(_)));
            }
        }
    };
    ask_all();
    assert_eq!(least_allocated(3, ask_all), 0);
}

/// The fewest allocations of some rounds: the harness allocates now and then in a thread of its own, and what the code under
/// test allocates it allocates in every round.
fn least_allocated(rounds: u32, mut round: impl FnMut()) -> usize {
    let allocated = (0..rounds).map(|_| {
        let region = Region::new(ALLOCATOR);
        round();
        let change = region.change();
        change.allocations + change.reallocations
    });
    allocated.min().expect("a round")
}

const ROUNDS: u32 = 10;

/// `ZONAL_DNS_NAMES=10000000` for the whole flood.
fn names_that_were_asked_leave_nothing_behind() {
    let config = Config::default();
    let index = IndexBuilder::build_catalog(&config, &catalog());
    let mut responder = Responder::new(&config);
    let (mut reply, mut request) = (Vec::new(), query("0000000000.service.consul", 1, true));
    let names: u32 =
        std::env::var("ZONAL_DNS_NAMES").map_or(500_000, |count| count.parse().unwrap());
    responder.answer(&index, &request, DnsTransport::Udp, &mut reply);
    let mut name = 0;
    let ask_some = || {
        for _ in 0..names / ROUNDS {
            name += 1;
            let mut rest = name;
            for digit in &mut request[13..23] {
                *digit = b'0' + u8::try_from(rest % 10).unwrap();
                rest /= 10;
            }
            let verdict = responder.answer(&index, &request, DnsTransport::Udp, &mut reply);
            assert!(matches!(verdict, Verdict::Answered(_)));
        }
    };
    assert_eq!(least_allocated(ROUNDS, ask_some), 0);
}

/// Receiving, counting and sending included.
fn a_server_allocates_nothing_between_receiving_and_sending() {
    let config = Config::default().listen(vec!["127.0.0.1:0".parse().unwrap()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(async {
        DnsServer::bind_catalog(config.unwrap(), &catalog(), Arc::default()).unwrap()
    });
    let (address, stop) = (server.local_addrs()[0], CancellationToken::new());
    let running = server.run(stop.clone());
    let serving = std::thread::spawn(move || runtime.block_on(running));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    let (requests, mut reply) = (requests(), [0; 4096]);
    let mut ask_all = || {
        for request in &requests {
            socket.send(request).unwrap();
        }
        for _ in &requests {
            socket.recv(&mut reply).unwrap();
        }
    };
    for _ in 0..100 {
        ask_all();
    }
    // Every few seconds the server looks what the system dropped: one of many rounds without that is enough.
    assert_eq!(least_allocated(100, ask_all), 0);
    stop.cancel();
    serving.join().unwrap();
}
