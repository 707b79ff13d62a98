// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fields that expressions may name, with their types: those of Consul 1.22 that are told here, too.
//!
//! What is not told has no type either: an expression about it is refused, since it would be answered about nothing.

/// What a field is, and thus how it may be asked.
#[derive(Debug, Eq, PartialEq)]
pub(in super::super) enum Field {
    Text,
    Number,
    Truth,
    /// A list of texts.
    Texts,
    /// Things of one kind by any name.
    Table(&'static Field),
    Object(Fields),
    /// A list of objects.
    List(Fields),
}

/// The fields of an object by their names.
pub(in super::super) type Fields = &'static [(&'static str, Field)];

/// The field at the end of the path; else how many of its names reach to the first that is not known.
pub(super) fn find(fields: Fields, path: &[String]) -> Result<&'static Field, usize> {
    let (mut fields, mut found): (Fields, Result<&'static Field, usize>) = (fields, Err(0));
    for (at, name) in path.iter().enumerate() {
        let field = if let Ok(Field::Table(of)) = found {
            Some(*of)
        } else {
            let known = fields.iter().find(|(known, _)| known == name);
            known.map(|(_, field)| field)
        };
        let field = field.ok_or(at + 1)?;
        fields = match field {
            Field::Object(fields) | Field::List(fields) => fields,
            _ => &[],
        };
        found = Ok(field);
    }
    found
}

/// A node.
pub(in super::super) const NODE: Fields = &[
    ("ID", Field::Text),
    ("Node", Field::Text),
    ("Address", Field::Text),
    ("Datacenter", Field::Text),
    ("PeerName", Field::Text),
    ("TaggedAddresses", Field::Table(&Field::Text)),
    ("Meta", Field::Table(&Field::Text)),
];

/// A service of a node.
pub(in super::super) const SERVICE: Fields = &[
    ("Kind", Field::Text),
    ("ID", Field::Text),
    ("Service", Field::Text),
    ("Tags", Field::Texts),
    ("Address", Field::Text),
    ("TaggedAddresses", Field::Table(&TAGGED)),
    ("Meta", Field::Table(&Field::Text)),
    ("Port", Field::Number),
    ("SocketPath", Field::Text),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Field::Truth),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
    ("PeerName", Field::Text),
];

/// An instance, flat.
pub(in super::super) const SERVICE_ENTRY: Fields = &[
    ("ID", Field::Text),
    ("Node", Field::Text),
    ("Address", Field::Text),
    ("Datacenter", Field::Text),
    ("PeerName", Field::Text),
    ("TaggedAddresses", Field::Table(&Field::Text)),
    ("NodeMeta", Field::Table(&Field::Text)),
    ("ServiceKind", Field::Text),
    ("ServiceID", Field::Text),
    ("ServiceName", Field::Text),
    ("ServiceTags", Field::Texts),
    ("ServiceAddress", Field::Text),
    ("ServiceTaggedAddresses", Field::Table(&TAGGED)),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", Field::Table(&Field::Text)),
    ("ServicePort", Field::Number),
    ("ServiceSocketPath", Field::Text),
    ("ServiceEnableTagOverride", Field::Truth),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
];

/// A check.
pub(in super::super) const CHECK: Fields = &[
    ("Node", Field::Text),
    ("CheckID", Field::Text),
    ("Name", Field::Text),
    ("Status", Field::Text),
    ("Notes", Field::Text),
    ("Output", Field::Text),
    ("ServiceID", Field::Text),
    ("ServiceName", Field::Text),
    ("ServiceTags", Field::Texts),
    ("Type", Field::Text),
    ("Interval", Field::Text),
    ("Timeout", Field::Text),
    ("ExposedPort", Field::Number),
    ("PeerName", Field::Text),
];

/// An instance with its node and its checks.
pub(in super::super) const HEALTH_ENTRY: Fields = &[
    ("Node", Field::Object(NODE)),
    ("Service", Field::Object(SERVICE)),
    ("Checks", Field::List(CHECK)),
];

const TAGGED: Field = Field::Object(&[("Address", Field::Text), ("Port", Field::Number)]);
const WEIGHTS: Field = Field::Object(&[("Passing", Field::Number), ("Warning", Field::Number)]);
const PROXY: Field = Field::Object(&[
    ("Mode", Field::Text),
    ("MeshGateway", Field::Object(&[("Mode", Field::Text)])),
    ("Expose", Field::Object(&[("Checks", Field::Truth)])),
]);
const CONNECT: Field = Field::Object(&[("Native", Field::Truth)]);
