// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mall to ask about: two zones, some services, and snapshots of them through the public store.

use discovery_core::{
    model::{
        Conditions, Node, NodeLabels, NodeName, Protocol, Service, ServiceName, ServicePort, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone, ZoneKey, ZonePolicy,
    },
    store::{Kind, Object, ObjectKey, Reader, SourceId, StateConfig, Update, Writer, channel},
};
use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

/// A writer and reader of one cluster, seen from node `edge-a` in zone `Mall.1`.
pub(crate) struct Mall {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
}

/// Port name, transport and number of an endpoint.
pub(crate) type Port = (&'static str, Protocol, u16);

pub(crate) const HTTP: Port = ("http", Protocol::Tcp, 8080);

impl Mall {
    /// Nothing was read yet.
    pub(crate) fn unread() -> Self {
        let config = StateConfig::new(node_name("edge-a")).policy(ZonePolicy::Strict);
        let (writer, reader) = channel(config);
        Self { writer, reader }
    }

    /// Everything was listed, and there is no service.
    pub(crate) fn empty() -> Self {
        Self::empty_by(SourceId::Kube)
    }

    fn empty_by(source: SourceId) -> Self {
        let mut mall = Self::unread();
        let own = node("edge-a", "Mall.1", &["10.0.0.1", "fd00::1"]);
        mall.upsert(Object::OwnNode(own.clone()));
        mall.upsert(Object::Node(own));
        mall.upsert(Object::Node(node(
            "edge-b.rack.lan",
            "Mall.1",
            &["10.0.0.2"],
        )));
        mall.upsert(Object::Node(node("far", "mall-2", &["10.9.0.1"])));
        mall.synced(source);
        mall
    }

    /// The services that the tests ask for.
    pub(crate) fn open() -> Self {
        Self::open_by(SourceId::Kube)
    }

    /// The same, every list complete by the word of this source.
    pub(crate) fn open_by(source: SourceId) -> Self {
        let mut mall = Self::empty_by(source);
        let admin = ("Admin", Protocol::Tcp, 9000);
        mall.service("default/web", &[HTTP, admin]);
        mall.endpoints(
            "default/web",
            "4",
            &[HTTP, admin],
            &[
                ("web-0", "edge-a", "10.1.0.1"),
                ("web-1", "edge-a", "10.1.0.2"),
                ("web-2", "edge-b.rack.lan", "10.1.0.3"),
                ("web-9", "far", "10.9.1.1"),
            ],
        );
        mall.endpoints(
            "default/web",
            "6",
            &[HTTP, admin],
            &[("web-0", "edge-a", "fd00:1::1")],
        );
        let dns = ("", Protocol::Udp, 53);
        mall.service("infra/names", &[dns]);
        mall.endpoints(
            "infra/names",
            "4",
            &[dns],
            &[("names-0", "edge-a", "10.1.0.9")],
        );
        mall.service("shop/host", &[HTTP]);
        mall.endpoints(
            "shop/host",
            "4",
            &[HTTP],
            &[
                ("host-0", "edge-a", "10.0.0.1"),
                ("host-1", "edge-b.rack.lan", "10.0.0.2"),
            ],
        );
        mall.service("shop/down", &[HTTP]);
        mall.service("shop/away", &[HTTP]);
        mall.endpoints("shop/away", "4", &[HTTP], &[("away-0", "far", "10.9.1.2")]);
        mall.endpoints(
            "shop/headless",
            "4",
            &[],
            &[("headless-0", "edge-a", "10.1.0.20")],
        );
        mall.many("shop/many", 40);
        mall.writer.publish();
        mall
    }

    /// The same with a service of 1,500 endpoints, which costs most of a second to build.
    pub(crate) fn crowded() -> Self {
        let mut mall = Self::open();
        mall.many("shop/crowd", 1_500);
        mall.writer.publish();
        mall
    }

    /// A service with so many endpoints.
    pub(crate) fn many(&mut self, service: &'static str, count: u16) {
        self.service(service, &[HTTP]);
        let endpoints: Vec<_> = (0..count)
            .map(|n| (format!("pod-{n}"), format!("10.2.{}.{}", n / 256, n % 256)))
            .collect();
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(pod, address)| (&**pod, "edge-a", &**address))
            .collect();
        self.endpoints(service, "4", &[HTTP], &endpoints);
    }

    pub(crate) fn upsert(&mut self, object: Object) {
        self.writer.apply(Update::Upsert(SourceId::Kube, object));
    }

    pub(crate) fn synced(&mut self, source: SourceId) {
        for kind in Kind::ALL {
            self.writer.apply(Update::Synced(source, kind));
        }
        self.writer.publish();
    }

    pub(crate) fn service(&mut self, name: &str, ports: &[Port]) {
        let ports = ports.iter().map(|(name, protocol, port)| ServicePort {
            name: (*name).into(),
            protocol: *protocol,
            port: number(*port),
            node_port: None,
        });
        self.upsert(Object::Service(Service {
            ports: ports.collect(),
            ..Service::new(service_name(name))
        }));
    }

    /// A service is there no more.
    pub(crate) fn upsert_gone(&mut self, name: &str) {
        let name = service_name(name);
        let slice = SliceKey::new(name.namespace(), &format!("{}-4", name.name())).unwrap();
        for key in [ObjectKey::Service(name), ObjectKey::Slice(slice)] {
            self.writer.apply(Update::Remove(SourceId::Kube, key));
        }
    }

    /// One slice: pods with their nodes and addresses.
    pub(crate) fn endpoints(
        &mut self,
        service: &str,
        slice: &str,
        ports: &[Port],
        endpoints: &[(&str, &str, &str)],
    ) {
        let ready = Conditions::from_api(None, None, None);
        self.endpoints_as(service, slice, ports, endpoints, ready);
    }

    /// The same in some condition.
    pub(crate) fn endpoints_as(
        &mut self,
        service: &str,
        slice: &str,
        ports: &[Port],
        endpoints: &[(&str, &str, &str)],
        conditions: Conditions,
    ) {
        let service = service_name(service);
        let ports: Arc<[SlicePort]> = ports
            .iter()
            .map(|(name, protocol, port)| SlicePort {
                name: (*name).into(),
                protocol: *protocol,
                port: number(*port),
            })
            .collect();
        let endpoints = endpoints.iter().map(|(pod, node, address)| SliceEndpoint {
            target: Some(TargetRef {
                name: (*pod).into(),
                uid: (*pod).into(),
            }),
            node: Some(node_name(node)),
            conditions,
            ..SliceEndpoint::new(address.parse().unwrap())
        });
        let key = format!("{}-{slice}", service.name());
        self.upsert(Object::Slice(Slice {
            endpoints: endpoints.collect(),
            ports,
            ..Slice::new(SliceKey::new(service.namespace(), &key).unwrap(), service)
        }));
    }
}

pub(crate) fn node(name: &str, zone: &str, addresses: &[&str]) -> Node {
    Node {
        addresses: addresses
            .iter()
            .map(|address| address.parse::<IpAddr>().unwrap())
            .collect(),
        ..Node::new(node_name(name), Some(Zone::parse(zone).unwrap()))
    }
    .with_labels(labels(name))
}

/// One node is labelled beyond its zone.
fn labels(node: &str) -> NodeLabels {
    let label = (
        ZoneKey::parse("site").unwrap(),
        Zone::parse("north").unwrap(),
    );
    (node == "edge-a").then_some(label).into_iter().collect()
}

pub(crate) fn node_name(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

pub(crate) fn service_name(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}
