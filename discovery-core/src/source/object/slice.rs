// SPDX-License-Identifier: MIT OR Apache-2.0
//! EndpointSlice of `discovery.k8s.io/v1`, and of v1beta1, which names the node in `topology`.

use super::{
    Flaw, Flaws, Format, Meta, Raw,
    meta::nullable,
    port::{RawPort, address, ports, short},
};
use crate::{
    model::{
        Conditions, Hints, NodeName, ServiceName, Slice, SliceEndpoint, SliceKey, SlicePort,
        TargetRef, Zone, ZoneKey, ZoneKeys,
    },
    store::Object,
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// An EndpointSlice as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::source) struct RawSlice {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    address_type: Option<String>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Option<RawPort>>,
    #[serde(deserialize_with = "nullable")]
    endpoints: Vec<Option<RawEndpoint>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEndpoint {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    conditions: RawConditions,
    target_ref: Option<RawTarget>,
    node_name: Option<String>,
    hostname: Option<String>,
    zone: Option<String>,
    // A preference, which must not cost the endpoint whatever it is.
    hints: Option<Value>,
    #[serde(deserialize_with = "nullable")]
    topology: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// A reference to an object, as endpoints name their pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawTarget {
    kind: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

impl Raw for RawSlice {
    const FORMAT: Format = Format::EndpointSlice;
    const LISTS: &'static [&'static str] = &["/ports", "/endpoints"];

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn translate(&self, _: &ZoneKeys, flaws: &mut Flaws) -> Result<Vec<Object>, Flaw> {
        let slice = slice(self, flaws)?;
        Ok(slice.into_iter().map(Object::Slice).collect())
    }
}

/// The slice; none when no label says whose it is, for the name says nothing.
fn slice(raw: &RawSlice, flaws: &mut Flaws) -> Result<Option<Slice>, Flaw> {
    let meta = &raw.metadata;
    let Some(service) = meta.label(SERVICE_NAME).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let key = SliceKey::new(meta.namespace(), meta.name())
        .map_err(|error| Flaw::new("metadata.name", &error))?;
    let service = ServiceName::new(meta.namespace(), service)
        .map_err(|error| Flaw::new(format!("metadata.labels[{SERVICE_NAME}]"), &error))?;
    let endpoints = if raw.address_type.as_deref() == Some("FQDN") {
        let reason = "endpoints that are domain names (FQDN) are not supported";
        flaws.add(Flaw::new("addressType", reason));
        Vec::new()
    } else {
        endpoints(&raw.endpoints, flaws)
    };
    Ok(Some(Slice {
        key,
        service,
        ports: slice_ports(&raw.ports, "ports", flaws),
        endpoints,
        zone: slice_zone(meta, flaws),
        version: meta.version_number(),
    }))
}

/// The zone of the slice's endpoints without a node, by label or annotation.
pub(super) fn slice_zone(meta: &Meta, flaws: &mut Flaws) -> Option<Zone> {
    let (kind, text) = match (meta.label(ZONE), meta.annotation(ZONE)) {
        (Some(text), _) => ("labels", text),
        (None, text) => ("annotations", text?),
    };
    flaws.take(format!("metadata.{kind}[{ZONE}]"), Zone::parse(text))
}

/// The ports of a list as those of a slice.
pub(super) fn slice_ports(
    raw: &[Option<RawPort>],
    place: &str,
    flaws: &mut Flaws,
) -> Arc<[SlicePort]> {
    ports(raw, place, flaws)
        .into_iter()
        .map(|port| SlicePort {
            name: port.name,
            protocol: port.protocol,
            port: port.number,
        })
        .collect()
}

fn endpoints(raw: &[Option<RawEndpoint>], flaws: &mut Flaws) -> Vec<SliceEndpoint> {
    let mut endpoints: Vec<SliceEndpoint> = Vec::with_capacity(raw.len());
    for (position, endpoint) in raw.iter().enumerate() {
        let place = format!("endpoints[{position}]");
        let Some(raw) = endpoint else {
            flaws.add(Flaw::new(place, "it is null"));
            continue;
        };
        let before = endpoints.last();
        let endpoint = self::endpoint(raw, before, &place, flaws);
        endpoints.extend(endpoint);
    }
    endpoints
}

/// The endpoint; it shares with the one before what both have.
fn endpoint(
    raw: &RawEndpoint,
    before: Option<&SliceEndpoint>,
    place: &str,
    flaws: &mut Flaws,
) -> Option<SliceEndpoint> {
    // As kube-proxy: the first address is the endpoint, the others are names for the same.
    let text = raw.addresses.first().and_then(Option::as_deref);
    let address = match text {
        Some(text) => flaws.take(format!("{place}.addresses[0]"), address(text))?,
        None => flaws.take(format!("{place}.addresses"), Err("there is no address"))?,
    };
    let conditions = &raw.conditions;
    Some(SliceEndpoint {
        address,
        target: target(raw.target_ref.as_ref(), place, flaws),
        node: node(raw, place, flaws),
        conditions: Conditions::from_api(
            conditions.ready,
            conditions.serving,
            conditions.terminating,
        ),
        zone: zone(raw, before, place, flaws),
        hints: hints(raw, before, place, flaws),
        hostname: hostname(raw.hostname.as_deref(), place, flaws),
    })
}

/// The zone as the slice states it, in a field or, in v1beta1, in the topology.
fn zone(
    raw: &RawEndpoint,
    before: Option<&SliceEndpoint>,
    place: &str,
    flaws: &mut Flaws,
) -> Option<Zone> {
    let topology = || raw.topology.get(ZoneKey::STANDARD)?.as_deref();
    let text = raw.zone.as_deref().or_else(topology)?;
    let known = before.and_then(|before| before.zone.as_ref());
    match known.filter(|zone| zone.as_str() == text) {
        Some(zone) => Some(zone.clone()),
        None if text.is_empty() => None,
        None => flaws.take(format!("{place}.zone"), Zone::parse(text)),
    }
}

fn hints(
    raw: &RawEndpoint,
    before: Option<&SliceEndpoint>,
    place: &str,
    flaws: &mut Flaws,
) -> Option<Arc<Hints>> {
    let raw = raw.hints.as_ref()?;
    if !raw.is_object() {
        flaws.add(Flaw::new(format!("{place}.hints"), "it is no object"));
        return None;
    }
    let read = |field: &str| -> Result<Vec<&str>, String> {
        let list = match raw.get(field) {
            None | Some(Value::Null) => return Ok(vec![]),
            Some(list) => list.as_array().ok_or("it is no list")?,
        };
        if list.len() > Hints::MAX {
            return Err(format!("it has more than {} entries", Hints::MAX));
        }
        list.iter()
            .map(|hint| hint.get("name").and_then(Value::as_str))
            .collect::<Option<_>>()
            .ok_or_else(|| "an entry has no name".to_owned())
    };
    let zones = read("forZones").and_then(|names| parse_all(names, Zone::parse));
    let nodes = read("forNodes").and_then(|names| parse_all(names, NodeName::parse));
    let hints = Hints {
        zones: flaws.take(format!("{place}.hints.forZones"), zones)?,
        nodes: flaws.take(format!("{place}.hints.forNodes"), nodes)?,
    };
    let known = before.and_then(|before| before.hints.as_ref());
    match known.filter(|known| ***known == hints) {
        Some(known) => Some(known.clone()),
        None => (hints != Hints::default()).then(|| Arc::new(hints)),
    }
}

fn parse_all<T, E: ToString>(
    names: Vec<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    names
        .into_iter()
        .map(|name| parse(name).map_err(|error| error.to_string()))
        .collect()
}

/// The pod's host name; none when the text is empty or no name.
pub(super) fn hostname(text: Option<&str>, place: &str, flaws: &mut Flaws) -> Option<Arc<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    // A host name follows the rule of node names, which are host names.
    let name = NodeName::parse(text).map(|_| text.into());
    flaws.take(format!("{place}.hostname"), name)
}

fn node(raw: &RawEndpoint, place: &str, flaws: &mut Flaws) -> Option<NodeName> {
    let topology = || raw.topology.get(HOSTNAME)?.as_deref();
    match raw.node_name.as_deref() {
        Some(name) => node_name(name, format!("{place}.nodeName"), flaws),
        // v1beta1 holds the node's name here, not its hostname label.
        None => node_name(topology()?, format!("{place}.topology[{HOSTNAME}]"), flaws),
    }
}

/// The node that hosts an endpoint; none when the text is empty or no name.
pub(super) fn node_name(text: &str, place: String, flaws: &mut Flaws) -> Option<NodeName> {
    if text.is_empty() {
        return None;
    }
    flaws.take(place, NodeName::parse(text))
}

/// The pod of an endpoint; none when something else is behind it.
pub(super) fn target(raw: Option<&RawTarget>, place: &str, flaws: &mut Flaws) -> Option<TargetRef> {
    // A hand-made reference without a kind can hardly mean anything else.
    let raw = raw.filter(|target| matches!(target.kind.as_deref(), None | Some("" | "Pod")))?;
    let name = raw.name.as_deref().unwrap_or_default();
    let uid = raw.uid.as_deref().unwrap_or_default();
    for (field, text) in [("name", name), ("uid", uid)] {
        let is_plain = text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || (field == "name" && text.is_empty()) {
            let reason = format!("{:?} is no pod {field}", short(text));
            flaws.add(Flaw::new(format!("{place}.targetRef.{field}"), &reason));
            return None;
        }
    }
    Some(TargetRef {
        name: name.into(),
        uid: uid.into(),
    })
}

/// The one mark of whose a slice is; its name is cut and generated.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Ours: the zone of a slice whose endpoints have no node.
const ZONE: &str = "zonal.dev/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
