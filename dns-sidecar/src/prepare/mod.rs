// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of one service: one set of all instances, one for each tag, one of those that are well.
//!
//! In: instances in Consul's terms. Out: finished record sets. Pure; linear in instances × tags, and choices that say the
//! same share one set.

mod place;
mod text;

pub(crate) use text::{text_data, texts};

use crate::{
    Config,
    catalog::{CatalogInstance, CatalogNode, InstanceAddress},
    names::{Naming, hex_label, tag_key},
    records::{Addresses, Instance, SrvRecords, TargetKind},
    wire::WireName,
    words::WordHash,
};
use place::Place;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What a name is answered with.
#[derive(Debug, Default)]
pub(crate) struct RecordSet {
    addresses: Addresses,
    /// What a question for any family gets, where tagged addresses make that another thing.
    either: Option<Box<Addresses>>,
    pub(crate) srv: SrvRecords,
    /// Host names that stand for addresses.
    pub(crate) aliases: Vec<WireName>,
    instances: usize,
    pub(crate) ttl_seconds: u32,
}

impl RecordSet {
    /// Whether no instance is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances == 0
    }

    /// The addresses for a question about one family.
    pub(crate) fn of_family(&self) -> &Addresses {
        &self.addresses
    }

    /// The addresses for a question about any.
    pub(crate) fn of_any(&self) -> &Addresses {
        self.either.as_deref().unwrap_or(&self.addresses)
    }
}

/// A tag in the form of a name, and its set.
type Tagged = (Box<[u8]>, Arc<RecordSet>);

/// The sets of a service.
#[derive(Debug, Default)]
pub(crate) struct RecordSets {
    pub(crate) all: Arc<RecordSet>,
    pub(crate) passing: Arc<RecordSet>,
    /// By tag in lower case, ascending.
    tagged: Box<[Tagged]>,
    /// Labels that only end other tags, ascending.
    stems: Box<[Box<[u8]>]>,
    /// For each instance given, the number of its SRV record.
    pub(crate) numbers: Vec<u32>,
}

impl RecordSets {
    /// The set of a tag in lower case.
    pub(crate) fn tagged(&self, tag: &[u8]) -> Option<&Arc<RecordSet>> {
        let at = self
            .tagged
            .binary_search_by(|(known, _)| (**known).cmp(tag));
        Some(&self.tagged.get(at.ok()?)?.1)
    }

    /// Whether the labels end a tag of the service.
    pub(crate) fn is_stem(&self, tag: &[u8]) -> bool {
        self.stems
            .binary_search_by(|known| (**known).cmp(tag))
            .is_ok()
    }
}

/// What the records of every service are made with.
#[derive(Debug)]
pub(crate) struct Preparer<'s> {
    config: &'s Config,
    naming: &'s Naming,
}

/// The instances of a choice, each with its port.
type Selection<'i> = Vec<(&'i CatalogInstance, u16)>;

impl<'s> Preparer<'s> {
    pub(crate) fn new(naming: &'s Naming, config: &'s Config) -> Self {
        Self { config, naming }
    }

    /// All sets of a service that is called `name`.
    pub(crate) fn sets(
        &self,
        name: &str,
        instances: &[CatalogInstance],
        ttl: Option<u32>,
    ) -> RecordSets {
        let ttl = self.ttl_seconds(name, ttl);
        let only_passing = self.config.only_passing;
        let offered: Vec<_> = instances
            .iter()
            .filter(|i| i.is_offered(only_passing))
            .collect();
        let plain: Selection<'_> = offered.iter().map(|i| (*i, i.port)).collect();
        let (all, numbers) = self.set(name, &plain, ttl);
        let numbers = spread(instances, only_passing, numbers);
        let all = Arc::new(all);
        let passing: Selection<'_> = plain
            .iter()
            .copied()
            .filter(|(i, _)| i.is_offered(true))
            .collect();
        let mut made = vec![(plain, all.clone())];
        let passing = share(self, &mut made, name, &passing, ttl);
        let (mut tagged, mut stems) = (BTreeMap::new(), BTreeSet::new());
        let tags: BTreeSet<_> = offered
            .iter()
            .flat_map(|i| &*i.tags)
            .map(|tag| &*tag.name)
            .collect();
        for tag in tags {
            let Some(key) = tag_key(tag) else { continue };
            let chosen = offered.iter().filter_map(|instance| {
                let chosen = instance
                    .tags
                    .iter()
                    .find(|known| known.name.eq_ignore_ascii_case(tag))?;
                Some((*instance, chosen.port.unwrap_or(instance.port)))
            });
            stems.extend(stems_of(tag));
            let chosen = chosen.collect();
            tagged.insert(key, share(self, &mut made, name, &chosen, ttl));
        }
        RecordSets {
            all,
            passing,
            numbers,
            tagged: tagged.into_iter().collect(),
            stems: stems.into_iter().collect(),
        }
    }

    /// One set, and for each instance the number of its SRV record.
    pub(crate) fn set(
        &self,
        name: &str,
        chosen: &[(&CatalogInstance, u16)],
        ttl_seconds: u32,
    ) -> (RecordSet, Vec<u32>) {
        let is_named = |(instance, _): &(&CatalogInstance, u16)| {
            matches!(instance.address, Some(InstanceAddress::Name(_)))
        };
        let own_name = chosen.iter().any(is_named).then(|| self.own_name(name));
        let own_name = own_name.flatten();
        let places: Vec<_> = chosen
            .iter()
            .map(|(instance, _)| Place::of(instance, own_name.as_ref()))
            .collect();
        let addresses = Addresses::new(places.iter().flat_map(Place::families), ttl_seconds);
        let either = places.iter().any(Place::is_tagged).then(|| {
            let either = places.iter().flat_map(Place::either);
            Addresses::new(either, ttl_seconds)
        });
        let mut aliases: Vec<WireName> = Vec::new();
        for alias in places.iter().filter_map(Place::alias) {
            if !aliases.contains(alias) {
                aliases.push(alias.clone());
            }
        }
        let (srv, numbers) = self.srv(chosen, &places, ttl_seconds);
        let set = RecordSet {
            either: either.filter(|either| *either != addresses).map(Box::new),
            addresses,
            srv,
            aliases,
            instances: chosen.len(),
            ttl_seconds,
        };
        (set, numbers)
    }

    /// The SRV records: one for each node, address and port.
    fn srv(
        &self,
        chosen: &[(&CatalogInstance, u16)],
        places: &[Place],
        ttl: u32,
    ) -> (SrvRecords, Vec<u32>) {
        let mut seen = HashMap::<_, _, WordHash>::default();
        let mut instances = Vec::with_capacity(chosen.len());
        let mut numbers = Vec::with_capacity(chosen.len());
        for ((instance, port), place) in chosen.iter().zip(places) {
            let key = (&instance.node.name, &instance.address, *port);
            if let Some(number) = seen.get(&key) {
                numbers.push(*number);
                continue;
            }
            let Some((target, kind)) = self.target(instance, place) else {
                numbers.push(u32::MAX);
                continue;
            };
            let number = u32::try_from(instances.len()).unwrap_or(u32::MAX);
            instances.push(Instance {
                target,
                kind,
                port: *port,
                weight: instance.weight(),
                texts: self.texts(&instance.node),
            });
            seen.insert(key, number);
            numbers.push(number);
        }
        (SrvRecords::new(&instances, ttl), numbers)
    }

    /// The name that stands for where an instance is, and what it resolves to.
    fn target(&self, instance: &CatalogInstance, place: &Place) -> Option<(WireName, TargetKind)> {
        match place {
            Place::Host(name) => Some((name.clone(), TargetKind::Host)),
            Place::Node { .. }
                if instance
                    .node
                    .lan
                    .either()
                    .is_none_or(|lan| instance.node.addresses.first() == Some(&lan)) =>
            {
                let target = self.node_name(&instance.node)?;
                Some((target, TargetKind::Made(instance.node.addresses.clone())))
            }
            Place::Node { .. } | Place::Ip { .. } => {
                let address = place.either().next()?;
                let target = self.naming.target(&hex_label(address), "addr")?;
                Some((target, TargetKind::Made(vec![address])))
            }
        }
    }

    /// The canonical name of a node, without a root.
    pub(crate) fn node_name(&self, node: &CatalogNode) -> Option<WireName> {
        let labels = WireName::spelled(&node.name)?;
        self.naming.target(labels.as_bytes(), "node")
    }

    /// The TXT data about a node, with its name.
    fn texts(&self, node: &CatalogNode) -> Option<(WireName, Vec<Vec<u8>>)> {
        if node.meta.is_empty() || !self.config.has_node_meta_txt {
            return None;
        }
        Some((self.node_name(node)?, texts(node)))
    }

    /// `<name>.service.<domain>`: an instance at this name is meant to be at its node.
    fn own_name(&self, name: &str) -> Option<WireName> {
        let label = WireName::default().label(name.to_ascii_lowercase().as_bytes())?;
        label
            .label(b"service")?
            .labels(self.naming.domain().as_bytes())
    }

    /// How long answers about the service may be kept.
    pub(crate) fn ttl_seconds(&self, name: &str, wish: Option<u32>) -> u32 {
        wish.unwrap_or_else(|| self.config.service_ttls.of(&name.to_ascii_lowercase()))
    }
}

/// The numbers of the offered instances, among all.
fn spread(instances: &[CatalogInstance], only_passing: bool, numbers: Vec<u32>) -> Vec<u32> {
    let mut numbers = numbers.into_iter();
    let mut next = |instance: &CatalogInstance| {
        let offered = instance.is_offered(only_passing);
        offered
            .then(|| numbers.next())
            .flatten()
            .unwrap_or(u32::MAX)
    };
    instances.iter().map(&mut next).collect()
}

/// The set of a selection that was made before, or a new one.
fn share<'i>(
    preparer: &Preparer<'_>,
    made: &mut Vec<(Selection<'i>, Arc<RecordSet>)>,
    name: &str,
    selection: &Selection<'i>,
    ttl: u32,
) -> Arc<RecordSet> {
    let is_same = |known: &Selection<'i>| {
        known.len() == selection.len()
            && known
                .iter()
                .zip(selection)
                .all(|(a, b)| std::ptr::eq(a.0, b.0) && a.1 == b.1)
    };
    if let Some((_, set)) = made.iter().find(|(known, _)| is_same(known)) {
        return set.clone();
    }
    let set = Arc::new(preparer.set(name, selection, ttl).0);
    made.push((selection.clone(), set.clone()));
    set
}

/// The ends of a tag at its dots: names stand below them.
fn stems_of(tag: &str) -> impl Iterator<Item = Box<[u8]>> {
    let ends = tag.match_indices('.').map(|(at, _)| &tag[at + 1..]);
    ends.filter_map(tag_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_dotted_tag_are_stems() {
        let stems: Vec<_> = stems_of("a.b.c").collect();
        assert_eq!(stems, [tag_key("b.c").unwrap(), tag_key("c").unwrap()]);
    }
}
