// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every answer of one generation, prepared before it is asked for.
//!
//! In: a snapshot. Out: an immutable [`Index`] from name to records, which workers share. What did not change since the
//! generation before is taken over, so that a change costs the services that it touched and one map. Pure: no I/O, no
//! clock; what could not be named is returned, for others to tell.

use crate::{
    Config,
    names::{Asked, Naming},
    prepare::{PreparedService, Preparer, RecordSet},
    records::Addresses,
    wire::{LABEL_BYTES_MAX, LowerName, WireName},
};
use discovery_core::{
    model::{Node, ServiceName, Zone},
    store::{Coverage, Generation, Snapshot},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::Arc,
};

/// The answers of one generation. Immutable; shared behind an `Arc`.
///
/// Memory: about 60 bytes for each endpoint, port name and address, and 200 for each service.
#[derive(Debug)]
pub struct Index {
    generation: Generation,
    coverage: Option<Coverage>,
    naming: Naming,
    ttl_seconds: u32,
    minimum_ttl_seconds: u32,
    name_server: Addresses,
    services: ServicesByLabel,
    nodes: NodesByLabels,
    unnamed: Vec<Unnamed>,
}

/// A service that could not have a name, and why.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unnamed {
    /// Another service has the name; the smallest `namespace/name` keeps it.
    Taken {
        /// The service without this name.
        service: ServiceName,
        /// The name.
        label: String,
        /// The service that has it.
        holder: ServiceName,
    },
    /// The name would be longer than the 63 bytes of a label.
    TooLong {
        /// The service without this name.
        service: ServiceName,
        /// The name.
        label: String,
    },
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken {
                service,
                label,
                holder,
            } => {
                write!(f, "{service} is not called {label}: {holder} has that name")
            }
            Self::TooLong { service, label } => {
                write!(
                    f,
                    "{service} is not called {label}: it is longer than 63 bytes"
                )
            }
        }
    }
}

/// Services by their label, in lower case.
type ServicesByLabel = HashMap<Box<[u8]>, Arc<PreparedService>>;

/// Nodes by the labels of their names; a name that only ends other nodes' names has no addresses.
type NodesByLabels = HashMap<Box<[u8]>, Addresses>;

/// What stands behind a name of the domain.
#[derive(Debug)]
pub(crate) enum Found<'i> {
    /// There is no such name.
    Absent,
    /// The name exists and has no records.
    Empty,
    /// The domain itself, with its SOA and NS records.
    Apex,
    /// A node or the name server.
    Addresses(&'i Addresses),
    /// The address that the name spells.
    Literal(IpAddr),
    /// Endpoints of a service.
    Service {
        records: &'i RecordSet,
        is_srv_only: bool,
    },
}

impl Index {
    /// The generation of the snapshot that it was made from.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether anything can be answered: the zone is known and everything was listed once.
    pub fn is_ready(&self) -> bool {
        self.coverage.is_some()
    }

    /// How many names services have.
    pub fn service_names(&self) -> usize {
        self.services.len()
    }

    /// The services that could not have a name.
    pub fn unnamed(&self) -> &[Unnamed] {
        &self.unnamed
    }

    /// Whether no live source has confirmed what it says.
    pub(crate) fn is_stale(&self) -> bool {
        self.coverage == Some(Coverage::Disk)
    }

    pub(crate) fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    pub(crate) fn minimum_ttl_seconds(&self) -> u32 {
        self.minimum_ttl_seconds
    }

    /// The addresses of `ns.<domain>`.
    pub(crate) fn name_server(&self) -> &Addresses {
        &self.name_server
    }

    /// The number of the label at which our domain begins; none for names of others.
    pub(crate) fn domain_in(&self, name: &LowerName) -> Option<usize> {
        self.naming.domain_in(name)
    }

    /// What stands behind a name of the domain. One lookup, no allocation.
    pub(crate) fn find(&self, name: &LowerName, domain: usize) -> Found<'_> {
        match self.naming.read(name, domain) {
            Asked::Apex => Found::Apex,
            Asked::NameServer => Found::Addresses(&self.name_server),
            Asked::Stem => Found::Empty,
            Asked::Nothing => Found::Absent,
            Asked::Address(address) => Found::Literal(address),
            Asked::Node(labels) => self
                .nodes
                .get(labels)
                .map_or(Found::Absent, Found::Addresses),
            Asked::Service {
                service,
                tag,
                is_srv_only,
            } => {
                let prepared = self.services.get(service);
                match prepared.and_then(|prepared| prepared.records(tag)) {
                    // As Consul: a service without a usable endpoint does not exist.
                    Some(records) if !records.is_empty() => Found::Service {
                        records,
                        is_srv_only,
                    },
                    _ => Found::Absent,
                }
            }
        }
    }
}

/// Makes an index of each snapshot, and keeps what the next one can take over.
#[derive(Debug)]
pub struct IndexBuilder {
    config: Config,
    naming: Naming,
    nodes: Vec<Node>,
    prepared: HashMap<ServiceName, Arc<PreparedService>>,
}

impl IndexBuilder {
    /// A builder that has made nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            naming: Naming::new(config.domain_name(), None),
            nodes: Vec::new(),
            prepared: HashMap::new(),
        }
    }

    /// The index of a snapshot.
    ///
    /// Costs a pointer copy for each service, and the preparation of those whose view differs from the last snapshot's;
    /// of all when the zone or one of its nodes changed.
    pub fn build(&mut self, snapshot: &Snapshot) -> Index {
        let zone_label = snapshot.zone().zone().map(Zone::dns_label);
        let naming = Naming::new(self.config.domain_name(), zone_label.as_deref());
        if naming != self.naming || snapshot.nodes() != self.nodes {
            self.prepared.clear();
            self.naming = naming;
            self.nodes = snapshot.nodes().to_vec();
        }
        let ttl_seconds = self.config.ttl_seconds();
        let preparer = Preparer::new(&self.naming, &self.nodes, ttl_seconds);
        let mut before = std::mem::take(&mut self.prepared);
        for view in snapshot.services() {
            let same = before
                .remove(view.name())
                .filter(|old| Arc::ptr_eq(&old.view, view));
            let service = same.unwrap_or_else(|| Arc::new(preparer.prepare(view)));
            self.prepared.insert(view.name().clone(), service);
        }
        let (services, unnamed) = self.named();
        Index {
            generation: snapshot.generation(),
            coverage: snapshot.is_authoritative().then(|| snapshot.coverage()),
            naming: self.naming.clone(),
            name_server: Addresses::new(self.config.name_servers(), ttl_seconds),
            ttl_seconds,
            minimum_ttl_seconds: self.config.soa_minimum_ttl_seconds(),
            services,
            nodes: nodes_by_labels(&preparer, &self.nodes),
            unnamed,
        }
    }

    /// Every service under its names; the smallest `namespace/name` keeps a name that several want.
    fn named(&self) -> (ServicesByLabel, Vec<Unnamed>) {
        let mut names = ServicesByLabel::new();
        let mut unnamed = Vec::new();
        let mut services: Vec<_> = self.prepared.values().collect();
        services.sort_unstable_by(|a, b| a.view.name().cmp(b.view.name()));
        for prepared in services {
            let service = prepared.view.name();
            for label in self.labels_of(service) {
                if label.len() > LABEL_BYTES_MAX {
                    unnamed.push(Unnamed::TooLong {
                        service: service.clone(),
                        label,
                    });
                    continue;
                }
                match names.entry(label.as_bytes().into()) {
                    Entry::Vacant(free) => drop(free.insert(prepared.clone())),
                    Entry::Occupied(taken) => {
                        let holder = taken.get().view.name().clone();
                        unnamed.push(Unnamed::Taken {
                            service: service.clone(),
                            label,
                            holder,
                        });
                    }
                }
            }
        }
        (names, unnamed)
    }

    fn labels_of(&self, service: &ServiceName) -> impl Iterator<Item = String> {
        let full = format!("{}-{}", service.name(), service.namespace());
        let plain = self
            .config
            .is_plain(service.namespace())
            .then(|| service.name().to_owned());
        std::iter::once(full).chain(plain)
    }
}

/// The nodes by the labels of their names. A node called `a.b` makes the name `b` exist, without addresses.
fn nodes_by_labels(preparer: &Preparer<'_>, nodes: &[Node]) -> NodesByLabels {
    let mut by_labels = NodesByLabels::new();
    let named = nodes
        .iter()
        .filter_map(|node| Some((WireName::parse(node.name.as_str())?, node)));
    for (name, node) in named {
        for stem in name.suffixes().skip(1) {
            by_labels.entry(stem.into()).or_default();
        }
        by_labels.insert(name.as_bytes().into(), preparer.node(node));
    }
    by_labels
}
