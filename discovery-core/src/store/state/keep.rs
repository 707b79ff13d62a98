// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be on disk to serve again without any source, or told to another process that is to serve the same.

use super::State;
use crate::{
    model::{Node, Scope, Service, Slice, SliceKey, Zone, ZoneKey, ZonePolicy},
    store::{Kind, Object, SourceId, packed::PackedSlice},
};
use std::collections::BTreeSet;

/// Everything that makes the view of the zone, for the disk or for another process of this node.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    /// The nodes, the services, and the endpoints that callers of this zone may be given, each with the source that states
    /// it.
    pub objects: Vec<(SourceId, Object)>,
    /// The lists that were read in full.
    pub synced: Vec<(SourceId, Kind)>,
    /// The lists that a source may not read.
    pub denied: Vec<(SourceId, Kind)>,
}

impl State {
    /// What another process needs to build the same view.
    pub(in crate::store) fn stated(&self) -> Stated {
        let synced = self.lists.iter().filter(|(_, list)| list.is_synced);
        let mut synced: Vec<_> = synced.map(|(key, _)| *key).collect();
        synced.sort_unstable();
        let denied = self.denied.iter().flat_map(|(kind, sources)| {
            let pair = |source: &SourceId| (*source, *kind);
            sources.iter().map(pair)
        });
        // The view has them, and the peer is told of no other moment.
        let leavers = self.grace.all().filter_map(|leavers| {
            let key = leavers.key.beside(leavers.number);
            let slice = self.near_part(self.zone().zone()?, &key, &leavers.part);
            Some((leavers.source, Object::Slice(slice)))
        });
        let mut objects = self.objects(|_| true);
        objects.extend(leavers);
        Stated {
            objects,
            synced,
            denied: denied.collect(),
        }
    }

    /// What has to be on disk to serve again without any source: the nodes that are near for any service, the services,
    /// and the endpoints that callers of this zone may be given, each with the source that states it.
    pub(in crate::store) fn objects_of_zone(&self) -> Vec<(SourceId, Object)> {
        let keys = self.keys_of_services();
        self.objects(|node| self.is_worth_keeping(node, &keys))
    }

    fn objects(&self, wants: impl Fn(&Node) -> bool) -> Vec<(SourceId, Object)> {
        let zone = self.zone();
        let own = self.known_own_node();
        let own = own.map(|(source, node)| (source, Object::OwnNode(node.clone())));
        let nodes = self.nodes.iter().filter(|(_, node)| wants(node));
        let slices = zone.zone().into_iter().flat_map(|zone| {
            let near_part = |((key, source), slice): (&(SliceKey, SourceId), &PackedSlice)| {
                (*source, Object::Slice(self.near_part(zone, key, slice)))
            };
            self.slices.iter().map(near_part)
        });
        let services = self.services.iter();
        own.into_iter()
            .chain(nodes.map(|((_, source), node)| (*source, Object::Node(node.clone()))))
            .chain(
                services.map(|((_, source), service)| {
                    (*source, Object::Service(Service::clone(service)))
                }),
            )
            .chain(slices)
            .collect()
    }

    /// The slice without the endpoints that nobody here may be given.
    fn near_part(&self, zone: &Zone, key: &SliceKey, slice: &PackedSlice) -> Slice {
        let choice = self.choice(&slice.service);
        let spec = self.spec_of(&slice.service, &choice);
        let near = self.near(zone, spec);
        let is_strict = self.policy_by(spec) == ZonePolicy::Strict;
        slice.unpack(key, &self.names, |endpoint| {
            !is_strict || self.may_be_near(&near, endpoint)
        })
    }

    /// The label keys by which some service finds what is near.
    fn keys_of_services(&self) -> BTreeSet<&ZoneKey> {
        let scopes = self.services.values().filter_map(|s| s.scope.as_ref());
        scopes.flat_map(Scope::zone_keys).collect()
    }

    /// Whether the node is of our zone, or shares with ours a label that some service goes by.
    fn is_worth_keeping(&self, node: &Node, keys: &BTreeSet<&ZoneKey>) -> bool {
        let zone = self.zone();
        let is_of_zone = zone.zone().is_some() && node.zone.as_ref() == zone.zone();
        let own = self.known_own_node().map(|(_, own)| &own.labels);
        let shares = |key: &&ZoneKey| {
            let label = node.labels.get(key);
            label.is_some() && label == own.and_then(|own| own.get(key))
        };
        is_of_zone || keys.iter().any(shares)
    }
}
