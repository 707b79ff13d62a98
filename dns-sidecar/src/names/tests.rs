// SPDX-License-Identifier: MIT OR Apache-2.0

use super::{address::read_hex, *};
use crate::wire::{Header, LowerName, Request};
use proptest::prelude::*;
use std::net::IpAddr;

fn question(name: &str) -> Vec<u8> {
    let mut message = b"\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(b"\0\0\x01\0\x01");
    message
}

fn naming(zone: &str, profile: Profile) -> Naming {
    let domain = WireName::parse("consul").unwrap();
    let alternate = WireName::parse("edge.consul").unwrap();
    Naming::new(
        &domain,
        Some(&alternate),
        profile,
        &[zone.to_owned(), "dc1".to_owned()],
    )
}

fn text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| if *b < 32 { '|' } else { char::from(*b) })
        .collect()
}

fn read_as(naming: &Naming, name: &str, qtype: u16) -> String {
    let message = question(name);
    let mut name = LowerName::default();
    let request = Request::read(Header::read(&message).unwrap(), &message, &mut name).unwrap();
    let Some(domain) = naming.domain_in(request.name) else {
        return "outside".to_owned();
    };
    match naming.read(request.name, domain, qtype) {
        Asked::Service(asked) => {
            let choice = match asked.choice {
                Choice::All => String::new(),
                Choice::Tag(tag) => format!(" tag {}", text(tag)),
                Choice::Key(key) => with_key_text(key, |key| format!(" key {}", text(key))),
                Choice::Pin(zone) => format!(" pin {}", text(zone)),
                Choice::Prefer(zone) => format!(" prefer {}", text(zone)),
                other => format!(" {other:?}").to_lowercase(),
            };
            let zone = asked
                .zone
                .map_or(String::new(), |zone| format!(" in {}", text(zone)));
            let srv = if asked.is_srv_only { " srv" } else { "" };
            format!("service {}{choice}{zone}{srv}", text(asked.service))
        }
        Asked::Connect(service) => format!("connect {}", text(service)),
        Asked::Ingress(service) => format!("ingress {}", text(service)),
        Asked::Query(labels) => format!("query {}", text(&labels[1..])),
        Asked::Node(labels) => format!("node {}", text(&labels[1..])),
        Asked::Address(address) => format!("address {address}"),
        Asked::Reverse(Reversed::Address(address)) => format!("reverse {address}"),
        Asked::Reverse(Reversed::Block { digits, .. }) => format!("block {digits:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn read(name: &str) -> String {
    read_as(&naming("mall-1", Profile::Modern), name, rtype::A)
}

#[test]
fn every_form_is_read() {
    for (name, asked) in [
        ("consul", "apex"),
        ("CONSUL.", "apex"),
        ("edge.consul", "apex"),
        ("ns.consul", "nameserver"),
        ("web.service.consul", "service web"),
        ("web.service.edge.consul", "service web"),
        ("WEB.Service.Mall-1.Consul", "service web"),
        ("web.service.dc1.consul", "service web"),
        ("web.service.mall-1.dc.consul", "service web"),
        ("web.service.mall-2.consul", "service web in mall-2"),
        ("http.web.service.consul", "service web tag http"),
        (
            "edge.mall-a.web.service.consul",
            "service web tag edge|mall-a",
        ),
        ("_web._tcp.service.consul", "service web"),
        ("_web._http.service.mall-1.consul", "service web tag http"),
        ("a.b.node.mall-1.consul", "node a|b"),
        ("web.connect.consul", "connect web"),
        ("left.out.web.ingress.consul", "ingress web"),
        ("a.b.query.dc1.consul", "query a|b"),
        ("0a000101.addr.consul", "address 10.0.1.1"),
        (
            "fd00000b000000000000000000000001.addr.mall-1.consul",
            "address fd00:b::1",
        ),
        ("service.service.consul", "service service"),
        ("web.service.node.consul", "node web|service"),
        ("1.2.0.10.in-addr.arpa", "reverse 10.0.2.1"),
        ("0.10.in-addr.arpa", "block [10, 0]"),
        ("in-addr.arpa", "block []"),
    ] {
        assert_eq!(read(name), asked, "{name}");
    }
}

#[test]
fn our_own_choices_are_read_and_are_no_tags() {
    for (name, asked) in [
        ("user-42._key.web.service.consul", "service web key user-42"),
        (
            "User.42._KEY.web.service.mall-1.consul",
            "service web key user.42",
        ),
        (
            "mall-2.pin._zone.web.service.consul",
            "service web pin mall-2",
        ),
        (
            "mall-2.prefer._zone.web.service.consul",
            "service web prefer mall-2",
        ),
        ("_info.web.service.consul", "service web info"),
        ("_key.web.service.consul", "service web stem"),
        ("pin._zone.web.service.consul", "service web stem"),
    ] {
        assert_eq!(read(name), asked, "{name}");
        let compat = naming("mall-1", Profile::Compat);
        assert!(
            !read_as(&compat, name, rtype::A).contains("key "),
            "compat knows no such name"
        );
    }
}

#[test]
fn without_its_kind_a_service_is_found_as_by_srv_questions() {
    let compat = naming("mall-1", Profile::Compat);
    for (name, asked) in [
        ("_web._udp.consul", "service web tag udp srv"),
        ("_web._tcp.mall-1.consul", "service web srv"),
    ] {
        assert_eq!(read_as(&compat, name, rtype::SRV), asked, "{name}");
        assert_eq!(read_as(&compat, name, rtype::A), "nothing", "{name}");
        assert_eq!(
            read(name),
            asked,
            "{name}: it exists, whatever is asked of it"
        );
    }
    assert_eq!(read("_web._tcp.mall-1.dc.consul"), "service web srv");
}

#[test]
fn stems_exist_in_modern_and_other_names_do_not() {
    let compat = naming("mall-1", Profile::Compat);
    for name in [
        "service.consul",
        "node.consul",
        "addr.mall-1.consul",
        "mall-1.consul",
        "dc.consul",
        "mall-1.dc.consul",
    ] {
        assert_eq!(read(name), "stem", "{name}");
        assert_eq!(read_as(&compat, name, rtype::A), "nothing", "{name}");
    }
    for name in [
        "web.consul",
        "web.services.consul",
        "web.service.mall-1.mall-1.consul",
        "web.service.mall-1.dc.dc.consul",
        "mall-2.dc.consul",
        "0a00010g.addr.consul",
        "0a0001.addr.consul",
        "x.0a000101.addr.consul",
        "+a000101.addr.consul",
        "ns.ns.consul",
        "a.node.mall-2.consul",
        "01.0.0.10.in-addr.arpa",
        "256.0.0.10.in-addr.arpa",
        "1.2.3.4.5.in-addr.arpa",
        "g.ip6.arpa",
        "home.arpa",
    ] {
        assert_eq!(read(name), "nothing", "{name}");
    }
    for name in [".", "web.service.notconsul", "consul.org", "onsul"] {
        assert_eq!(read(name), "outside", "{name}");
    }
}

#[test]
fn compat_takes_any_suffix_of_an_address_and_no_datacenter_label() {
    let compat = naming("mall-1", Profile::Compat);
    for (name, asked) in [
        ("0a000101.addr.whatever.dc.consul", "address 10.0.1.1"),
        ("0a0001.addr.consul", "noaddress"),
        ("0a0001011.addr.consul", "nothing"),
        ("web.service.mall-1.dc.consul", "nothing"),
        ("ns.consul", "nothing"),
    ] {
        assert_eq!(read_as(&compat, name, rtype::A), asked, "{name}");
    }
}

#[test]
fn a_zone_called_like_a_kind_stays_out_of_targets() {
    let domain = WireName::parse("consul").unwrap();
    let naming = Naming::new(&domain, None, Profile::Modern, &["node".to_owned()]);
    let target = naming.target(b"\x080a000001", "addr").unwrap();
    assert_eq!(target.as_bytes(), b"\x080a000001\x04addr\x06consul");
}

proptest! {
    #[test]
    fn a_written_address_is_read_back(address in any::<IpAddr>()) {
        prop_assert_eq!(read_hex(&hex_label(address)[1..]), Some(address));
    }

    #[test]
    fn an_address_is_in_the_range_of_each_block_that_holds_it(address in any::<IpAddr>(), length in 0_usize..4) {
        let digits = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().iter().flat_map(|octet| [octet >> 4, octet & 15]).collect(),
        };
        let (first, last) = Reversed::range(address.is_ipv4(), &digits[..length]);
        prop_assert!(first <= address && address <= last);
    }

    #[test]
    fn any_name_is_read(labels in prop::collection::vec("[a-z_0-9]{1,8}|_key|_zone|pin|service|node|addr|query|dc1", 1..8), qtype in prop::sample::select(vec![1_u16, 33])) {
        for profile in [Profile::Modern, Profile::Compat] {
            read_as(&naming("mall-1", profile), &format!("{}.consul", labels.join(".")), qtype);
        }
    }
}
