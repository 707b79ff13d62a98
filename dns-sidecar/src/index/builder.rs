// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes an index of each snapshot, from the one before: a change costs the services that it touched.
//!
//! In: snapshots, or one catalogue. Out: indexes. Pure; what could not be named is returned, for others to tell.

use super::{
    Index, Label, PreparedNode, PreparedService, Queries, Reverse, Server, Services, Sharded,
    Unnamed,
};
use crate::{
    Config,
    catalog::{Catalog, CatalogNode, CatalogService, InstanceAddress, kube},
    freshness::Freshness,
    names::Naming,
    prepare::{Preparer, RecordSets, texts},
    records::Addresses,
    wire::{LABEL_BYTES_MAX, WireName},
    words::WordHash,
};
use discovery_core::{
    model::{Node, NodeName, ServiceName, Zone, ZonePolicy},
    store::{Generation, Mark, ServiceView, Snapshot, Tier},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Makes an index of each snapshot, and keeps what the next one can take over.
#[derive(Debug)]
pub struct IndexBuilder {
    config: Arc<Config>,
    freshness: Arc<Freshness>,
    naming: Naming,
    zone: Option<Zone>,
    queries: Arc<Queries>,
    nodes: Vec<Node>,
    hosts: Arc<kube::Nodes>,
    prepared_nodes: Arc<HashMap<Box<[u8]>, PreparedNode>>,
    /// The last snapshot; none before the first.
    mark: Option<Mark>,
    /// The services of the last snapshot.
    known: HashMap<ServiceName, Known, WordHash>,
    /// Who wants which name.
    wanted: HashMap<Arc<str>, Vec<Arc<ServiceView>>, WordHash>,
    services: Services,
    ingress: Services,
    reverse: Reverse,
    /// By name, who does not have it.
    unnamed: BTreeMap<String, Vec<Unnamed>>,
}

#[derive(Debug)]
struct Known {
    view: Arc<ServiceView>,
    labels: Vec<Arc<str>>,
}

impl IndexBuilder {
    /// A builder that has made nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            naming: naming(config, None),
            queries: Arc::new(Queries::new(config)),
            config: Arc::new(config.clone()),
            freshness: Arc::default(),
            zone: None,
            nodes: Vec::new(),
            hosts: Arc::default(),
            prepared_nodes: Arc::default(),
            mark: None,
            known: HashMap::default(),
            wanted: HashMap::default(),
            services: Services::default(),
            ingress: Services::default(),
            reverse: Reverse::default(),
            unnamed: BTreeMap::new(),
        }
    }

    /// What its indexes say of their age.
    pub(crate) fn freshness(&self) -> &Arc<Freshness> {
        &self.freshness
    }

    /// The index of a snapshot.
    ///
    /// Costs the preparation of the services that changed, and 100 ns for each that did not where the snapshot cannot tell
    /// which those are ([`Snapshot::changed_since`]); the preparation of all when the zone or one of its nodes changed.
    pub fn build(&mut self, snapshot: &Snapshot) -> Index {
        self.follow_zone(snapshot);
        if !self.config.is_denied {
            for label in self.changed_labels(snapshot) {
                self.rename(&label);
            }
        }
        Index {
            coverage: snapshot.is_authoritative().then(|| snapshot.coverage()),
            ..self.index(snapshot.generation())
        }
    }

    /// The index of a catalogue, which needs no zone and no list to be complete.
    pub fn build_catalog(config: &Config, catalog: &Catalog) -> Index {
        let mut builder = Self::new(config);
        let own = zone_labels(config, &catalog.datacenter);
        builder.naming = Naming::new(
            config.domain_name(),
            config.alt_domain_name(),
            config.profile,
            &own,
        );
        let denied = Catalog::default();
        let catalog = if config.is_denied { &denied } else { catalog };
        builder.take_nodes(&catalog.nodes);
        let preparer = Preparer::new(&builder.naming, config);
        let prepare = |name: &String, service: &CatalogService| -> RecordSets {
            preparer.sets(name, &service.instances, service.ttl_seconds)
        };
        let connect = catalog
            .connect
            .iter()
            .map(|(name, service)| (lower(name), prepare(name, service)));
        let connect = Arc::new(connect.collect());
        for (table, services) in [
            (&mut builder.services, &catalog.services),
            (&mut builder.ingress, &catalog.ingress),
        ] {
            for (name, service) in services {
                let sets = prepare(name, service);
                let ttl_seconds = sets.all.ttl_seconds;
                table.insert(
                    lower(name),
                    Arc::new(PreparedService {
                        sets,
                        ttl_seconds,
                        ..PreparedService::default()
                    }),
                );
            }
        }
        for (name, service) in &catalog.services {
            let addresses =
                service
                    .instances
                    .iter()
                    .filter_map(|instance| match instance.address {
                        Some(InstanceAddress::Ip(address)) => Some(address),
                        _ => None,
                    });
            add_pointers(&mut builder.reverse.instances, &lower(name), addresses);
        }
        let servers = catalog.servers.iter().filter_map(|node| {
            Some(Server {
                name: preparer.node_name(node)?,
                addresses: Addresses::new(node.addresses.iter().copied(), config.node_ttl_seconds),
            })
        });
        let servers = servers.collect();
        Index {
            coverage: Some(discovery_core::store::Coverage::Synced),
            connect,
            servers,
            #[cfg(feature = "http")]
            origin: super::Origin::Catalog(Arc::new(catalog.clone())),
            ..builder.index(Generation(1))
        }
    }

    fn index(&self, generation: Generation) -> Index {
        let [_, _, _, _, serial @ ..] = generation.0.to_be_bytes();
        Index {
            config: self.config.clone(),
            freshness: self.freshness.clone(),
            generation,
            serial: u32::from_be_bytes(serial),
            coverage: None,
            naming: self.naming.clone(),
            name_server: Addresses::new(self.config.name_servers(), self.config.node_ttl_seconds),
            servers: Vec::new(),
            services: self.services.clone(),
            connect: Arc::default(),
            ingress: self.ingress.clone(),
            nodes: self.prepared_nodes.clone(),
            queries: self.queries.clone(),
            reverse: self.reverse.clone(),
            unnamed: self.unnamed.values().flatten().cloned().collect(),
            #[cfg(feature = "http")]
            origin: super::Origin::Views(self.hosts.clone()),
        }
    }

    /// Begins anew when our zone or one of its nodes is another.
    fn follow_zone(&mut self, snapshot: &Snapshot) {
        let zone = snapshot.zone().zone();
        if zone == self.zone.as_ref() && snapshot.nodes() == self.nodes {
            return;
        }
        *self = Self {
            naming: naming(&self.config, zone),
            zone: zone.cloned(),
            nodes: snapshot.nodes().to_vec(),
            hosts: if self.config.is_denied {
                Arc::default()
            } else {
                Arc::new(kube::nodes(snapshot.nodes(), &self.config))
            },
            freshness: self.freshness.clone(),
            ..Self::new(&self.config)
        };
        if !self.config.is_denied {
            let hosts: Vec<_> = self
                .nodes
                .iter()
                .filter_map(|node| self.hosts.get(&node.name))
                .cloned()
                .collect();
            self.take_nodes(&hosts);
        }
    }

    /// Every label whose holders may have changed.
    fn changed_labels(&mut self, snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
        let mut touched = BTreeSet::new();
        for name in self.changed_services(snapshot) {
            let view = snapshot.service(&name);
            let before = self.known.get(&name).map(|known| &known.view);
            if before.map(place) == view.map(place) {
                continue;
            }
            self.forget(&name, &mut touched);
            if let Some(view) = view {
                self.note(view, &mut touched);
            }
        }
        self.mark = Some(snapshot.mark());
        touched
    }

    /// The services that may be others than before: those that the snapshot tells, all where it cannot tell.
    fn changed_services(&self, snapshot: &Snapshot) -> Vec<ServiceName> {
        let mark = self.mark.as_ref();
        if let Some(told) = mark.and_then(|mark| snapshot.changed_since(mark)) {
            return told.cloned().collect();
        }
        let gone = self.known.keys();
        let gone = gone.filter(|name| snapshot.service(name).is_none());
        let live = snapshot.services().map(|view| view.name());
        gone.chain(live).cloned().collect()
    }

    /// The view wants its names from now on.
    fn note(&mut self, view: &Arc<ServiceView>, touched: &mut BTreeSet<Arc<str>>) {
        let labels = kube::labels(view, &self.config).into_iter();
        let labels: Vec<Arc<str>> = labels.map(Into::into).collect();
        for label in &labels {
            let wanting = self.wanted.entry(label.clone()).or_default();
            wanting.push(view.clone());
            touched.insert(label.clone());
        }
        let view = view.clone();
        self.known
            .insert(view.name().clone(), Known { view, labels });
    }

    /// The service wants no name any more.
    fn forget(&mut self, gone: &ServiceName, touched: &mut BTreeSet<Arc<str>>) {
        let Some(known) = self.known.remove(gone) else {
            return;
        };
        for label in known.labels {
            if let Some(wanting) = self.wanted.get_mut(&label) {
                wanting.retain(|view| place(view) != place(&known.view));
            }
            self.forget_pointers(&label, &known.view);
            touched.insert(label);
        }
    }

    /// Settles who has the name, and prepares it.
    fn rename(&mut self, label: &str) {
        self.unnamed.remove(label);
        let key = lower(label);
        let Some(wanting) = self
            .wanted
            .get_mut(label)
            .filter(|wanting| !wanting.is_empty())
        else {
            self.wanted.remove(label);
            self.services.remove(&*key);
            self.ingress.remove(&*key);
            return;
        };
        wanting.sort_by(|a, b| age(a).cmp(&age(b)));
        let (holders, others): (Vec<_>, Vec<_>) = if label.len() > LABEL_BYTES_MAX {
            (Vec::new(), wanting.clone())
        } else {
            let shares = kube::is_named_by_wish(&wanting[0]);
            let first = place(&wanting[0]);
            wanting
                .iter()
                .cloned()
                .partition(|view| place(view) == first || (shares && kube::is_named_by_wish(view)))
        };
        if !others.is_empty() {
            let unnamed = others
                .iter()
                .map(|view| unnamed(view, label, holders.first()));
            self.unnamed.insert(label.to_owned(), unnamed.collect());
        }
        for view in others {
            self.forget_pointers(label, &view);
        }
        if holders.is_empty() {
            return;
        }
        let preparer = Preparer::new(&self.naming, &self.config);
        let fronts = kube::fronts(&holders[0], &self.hosts);
        if fronts.instances.is_empty() {
            self.ingress.remove(&*key);
        } else {
            let sets = preparer.sets(label, &fronts.instances, fronts.ttl_seconds);
            let made = PreparedService {
                sets,
                ..PreparedService::default()
            };
            self.ingress.insert(key.clone(), Arc::new(made));
        }
        let made = self.prepare(&preparer, label, holders);
        let addresses: Vec<_> = made
            .views
            .iter()
            .flat_map(|view| own_addresses(view, &self.hosts))
            .collect();
        add_pointers(&mut self.reverse.instances, &key, addresses.into_iter());
        self.services.insert(key, Arc::new(made));
    }

    fn prepare(
        &self,
        preparer: &Preparer<'_>,
        label: &str,
        views: Vec<Arc<ServiceView>>,
    ) -> PreparedService {
        let (mut instances, mut members) = (Vec::new(), Vec::new());
        for view in &views {
            for located in kube::usable(view, &self.hosts) {
                let start = count(instances.len());
                instances.extend(located.instances);
                members.push((
                    Arc::as_ptr(located.endpoint) as usize,
                    start..count(instances.len()),
                ));
            }
            instances.extend(kube::external(view));
        }
        members.sort_unstable_by_key(|(place, _)| *place);
        let ttl = views.iter().find_map(|view| kube::ttl_seconds(view));
        let sets = preparer.sets(label, &instances, ttl);
        let zones = views
            .iter()
            .flat_map(|view| self.zones(preparer, label, view, sets.all.ttl_seconds));
        PreparedService {
            zones: zones.collect(),
            ttl_seconds: sets.all.ttl_seconds,
            sets,
            members,
            views,
        }
    }

    /// The sets of other zones that the policy lets be named, by their labels. Two zones of one label are both refused: a
    /// caller could not know whose endpoints it is given.
    fn zones(
        &self,
        preparer: &Preparer<'_>,
        label: &str,
        view: &ServiceView,
        ttl: u32,
    ) -> BTreeMap<Label, Arc<super::RecordSet>> {
        let mut sets = BTreeMap::new();
        if view.policy() == ZonePolicy::Strict {
            return sets;
        }
        let members = view.tiers().iter().flat_map(Tier::members);
        let zones: BTreeSet<&str> = members
            .filter_map(|member| Some(member.zone()?.as_str()))
            .collect();
        let mut seen = HashSet::new();
        for zone in zones {
            let zone_label = zone_label(&self.config, zone);
            let Ok(zone) = Zone::parse(zone) else {
                continue;
            };
            if !seen.insert(zone_label.clone()) || self.naming.is_ours(zone_label.as_bytes()) {
                sets.remove(zone_label.as_bytes());
                continue;
            }
            let located = kube::of_zone(view, &zone, &self.hosts);
            let instances: Vec<_> = located
                .into_iter()
                .flat_map(|located| located.instances)
                .collect();
            let chosen: Vec<_> = instances
                .iter()
                .map(|instance| (instance, instance.port))
                .collect();
            let (set, _) = preparer.set(label, &chosen, ttl);
            sets.insert(lower(&zone_label), Arc::new(set));
        }
        sets
    }

    fn take_nodes(&mut self, nodes: &[Arc<CatalogNode>]) {
        let preparer = Preparer::new(&self.naming, &self.config);
        let mut prepared = HashMap::new();
        let mut pointers = BTreeMap::new();
        for node in nodes {
            let Some(name) = WireName::parse(&node.name) else {
                continue;
            };
            if !self.config.profile.is_compat() {
                // A node called `a.b` makes the name `b` exist, without records.
                for stem in name.suffixes().skip(1) {
                    let stem_of = prepared.entry(Box::from(stem));
                    stem_of.or_insert_with(|| PreparedNode {
                        is_stem: true,
                        ..PreparedNode::default()
                    });
                }
            }
            let instance = crate::catalog::CatalogInstance::new(node.clone(), 0);
            let chosen: Vec<_> = match node.addresses.get(1..) {
                Some([_, ..]) => node
                    .addresses
                    .iter()
                    .map(|address| crate::catalog::CatalogInstance {
                        address: Some(InstanceAddress::OfNode(*address)),
                        ..instance.clone()
                    })
                    .collect(),
                _ => vec![instance],
            };
            let chosen: Vec<_> = chosen.iter().map(|instance| (instance, 0)).collect();
            let made = PreparedNode {
                set: preparer.set("", &chosen, self.config.node_ttl_seconds).0,
                texts: texts(node),
                is_stem: false,
            };
            prepared.insert(Box::from(name.as_bytes()), made);
            if let Some(name) = preparer.node_name(node) {
                let lan = [node.lan.v4, node.lan.v6].into_iter().flatten();
                for address in node.addresses.iter().copied().chain(lan) {
                    pointers.entry(address).or_insert_with(|| name.clone());
                }
            }
        }
        self.prepared_nodes = Arc::new(prepared);
        self.reverse.nodes = Arc::new(pointers);
    }

    fn forget_pointers(&mut self, label: &str, view: &ServiceView) {
        let key = lower(label);
        for address in own_addresses(view, &self.hosts) {
            let table = &mut self.reverse.instances;
            let Some(labels) = table.get(&address).filter(|labels| labels.contains(&key)) else {
                continue;
            };
            let rest: Arc<[Label]> = labels
                .iter()
                .filter(|known| **known != key)
                .cloned()
                .collect();
            if rest.is_empty() {
                table.remove(&address);
            } else {
                table.insert(address, rest);
            }
        }
    }
}

/// The addresses of a view's endpoints that are not those of their nodes.
fn own_addresses(view: &ServiceView, hosts: &kube::Nodes) -> Vec<IpAddr> {
    let of_node = |node: &NodeName, address: &IpAddr| {
        hosts
            .get(node)
            .is_some_and(|node| node.addresses.contains(address))
    };
    let pairs = view.usable().flat_map(|endpoint| {
        endpoint
            .addresses()
            .iter()
            .map(move |address| (endpoint.node(), *address))
    });
    pairs
        .filter(|(node, address)| !node.is_some_and(|node| of_node(node, address)))
        .map(|(_, address)| address)
        .collect()
}

/// Notes that the addresses belong to the service with this label.
fn add_pointers(
    table: &mut Sharded<IpAddr, Arc<[Label]>>,
    label: &Label,
    addresses: impl Iterator<Item = IpAddr>,
) {
    for address in addresses {
        let known = table.get(&address).map_or(&[][..], |labels| labels);
        if known.contains(label) || known.len() >= POINTERS_MAX {
            continue;
        }
        let mut labels = known.to_vec();
        labels.push(label.clone());
        labels.sort_unstable();
        table.insert(address, labels.into());
    }
}

fn unnamed(view: &ServiceView, label: &str, holder: Option<&Arc<ServiceView>>) -> Unnamed {
    let (service, label) = (view.name().clone(), label.to_owned());
    match holder {
        Some(holder) => Unnamed::Taken {
            service,
            label,
            holder: holder.name().clone(),
        },
        None => Unnamed::TooLong { service, label },
    }
}

/// The older service comes first, then the one with the smaller name; one whose age is not known comes last.
fn age(view: &ServiceView) -> (bool, Option<&str>, &ServiceName) {
    let created = view.spec().and_then(|spec| spec.created.as_deref());
    (created.is_none(), created, view.name())
}

fn naming(config: &Config, zone: Option<&Zone>) -> Naming {
    let labels = zone.map_or_else(Vec::new, |zone| zone_labels(config, zone.as_str()));
    Naming::new(
        config.domain_name(),
        config.alt_domain_name(),
        config.profile,
        &labels,
    )
}

/// The labels of our own zone, the canonical one first.
fn zone_labels(config: &Config, zone: &str) -> Vec<String> {
    std::iter::once(zone_label(config, zone))
        .chain(config.zone_aliases.iter().cloned())
        .collect()
}

fn zone_label(config: &Config, zone: &str) -> String {
    let configured = config
        .zone_labels
        .get(zone)
        .map(|label| label.to_ascii_lowercase());
    let made =
        || Zone::parse(zone).map_or_else(|_| zone.to_ascii_lowercase(), |zone| zone.dns_label());
    configured.unwrap_or_else(made)
}

fn place(view: &Arc<ServiceView>) -> usize {
    Arc::as_ptr(view) as usize
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn lower(text: &str) -> Label {
    text.to_ascii_lowercase().as_bytes().into()
}

/// Services that one address may be named after; the first in order is told.
const POINTERS_MAX: usize = 16;
