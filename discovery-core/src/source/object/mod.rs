// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translates Kubernetes objects into facts: Node, Service, EndpointSlice (discovery v1 and v1beta1), Endpoints.
//!
//! In: JSON as an API server or a person wrote it, which may be anything. Out: the model's checked values, and a
//! [`Flaw`] for every part that was refused, naming its field. One bad endpoint or port never costs another one, and an
//! object whose JSON has a wrong type somewhere is read again element by element. Pure: no I/O, no clock.

mod balancing;
mod endpoints;
mod few;
mod flaw;
mod hints;
mod meta;
mod names;
mod node;
mod port;
mod registration;
mod salvage;
mod service;
mod slice;
mod text;

pub(super) use endpoints::{RawEndpoints, subset_key};
pub(super) use flaw::{Flaw, Flaws};
pub(super) use meta::Meta;
pub(super) use names::Names;
pub(super) use node::RawNode;
pub(super) use salvage::name_of;
pub(super) use service::RawService;
pub(super) use slice::RawSlice;
pub(super) use text::Text;

use crate::{
    model::{NodeName, ServiceName, SliceKey, ZoneKey, ZoneKeys},
    store::{Kind, Object, ObjectKey, Problem},
};
use serde::Deserialize;
use serde_json::Value;

/// Which kind of object a text holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Node,
    Service,
    EndpointSlice,
    Endpoints,
}

impl Format {
    /// The format of a manifest's `kind`, if we read it.
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        match kind {
            "Node" => Some(Self::Node),
            "Service" => Some(Self::Service),
            "EndpointSlice" => Some(Self::EndpointSlice),
            "Endpoints" => Some(Self::Endpoints),
            _ => None,
        }
    }

    /// The list that its objects stand in.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Node => Kind::Nodes,
            Self::Service => Kind::Services,
            Self::EndpointSlice | Self::Endpoints => Kind::Slices,
        }
    }

    /// What names the object in our books; none when the name is not one.
    pub(super) fn key(self, namespace: &str, name: &str) -> Option<ObjectKey> {
        match self {
            Self::Node => NodeName::parse(name).ok().map(ObjectKey::Node),
            Self::Service => ServiceName::new(namespace, name)
                .ok()
                .map(ObjectKey::Service),
            Self::EndpointSlice => SliceKey::new(namespace, name).ok().map(ObjectKey::Slice),
            // One Endpoints object becomes a slice for each of its subsets.
            Self::Endpoints => None,
        }
    }

    /// The service that an Endpoints object is of.
    pub(super) fn endpoints_of(self, namespace: &str, name: &str) -> Option<ServiceName> {
        match self {
            Self::Endpoints => ServiceName::new(namespace, name).ok(),
            _ => None,
        }
    }

    /// The object in words, as [`ObjectKey`] prints it, also when its name is none.
    pub(super) fn describe(self, namespace: &str, name: &str) -> String {
        let name = if name.is_empty() {
            "(without a name)"
        } else {
            name
        };
        let text = match self {
            Self::Node => format!("Node {name}"),
            Self::Service => format!("Service {namespace}/{name}"),
            Self::EndpointSlice => format!("EndpointSlice {namespace}/{name}"),
            Self::Endpoints => format!("Endpoints {namespace}/{name}"),
        };
        text.chars()
            .filter(|c| !c.is_control())
            .take(DESCRIPTION_CHARS_MAX)
            .collect()
    }
}

/// What became of one object.
#[derive(Debug)]
pub(super) struct Reading {
    /// What names it; none when its name is no name.
    pub(super) key: Option<ObjectKey>,
    /// The service whose Endpoints it is; such an object has no key of its own, its subsets have.
    pub(super) endpoints_of: Option<ServiceName>,
    /// It in words.
    pub(super) name: String,
    /// Its version, for a watch to go on from; empty when it has none.
    pub(super) version: String,
    /// What it states: nothing when it is refused, or is none of ours.
    pub(super) objects: Vec<Object>,
    /// Whether it was refused as a whole, so that its last good version holds.
    pub(super) refused: bool,
    /// What tells the cluster from others, of the one object that says so: the UID of the service `default/kubernetes`.
    pub(super) cluster_uid: Option<String>,
    /// The label that names the zone of a node.
    pub(super) zone_key: Option<ZoneKey>,
    /// What was refused of it.
    pub(super) flaws: Vec<Flaw>,
}

impl Reading {
    /// The flaws as problems of the given list.
    pub(super) fn problems(&self, kind: Kind) -> impl Iterator<Item = Problem> + '_ {
        self.flaws.iter().map(move |flaw| Problem {
            kind,
            object: self.name.clone(),
            place: flaw.place.clone(),
            reason: flaw.reason.clone(),
        })
    }
}

/// A Kubernetes object as its JSON has it, texts borrowed: every field may be missing or null.
pub(super) trait Raw {
    /// The same, borrowing from another JSON.
    type Of<'a>: Raw + Deserialize<'a>;

    const FORMAT: Format;
    /// The lists whose elements stand for themselves, as JSON pointers.
    const LISTS: &'static [&'static str];

    fn meta(&self) -> &Meta<'_>;

    /// The label that names the zone, of a node.
    fn zone_key(&self, _: &ZoneKeys) -> Option<ZoneKey> {
        None
    }

    /// The facts that it states. What is refused in part goes to `flaws`; an error refuses the whole.
    fn translate(
        &self,
        keys: &ZoneKeys,
        names: &mut Names,
        flaws: &mut Flaws,
    ) -> Result<Vec<Object>, Flaw>;
}

/// Reads a decoded object.
pub(super) fn read<T: Raw>(raw: &T, keys: &ZoneKeys, names: &mut Names) -> Reading {
    read_with(raw, keys, names, Flaws::default())
}

fn read_with<T: Raw>(raw: &T, keys: &ZoneKeys, names: &mut Names, mut flaws: Flaws) -> Reading {
    let meta = raw.meta();
    let (objects, refused) = match raw.translate(keys, names, &mut flaws) {
        Ok(objects) => (objects, false),
        Err(flaw) => {
            flaws.add(flaw);
            (Vec::new(), true)
        }
    };
    Reading {
        key: T::FORMAT.key(meta.namespace(), meta.name()),
        endpoints_of: T::FORMAT.endpoints_of(meta.namespace(), meta.name()),
        name: T::FORMAT.describe(meta.namespace(), meta.name()),
        version: meta.version().to_owned(),
        objects,
        refused,
        cluster_uid: cluster_uid(T::FORMAT, meta),
        zone_key: raw.zone_key(keys),
        flaws: flaws.into_list(),
    }
}

/// Every API server keeps that service for itself, from a cluster's first minute to its last.
fn cluster_uid(format: Format, meta: &Meta) -> Option<String> {
    let is_told = format == Format::Service && (meta.namespace(), meta.name()) == CLUSTER_SERVICE;
    let uid = meta.uid().filter(|_| is_told)?;
    Some(uid.chars().take(UID_CHARS_MAX).collect())
}

/// Reads an object of the given format, element by element where its types are wrong.
pub(super) fn read_value(
    format: Format,
    value: Value,
    keys: &ZoneKeys,
    names: &mut Names,
) -> Reading {
    match format {
        Format::Node => salvage::read::<RawNode<'_>>(value, keys, names),
        Format::Service => salvage::read::<RawService<'_>>(value, keys, names),
        Format::EndpointSlice => salvage::read::<RawSlice<'_>>(value, keys, names),
        Format::Endpoints => salvage::read::<RawEndpoints<'_>>(value, keys, names),
    }
}

const CLUSTER_SERVICE: (&str, &str) = ("default", "kubernetes");
/// UIDs have 36; nothing longer is kept.
const UID_CHARS_MAX: usize = 64;
/// Two names of 253 bytes and the words around them.
const DESCRIPTION_CHARS_MAX: usize = 540;

#[cfg(test)]
mod tests;
