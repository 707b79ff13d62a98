// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of one service: one set without a tag and one for each tag.
//!
//! In: the view of a service and the nodes of the zone. Out: finished record sets. Pure; linear in endpoints × tags, and
//! tags that say the same share one set.

use crate::{
    names::{Naming, hex_label},
    records::{Addresses, Instance, SrvRecords},
    wire::WireName,
};
use discovery_core::{
    model::{Node, NodeName, Protocol},
    store::{Endpoint, EndpointPort, ServiceView},
};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// What a name with or without a tag is answered with.
#[derive(Debug, Default)]
pub(crate) struct RecordSet {
    pub(crate) addresses: Addresses,
    pub(crate) srv: SrvRecords,
}

impl RecordSet {
    /// Whether no endpoint is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.srv.len() == 0
    }
}

/// A service, ready to be asked for.
#[derive(Debug)]
pub(crate) struct PreparedService {
    pub(crate) view: Arc<ServiceView>,
    untagged: Arc<RecordSet>,
    tagged: HashMap<Box<[u8]>, Arc<RecordSet>>,
}

impl PreparedService {
    /// The records for the tag in lower case, or those of all endpoints; none when no endpoint has the tag.
    pub(crate) fn records(&self, tag: Option<&[u8]>) -> Option<&RecordSet> {
        match tag {
            None => Some(&self.untagged),
            Some(tag) => self.tagged.get(tag).map(AsRef::as_ref),
        }
    }
}

/// What the records of every service are made with.
#[derive(Debug)]
pub(crate) struct Preparer<'s> {
    naming: &'s Naming,
    ttl_seconds: u32,
    nodes: HashMap<&'s NodeName, &'s Node>,
}

impl<'s> Preparer<'s> {
    pub(crate) fn new(naming: &'s Naming, nodes: &'s [Node], ttl_seconds: u32) -> Self {
        let nodes = nodes.iter().map(|node| (&node.name, node)).collect();
        Self {
            naming,
            ttl_seconds,
            nodes,
        }
    }

    /// The records of a service.
    pub(crate) fn prepare(&self, view: &Arc<ServiceView>) -> PreparedService {
        let endpoints: Vec<_> = view.usable().map(AsRef::as_ref).collect();
        let first_port = view
            .spec()
            .and_then(|spec| spec.ports.first())
            .map(|port| &*port.name);
        let all: Selection = endpoints
            .iter()
            .map(|e| Some(default_port(e, first_port)))
            .collect();
        let untagged = Arc::new(self.records(&endpoints, &all));
        let mut made = vec![(all, untagged.clone())];
        let mut tagged = HashMap::new();
        for tag in tags(&endpoints) {
            let selection: Selection = endpoints.iter().map(|e| tagged_port(e, &tag)).collect();
            let records = match made.iter().find(|(same, _)| *same == selection) {
                Some((_, records)) => records.clone(),
                None => Arc::new(self.records(&endpoints, &selection)),
            };
            made.push((selection, records.clone()));
            tagged.insert(tag.into_bytes().into(), records);
        }
        PreparedService {
            view: view.clone(),
            untagged,
            tagged,
        }
    }

    /// The records of a node, which are also those of the targets that bear its name.
    pub(crate) fn node(&self, node: &Node) -> Addresses {
        Addresses::new(node.addresses.iter().copied(), self.ttl_seconds)
    }

    fn records(&self, endpoints: &[&Endpoint], selection: &Selection) -> RecordSet {
        let selected: Vec<_> = endpoints
            .iter()
            .zip(selection)
            .filter_map(|(endpoint, port)| Some((*endpoint, (*port)?)))
            .collect();
        let addresses = selected
            .iter()
            .flat_map(|(endpoint, _)| endpoint.addresses())
            .copied();
        let addresses = Addresses::new(addresses, self.ttl_seconds);
        let mut targets = HashMap::new();
        let mut instances = Vec::with_capacity(selected.len());
        for (endpoint, port) in &selected {
            for address in endpoint.addresses() {
                let Some((target, records)) = self.target(endpoint, *address) else {
                    continue;
                };
                instances.push(Instance {
                    target: target.clone(),
                    port: *port,
                });
                targets.insert(target, records);
            }
        }
        let mut take = |target: &WireName| targets.remove(target).unwrap_or_default();
        let srv = SrvRecords::new(instances, self.ttl_seconds, &mut take);
        RecordSet { addresses, srv }
    }

    /// The name that resolves to an endpoint's address, and all that it resolves to: its node's when the address is the
    /// node's own, since that name stays when the address changes, else the name that spells the address.
    fn target(&self, endpoint: &Endpoint, address: IpAddr) -> Option<(WireName, Addresses)> {
        let node = endpoint.node().and_then(|name| self.nodes.get(name));
        if let Some(node) = node.filter(|node| node.addresses.contains(&address))
            && let Some(target) = self.node_target(node)
        {
            return Some((target, self.node(node)));
        }
        let target = self.naming.target(&hex_label(address), "addr")?;
        Some((target, Addresses::new([address], self.ttl_seconds)))
    }

    fn node_target(&self, node: &Node) -> Option<WireName> {
        let labels = WireName::parse(node.name.as_str())?;
        self.naming.target(labels.as_bytes(), "node")
    }
}

/// The port of each endpoint, none when the endpoint is left out.
type Selection = Vec<Option<u16>>;

/// The port of a question without a tag: the service's first, else the endpoint's, else 0 as in Consul.
fn default_port(endpoint: &Endpoint, first_port: Option<&str>) -> u16 {
    let ports = endpoint.ports();
    let named = ports.iter().find(|port| Some(&*port.name) == first_port);
    named.or(ports.first()).map_or(0, |port| port.port.get())
}

/// The port that a tag selects: the one of that name, else the first of that protocol.
fn tagged_port(endpoint: &Endpoint, tag: &str) -> Option<u16> {
    let ports = endpoint.ports();
    let named = ports
        .iter()
        .find(|port| port.name.eq_ignore_ascii_case(tag));
    let spoken = || ports.iter().find(|port| protocol_tag(port) == Some(tag));
    named.or_else(spoken).map(|port| port.port.get())
}

/// TCP is what is meant without a tag.
fn protocol_tag(port: &EndpointPort) -> Option<&'static str> {
    match port.protocol {
        Protocol::Tcp => None,
        Protocol::Udp => Some("udp"),
        Protocol::Sctp => Some("sctp"),
    }
}

fn tags(endpoints: &[&Endpoint]) -> BTreeSet<String> {
    let ports = || endpoints.iter().flat_map(|endpoint| endpoint.ports());
    let names = ports()
        .map(|port| port.name.to_ascii_lowercase())
        .filter(|name| !name.is_empty());
    let protocols = ports().filter_map(protocol_tag).map(str::to_owned);
    names.chain(protocols).collect()
}
