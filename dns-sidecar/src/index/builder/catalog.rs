// SPDX-License-Identifier: MIT OR Apache-2.0
//! The index of a catalogue, made in one go: there is no snapshot before it to take over from.

use super::{IndexBuilder, lower, pointers, zone};
use crate::{
    Config, Index,
    catalog::{Catalog, CatalogService, InstanceAddress},
    index::{PreparedService, Server},
    names::Naming,
    prepare::{Preparer, RecordSets},
    records::Addresses,
};
use discovery_core::store::{Coverage, Generation};
use std::sync::Arc;

impl IndexBuilder {
    /// The index of a catalogue, which needs no zone and no list to be complete.
    pub fn build_catalog(config: &Config, catalog: &Catalog) -> Index {
        let mut builder = Self::new(config);
        let own = zone::labels(config, &catalog.datacenter);
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
            pointers::add(&mut builder.reverse.instances, &lower(name), addresses);
        }
        let servers = catalog.servers.iter().filter_map(|node| {
            Some(Server {
                name: preparer.node_name(node)?,
                addresses: Addresses::new(node.addresses.iter().copied(), config.node_ttl_seconds),
            })
        });
        let servers = servers.collect();
        Index {
            coverage: Some(Coverage::Synced),
            connect,
            servers,
            #[cfg(feature = "http")]
            origin: crate::index::Origin::Catalog(Arc::new(catalog.clone())),
            ..builder.index(Generation(1))
        }
    }
}
