// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoints, the object before EndpointSlices: each of its subsets is read as a slice of its own.

use super::{
    Flaw, Flaws, Format, Meta, Names, Raw,
    meta::{nullable, object},
    port::{RawPort, address},
    slice::{RawTarget, hostname, node_name, slice_ports, slice_zone, target},
    text::Text,
};
use crate::{
    model::{Conditions, ServiceName, Slice, SliceEndpoint, SliceKey, SlicePort, ZoneKeys},
    store::Object,
};
use serde::Deserialize;
use std::{fmt::Display, sync::Arc};

/// An Endpoints object as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source) struct RawEndpoints<'a> {
    #[serde(borrow, deserialize_with = "object")]
    metadata: Meta<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    subsets: Vec<Option<RawSubset<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSubset<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    addresses: Vec<Option<RawAddress<'a>>>,
    #[serde(borrow, deserialize_with = "nullable")]
    not_ready_addresses: Vec<Option<RawAddress<'a>>>,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<Option<RawPort<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAddress<'a> {
    #[serde(borrow)]
    ip: Option<Text<'a>>,
    node_name: Option<Text<'a>>,
    hostname: Option<Text<'a>>,
    target_ref: Option<RawTarget<'a>>,
}

impl Raw for RawEndpoints<'_> {
    type Of<'a> = RawEndpoints<'a>;

    const FORMAT: Format = Format::Endpoints;
    const LISTS: &'static [&'static str] = &["/subsets"];

    fn meta(&self) -> &Meta<'_> {
        &self.metadata
    }

    fn translate(
        &self,
        _: &ZoneKeys,
        names: &mut Names,
        flaws: &mut Flaws,
    ) -> Result<Vec<Object>, Flaw> {
        let slices = endpoints(self, names, flaws)?;
        Ok(slices.into_iter().map(Object::Slice).collect())
    }
}

/// A slice for each subset; the service is the one of the same name.
fn endpoints(
    raw: &RawEndpoints<'_>,
    names: &mut Names,
    flaws: &mut Flaws,
) -> Result<Vec<Slice>, Flaw> {
    let meta = &raw.metadata;
    let service = names
        .service(meta.namespace(), meta.name())
        .map_err(|error| Flaw::new("metadata.name", &error))?;
    if meta
        .annotation(OVER_CAPACITY)
        .is_some_and(|state| state == "truncated")
    {
        let reason = "the service has more than 1,000 endpoints, and only the first are listed";
        flaws.add(Flaw::new(
            &format_args!("metadata.annotations[{OVER_CAPACITY}]"),
            reason,
        ));
    }
    let (zone, version) = (slice_zone(meta, flaws), meta.version_number());
    let mut slices = Vec::with_capacity(raw.subsets.len());
    for (position, subset) in raw.subsets.iter().enumerate() {
        let place = format!("subsets[{position}]");
        let Some(subset) = subset else {
            flaws.add(Flaw::new(&place, "it is null"));
            continue;
        };
        let key = subset_key(&service, position)
            .ok_or_else(|| Flaw::new("metadata.name", "it is too long"))?;
        let (ports, endpoints) = subset_of(subset, &place, names, flaws);
        slices.push(Slice {
            ports,
            endpoints,
            zone: zone.clone(),
            version,
            ..Slice::new(key, service.clone())
        });
    }
    Ok(slices)
}

/// The key under which a subset of the service's Endpoints is kept.
///
/// A mirrored slice is called by the name and five letters, and keeps its own key.
pub(in crate::source) fn subset_key(service: &ServiceName, position: usize) -> Option<SliceKey> {
    let name = format!("{}-endpoints-{position}", service.name());
    SliceKey::new(service.namespace(), &name).ok()
}

fn subset_of(
    raw: &RawSubset<'_>,
    place: &dyn Display,
    names: &mut Names,
    flaws: &mut Flaws,
) -> (Arc<[SlicePort]>, Vec<SliceEndpoint>) {
    let ports = slice_ports(&raw.ports, &format_args!("{place}.ports"), flaws);
    let lists = [
        ("addresses", &raw.addresses, true),
        ("notReadyAddresses", &raw.not_ready_addresses, false),
    ];
    let mut endpoints = Vec::new();
    for (field, addresses, ready) in lists {
        for (position, raw) in addresses.iter().enumerate() {
            let place = &format_args!("{place}.{field}[{position}]");
            endpoints.extend(endpoint(raw.as_ref(), ready, place, names, flaws));
        }
    }
    (ports, endpoints)
}

fn endpoint(
    raw: Option<&RawAddress<'_>>,
    ready: bool,
    place: &dyn Display,
    names: &mut Names,
    flaws: &mut Flaws,
) -> Option<SliceEndpoint> {
    let raw = flaws.take(place, raw.ok_or("it is null"))?;
    let text = raw.ip.as_deref().unwrap_or_default();
    let node = raw.node_name.as_deref().unwrap_or_default();
    let address = flaws.take(&format_args!("{place}.ip"), address(text))?;
    let node = node_name(node, &format_args!("{place}.nodeName"), names);
    let node = node.map_err(|flaw| flaws.add(flaw)).ok()?;
    let node = node.map(|(node, _)| node);
    let target = target(raw.target_ref.as_ref(), place, flaws);
    Some(SliceEndpoint {
        node,
        conditions: Conditions::from_api(Some(ready), None, None),
        hostname: hostname(raw.hostname.as_deref(), target.as_ref(), place, flaws),
        target,
        ..SliceEndpoint::new(address)
    })
}

/// Says since Kubernetes 1.22 that addresses were left out (kubernetes/kubernetes#103520).
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
