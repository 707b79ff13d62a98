// SPDX-License-Identifier: MIT OR Apache-2.0
//! Node: name, zone labels, addresses of type `InternalIP`, and whether the control plane still hears of it.

use super::{
    Flaw, Flaws, Format, Meta, Names, Raw,
    meta::{nullable, object},
    text::Text,
};
use crate::{
    model::{Node, NodeLabels, NodeName, NodeReadiness, Zone, ZoneKey, ZoneKeys},
    store::Object,
};
use serde::Deserialize;
use std::net::IpAddr;

/// A Node as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source) struct RawNode<'a> {
    #[serde(borrow, deserialize_with = "object")]
    metadata: Meta<'a>,
    #[serde(borrow, deserialize_with = "object")]
    spec: RawSpec<'a>,
    #[serde(borrow, deserialize_with = "object")]
    status: RawStatus<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawSpec<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    taints: Vec<Option<RawTaint<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTaint<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawStatus<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    addresses: Vec<Option<RawAddress<'a>>>,
    #[serde(borrow, deserialize_with = "nullable")]
    conditions: Vec<Option<RawCondition<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCondition<'a> {
    #[serde(borrow)]
    r#type: Option<Text<'a>>,
    status: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawAddress<'a> {
    #[serde(borrow)]
    r#type: Option<Text<'a>>,
    address: Option<Text<'a>>,
}

impl Raw for RawNode<'_> {
    type Of<'a> = RawNode<'a>;

    const FORMAT: Format = Format::Node;
    const LISTS: &'static [&'static str] =
        &["/status/addresses", "/status/conditions", "/spec/taints"];

    fn meta(&self) -> &Meta<'_> {
        &self.metadata
    }

    fn zone_key(&self, keys: &ZoneKeys) -> Option<ZoneKey> {
        keys.resolve(|key| self.metadata.label(key))
            .map(|(key, _)| key.clone())
    }

    fn translate(
        &self,
        keys: &ZoneKeys,
        _: &mut Names,
        flaws: &mut Flaws,
    ) -> Result<Vec<Object>, Flaw> {
        Ok(vec![Object::Node(node(self, keys, flaws)?)])
    }
}

/// The node; its zone is none when no label names one, or one that is no zone.
fn node(raw: &RawNode<'_>, keys: &ZoneKeys, flaws: &mut Flaws) -> Result<Node, Flaw> {
    let name =
        NodeName::parse(raw.metadata.name()).map_err(|error| Flaw::new("metadata.name", &error))?;
    Ok(Node {
        name,
        zone: zone(&raw.metadata, keys, flaws),
        labels: labels(&raw.metadata),
        addresses: addresses(&raw.status.addresses, flaws),
        readiness: readiness(&raw.status.conditions),
        is_unreachable: raw
            .spec
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key.as_deref() == Some(UNREACHABLE)),
        is_deleting: raw.metadata.is_deleting(),
        version: raw.metadata.version_number(),
    })
}

/// The labels by which nodes can be together. What hardware a node has, which tools write by the hundred, is none.
fn labels(meta: &Meta<'_>) -> NodeLabels {
    meta.labels()
        .filter(|(key, _)| !key.starts_with(HARDWARE))
        .filter_map(|(key, value)| Some((ZoneKey::parse(key).ok()?, Zone::parse(value).ok()?)))
        .collect()
}

fn readiness(conditions: &[Option<RawCondition<'_>>]) -> NodeReadiness {
    let ready = conditions
        .iter()
        .flatten()
        .find(|condition| condition.r#type.as_deref() == Some("Ready"));
    match ready.and_then(|condition| condition.status.as_deref()) {
        Some("True") => NodeReadiness::Ready,
        Some("False") => NodeReadiness::NotReady,
        _ => NodeReadiness::Unknown,
    }
}

fn zone(meta: &Meta<'_>, keys: &ZoneKeys, flaws: &mut Flaws) -> Option<Zone> {
    let (key, zone) = keys.resolve(|key| meta.label(key))?;
    flaws.take(&format_args!("metadata.labels[{key}]"), zone)
}

fn addresses(raw: &[Option<RawAddress<'_>>], flaws: &mut Flaws) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (position, address) in raw.iter().enumerate() {
        let Some(address) = address else {
            flaws.add(Flaw::new(
                &format_args!("status.addresses[{position}]"),
                "it is null",
            ));
            continue;
        };
        if address.r#type.as_deref() == Some("InternalIP") {
            let text = address.address.as_deref().unwrap_or_default();
            let place = format_args!("status.addresses[{position}].address");
            addresses.extend(flaws.take(&place, super::port::address(text)));
        }
    }
    addresses
}

/// What the node controller puts on a node that it has lost.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const HARDWARE: &str = "feature.node.kubernetes.io/";
