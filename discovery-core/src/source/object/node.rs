// SPDX-License-Identifier: MIT OR Apache-2.0
//! Node: name, zone label, addresses of type `InternalIP`.

use super::{Flaw, Flaws, Format, Meta, Raw, meta::nullable};
use crate::{
    model::{Node, NodeName, Zone, ZoneKey, ZoneKeys},
    store::Object,
};
use serde::Deserialize;
use std::net::IpAddr;

/// A Node as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source) struct RawNode {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    status: RawStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawStatus {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Option<RawAddress>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawAddress {
    r#type: Option<String>,
    address: Option<String>,
}

impl Raw for RawNode {
    const FORMAT: Format = Format::Node;
    const LISTS: &'static [&'static str] = &["/status/addresses"];

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn zone_key(&self, keys: &ZoneKeys) -> Option<ZoneKey> {
        keys.resolve(|key| self.metadata.label(key))
            .map(|(key, _)| key.clone())
    }

    fn translate(&self, keys: &ZoneKeys, flaws: &mut Flaws) -> Result<Vec<Object>, Flaw> {
        Ok(vec![Object::Node(node(self, keys, flaws)?)])
    }
}

/// The node; its zone is none when no label names one, or one that is no zone.
fn node(raw: &RawNode, keys: &ZoneKeys, flaws: &mut Flaws) -> Result<Node, Flaw> {
    let name =
        NodeName::parse(raw.metadata.name()).map_err(|error| Flaw::new("metadata.name", &error))?;
    Ok(Node {
        name,
        zone: zone(&raw.metadata, keys, flaws),
        addresses: addresses(&raw.status.addresses, flaws),
    })
}

fn zone(meta: &Meta, keys: &ZoneKeys, flaws: &mut Flaws) -> Option<Zone> {
    let (key, zone) = keys.resolve(|key| meta.label(key))?;
    flaws.take(format!("metadata.labels[{key}]"), zone)
}

fn addresses(raw: &[Option<RawAddress>], flaws: &mut Flaws) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (position, address) in raw.iter().enumerate() {
        let Some(address) = address else {
            flaws.add(Flaw::new(
                format!("status.addresses[{position}]"),
                "it is null",
            ));
            continue;
        };
        if address.r#type.as_deref() == Some("InternalIP") {
            let text = address.address.as_deref().unwrap_or_default();
            let place = format!("status.addresses[{position}].address");
            addresses.extend(flaws.take(place, super::port::address(text)));
        }
    }
    addresses
}
