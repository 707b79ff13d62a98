// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service: its name, its ports, and what its annotations ask of us.

use super::{Balancing, Front, ModelError, Registration, Scope, is_object_name};
use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroU16, str::FromStr, sync::Arc};

/// Namespace and name, as in Kubernetes; written `namespace/name`.
///
/// ```
/// use discovery_core::model::ServiceName;
///
/// let web: ServiceName = "shop/web".parse().unwrap();
/// assert_eq!((web.namespace(), web.name()), ("shop", "web"));
/// assert_eq!("web".parse::<ServiceName>().unwrap().to_string(), "default/web");
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ServiceName {
    /// Checks both parts: DNS labels of at most 63 bytes.
    pub fn new(namespace: &str, name: &str) -> Result<Self, ModelError> {
        for (what, text) in [("namespace", namespace), ("service name", name)] {
            if text.len() > 63 || !is_object_name(text) || text.contains('.') {
                return Err(ModelError::new(
                    what,
                    text,
                    "it is not a lower-case DNS label of at most 63 bytes",
                ));
            }
        }
        Ok(Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name inside the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ServiceName {
    type Err = ModelError;

    /// Reads `namespace/name`, or `name` in the namespace `default`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        Self::new(namespace, name)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.to_string()
    }
}

/// The transport of a port.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub enum Protocol {
    /// TCP, which Kubernetes means when it says nothing.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: listed, never proxied.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port of a service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; empty when the service has one port and gives it none.
    pub name: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// The number that clients inside the cluster use; endpoints have their own.
    pub port: NonZeroU16,
    /// The NodePort that Kubernetes allocated for it.
    pub node_port: Option<NonZeroU16>,
}

/// Which endpoints a caller may be given.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZonePolicy {
    /// Own zone only. An empty zone is an error, not a leak: fail closed. The default.
    #[default]
    Strict,
    /// Own zone while it has a usable endpoint, the other zones otherwise.
    Prefer,
    /// All zones alike.
    Any,
}

impl FromStr for ZonePolicy {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "strict" => Ok(Self::Strict),
            "prefer" => Ok(Self::Prefer),
            "any" => Ok(Self::Any),
            _ => Err(ModelError::new(
                "zone policy",
                text,
                "the policies are strict, prefer and any",
            )),
        }
    }
}

impl fmt::Display for ZonePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Prefer => "prefer",
            Self::Any => "any",
        })
    }
}

/// A port of the host that the proxy opens for a service by annotation (`zonal.dev/host-port`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HostPort(pub NonZeroU16);

/// A preference among endpoints that the Service states itself (`spec.trafficDistribution`, KEP-3015). It orders the
/// endpoints under policy `prefer` and never isolates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficDistribution {
    /// The own zone first: `PreferSameZone`, or `PreferClose` as it was called before.
    SameZone,
    /// The own node first, then the own zone: `PreferSameNode`.
    SameNode,
}

/// The annotation `service.kubernetes.io/topology-mode` (KEP-2433).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopologyMode {
    /// The control plane hints where endpoints should be used.
    Auto,
    /// Hints are not wanted, also where a slice still carries some.
    Disabled,
}

/// What stands behind the name of a service.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// A virtual address, and endpoints behind it.
    #[default]
    Cluster,
    /// Its endpoints alone (`clusterIP: None`).
    Headless,
    /// This domain, which it is another name of (`type: ExternalName`); it has no endpoints.
    ExternalName(Arc<str>),
}

/// What discovery needs of a Kubernetes Service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its ports in the order of the spec.
    pub ports: Vec<ServicePort>,
    /// The policy that the annotation `zonal.dev/zone-policy` asks for; none means the configured default.
    pub zone_policy: Option<ZonePolicy>,
    /// What is near for it; none means the zone under the configured keys.
    ///
    /// The first of these that is there: annotation `zonal.dev/zone-key`, label `superedge.io/grid-uniq-key`, annotations
    /// `topologyKeys` (SuperEdge) and `openyurt.io/topologyKeys`.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Its field `trafficDistribution`.
    #[serde(default)]
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Its annotation `service.kubernetes.io/topology-mode`.
    #[serde(default)]
    pub topology_mode: Option<TopologyMode>,
    /// What stands behind its name.
    #[serde(default)]
    pub kind: ServiceKind,
    /// Whether it selects pods; without, somebody writes its slices by hand.
    #[serde(default)]
    pub has_selector: bool,
    /// Whether the control plane calls endpoints ready that are not (`publishNotReadyAddresses`).
    #[serde(default)]
    pub publish_not_ready: bool,
    /// Whether its NodePorts are ours: label `service.kubernetes.io/service-proxy-name: zonal`.
    pub owns_node_ports: bool,
    /// The host port of the annotation `zonal.dev/host-port`, for the first TCP port.
    pub host_port: Option<HostPort>,
    /// What it asks of the proxy in front of it.
    #[serde(default, skip_serializing_if = "Front::is_default")]
    pub front: Front,
    /// How its endpoints are to be picked.
    #[serde(default)]
    pub balancing: Balancing,
    /// What its annotations ask of its names.
    #[serde(default)]
    pub registration: Option<Arc<Registration>>,
    /// When it was created, as the API writes it (RFC 3339 in UTC, so that texts compare as times do): of two Services that
    /// want one name the older one has it.
    #[serde(default)]
    pub created: Option<Arc<str>>,
    /// Its version, to tell a late word from a new one; 0 where versions are no numbers. Kept beside it and not in it: one
    /// object at two versions says the same.
    #[serde(skip)]
    pub version: u64,
}

impl Service {
    /// A service that has no ports and asks for nothing.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            ports: Vec::new(),
            zone_policy: None,
            scope: None,
            traffic_distribution: None,
            topology_mode: None,
            kind: ServiceKind::default(),
            has_selector: false,
            publish_not_ready: false,
            owns_node_ports: false,
            host_port: None,
            front: Front::default(),
            balancing: Balancing::default(),
            registration: None,
            created: None,
            version: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!(ServiceName::new("default", &"a".repeat(63)).is_ok());
        for bad in ["", "Web", "a.b", "a/b", "-a", "a\u{0}", &"a".repeat(64)] {
            assert!(ServiceName::new("default", bad).is_err(), "{bad:?}");
            assert!(ServiceName::new(bad, "web").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_policy_reads_what_it_prints() {
        for policy in [ZonePolicy::Strict, ZonePolicy::Prefer, ZonePolicy::Any] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("Strict".parse::<ZonePolicy>().is_err());
    }
}
