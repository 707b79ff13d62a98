// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names a Kubernetes Service has, and what its annotations change about them.

use crate::{
    asker::Asker,
    mall::{HTTP, Mall, Port, service_name},
    packet::{A, AAAA, ANY, PTR, SRV, TXT, words},
};
use discovery_core::{
    model::{Conditions, HostPort, Protocol, Registration, Service, ServiceKind, ServicePort},
    store::Object,
};
use dns_sidecar::{Config, PreparedQuery};
use std::{num::NonZeroU16, sync::Arc, time::Duration};

const ADMIN: Port = ("admin", Protocol::Tcp, 9000);

fn wishes(change: impl FnOnce(&mut Registration)) -> Arc<Registration> {
    let mut wishes = Registration::default();
    change(&mut wishes);
    Arc::new(wishes)
}

/// A mall in which the service has one endpoint, after a change of its object.
fn mall_with(name: &str, address: &str, ports: &[Port], change: impl FnOnce(&mut Service)) -> Mall {
    let mut mall = Mall::empty();
    add(&mut mall, name, address, ports, change);
    mall.writer.publish();
    mall
}

fn add(
    mall: &mut Mall,
    name: &str,
    address: &str,
    ports: &[Port],
    change: impl FnOnce(&mut Service),
) {
    let mut service = Service::new(service_name(name));
    service.ports = ports
        .iter()
        .map(|(name, protocol, port)| ServicePort {
            name: (*name).into(),
            protocol: *protocol,
            port: NonZeroU16::new(*port).unwrap(),
            node_port: NonZeroU16::new(30_000 + *port % 1_000),
        })
        .collect();
    change(&mut service);
    mall.upsert(Object::Service(service));
    mall.endpoints(name, "4", ports, &[("pod-0", "edge-a", address)]);
}

#[test]
fn an_annotation_names_a_service_and_takes_its_made_names_away() {
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP], |service| {
        service.registration = Some(wishes(|wishes| {
            wishes.names = vec!["Shop".into(), "till".into()];
        }));
    });
    let mut asker = Asker::new(&mut mall);
    assert_eq!(asker.words("shop.service.consul", A).len(), 1);
    assert_eq!(asker.words("till.service.consul", A).len(), 1);
    assert_eq!(asker.words("web.service.consul", A), ["NXDomain"]);
    assert_eq!(asker.words("web-default.service.consul", A), ["NXDomain"]);
}

#[test]
fn a_service_may_have_no_name() {
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP], |service| {
        service.registration = Some(wishes(|wishes| wishes.is_registered = Some(false)));
    });
    let mut asker = Asker::new(&mut mall);
    assert_eq!(asker.words("web.service.consul", A), ["NXDomain"]);
    assert_eq!(asker.words("1.0.1.10.in-addr.arpa", PTR), ["NXDomain"]);
}

#[test]
fn services_that_ask_for_one_name_share_it() {
    let named = |service: &mut Service| {
        service.registration = Some(wishes(|wishes| wishes.names = vec!["web".into()]));
    };
    let mut mall = Mall::empty();
    add(&mut mall, "a/one", "10.1.0.1", &[HTTP], named);
    add(&mut mall, "b/two", "10.1.0.2", &[HTTP], named);
    mall.writer.publish();
    let mut asker = Asker::new(&mut mall);
    assert_eq!(asker.words("web.service.consul", A).len(), 2);
    assert!(asker.index.unnamed().is_empty());
}

#[test]
fn of_two_that_are_called_alike_the_older_one_has_the_name() {
    let mut mall = Mall::empty();
    add(&mut mall, "b/a-a", "10.1.0.1", &[HTTP], |service| {
        service.created = Some("2026-02-01T00:00:00Z".into());
    });
    add(&mut mall, "a-b/a", "10.1.0.2", &[HTTP], |service| {
        service.created = Some("2026-03-01T00:00:00Z".into());
    });
    mall.writer.publish();
    let mut asker = Asker::new(&mut mall);
    let owner = "a-a-b.service.consul";
    assert_eq!(asker.words(owner, A), [format!("{owner}. 0 IN A 10.1.0.1")]);
    let told = asker.index.unnamed()[0].to_string();
    assert_eq!(told, "a-b/a is not called a-a-b: b/a-a has that name");
    mall.upsert_gone("b/a-a");
    mall.writer.publish();
    asker.follow(&mut mall);
    assert_eq!(asker.words(owner, A), [format!("{owner}. 0 IN A 10.1.0.2")]);
    assert!(asker.index.unnamed().is_empty());
}

#[test]
fn tags_ports_weights_and_ttls_come_from_annotations() {
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP, ADMIN], |service| {
        service.registration = Some(wishes(|wishes| {
            wishes.tags = vec!["v1".into(), "edge.mall-a".into()];
            wishes.port = Some("admin".into());
            wishes.weight = NonZeroU16::new(10);
            wishes.ttl_seconds = Some(9);
        }));
    });
    let mut asker = Asker::new(&mut mall);
    let target = "0a010001.addr.mall-1.consul.";
    for (name, port) in [
        ("web.service.consul", 9000),
        ("V1.web.service.consul", 9000),
        ("edge.mall-a.web.service.consul", 9000),
        ("_web._v1.service.consul", 9000),
        ("http.web.service.consul", 8080),
    ] {
        assert_eq!(
            asker.words(name, SRV),
            [format!("{name}. 9 IN SRV 1 10 {port} {target}")]
        );
    }
    assert_eq!(
        asker.words("mall-a.web.service.consul", A),
        ["NODATA"],
        "a tag stands below it"
    );
    assert_eq!(asker.words("v2.web.service.consul", A), ["NXDomain"]);
    let pointer = asker.words("1.0.1.10.in-addr.arpa", PTR);
    assert_eq!(
        pointer,
        ["1.0.1.10.in-addr.arpa. 9 IN PTR web.service.mall-1.consul."]
    );
}

#[test]
fn an_endpoint_that_ends_has_the_weight_of_a_warning() {
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP], |service| {
        service.registration = Some(wishes(|wishes| wishes.weight = NonZeroU16::new(10)));
    });
    mall.endpoints_as(
        "default/web",
        "4",
        &[HTTP],
        &[("pod-0", "edge-a", "10.1.0.1")],
        Conditions::from_api(Some(false), Some(true), Some(true)),
    );
    mall.writer.publish();
    let config = Config::default().queries(vec![PreparedQuery::new("well", "web").only_passing()]);
    let mut asker = Asker::configured(&mut mall, &config);
    let answers = asker.words("web.service.consul", SRV);
    assert!(answers[0].contains(" SRV 1 1 8080 "), "{answers:?}");
    assert_eq!(
        asker.words("well.query.consul", A),
        ["NXDomain"],
        "none is well"
    );
}

#[test]
fn fronts_are_the_hosts_of_the_zone() {
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP], |service| {
        service.host_port = NonZeroU16::new(80).map(HostPort);
    });
    let mut asker = Asker::new(&mut mall);
    let owner = "web.ingress.consul";
    assert_eq!(
        asker.words(owner, SRV),
        [
            format!("{owner}. 0 IN SRV 1 1 80 edge-a.node.mall-1.consul."),
            format!("{owner}. 0 IN SRV 1 1 80 edge-b.rack.lan.node.mall-1.consul."),
        ]
    );
    assert_eq!(asker.words("nosuch.ingress.consul", A), ["NXDomain"]);
    let owned = |service: &mut Service| service.owns_node_ports = true;
    let mut mall = mall_with("default/web", "10.1.0.1", &[HTTP], owned);
    assert!(Asker::new(&mut mall).words(owner, SRV)[0].contains(" 1 1 30080 "));
}

#[test]
fn a_service_outside_is_told_as_an_alias() {
    let mut mall = Mall::empty();
    mall.upsert(Object::Service(Service {
        kind: ServiceKind::ExternalName("api.example.test".into()),
        ..Service::new(service_name("default/api"))
    }));
    mall.writer.publish();
    let mut asker = Asker::new(&mut mall);
    let alias = ["api.service.consul. 0 IN CNAME api.example.test."];
    for qtype in [A, AAAA, TXT, ANY] {
        assert_eq!(asker.words("api.service.consul", qtype), alias);
    }
}

#[test]
fn nodes_and_instances_have_names_by_address_and_others_have_none() {
    let mut asker = Asker::new(&mut Mall::open());
    let pointer = |asker: &mut Asker, name: &str| {
        asker.words(name, PTR)[0]
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        pointer(&mut asker, "1.0.0.10.in-addr.arpa"),
        "edge-a.node.mall-1.consul."
    );
    assert_eq!(
        pointer(&mut asker, "1.0.1.10.in-addr.arpa"),
        "web.service.mall-1.consul."
    );
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(pointer(&mut asker, v6), "edge-a.node.mall-1.consul.");
    assert_eq!(
        asker.words("0.0.10.in-addr.arpa", PTR),
        ["NODATA"],
        "a node stands below it"
    );
    for name in [
        "1.0.9.10.in-addr.arpa",
        "1.1.9.10.in-addr.arpa",
        "9.9.9.10.in-addr.arpa",
    ] {
        assert_eq!(
            asker.words(name, PTR),
            ["NXDomain"],
            "{name}: of another zone, or nobody's"
        );
    }
    assert_eq!(asker.words("1.0.0.10.in-addr.arpa", A), ["NODATA"]);
}

#[test]
fn queries_of_the_configuration_resolve() {
    let config = Config::default()
        .queries(vec![
            PreparedQuery::new("shop.web", "web").ttl_seconds(7),
            PreparedQuery::prefix("geo-"),
        ])
        .datacenter_aliases(&["dc1"]);
    let mut asker = Asker::configured(&mut Mall::open(), &config);
    assert!(asker.words("shop.web.query.consul", A)[0].contains(" 7 IN A "));
    assert_eq!(asker.words("geo-web.query.dc1.consul", A).len(), 3);
    assert_eq!(asker.words("_geo-web._tcp.query.consul", SRV).len(), 4);
    assert_eq!(asker.words("geo-nosuch.query.consul", A), ["NXDomain"]);
    assert_eq!(
        asker.words("web.service.dc1.consul", A).len(),
        3,
        "an alias of our zone"
    );
}

#[test]
fn an_alternate_domain_has_the_same_names() {
    let config = Config::default().alt_domain("Edge.Test").unwrap();
    let mut asker = Asker::configured(&mut Mall::open(), &config);
    let message = asker.ask("web.service.edge.test", SRV);
    assert!(words(&message.answers)[0].ends_with("0a010001.addr.mall-1.edge.test."));
    assert!(words(&message.additionals)[0].starts_with("0a010001.addr.mall-1.edge.test. "));
    assert_eq!(
        asker.words("0a010001.addr.mall-1.edge.test", A).len(),
        1,
        "what was told resolves again"
    );
    let no = asker.ask("nosuch.service.edge.test", A);
    assert!(words(&no.authorities)[0].starts_with("edge.test. "));
}

#[test]
fn node_labels_are_told_when_the_configuration_names_them() {
    let config = Config::default()
        .ttl(Duration::from_secs(5))
        .unwrap()
        .node_meta_labels(&[("site", "zone")]);
    let mut asker = Asker::configured(&mut Mall::open(), &config);
    assert_eq!(
        asker.words("edge-a.node.consul", TXT),
        ["edge-a.node.consul. 5 IN TXT zone=north"]
    );
    assert_eq!(asker.ask("edge-a.node.consul", A).additionals.len(), 1);
    assert_eq!(
        asker.ask("host-shop.service.consul", SRV).additionals.len(),
        4,
        "three addresses and a text"
    );
    assert_eq!(asker.words("edge-b.rack.lan.node.consul", TXT), ["NODATA"]);
}
