// SPDX-License-Identifier: MIT OR Apache-2.0
//! A view of the cluster in Consul's terms (consul-k8s is the model, its faults are not): which names a Service has, and
//! which instances stand behind them. Pure.
//!
//! One instance per usable endpoint and address. A question without a tag means the Service's first port, or the one that
//! its annotation names; every named port is a tag that selects that port, and UDP and SCTP are tags as well.

use super::{
    CatalogInstance, CatalogNode, CatalogService, InstanceAddress, InstanceHealth, InstanceTag,
};
use crate::{Config, words::WordHash};
use discovery_core::{
    model::{
        Node, NodeName, Protocol, Reason, Registration, Service, ServiceKind, Standing, Zone,
        ZoneKey,
    },
    store::{Endpoint, EndpointPort, ServiceView, Tier},
};
use std::{collections::HashMap, sync::Arc};

/// The nodes of a snapshot in Consul's terms, by name.
pub(crate) type Nodes = HashMap<NodeName, Arc<CatalogNode>, WordHash>;

/// The nodes of our zone.
pub(crate) fn nodes(nodes: &[Node], config: &Config) -> Nodes {
    nodes
        .iter()
        .map(|node| (node.name.clone(), Arc::new(self::node(node, config))))
        .collect()
}

fn node(node: &Node, config: &Config) -> CatalogNode {
    let told = config.node_meta_labels.iter().filter_map(|(label, key)| {
        let value = node.labels.get(&ZoneKey::parse(label).ok()?)?;
        Some((key.clone(), value.as_str().to_owned()))
    });
    CatalogNode {
        name: node.name.as_str().to_owned(),
        addresses: node.addresses.clone(),
        meta: told.collect(),
        ..CatalogNode::default()
    }
}

/// The names of the service, without looking whether others want them too.
pub(crate) fn labels(view: &ServiceView, config: &Config) -> Vec<String> {
    let wishes = wishes(view);
    if wishes.is_some_and(|wishes| wishes.is_registered == Some(false)) {
        return Vec::new();
    }
    if let Some(wishes) = wishes.filter(|wishes| !wishes.names.is_empty()) {
        return wishes
            .names
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
    }
    let service = view.name();
    let full = format!("{}-{}", service.name(), service.namespace());
    let plain = config
        .is_plain(service.namespace())
        .then(|| service.name().to_owned());
    std::iter::once(full).chain(plain).collect()
}

/// Whether the names were asked for: several services that ask for one name share it.
pub(crate) fn is_named_by_wish(view: &ServiceView) -> bool {
    wishes(view).is_some_and(|wishes| !wishes.names.is_empty())
}

fn wishes(view: &ServiceView) -> Option<&Registration> {
    view.spec()?.registration.as_deref()
}

/// An endpoint with its instances: one for each address.
pub(crate) struct Located<'v> {
    pub(crate) endpoint: &'v Arc<Endpoint>,
    pub(crate) instances: Vec<CatalogInstance>,
}

/// The endpoints that callers are given, each with its instances.
pub(crate) fn usable<'v>(view: &'v ServiceView, nodes: &'v Nodes) -> Vec<Located<'v>> {
    let mut translator = Translator::new(view, nodes);
    view.usable()
        .map(|endpoint| translator.located(endpoint))
        .collect()
}

/// The endpoints of one zone that callers may be given when they name it: none under the policy `strict`, which keeps to
/// what is near.
pub(crate) fn of_zone<'v>(
    view: &'v ServiceView,
    zone: &Zone,
    nodes: &'v Nodes,
) -> Vec<Located<'v>> {
    let mut translator = Translator::new(view, nodes);
    let members = view.tiers().iter().flat_map(Tier::members);
    let of_zone: Vec<_> = members
        .filter(|member| member.zone() == Some(zone))
        .collect();
    let best = of_zone.iter().map(|member| member.standing()).min();
    let offered = of_zone
        .into_iter()
        .filter(|member| member.standing() != Standing::Out && Some(member.standing()) == best);
    offered
        .map(|endpoint| translator.located(endpoint))
        .collect()
}

/// The service as the outside reaches it: its node port or host port on each node of the zone; none while nothing serves.
pub(crate) fn fronts(view: &ServiceView, nodes: &Nodes) -> CatalogService {
    let port = view.spec().and_then(|spec| front_port(spec));
    let Some(port) = port.filter(|_| view.usable().next().is_some()) else {
        return CatalogService::default();
    };
    let mut hosts: Vec<_> = nodes
        .values()
        .filter(|node| !node.addresses.is_empty())
        .collect();
    hosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    CatalogService {
        instances: hosts
            .into_iter()
            .map(|node| CatalogInstance::new(node.clone(), port))
            .collect(),
        ttl_seconds: wishes(view).and_then(|wishes| wishes.ttl_seconds),
    }
}

fn front_port(spec: &Service) -> Option<u16> {
    let node_port = || spec.ports.iter().find_map(|port| port.node_port);
    let host_port = spec.host_port.map(|port| port.0);
    host_port
        .or_else(|| spec.owns_node_ports.then(node_port).flatten())
        .map(Into::into)
}

/// The service itself, when it is another name of a domain outside.
pub(crate) fn external(view: &ServiceView) -> Option<CatalogInstance> {
    let ServiceKind::ExternalName(domain) = &view.spec()?.kind else {
        return None;
    };
    let port = view.spec()?.ports.first().map_or(0, |port| port.port.get());
    Some(CatalogInstance {
        address: Some(InstanceAddress::Name(domain.to_string())),
        ..CatalogInstance::new(Arc::default(), port)
    })
}

/// What is told of a service over HTTP: the endpoints that callers are given, and those near that serve less well or not at
/// all, which DNS does not tell.
#[cfg(feature = "http")]
pub(crate) fn told(view: &ServiceView, nodes: &Nodes) -> Vec<CatalogInstance> {
    let mut translator = Translator::new(view, nodes);
    let members = view.tiers().iter().flat_map(Tier::members);
    let others = members.filter(|member| !member.is_foreign() && !member.is_usable());
    let meta = wishes(view).map_or(&[][..], |wishes| &wishes.meta);
    let meta: Vec<_> = meta
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let mut told = Vec::new();
    for endpoint in view.usable().chain(others) {
        let health = match endpoint.standing() {
            Standing::Out => InstanceHealth::Critical,
            _ if endpoint.is_usable() => health(endpoint),
            _ => InstanceHealth::Warning,
        };
        let instances = translator.located(endpoint).instances.into_iter();
        told.extend(instances.map(|instance| CatalogInstance {
            node: named_node(instance.node, endpoint),
            health,
            reason: endpoint.reason().as_str(),
            meta: meta.clone(),
            ..instance
        }));
    }
    told.extend(external(view));
    told
}

/// A node that is not one of our zone is told by its name alone.
#[cfg(feature = "http")]
fn named_node(node: Arc<CatalogNode>, endpoint: &Endpoint) -> Arc<CatalogNode> {
    match endpoint.node() {
        Some(name) if node.name.is_empty() => Arc::new(CatalogNode {
            name: name.as_str().to_owned(),
            ..CatalogNode::default()
        }),
        _ => node,
    }
}

/// How long answers about the service may be kept, by its own wish.
pub(crate) fn ttl_seconds(view: &ServiceView) -> Option<u32> {
    wishes(view)?.ttl_seconds
}

struct Translator<'v> {
    nodes: &'v Nodes,
    tags: &'v [Arc<str>],
    weight: u16,
    default_port: Option<&'v str>,
    /// The ports that were told last as tags.
    last: Option<(&'v [EndpointPort], Arc<[InstanceTag]>)>,
}

impl<'v> Translator<'v> {
    fn new(view: &'v ServiceView, nodes: &'v Nodes) -> Self {
        let wishes = wishes(view);
        let first = || Some(&*view.spec()?.ports.first()?.name);
        Self {
            nodes,
            tags: wishes.map_or(&[], |wishes| &wishes.tags),
            weight: wishes
                .and_then(|wishes| wishes.weight)
                .map_or(1, Into::into),
            default_port: wishes
                .and_then(|wishes| wishes.port.as_deref())
                .or_else(first),
            last: None,
        }
    }

    fn located(&mut self, endpoint: &'v Arc<Endpoint>) -> Located<'v> {
        let known = endpoint.node().and_then(|name| self.nodes.get(name));
        let node = known.cloned().unwrap_or_default();
        let instance = CatalogInstance {
            tags: self.tags(endpoint.ports()),
            weights: (self.weight, 1),
            health: health(endpoint),
            ..CatalogInstance::new(node.clone(), self.port(endpoint))
        };
        let instances = endpoint.addresses().iter().map(|address| CatalogInstance {
            // The node's own address is told by the node's name, which stays when the address changes.
            address: Some(if node.addresses.contains(address) {
                InstanceAddress::OfNode(*address)
            } else {
                InstanceAddress::Ip(*address)
            }),
            ..instance.clone()
        });
        Located {
            endpoint,
            instances: instances.collect(),
        }
    }

    /// The port of a question without a tag; 0 without any, as in Consul.
    fn port(&self, endpoint: &Endpoint) -> u16 {
        let ports = endpoint.ports();
        let by_name = |name: &str| ports.iter().find(|port| &*port.name == name);
        let by_number = |text: &str| {
            let number: u16 = text.parse().ok()?;
            ports.iter().find(|port| port.port.get() == number)
        };
        let chosen = self
            .default_port
            .and_then(|port| by_name(port).or_else(|| by_number(port)));
        chosen.or(ports.first()).map_or(0, |port| port.port.get())
    }

    /// One list for all endpoints with the same ports, which are nearly all of a service.
    fn tags(&mut self, ports: &'v [EndpointPort]) -> Arc<[InstanceTag]> {
        match &self.last {
            Some((known, tags)) if std::ptr::eq(*known, ports) => tags.clone(),
            _ => {
                let tags: Arc<[_]> = self.tags_of(ports).into();
                self.last = Some((ports, tags.clone()));
                tags
            }
        }
    }

    fn tags_of(&self, ports: &[EndpointPort]) -> Vec<InstanceTag> {
        // As they are spelled: some readers over HTTP look at it. Names are compared without.
        let own = self.tags.iter().map(|tag| (tag.to_string(), None));
        let names = ports
            .iter()
            .filter(|port| !port.name.is_empty())
            .map(|port| (port.name.to_ascii_lowercase(), Some(port.port.get())));
        let protocols = ports
            .iter()
            .filter_map(|port| Some((protocol_tag(port)?.to_owned(), Some(port.port.get()))));
        let mut tags: Vec<InstanceTag> = Vec::new();
        // A port's name wins over a tag of the same word, and the first port of a protocol stands for it.
        for (name, port) in names.chain(protocols).chain(own) {
            if !tags.iter().any(|tag| tag.name.eq_ignore_ascii_case(&name)) {
                tags.push(InstanceTag { name, port });
            }
        }
        tags
    }
}

fn health(endpoint: &Endpoint) -> InstanceHealth {
    match (endpoint.reason(), endpoint.standing()) {
        (Reason::LastServing, _) | (_, Standing::ServingTerminating) => InstanceHealth::Warning,
        _ => InstanceHealth::Passing,
    }
}

/// TCP is what is meant without a tag.
fn protocol_tag(port: &EndpointPort) -> Option<&'static str> {
    match port.protocol {
        Protocol::Tcp => None,
        Protocol::Udp => Some("udp"),
        Protocol::Sctp => Some("sctp"),
    }
}
