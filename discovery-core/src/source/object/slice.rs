// SPDX-License-Identifier: MIT OR Apache-2.0
//! EndpointSlice of `discovery.k8s.io/v1`, and of v1beta1, which names the node in `topology`.
//!
//! In a big cluster nearly every event is a slice of a hundred endpoints, of which one has changed: what is read here is
//! borrowed from the event, what is kept of it is taken from [`Names`], and an endpoint that is well costs one allocation.

use super::{
    Flaw, Flaws, Format, Meta, Names, Raw,
    few::{Few, Many},
    hints::RawHints,
    meta::{nullable, object},
    names::Told,
    port::{RawPort, address, ports, short},
    text::Text,
};
use crate::{
    model::{
        Conditions, NodeName, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone, ZoneKey,
        ZoneKeys, is_object_name,
    },
    store::Object,
};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Display, sync::Arc};

/// An EndpointSlice as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::source) struct RawSlice<'a> {
    #[serde(borrow, deserialize_with = "object")]
    metadata: Meta<'a>,
    address_type: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<Option<RawPort<'a>>>,
    #[serde(borrow, deserialize_with = "nullable")]
    endpoints: Many<Option<RawEndpoint<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEndpoint<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    addresses: Few<Option<Text<'a>>>,
    #[serde(deserialize_with = "object")]
    conditions: RawConditions,
    target_ref: Option<RawTarget<'a>>,
    node_name: Option<Text<'a>>,
    hostname: Option<Text<'a>>,
    zone: Option<Text<'a>>,
    hints: Option<RawHints<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    topology: BTreeMap<Text<'a>, Option<Text<'a>>>,
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
pub(super) struct RawTarget<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    name: Option<Text<'a>>,
    uid: Option<Text<'a>>,
}

impl Raw for RawSlice<'_> {
    type Of<'a> = RawSlice<'a>;

    const FORMAT: Format = Format::EndpointSlice;
    const LISTS: &'static [&'static str] = &["/ports", "/endpoints"];

    fn meta(&self) -> &Meta<'_> {
        &self.metadata
    }

    fn translate(
        &self,
        _: &ZoneKeys,
        names: &mut Names,
        flaws: &mut Flaws,
    ) -> Result<Vec<Object>, Flaw> {
        let slice = slice(self, names, flaws)?;
        Ok(slice.into_iter().map(Object::Slice).collect())
    }
}

/// The slice; none when no label says whose it is, for the name says nothing.
fn slice(raw: &RawSlice<'_>, names: &mut Names, flaws: &mut Flaws) -> Result<Option<Slice>, Flaw> {
    let meta = &raw.metadata;
    let Some(service) = meta.label(SERVICE_NAME).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let key = SliceKey::new(meta.namespace(), meta.name())
        .map_err(|error| Flaw::new("metadata.name", &error))?;
    let service = names
        .service(meta.namespace(), service)
        .map_err(|error| Flaw::new(&format_args!("metadata.labels[{SERVICE_NAME}]"), &error))?;
    let endpoints = if raw.address_type.as_deref() == Some("FQDN") {
        let reason = "endpoints that are domain names (FQDN) are not supported";
        flaws.add(Flaw::new("addressType", reason));
        Vec::new()
    } else {
        endpoints(&raw.endpoints.0, names, flaws)
    };
    Ok(Some(Slice {
        key,
        service,
        ports: slice_ports(&raw.ports, &"ports", flaws),
        endpoints,
        zone: slice_zone(meta, flaws),
        version: meta.version_number(),
        announces_end: announces_end(&raw.endpoints.0),
    }))
}

/// Whether each endpoint says whether it is terminating.
fn announces_end(raw: &[Option<RawEndpoint<'_>>]) -> bool {
    let mut said = raw
        .iter()
        .flatten()
        .map(|endpoint| endpoint.conditions.terminating.is_some());
    !raw.is_empty() && said.all(|is_said| is_said)
}

/// The zone of the slice's endpoints without a node, by label or annotation.
pub(super) fn slice_zone(meta: &Meta<'_>, flaws: &mut Flaws) -> Option<Zone> {
    let (kind, text) = match (meta.label(ZONE), meta.annotation(ZONE)) {
        (Some(text), _) => ("labels", text),
        (None, text) => ("annotations", text?),
    };
    flaws.take(&format_args!("metadata.{kind}[{ZONE}]"), Zone::parse(text))
}

/// The ports of a list as those of a slice.
pub(super) fn slice_ports(
    raw: &[Option<RawPort<'_>>],
    place: &dyn Display,
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

fn endpoints(
    raw: &[Option<RawEndpoint<'_>>],
    names: &mut Names,
    flaws: &mut Flaws,
) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::with_capacity(raw.len());
    for (position, raw) in raw.iter().enumerate() {
        let place = &format_args!("endpoints[{position}]");
        endpoints.extend(endpoint(raw.as_ref(), place, names, flaws));
    }
    endpoints
}

fn endpoint(
    raw: Option<&RawEndpoint<'_>>,
    place: &dyn Display,
    names: &mut Names,
    flaws: &mut Flaws,
) -> Option<SliceEndpoint> {
    let raw = flaws.take(place, raw.ok_or("it is null"))?;
    // As kube-proxy: the first address is the endpoint, the others are names for the same.
    let text = raw.addresses.first().and_then(Option::as_deref);
    let address = match text {
        Some(text) => flaws.take(&format_args!("{place}.addresses[0]"), address(text))?,
        None => flaws.take(
            &format_args!("{place}.addresses"),
            Err("there is no address"),
        )?,
    };
    let on = node(raw, place, names).map_err(|flaw| flaws.add(flaw));
    let (node, before) = on.ok()?.unzip();
    let before = before.unwrap_or_default();
    let told = Told {
        zone: zone(raw, before.zone.as_ref(), place, names, flaws),
        hints: (raw.hints.as_ref())
            .and_then(|hints| hints.read(before.hints.as_ref(), place, names, flaws)),
    };
    if let Some(node) = node.as_ref().filter(|_| told != before) {
        names.tell(node, told.clone());
    }
    let conditions = &raw.conditions;
    let target = target(raw.target_ref.as_ref(), place, flaws);
    Some(SliceEndpoint {
        address,
        node,
        conditions: Conditions::from_api(
            conditions.ready,
            conditions.serving,
            conditions.terminating,
        ),
        zone: told.zone,
        hints: told.hints,
        hostname: hostname(raw.hostname.as_deref(), target.as_ref(), place, flaws),
        target,
    })
}

/// The zone as the slice states it, in a field or, in v1beta1, in the topology.
fn zone(
    raw: &RawEndpoint<'_>,
    known: Option<&Zone>,
    place: &dyn Display,
    names: &mut Names,
    flaws: &mut Flaws,
) -> Option<Zone> {
    let topology = || raw.topology.get(ZoneKey::STANDARD)?.as_deref();
    let text = raw.zone.as_deref().or_else(topology)?;
    match known.filter(|known| known.as_str() == text) {
        Some(known) => Some(known.clone()),
        None if text.is_empty() => None,
        None => flaws.take(&format_args!("{place}.zone"), names.zone(text)),
    }
}

/// The pod's host name, mostly that of its object; none when the text is empty or no name.
pub(super) fn hostname(
    text: Option<&str>,
    target: Option<&TargetRef>,
    place: &dyn Display,
    flaws: &mut Flaws,
) -> Option<Arc<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    if !is_object_name(text) {
        // A host name follows the rule of node names, which are host names.
        flaws.take(&format_args!("{place}.hostname"), NodeName::parse(text))?;
    }
    match target.filter(|target| *target.name == *text) {
        Some(target) => Some(target.name.clone()),
        None => Some(text.into()),
    }
}

/// The node that hosts it. An endpoint whose node cannot be read is none: it is somewhere, and we do not know where.
fn node(
    raw: &RawEndpoint<'_>,
    place: &dyn Display,
    names: &mut Names,
) -> Result<Option<(NodeName, Told)>, Flaw> {
    let topology = || raw.topology.get(HOSTNAME)?.as_deref();
    match (raw.node_name.as_deref(), topology()) {
        (Some(name), _) => node_name(name, &format_args!("{place}.nodeName"), names),
        // v1beta1 holds the node's name here, not its hostname label.
        (None, Some(name)) => node_name(name, &format_args!("{place}.topology[{HOSTNAME}]"), names),
        (None, None) => Ok(None),
    }
}

/// The node that hosts an endpoint, and what others on it said; none when the text is empty.
pub(super) fn node_name(
    text: &str,
    place: &dyn Display,
    names: &mut Names,
) -> Result<Option<(NodeName, Told)>, Flaw> {
    if text.is_empty() {
        return Ok(None);
    }
    let node = names.node_and_told(text);
    node.map(Some).map_err(|error| Flaw::new(place, &error))
}

/// The pod of an endpoint; none when something else is behind it.
pub(super) fn target(
    raw: Option<&RawTarget<'_>>,
    place: &dyn Display,
    flaws: &mut Flaws,
) -> Option<TargetRef> {
    // A hand-made reference without a kind can hardly mean anything else.
    let raw = raw.filter(|target| matches!(target.kind.as_deref(), None | Some("" | "Pod")))?;
    let name = raw.name.as_deref().unwrap_or_default();
    let uid = raw.uid.as_deref().unwrap_or_default();
    for (field, text) in [("name", name), ("uid", uid)] {
        let is_plain = text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || (field == "name" && text.is_empty()) {
            let reason = format!("{:?} is no pod {field}", short(text));
            flaws.add(Flaw::new(
                &format_args!("{place}.targetRef.{field}"),
                &reason,
            ));
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
