// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consul's instances as nodes, a service and slices of the model. Pure.
//!
//! The address is the service's, else the node's; critical and maintenance are not ready, passing and warning are ready; the
//! zone is the datacenter or a meta value. A value that is none is refused with instance and field, and costs its instance
//! only: what was known of that instance before stays in force. Which addresses may be called is judged later.

use super::wire::{Entry, RawCheck, RawNode, Reading};
use crate::{
    model::{
        Conditions, ModelError, Node, NodeName, Protocol, Service, ServiceName, ServicePort, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone,
    },
    store::{Kind, Problem},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    str::FromStr,
};

/// What names the zone of an instance.
///
/// ```
/// use discovery_core::source::ZoneFrom;
///
/// assert_eq!("datacenter".parse(), Ok(ZoneFrom::Datacenter));
/// assert_eq!("node-meta:zone".parse(), Ok(ZoneFrom::NodeMeta("zone".into())));
/// assert!("zone".parse::<ZoneFrom>().is_err());
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ZoneFrom {
    /// The datacenter of its node. The default.
    #[default]
    Datacenter,
    /// A meta value of its node.
    NodeMeta(String),
    /// A meta value of the service's instance.
    ServiceMeta(String),
}

impl FromStr for ZoneFrom {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text.split_once(':') {
            None if text == "datacenter" => Ok(Self::Datacenter),
            Some(("node-meta", key)) if !key.is_empty() => Ok(Self::NodeMeta(key.to_owned())),
            Some(("service-meta", key)) if !key.is_empty() => Ok(Self::ServiceMeta(key.to_owned())),
            _ => {
                let why = "it is datacenter, node-meta:KEY or service-meta:KEY";
                Err(ModelError::new("zone_from", text, why))
            }
        }
    }
}

/// How Consul's words are read.
#[derive(Clone, Debug)]
pub(super) struct Dictionary {
    /// The namespace that Consul's services are put in.
    pub(super) namespace: String,
    pub(super) zone_from: ZoneFrom,
    /// Only instances with this tag, when it is set.
    pub(super) tag: Option<String>,
}

/// Node and ID: what names an instance in Consul.
pub(super) type InstanceKey = (String, String);

/// One service as Consul states it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Translated {
    instances: BTreeMap<InstanceKey, Instance>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Instance {
    port: Option<NonZeroU16>,
    endpoint: SliceEndpoint,
    node: Node,
}

impl Dictionary {
    /// The service that a name of Consul stands for: in lower case, since Consul's names have none.
    pub(super) fn service(&self, name: &str) -> Result<ServiceName, ModelError> {
        ServiceName::new(&self.namespace, &name.to_ascii_lowercase())
    }

    /// Reads all instances of a service; `before` is what they were read as last.
    pub(super) fn translate(
        &self,
        service: &ServiceName,
        readings: Vec<Reading>,
        before: Option<&Translated>,
    ) -> Translated {
        let mut translated = Translated::default();
        for reading in readings {
            let (key, instance) = match reading {
                Reading::Whole(entry) if !self.wants(&entry) => continue,
                Reading::Whole(entry) => {
                    let key = (entry.node.node.clone(), entry.service.id.clone());
                    (key, self.instance(&entry))
                }
                Reading::Broken { key, why } => (key, Err(("entry".to_owned(), why))),
            };
            match instance {
                Ok(instance) => drop(translated.instances.insert(key, instance)),
                Err((field, why)) => {
                    translated
                        .problems
                        .push(problem(service, &key, &field, &why));
                    let kept = before.and_then(|before| before.instances.get_key_value(&key));
                    translated
                        .instances
                        .extend(kept.map(|(k, i)| (k.clone(), i.clone())));
                }
            }
        }
        translated.problems.sort();
        translated.problems.truncate(PROBLEMS_MAX);
        translated
    }

    /// Our own node.
    pub(super) fn own_node(&self, name: &NodeName, raw: &RawNode) -> Node {
        let zone = match &self.zone_from {
            ZoneFrom::Datacenter => Some(raw.datacenter.as_str()),
            ZoneFrom::NodeMeta(key) => raw
                .meta
                .as_ref()
                .and_then(|meta| meta.get(key))
                .map(String::as_str),
            ZoneFrom::ServiceMeta(_) => None,
        };
        let zone = zone.and_then(|zone| Zone::parse(zone).ok());
        Node {
            addresses: raw.address.parse().into_iter().collect(),
            ..Node::new(name.clone(), zone)
        }
    }

    /// Whether it answers requests itself and carries the tag.
    fn wants(&self, entry: &Entry) -> bool {
        let is_plain = entry.service.kind.as_ref().is_none_or(String::is_empty);
        let tags = entry.service.tags.iter().flatten();
        is_plain
            && self
                .tag
                .as_ref()
                .is_none_or(|tag| tags.into_iter().any(|own| own == tag))
    }

    fn instance(&self, entry: &Entry) -> Result<Instance, (String, String)> {
        let refuse = |field: &str, why: String| (field.to_owned(), why);
        let (node, service) = (&entry.node, &entry.service);
        let id = &service.id;
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            let why = format!(
                "{:?} is no ID of 1 to {ID_BYTES_MAX} printable bytes",
                short(id)
            );
            return Err(refuse("Service.ID", why));
        }
        let name = NodeName::parse(&node.node.to_ascii_lowercase())
            .map_err(|error| refuse("Node.Node", error.to_string()))?;
        let (field, address) = match service.address.as_str() {
            "" => ("Node.Address", &node.address),
            _ => ("Service.Address", &service.address),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| refuse(field, format!("{:?} is no IP address", short(address))))?;
        let port = u16::try_from(service.port)
            .map_err(|_| refuse("Service.Port", format!("{} is no port", service.port)))?;
        let zone = self
            .zone(entry)
            .map_err(|(field, error)| refuse(&field, error.to_string()))?;
        let conditions = conditions(entry.checks.as_deref().unwrap_or_default())
            .map_err(|why| refuse("Checks.Status", why))?;
        let name = self.node_name(name, zone.as_ref());
        let identity = format!("{id}@{name}");
        Ok(Instance {
            port: NonZeroU16::new(port),
            endpoint: SliceEndpoint {
                target: Some(TargetRef {
                    uid: format!("{identity}/{}", service.create_index).into(),
                    name: identity.into(),
                }),
                node: Some(name.clone()),
                conditions,
                ..SliceEndpoint::new(address)
            },
            node: Node {
                addresses: node.address.parse().into_iter().collect(),
                ..Node::new(name, zone)
            },
        })
    }

    fn zone(&self, entry: &Entry) -> Result<Option<Zone>, (String, ModelError)> {
        let (field, value) = match &self.zone_from {
            ZoneFrom::Datacenter => ("Node.Datacenter".to_owned(), Some(&entry.node.datacenter)),
            ZoneFrom::NodeMeta(key) => {
                let meta = entry.node.meta.as_ref();
                (
                    format!("Node.Meta.{key}"),
                    meta.and_then(|meta| meta.get(key)),
                )
            }
            ZoneFrom::ServiceMeta(key) => {
                let meta = entry.service.meta.as_ref();
                (
                    format!("Service.Meta.{key}"),
                    meta.and_then(|meta| meta.get(key)),
                )
            }
        };
        let zone = value.map(|value| Zone::parse(value)).transpose();
        zone.map_err(|error| (field, error))
    }

    /// The zone is looked up by node. Instances of one host that say their zones themselves may differ, so that their node
    /// is the host as seen in that zone.
    fn node_name(&self, host: NodeName, zone: Option<&Zone>) -> NodeName {
        match (&self.zone_from, zone) {
            (ZoneFrom::ServiceMeta(_), Some(zone)) => {
                let mut label = zone.dns_label().replace('_', "-");
                if label != zone.as_str() {
                    // Zones that read alike as names stay two nodes.
                    let digest = xxhash_rust::xxh3::xxh3_64(zone.as_str().as_bytes());
                    label = format!("{label}-{digest:016x}");
                }
                NodeName::parse(&format!("{host}.{label}")).unwrap_or(host)
            }
            _ => host,
        }
    }
}

impl Translated {
    /// Whether there is no instance: Consul knows no such service.
    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Node and ID of each instance.
    #[cfg(any(test, fuzzing))]
    pub(super) fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.instances.keys()
    }

    /// The nodes of the instances, one a name.
    pub(super) fn nodes(&self) -> BTreeMap<NodeName, Node> {
        let nodes = self.instances.values().map(|instance| &instance.node);
        nodes
            .map(|node| (node.name.clone(), node.clone()))
            .collect()
    }

    /// The service with the ports of its instances.
    pub(super) fn service(&self, name: &ServiceName) -> Service {
        let ports: BTreeSet<_> = self
            .instances
            .values()
            .filter_map(|instance| instance.port)
            .collect();
        let port = |port| ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        };
        Service {
            ports: ports.into_iter().map(port).collect(),
            ..Service::new(name.clone())
        }
    }

    /// A slice for each port, since a slice has one list of ports for all its endpoints.
    pub(super) fn slices(&self, service: &ServiceName) -> BTreeMap<SliceKey, Slice> {
        let mut slices = BTreeMap::new();
        for instance in self.instances.values() {
            let number = instance.port.map_or(0, NonZeroU16::get);
            let name = format!("{}-{number}", service.name());
            let key = SliceKey::new(service.namespace(), &name)
                .expect("a service name and a number make an object name");
            let slice = slices.entry(key.clone()).or_insert_with(|| Slice {
                ports: instance.port.into_iter().map(slice_port).collect(),
                ..Slice::new(key, service.clone())
            });
            slice.endpoints.push(instance.endpoint.clone());
        }
        slices
    }
}

fn slice_port(port: NonZeroU16) -> SlicePort {
    SlicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port,
    }
}

/// Ready while no check is critical. The checks of the node count for all its instances, and maintenance is a critical check
/// of its own (`_node_maintenance`, `_service_maintenance:<id>`).
fn conditions(checks: &[RawCheck]) -> Result<Conditions, String> {
    let mut ready = true;
    for check in checks {
        match check.status.as_str() {
            "passing" | "warning" => {}
            "critical" | "maintenance" => ready = false,
            other => {
                return Err(format!(
                    "{:?} of check {:?} is no status",
                    short(other),
                    short(&check.check_id)
                ));
            }
        }
    }
    Ok(Conditions::from_api(Some(ready), None, None))
}

fn problem(service: &ServiceName, key: &InstanceKey, field: &str, why: &str) -> Problem {
    let (node, id) = (short(&key.0), short(&key.1));
    Problem {
        kind: Kind::Services,
        object: format!("Service {service}"),
        place: format!("Consul instance {id:?} on node {node:?}, {field}"),
        reason: why.to_owned(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// An ID is a name and a number by custom; Kubernetes allows its names as many.
const ID_BYTES_MAX: usize = 253;
const SHOWN_CHARS_MAX: usize = 80;
/// Problems kept of one service.
pub(super) const PROBLEMS_MAX: usize = 20;

#[cfg(test)]
mod tests;
