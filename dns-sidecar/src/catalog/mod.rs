// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is to be asked for, in Consul's terms: nodes, and services with instances on them.
//!
//! Every source of answers is told in these terms first: a snapshot of the cluster (`kube`), or the catalogue of a Consul
//! as tests replay it. Plain values; what they mean on the wire is decided behind them.

pub(crate) mod kube;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Nodes and services of one zone.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The label of the zone in names: Consul's datacenter.
    pub datacenter: String,
    /// The nodes.
    pub nodes: Vec<Arc<CatalogNode>>,
    /// The services by name.
    pub services: BTreeMap<String, CatalogService>,
    /// The mesh proxies of a service, by its name (`<service>.connect`).
    pub connect: BTreeMap<String, CatalogService>,
    /// The fronts through which a service is reached from outside (`<service>.ingress`).
    pub ingress: BTreeMap<String, CatalogService>,
    /// The nodes that are name servers; without any, `ns.<domain>` is the one.
    pub servers: Vec<Arc<CatalogNode>>,
}

/// A host.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct CatalogNode {
    /// Its name, dots and capitals allowed.
    pub name: String,
    /// Its addresses, the first of which is the one that it is known by.
    pub addresses: Vec<IpAddr>,
    /// A host name in place of addresses.
    pub host: Option<String>,
    /// Addresses that win over the first where their family is asked for.
    pub lan: LanAddresses,
    /// What is said of it in TXT records.
    pub meta: Vec<(String, String)>,
}

/// Consul's tagged addresses `lan_ipv4` and `lan_ipv6`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct LanAddresses {
    /// The IPv4 address.
    pub v4: Option<IpAddr>,
    /// The IPv6 address.
    pub v6: Option<IpAddr>,
}

/// A service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CatalogService {
    /// Its instances, also those that are not to be told of.
    pub instances: Vec<CatalogInstance>,
    /// How long answers about it may be kept; none means by configuration.
    pub ttl_seconds: Option<u32>,
}

/// Where an instance is reached, when not at its node's address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum InstanceAddress {
    /// An address.
    Ip(IpAddr),
    /// This one of its node's addresses: it is called like the node.
    OfNode(IpAddr),
    /// A host name, told as CNAME.
    Name(String),
}

/// How an instance is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum InstanceHealth {
    /// Well.
    #[default]
    Passing,
    /// It serves, and should not be preferred.
    Warning,
    /// It does not serve.
    Critical,
}

/// One instance of a service.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CatalogInstance {
    /// Its host.
    pub node: Arc<CatalogNode>,
    /// What it is called among those of its node, over HTTP alone; none means `<service>:<address>:<port>`.
    pub id: Option<String>,
    /// Where it is reached; none means at its node's address.
    pub address: Option<InstanceAddress>,
    /// Addresses that win where their family is asked for.
    pub lan: LanAddresses,
    /// Its port; 0 when it has none.
    pub port: u16,
    /// What it can be chosen by.
    pub tags: Arc<[InstanceTag]>,
    /// Its weight while it is well, and while it is not.
    pub weights: (u16, u16),
    /// How it is.
    pub health: InstanceHealth,
    /// Why, in a word; over HTTP alone.
    pub reason: &'static str,
    /// What is said of it; over HTTP alone.
    pub meta: Vec<(String, String)>,
}

/// A word by which instances are chosen, and the port that it stands for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct InstanceTag {
    /// The word; dots allowed.
    pub name: String,
    /// The port of instances so chosen; none means theirs.
    pub port: Option<u16>,
}

impl CatalogInstance {
    /// An instance at its node's address, well and without tags.
    pub fn new(node: Arc<CatalogNode>, port: u16) -> Self {
        Self {
            node,
            id: None,
            address: None,
            lan: LanAddresses::default(),
            port,
            tags: Arc::default(),
            weights: (1, 1),
            health: InstanceHealth::default(),
            reason: "",
            meta: Vec::new(),
        }
    }

    /// Whether it is told of.
    pub(crate) fn is_offered(&self, only_passing: bool) -> bool {
        match self.health {
            InstanceHealth::Passing => true,
            InstanceHealth::Warning => !only_passing,
            InstanceHealth::Critical => false,
        }
    }

    /// The weight that counts now.
    pub(crate) fn weight(&self) -> u16 {
        match self.health {
            InstanceHealth::Passing => self.weights.0,
            InstanceHealth::Warning | InstanceHealth::Critical => self.weights.1,
        }
    }
}

impl LanAddresses {
    /// The address that wins where either family may.
    pub(crate) fn either(self) -> Option<IpAddr> {
        self.v6.or(self.v4)
    }
}
