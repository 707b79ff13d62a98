// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consul's JSON, to the letter of 1.22: every key of its own, those that mean nothing here with the value of "nothing".

use super::told::{Instance, Service, node_address};
use crate::catalog::{CatalogNode, InstanceHealth};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Node")]
    name: &'a str,
    address: String,
    datacenter: &'a str,
    tagged_addresses: Option<BTreeMap<&'static str, String>>,
    meta: BTreeMap<&'a str, &'a str>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: Vec<&'a str>,
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<BTreeMap<&'static str, TaggedAddress>>,
    meta: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "is_nothing")]
    port: u16,
    weights: Weights,
    enable_tag_override: bool,
    proxy: Proxy,
    connect: Nothing,
    peer_name: &'static str,
    create_index: u64,
    modify_index: u64,
}

/// An entry of `/v1/agent/services`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: Vec<&'a str>,
    meta: BTreeMap<&'a str, &'a str>,
    port: u16,
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<BTreeMap<&'static str, TaggedAddress>>,
    weights: Weights,
    enable_tag_override: bool,
    datacenter: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check<'a> {
    node: &'a str,
    #[serde(rename = "CheckID")]
    id: String,
    name: &'static str,
    status: &'static str,
    notes: &'static str,
    output: &'static str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: Vec<&'a str>,
    r#type: &'static str,
    interval: &'static str,
    timeout: &'static str,
    exposed_port: u16,
    definition: Nothing,
    create_index: u64,
    modify_index: u64,
}

/// An entry of `/v1/health/service`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthEntry<'a> {
    node: Node<'a>,
    service: NodeService<'a>,
    checks: [Check<'a>; 1],
}

/// An entry of `/v1/catalog/service`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CatalogEntry<'a> {
    #[serde(rename = "ID")]
    id: &'static str,
    node: &'a str,
    address: String,
    datacenter: &'a str,
    tagged_addresses: Option<BTreeMap<&'static str, String>>,
    node_meta: BTreeMap<&'a str, &'a str>,
    service_kind: &'static str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: Vec<&'a str>,
    service_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tagged_addresses: Option<BTreeMap<&'static str, TaggedAddress>>,
    service_weights: Weights,
    service_meta: BTreeMap<&'a str, &'a str>,
    service_port: u16,
    service_ports: Option<()>,
    service_socket_path: &'static str,
    service_enable_tag_override: bool,
    service_proxy: Proxy,
    service_connect: Nothing,
    service_locality: Option<()>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u16,
    warning: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaggedAddress {
    address: String,
    port: u16,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Proxy {
    mode: &'static str,
    mesh_gateway: Nothing,
    expose: Nothing,
}

#[derive(Default, Serialize)]
struct Nothing {}

impl<'a> Node<'a> {
    pub(super) fn new(node: &'a CatalogNode, datacenter: &'a str, index: u64) -> Self {
        Self {
            id: "",
            name: &node.name,
            address: node_address(node),
            datacenter,
            tagged_addresses: node_addresses(node),
            meta: texts(&node.meta),
            create_index: index,
            modify_index: index,
        }
    }
}

impl<'a> NodeService<'a> {
    pub(super) fn new(service: &'a Service, instance: &'a Instance, index: u64) -> Self {
        Self {
            id: &instance.id,
            service: &service.name,
            tags: instance.tags().collect(),
            address: &instance.address,
            tagged_addresses: service_addresses(instance),
            meta: texts(&instance.of.meta),
            port: instance.of.port,
            weights: Weights::of(instance),
            enable_tag_override: false,
            proxy: Proxy::default(),
            connect: Nothing {},
            peer_name: "",
            create_index: index,
            modify_index: index,
        }
    }
}

impl<'a> AgentService<'a> {
    pub(super) fn new(service: &'a Service, instance: &'a Instance, datacenter: &'a str) -> Self {
        Self {
            id: &instance.id,
            service: &service.name,
            tags: instance.tags().collect(),
            meta: texts(&instance.of.meta),
            port: instance.of.port,
            address: &instance.address,
            tagged_addresses: service_addresses(instance),
            weights: Weights::of(instance),
            enable_tag_override: false,
            datacenter,
        }
    }
}

impl<'a> HealthEntry<'a> {
    pub(super) fn new(
        service: &'a Service,
        instance: &'a Instance,
        datacenter: &'a str,
        index: u64,
    ) -> Self {
        let of = &instance.of;
        let node = Node {
            address: instance.node_address(),
            ..Node::new(&of.node, datacenter, index)
        };
        Self {
            node,
            service: NodeService::new(service, instance, index),
            checks: [Check::new(service, instance, index)],
        }
    }
}

impl<'a> CatalogEntry<'a> {
    pub(super) fn new(
        service: &'a Service,
        instance: &'a Instance,
        datacenter: &'a str,
        index: u64,
    ) -> Self {
        let of = &instance.of;
        Self {
            id: "",
            node: &of.node.name,
            address: instance.node_address(),
            datacenter,
            tagged_addresses: node_addresses(&of.node),
            node_meta: texts(&of.node.meta),
            service_kind: "",
            service_id: &instance.id,
            service_name: &service.name,
            service_tags: instance.tags().collect(),
            service_address: &instance.address,
            service_tagged_addresses: service_addresses(instance),
            service_weights: Weights::of(instance),
            service_meta: texts(&of.meta),
            service_port: of.port,
            service_ports: None,
            service_socket_path: "",
            service_enable_tag_override: false,
            service_proxy: Proxy::default(),
            service_connect: Nothing {},
            service_locality: None,
            create_index: index,
            modify_index: index,
        }
    }
}

impl<'a> Check<'a> {
    pub(super) fn new(service: &'a Service, instance: &'a Instance, index: u64) -> Self {
        Self {
            node: &instance.of.node.name,
            id: format!("service:{}", instance.id),
            name: "readiness",
            status: status(instance.of.health),
            notes: "",
            output: instance.of.reason,
            service_id: &instance.id,
            service_name: &service.name,
            service_tags: instance.tags().collect(),
            r#type: "",
            interval: "",
            timeout: "",
            exposed_port: 0,
            definition: Nothing {},
            create_index: index,
            modify_index: index,
        }
    }
}

impl Weights {
    fn of(instance: &Instance) -> Self {
        let (passing, warning) = instance.of.weights;
        Self { passing, warning }
    }
}

/// Go leaves out what is nothing, where it is told to.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_nothing(port: &u16) -> bool {
    *port == 0
}

/// Consul's word for it.
pub(super) fn status(health: InstanceHealth) -> &'static str {
    match health {
        InstanceHealth::Passing => "passing",
        InstanceHealth::Warning => "warning",
        InstanceHealth::Critical => "critical",
    }
}

fn texts(pairs: &[(String, String)]) -> BTreeMap<&str, &str> {
    let pairs = pairs.iter();
    pairs.map(|(key, value)| (&**key, &**value)).collect()
}

/// What the catalogue says; else, where a node has addresses of both families, the first of each.
fn node_addresses(node: &CatalogNode) -> Option<BTreeMap<&'static str, String>> {
    let of_family = |is_v4| move |ip: &IpAddr| ip.is_ipv4() == is_v4;
    let first = |is_v4| node.addresses.iter().copied().find(of_family(is_v4));
    let (v4, v6) = match (node.lan.v4, node.lan.v6) {
        (None, None) => match (first(true), first(false)) {
            (v4 @ Some(_), v6 @ Some(_)) => (v4, v6),
            _ => (None, None),
        },
        stated => stated,
    };
    let named = [("lan_ipv4", v4), ("lan_ipv6", v6)];
    let told: BTreeMap<_, _> = named
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?.to_string())))
        .collect();
    (!told.is_empty()).then_some(told)
}

fn service_addresses(instance: &Instance) -> Option<BTreeMap<&'static str, TaggedAddress>> {
    let named = [
        ("lan_ipv4", instance.of.lan.v4),
        ("lan_ipv6", instance.of.lan.v6),
    ];
    let told: BTreeMap<_, _> = named
        .into_iter()
        .filter_map(|(name, address)| {
            let address = address?.to_string();
            let port = instance.of.port;
            Some((name, TaggedAddress { address, port }))
        })
        .collect();
    (!told.is_empty()).then_some(told)
}
