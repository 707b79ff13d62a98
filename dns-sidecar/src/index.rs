// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every answer of one generation, prepared before it is asked for.
//!
//! In: names with their records, from [`IndexBuilder`]. Out: an immutable [`Index`] that workers share, and from it what
//! stands behind a name. Pure: no I/O, no clock, no allocation.

use crate::{
    Config,
    freshness::Freshness,
    names::Naming,
    prepare::{RecordSet, RecordSets},
    records::Addresses,
    wire::WireName,
};
use discovery_core::store::{Coverage, Endpoint, Generation, ServiceView};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

mod builder;
mod found;
mod label;
mod labels;
mod queries;
mod sharded;
mod unnamed;

pub use builder::IndexBuilder;
pub(crate) use found::Found;
pub(crate) use label::Label;
pub(crate) use labels::Labels;
pub(crate) use queries::Queries;
pub(crate) use sharded::Sharded;
pub use unnamed::Unnamed;

/// The answers of one generation. Immutable; shared behind an `Arc`.
///
/// Memory: about 60 bytes for each endpoint, tag and address, and 200 for each service.
#[derive(Debug)]
pub struct Index {
    pub(crate) config: Arc<Config>,
    pub(crate) freshness: Arc<Freshness>,
    generation: Generation,
    serial: u32,
    coverage: Option<Coverage>,
    naming: Naming,
    name_server: Addresses,
    servers: Vec<Server>,
    services: Services,
    connect: Arc<HashMap<Label, RecordSets>>,
    ingress: Services,
    nodes: Arc<HashMap<Box<[u8]>, PreparedNode>>,
    queries: Arc<Queries>,
    reverse: Reverse,
    unnamed: Arc<[Unnamed]>,
    #[cfg(feature = "http")]
    pub(crate) origin: Origin,
}

/// What the answers were made from, for those who tell it in other words.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The views of its services, and these nodes.
    Views(Arc<crate::catalog::kube::Nodes>),
    /// A catalogue.
    Catalog(Arc<crate::catalog::Catalog>),
}

/// Services by their label.
pub(crate) type Services = Sharded<Label, Arc<PreparedService>>;

/// A service, ready to be asked for.
#[derive(Debug, Default)]
pub(crate) struct PreparedService {
    pub(crate) sets: RecordSets,
    /// The views that it was made from; none for a catalogue.
    pub(crate) views: Vec<Arc<ServiceView>>,
    /// The SRV records of each endpoint, by the endpoint's place in memory, ascending.
    pub(crate) members: Vec<(usize, std::ops::Range<u32>)>,
    /// The endpoints of other zones that the policy lets be named.
    pub(crate) zones: BTreeMap<Label, Arc<RecordSet>>,
    pub(crate) ttl_seconds: u32,
}

impl PreparedService {
    /// The numbers of an endpoint's SRV records among those of all.
    pub(crate) fn numbers(&self, endpoint: &Arc<Endpoint>) -> &[u32] {
        let place = Arc::as_ptr(endpoint) as usize;
        let at = self
            .members
            .binary_search_by_key(&place, |(place, _)| *place);
        let range = at
            .ok()
            .and_then(|at| self.members.get(at))
            .map(|(_, range)| range);
        range
            .and_then(|range| {
                self.sets
                    .numbers
                    .get(range.start as usize..range.end as usize)
            })
            .unwrap_or_default()
    }
}

/// A node, ready to be asked for; one that only ends other nodes' names has nothing.
#[derive(Debug, Default)]
pub(crate) struct PreparedNode {
    pub(crate) set: RecordSet,
    pub(crate) texts: Vec<Vec<u8>>,
    pub(crate) is_stem: bool,
}

/// A name server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: WireName,
    pub(crate) addresses: Addresses,
}

/// The names of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reverse {
    /// By address, ascending, so that a block is looked up as well.
    pub(crate) nodes: Arc<BTreeMap<IpAddr, WireName>>,
    pub(crate) instances: Sharded<IpAddr, Labels>,
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

    /// The number in the SOA record: the generation, as long as nothing else is set.
    #[must_use]
    pub fn with_serial(mut self, serial: u32) -> Self {
        self.serial = serial;
        self
    }

    /// Whether what it says is old: kept from the last run, or of a source that is cut off for longer than it may be.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_from_disk() || self.freshness.is_stale()
    }

    /// Whether no live source has confirmed what it says.
    pub(crate) fn is_from_disk(&self) -> bool {
        self.coverage == Some(Coverage::Disk)
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// The addresses of `ns.<domain>`.
    pub(crate) fn name_server(&self) -> &Addresses {
        &self.name_server
    }

    /// The name servers; none means `ns.<domain>`.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The services by their labels.
    #[cfg(feature = "http")]
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    pub(crate) fn naming(&self) -> &Naming {
        &self.naming
    }
}
