// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is asked to its JSON, of one moment. Pure.
//!
//! Only our own zone is told of, as in DNS: another datacenter is one to which there is no path, whether it exists or not.
//! Before everything was read once there is an error and no list, which would say that what it lacks does not exist.

use super::{
    asked::{Asked, Endpoint, Refusal},
    filter::Filter,
    ledger::Marks,
    shape::{AgentService, CatalogEntry, Check, HealthEntry, Node, NodeService, status},
    told::{self, Instance, Service},
};
use crate::{
    Index,
    catalog::{CatalogNode, InstanceHealth},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Everything that is told, of one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) index: Arc<Index>,
    pub(super) marks: Marks,
}

/// Who tells it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Our node, where it is known.
    pub(super) node: Option<String>,
    /// Where this interface listens: the leader that there is.
    pub(super) address: SocketAddr,
}

/// An answer: JSON, and the number of its last change where it can be waited on.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) json: Vec<u8>,
    pub(super) index: Option<u64>,
}

impl View {
    /// When what is asked for last changed; none for what nobody can wait on.
    pub(super) fn changed_at(&self, endpoint: &Endpoint) -> Option<u64> {
        match endpoint {
            Endpoint::Services => Some(self.marks.names),
            Endpoint::Nodes => Some(self.marks.nodes),
            Endpoint::Service(name)
            | Endpoint::HealthService(name)
            | Endpoint::HealthChecks(name) => Some(self.marks.of(name)),
            Endpoint::HealthState(_) | Endpoint::HealthNode(_) => Some(self.marks.any),
            Endpoint::Node { .. } => Some(self.marks.any.max(self.marks.nodes)),
            Endpoint::Datacenters
            | Endpoint::Agent
            | Endpoint::AgentServices
            | Endpoint::Leader
            | Endpoint::Peers => None,
        }
    }

    /// Whether to answer now: what is asked for has changed since, or the client's number is of another past than ours.
    pub(super) fn is_news(&self, asked: &Asked) -> bool {
        match (asked.index, self.changed_at(&asked.endpoint)) {
            (Some(seen), Some(changed)) => changed > seen || seen > self.marks.newest(),
            _ => true,
        }
    }

    /// Why nothing can be said to this; none when something can.
    pub(super) fn refusal(&self, asked: &Asked) -> Option<Refusal> {
        if matches!(asked.endpoint, Endpoint::Leader | Endpoint::Peers) {
            return None;
        }
        if !self.index.is_ready() || self.zone().is_none() {
            return Some(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, NOT_READY));
        }
        let datacenter = asked.datacenter.as_deref().map(str::to_ascii_lowercase);
        let is_ours = |label: String| self.index.naming().is_ours(label.as_bytes());
        (!datacenter.is_none_or(is_ours))
            .then(|| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, NO_PATH))
    }

    fn zone(&self) -> Option<&str> {
        self.index.naming().zone()
    }

    /// The answer. Costs the instances of what is asked for; of all for what is on a node or in a state.
    pub(super) fn answer(&self, asked: &Asked, identity: &Identity) -> Result<Answer, Refusal> {
        if let Some(refusal) = self.refusal(asked) {
            return Err(refusal);
        }
        let json = match &asked.endpoint {
            Endpoint::Services => write(&self.names(asked)?),
            Endpoint::Nodes => self.nodes(asked, identity),
            Endpoint::Datacenters => write(&[self.zone()]),
            Endpoint::Service(name) => self.catalog_entries(name, asked, identity),
            Endpoint::HealthService(name) => self.health_entries(name, asked, identity),
            Endpoint::HealthChecks(name) => self.checks(name, asked, identity),
            Endpoint::HealthState(state) => self.checks_in(state, asked),
            Endpoint::HealthNode(name) => self.checks_on(name, asked),
            Endpoint::Node { name, is_list } => self.node(name, *is_list, asked),
            Endpoint::AgentServices => self.own_services(asked, identity),
            Endpoint::Agent => write(&self.agent(identity)),
            Endpoint::Leader if self.index.is_ready() => write(&identity.address.to_string()),
            Endpoint::Leader => write(&""),
            Endpoint::Peers => write(&[identity.address.to_string()]),
        }?;
        Ok(Answer {
            json,
            index: self.changed_at(&asked.endpoint),
        })
    }

    fn names(&self, asked: &Asked) -> Result<BTreeMap<Arc<str>, Vec<Arc<str>>>, Refusal> {
        let known = self.marks.services();
        if asked.node_meta.is_empty() && asked.filter.is_none() {
            let names = known.map(|mark| (mark.name.clone(), mark.tags.to_vec()));
            return Ok(names.collect());
        }
        let zone = self.zone().unwrap_or_default();
        let mut names = BTreeMap::new();
        for mark in known {
            let Some(service) = told::service(&self.index, &mark.name) else {
                continue;
            };
            let mut tags: Vec<Arc<str>> = Vec::new();
            let mut is_there = false;
            for instance in &service.instances {
                let entry = CatalogEntry::new(&service, instance, zone, mark.index);
                if is_on(&instance.of.node, asked) && is_told(&entry, asked.filter.as_ref())? {
                    is_there = true;
                    tags.extend(instance.tags().map(Arc::from));
                }
            }
            tags.sort_unstable();
            tags.dedup();
            if is_there {
                names.insert(mark.name.clone(), tags);
            }
        }
        Ok(names)
    }

    fn nodes(&self, asked: &Asked, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        let mut nodes = told::nodes(&self.index);
        nodes.retain(|node| is_on(node, asked));
        if let Some(near) = near(asked, identity) {
            nodes.sort_by_key(|node| node.name != near);
        }
        let (zone, index) = (self.zone().unwrap_or_default(), self.marks.nodes);
        let nodes = nodes.iter().map(|node| Node::new(node, zone, index));
        write_list(nodes, asked)
    }

    /// Everything that is on a node, service by service in the order of their names, each with its number.
    fn on(&self, node: &str) -> Vec<(Service, u64)> {
        let mut marks: Vec<_> = self.marks.services().collect();
        marks.sort_by(|a, b| a.name.cmp(&b.name));
        let services = marks.into_iter().filter_map(|mark| {
            let mut service = told::service(&self.index, &mark.name)?;
            let is_there = |told: &Instance| told.of.node.name.eq_ignore_ascii_case(node);
            service.instances.retain(is_there);
            (!service.instances.is_empty()).then_some((service, mark.index))
        });
        services.collect()
    }

    fn node(&self, name: &str, is_list: bool, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        let nodes = told::nodes(&self.index);
        let found = nodes
            .iter()
            .find(|node| node.name.eq_ignore_ascii_case(name));
        let Some(node) = found else {
            let nothing = json!({ "Node": null, "Services": null });
            return write(if is_list { &nothing } else { &Value::Null });
        };
        let services = self.on(&node.name);
        let told = services.iter().flat_map(|(service, index)| {
            let told = service.instances.iter();
            told.map(|told| NodeService::new(service, told, *index))
        });
        let told = chosen(told, asked)?;
        let node = Node::new(node, self.zone().unwrap_or_default(), self.marks.nodes);
        let services = if is_list {
            Value::Array(told)
        } else {
            by_id(told)
        };
        write(&json!({ "Node": node, "Services": services }))
    }

    fn checks_on(&self, node: &str, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        let services = self.on(node);
        let checks = services.iter().flat_map(|(service, index)| {
            let told = service.instances.iter();
            told.map(|told| Check::new(service, told, *index))
        });
        write_list(checks, asked)
    }

    fn own_services(&self, asked: &Asked, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        let zone = self.zone().unwrap_or_default();
        let services = identity.node.as_deref().map(|node| self.on(node));
        let services = services.unwrap_or_default();
        let told = services.iter().flat_map(|(service, _)| {
            let told = service.instances.iter();
            told.map(|told| AgentService::new(service, told, zone))
        });
        write(&by_id(chosen(told, asked)?))
    }

    /// The service with those of its instances that are asked for, in their order.
    fn chosen(&self, name: &str, asked: &Asked, identity: &Identity) -> Service {
        let found = told::service(&self.index, name);
        let mut service = found.unwrap_or_else(|| Service {
            name: name.to_owned(),
            instances: Vec::new(),
        });
        service.instances.retain(|told| is_wanted(told, asked));
        if let Some(near) = near(asked, identity) {
            service
                .instances
                .sort_by_key(|told| told.of.node.name != near);
        }
        service
    }

    fn catalog_entries(
        &self,
        name: &str,
        asked: &Asked,
        identity: &Identity,
    ) -> Result<Vec<u8>, Refusal> {
        // The catalogue knows no health, as in Consul.
        let asked = &Asked {
            only_passing: false,
            ..asked.clone()
        };
        let service = self.chosen(name, asked, identity);
        let (zone, index) = (self.zone().unwrap_or_default(), self.marks.of(name));
        let told = service.instances.iter();
        let entries = told.map(|told| CatalogEntry::new(&service, told, zone, index));
        write_list(entries, asked)
    }

    fn health_entries(
        &self,
        name: &str,
        asked: &Asked,
        identity: &Identity,
    ) -> Result<Vec<u8>, Refusal> {
        let service = self.chosen(name, asked, identity);
        let (zone, index) = (self.zone().unwrap_or_default(), self.marks.of(name));
        let told = service.instances.iter();
        let entries = told.map(|told| HealthEntry::new(&service, told, zone, index));
        write_list(entries, asked)
    }

    fn checks(&self, name: &str, asked: &Asked, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        let service = self.chosen(name, asked, identity);
        let index = self.marks.of(name);
        let told = service.instances.iter();
        let checks = told.map(|told| Check::new(&service, told, index));
        write_list(checks, asked)
    }

    fn checks_in(&self, state: &str, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        let mut marks: Vec<_> = self.marks.services().collect();
        marks.sort_by(|a, b| a.name.cmp(&b.name));
        let services = marks
            .iter()
            .filter_map(|mark| Some((told::service(&self.index, &mark.name)?, mark.index)));
        let services: Vec<_> = services.collect();
        let checks = services.iter().flat_map(|(service, index)| {
            let told = service.instances.iter();
            told.filter(|told| state == "any" || status(told.of.health) == state)
                .filter(|told| is_on(&told.of.node, asked))
                .map(|told| Check::new(service, told, *index))
        });
        write_list(checks, asked)
    }

    fn agent(&self, identity: &Identity) -> Value {
        let (zone, node) = (self.zone(), identity.node.as_deref().unwrap_or_default());
        json!({
            "Config": {
                "Datacenter": zone,
                "PrimaryDatacenter": zone,
                "NodeName": node,
                "NodeID": "",
                "Revision": "zonal",
                "Server": false,
                "Version": env!("CARGO_PKG_VERSION"),
            },
            "Member": { "Name": node, "Addr": identity.address.ip().to_string(), "Status": 1, "Tags": { "dc": zone } },
            "Meta": {},
        })
    }
}

fn is_wanted(told: &Instance, asked: &Asked) -> bool {
    let has = |tag: &String| told.tags().any(|own| own.eq_ignore_ascii_case(tag));
    (!asked.only_passing || told.of.health == InstanceHealth::Passing)
        && asked.tags.iter().all(has)
        && is_on(&told.of.node, asked)
}

/// Whether the node has the meta data that is asked for.
fn is_on(node: &CatalogNode, asked: &Asked) -> bool {
    let mut wanted = asked.node_meta.iter();
    wanted.all(|pair| node.meta.contains(pair))
}

fn near<'a>(asked: &'a Asked, identity: &'a Identity) -> Option<&'a str> {
    match asked.near.as_deref()? {
        "_agent" => identity.node.as_deref(),
        node => Some(node),
    }
}

/// Whether the expression lets the entry be told.
fn is_told(entry: &impl Serialize, filter: Option<&Filter>) -> Result<bool, Refusal> {
    let Some(filter) = filter else {
        return Ok(true);
    };
    Ok(filter.holds(&serde_json::to_value(entry).map_err(unwritten)?))
}

/// The entries that the expression lets be told.
fn chosen<T: Serialize>(
    entries: impl Iterator<Item = T>,
    asked: &Asked,
) -> Result<Vec<Value>, Refusal> {
    let values = entries.map(|entry| serde_json::to_value(entry).map_err(unwritten));
    let holds = |entry: &Value| {
        let filter = asked.filter.as_ref();
        filter.is_none_or(|filter| filter.holds(entry))
    };
    values
        .filter(|entry| entry.as_ref().map_or(true, holds))
        .collect()
}

/// A list without an expression is written as it is made.
fn write_list<T: Serialize>(
    entries: impl Iterator<Item = T>,
    asked: &Asked,
) -> Result<Vec<u8>, Refusal> {
    if asked.filter.is_none() {
        return write(&entries.collect::<Vec<_>>());
    }
    write(&chosen(entries, asked)?)
}

fn by_id(services: Vec<Value>) -> Value {
    let named = services.into_iter().filter_map(|service| {
        let id = service.get("ID")?.as_str()?.to_owned();
        Some((id, service))
    });
    Value::Object(named.collect())
}

fn write(told: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(told).map_err(unwritten)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: serde_json::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// As a Consul without servers says it, so that its clients know what to do, and why.
const NOT_READY: &str = "No cluster leader: not everything was read yet, or our zone is unknown";
const NO_PATH: &str = "No path to datacenter";
