// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each name is answered with, read back by another library.

use crate::{
    asker::Asker,
    mall::{HTTP, Mall, node},
    packet::{A, AAAA, ANY, NS, SOA, SRV, TXT, decode, query, query_edns, targets, words},
};
use discovery_core::{
    store::{Object, SourceId},
    telemetry::{DnsQueryType, DnsRcode, DnsTransport},
};
use dns_sidecar::Config;
use hickory_proto::op::ResponseCode;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

#[test]
fn a_service_is_answered_with_its_endpoints_of_our_zone() {
    let mut asker = Asker::new(&mut Mall::open());
    for name in [
        "web.service.consul",
        "web-default.service.consul",
        "web.service.mall-1.consul",
        "web.service.mall-1.dc.consul",
        "http.web.service.consul",
        "_web._tcp.service.consul",
        "WEB.SerVice.Consul",
    ] {
        let expected =
            ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(|ip| format!("{name}. 0 IN A {ip}"));
        assert_eq!(asker.words(name, A), expected, "{name}");
        assert_eq!(
            asker.words(name, AAAA),
            [format!("{name}. 0 IN AAAA fd00:1::1")]
        );
        assert_eq!(
            asker.words(name, ANY).len(),
            3,
            "{name}: one family over UDP"
        );
        assert_eq!(asker.ask_tcp(name, ANY).answers.len(), 4, "{name}");
        assert_eq!(asker.words(name, TXT), ["NODATA"]);
        assert_eq!(asker.words(name, SOA), ["NODATA"]);
    }
}

#[test]
fn srv_records_name_targets_that_carry_their_addresses() {
    let mut asker = Asker::new(&mut Mall::open());
    let message = asker.ask("_web._tcp.consul", SRV);
    let owner = "_web._tcp.consul. 0 IN SRV 1 1 8080";
    assert_eq!(
        words(&message.answers),
        [
            format!("{owner} 0a010001.addr.mall-1.consul."),
            format!("{owner} 0a010002.addr.mall-1.consul."),
            format!("{owner} 0a010003.addr.mall-1.consul."),
            format!("{owner} fd000001000000000000000000000001.addr.mall-1.consul."),
        ]
    );
    assert_eq!(
        words(&message.additionals),
        [
            "0a010001.addr.mall-1.consul. 0 IN A 10.1.0.1",
            "0a010002.addr.mall-1.consul. 0 IN A 10.1.0.2",
            "0a010003.addr.mall-1.consul. 0 IN A 10.1.0.3",
            "fd000001000000000000000000000001.addr.mall-1.consul. 0 IN AAAA fd00:1::1",
        ]
    );
}

#[test]
fn a_tag_selects_the_port_of_that_name() {
    let mut asker = Asker::new(&mut Mall::open());
    for name in [
        "admin.web.service.consul",
        "_web._ADMIN.service.consul",
        "_web._admin.consul",
    ] {
        let message = asker.ask(name, SRV);
        assert_eq!(message.answers.len(), 4, "{name}");
        assert!(
            words(&message.answers)
                .iter()
                .all(|record| record.contains("SRV 1 1 9000"))
        );
    }
    assert_eq!(asker.words("_web._udp.service.consul", SRV), ["NXDomain"]);
    assert_eq!(asker.words("tcp.web.service.consul", A), ["NXDomain"]);
    assert_eq!(asker.words("_names-infra._udp.service.consul", A).len(), 1);
    assert_eq!(asker.words("a.http.web.service.consul", A), ["NXDomain"]);
}

#[test]
fn an_endpoint_with_its_nodes_address_is_called_like_the_node() {
    let mut asker = Asker::new(&mut Mall::open());
    let message = asker.ask("host-shop.service.consul", SRV);
    let owner = "host-shop.service.consul. 0 IN SRV 1 1 8080";
    assert_eq!(
        words(&message.answers),
        [
            format!("{owner} edge-a.node.mall-1.consul."),
            format!("{owner} edge-b.rack.lan.node.mall-1.consul.")
        ]
    );
    assert_eq!(
        words(&message.additionals),
        [
            "edge-a.node.mall-1.consul. 0 IN A 10.0.0.1",
            "edge-a.node.mall-1.consul. 0 IN AAAA fd00::1",
            "edge-b.rack.lan.node.mall-1.consul. 0 IN A 10.0.0.2",
        ]
    );
}

#[test]
fn a_service_without_a_port_has_port_0() {
    let mut asker = Asker::new(&mut Mall::open());
    let answers = asker.words("headless-shop.service.consul", SRV);
    assert_eq!(
        answers,
        ["headless-shop.service.consul. 0 IN SRV 1 1 0 0a010014.addr.mall-1.consul."]
    );
}

#[test]
fn nodes_and_literal_addresses_resolve() {
    let mut asker = Asker::new(&mut Mall::open());
    assert_eq!(
        asker.words("Edge-A.node.consul", A),
        ["Edge-A.node.consul. 0 IN A 10.0.0.1"]
    );
    assert_eq!(
        asker.words("edge-b.rack.lan.node.mall-1.consul", A).len(),
        1
    );
    assert_eq!(asker.words("edge-b.rack.lan.node.consul", AAAA), ["NODATA"]);
    assert_eq!(
        asker.words("rack.lan.node.consul", A),
        ["NODATA"],
        "other names stand below it"
    );
    assert_eq!(
        asker.words("far.node.consul", A),
        ["NXDomain"],
        "it is of another zone"
    );
    assert_eq!(
        asker.words("0A000101.addr.consul", A),
        ["0a000101.addr.consul. 0 IN A 10.0.1.1"]
    );
    assert_eq!(asker.words("0a000101.addr.consul", ANY).len(), 1);
    assert_eq!(asker.words("0a000101.addr.consul", AAAA), ["NODATA"]);
    assert_eq!(
        asker
            .words("fd00000b000000000000000000000001.addr.consul", AAAA)
            .len(),
        1
    );
}

#[test]
fn the_domain_speaks_for_itself() {
    let mut asker = Asker::new(&mut Mall::open());
    let soa = format!(
        "Consul. 1 IN SOA ns.Consul. hostmaster.Consul. {} 3600 600 86400 1",
        asker.index.generation()
    );
    assert_eq!(asker.words("Consul", SOA), std::slice::from_ref(&soa));
    assert_eq!(asker.words("Consul", NS), ["Consul. 0 IN NS ns.Consul."]);
    assert_eq!(asker.words("Consul", ANY).len(), 2);
    assert_eq!(asker.words("consul", A), ["NODATA"]);
    assert_eq!(asker.words("ns.consul", A), ["ns.consul. 0 IN A 127.0.0.1"]);
    let glue = asker.ask("consul", NS).additionals;
    assert_eq!(words(&glue), ["ns.consul. 0 IN A 127.0.0.1"]);
    let no = asker.ask("nosuch.service.Consul", A);
    assert_eq!(words(&no.authorities), [soa]);
}

#[test]
fn what_is_not_there_does_not_exist() {
    let mut asker = Asker::new(&mut Mall::open());
    for name in [
        "nosuch.service.consul",
        "down-shop.service.consul",
        "away-shop.service.consul",
        "host.service.consul",
        "web.service.mall-2.consul",
        "web.service.nowhere.consul",
        "web.consul",
        "web.query.consul",
        "far.node.consul",
    ] {
        for qtype in [A, AAAA, SRV, ANY, TXT] {
            assert_eq!(asker.words(name, qtype), ["NXDomain"], "{name}");
        }
    }
    for name in [
        "service.consul",
        "node.mall-1.consul",
        "_tcp.service.consul",
        "mall-1.consul",
    ] {
        assert_eq!(asker.words(name, A), ["NODATA"], "{name}");
    }
    assert_eq!(
        asker.words("_web._tcp.consul", A),
        ["NODATA"],
        "the name has SRV records"
    );
}

#[test]
fn before_everything_was_listed_no_name_is_denied() {
    let mut asker = Asker::new(&mut Mall::unread());
    for name in [
        "web.service.consul",
        "nosuch.consul",
        "consul",
        "0a000101.addr.consul",
    ] {
        let message = asker.ask(name, A);
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::ServFail,
            "{name}"
        );
        assert!(!message.metadata.authoritative);
        let (_, reply) = asker.send(&query_edns(name, A, 1232), DnsTransport::Udp);
        assert!(
            reply.ends_with(&[0, 6, 0, 15, 0, 2, 0, 14]),
            "extended error 14"
        );
        let (_, plain) = asker.send(&query(name, A), DnsTransport::Udp);
        assert!(decode(&plain).edns.is_none());
    }
    assert_eq!(
        asker.ask("example.org", A).metadata.response_code,
        ResponseCode::Refused
    );
}

#[test]
fn answers_from_disk_are_given_and_marked_for_the_count() {
    let mut mall = Mall::open_by(SourceId::Disk);
    let mut asker = Asker::new(&mut mall);
    let (answered, _) = asker.send(&query("web.service.consul", A), DnsTransport::Udp);
    assert!(answered.is_stale);
    assert_eq!(
        (answered.qtype, answered.rcode),
        (DnsQueryType::A, DnsRcode::NoError)
    );
    let (refused, _) = asker.send(&query("example.org", A), DnsTransport::Udp);
    assert!(!refused.is_stale);
}

#[test]
fn a_large_answer_is_cut_with_notice_over_udp_and_whole_over_tcp() {
    let mut asker = Asker::new(&mut Mall::open());
    let plain = asker.udp(&query("many-shop.service.consul", A));
    assert_eq!(
        (plain.metadata.truncation, plain.answers.len()),
        (true, (512 - 12 - 30) / 16)
    );
    let wide = asker.udp(&query_edns("many-shop.service.consul", A, 1232));
    assert_eq!((wide.metadata.truncation, wide.answers.len()), (false, 40));
    let cut = asker.udp(&query_edns("many-shop.service.consul", SRV, 1232));
    assert!(cut.metadata.truncation && cut.edns.is_some());
    assert_eq!(
        cut.answers.len(),
        cut.additionals.len(),
        "each with its address"
    );
    let (answered, reply) = asker.send(&query("many-shop.service.consul", SRV), DnsTransport::Tcp);
    let whole = decode(&reply);
    assert!(!answered.is_truncated && !whole.metadata.truncation);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (40, 40));
}

#[test]
fn r17_a_reply_of_64_kib_over_tcp_is_whole_to_another_library() {
    let mut asker = Asker::new(&mut Mall::crowded());
    let (_, reply) = asker.send(&query("crowd-shop.service.consul", SRV), DnsTransport::Tcp);
    let message = decode(&reply);
    assert!(reply.len() > 65_000 && !message.metadata.truncation);
    let targets: HashSet<_> = targets(&message.answers).into_iter().collect();
    assert_eq!(targets.len(), message.answers.len(), "no target twice");
    assert!(
        message
            .additionals
            .iter()
            .all(|record| targets.contains(&record.name))
    );
    let (_, reply) = asker.send(&query("crowd-shop.service.consul", A), DnsTransport::Tcp);
    assert_eq!(decode(&reply).answers.len(), 1_500);
}

#[test]
fn additional_records_are_left_out_without_notice() {
    let mut asker = Asker::new(&mut Mall::open());
    let whole = asker.udp(&query_edns("web.service.consul", SRV, 1232));
    assert_eq!((whole.answers.len(), whole.additionals.len()), (4, 4));
    let tight = asker.udp(&query_edns("web.service.consul", SRV, 512));
    assert!(!tight.metadata.truncation);
    assert_eq!(tight.answers.len(), 4);
    assert!(tight.edns.is_some());
}

#[test]
fn every_endpoint_is_first_equally_often() {
    let mut asker = Asker::new(&mut Mall::open());
    let mut first = HashMap::<String, u32>::new();
    for _ in 0..6_000 {
        let message = asker.udp(&query("web.service.consul", A));
        *first.entry(message.answers[0].to_string()).or_default() += 1;
    }
    assert_eq!(first.len(), 3);
    assert!(
        first.values().all(|count| (1_850..2_150).contains(count)),
        "{first:?}"
    );
}

#[test]
fn a_collision_of_names_is_settled_for_the_smallest_and_told() {
    let mut mall = Mall::empty();
    for (service, address) in [
        ("b/a-a", "10.1.0.1"),
        ("a-b/a", "10.1.0.2"),
        ("default/a-a-b", "10.1.0.3"),
    ] {
        mall.service(service, &[HTTP]);
        mall.endpoints(service, "4", &[HTTP], &[("pod", "edge-a", address)]);
    }
    let long = format!("{}/{}", "n".repeat(40), "s".repeat(40));
    mall.service(&long, &[HTTP]);
    mall.writer.publish();
    let mut asker = Asker::new(&mut mall);
    assert_eq!(
        asker.words("a-a-b.service.consul", A),
        ["a-a-b.service.consul. 0 IN A 10.1.0.2"]
    );
    let mut told: Vec<_> = asker
        .index
        .unnamed()
        .iter()
        .map(ToString::to_string)
        .collect();
    told.sort();
    assert_eq!(told[0], "b/a-a is not called a-a-b: a-b/a has that name");
    assert_eq!(
        told[1],
        "default/a-a-b is not called a-a-b: a-b/a has that name"
    );
    assert!(told[2].ends_with("it is longer than 63 bytes"));
    assert_eq!((told.len(), asker.index.service_names()), (3, 2));
}

#[test]
fn settings_reach_the_answers() {
    let config = Config::default()
        .domain("Mall.Internal")
        .and_then(|config| config.ttl(Duration::from_secs(7)))
        .and_then(|config| config.soa_minimum_ttl(Duration::from_secs(3)))
        .and_then(|config| config.max_udp_payload(512))
        .unwrap()
        .plain_namespaces(vec!["shop".to_owned()])
        .name_server_addresses(vec!["10.0.0.1".parse().unwrap()]);
    let mut asker = Asker::configured(&mut Mall::open(), &config);
    assert_eq!(
        asker.words("web-default.service.mall.internal", AAAA),
        ["web-default.service.mall.internal. 7 IN AAAA fd00:1::1"]
    );
    assert_eq!(asker.words("web.service.mall.internal", A), ["NXDomain"]);
    assert_eq!(asker.words("host.service.mall.internal", A).len(), 2);
    assert_eq!(
        asker.words("ns.mall.internal", A),
        ["ns.mall.internal. 7 IN A 10.0.0.1"]
    );
    let message = asker.udp(&query_edns("many.service.mall.internal", A, 4096));
    assert!(message.metadata.truncation);
    assert_eq!(
        message.edns.unwrap().max_payload(),
        4096,
        "as Consul, what the client said"
    );
    assert_eq!(asker.ask("nosuch.mall.internal", A).authorities[0].ttl, 3);
}

#[test]
fn unchanged_services_keep_their_records() {
    let mut mall = Mall::open();
    let mut asker = Asker::new(&mut mall);
    let first = asker.index.generation();
    mall.endpoints(
        "shop/down",
        "4",
        &[HTTP],
        &[("down-0", "edge-a", "10.1.0.30")],
    );
    mall.writer.publish();
    asker.follow(&mut mall);
    assert!(first < asker.index.generation());
    assert_eq!(asker.words("down-shop.service.consul", A).len(), 1);
    assert_eq!(asker.words("web.service.consul", A).len(), 3);
    mall.upsert(Object::Node(node("edge-a", "Mall.1", &["10.0.0.7"])));
    mall.upsert(Object::OwnNode(node("edge-a", "Mall.1", &["10.0.0.7"])));
    mall.writer.publish();
    asker.follow(&mut mall);
    let targets = asker.words("host-shop.service.consul", SRV);
    assert!(
        targets[0].ends_with("0a000001.addr.mall-1.consul."),
        "the node has it no more: {targets:?}"
    );
}
