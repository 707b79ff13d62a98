// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metadata of an object, as far as discovery reads it.

use super::text::Text;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Name, version, labels and annotations; each may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::source) struct Meta<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    uid: Option<Text<'a>>,
    resource_version: Option<Text<'a>>,
    creation_timestamp: Option<Text<'a>>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<Text<'a>, Option<Text<'a>>>,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<Text<'a>, Option<Text<'a>>>,
}

impl Meta<'_> {
    /// The name; empty when there is none.
    pub(in crate::source) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The namespace; `default` when a manifest leaves it out.
    pub(in crate::source) fn namespace(&self) -> &str {
        match self.namespace.as_deref() {
            None | Some("") => "default",
            Some(namespace) => namespace,
        }
    }

    /// The UID; none when it is missing or empty.
    pub(super) fn uid(&self) -> Option<&str> {
        self.uid.as_deref().filter(|uid| !uid.is_empty())
    }

    /// The resourceVersion; empty when there is none.
    pub(in crate::source) fn version(&self) -> &str {
        self.resource_version.as_deref().unwrap_or_default()
    }

    /// The resourceVersion as a number, to tell the later of two; 0 when it is none.
    pub(super) fn version_number(&self) -> u64 {
        self.version().parse().unwrap_or(0)
    }

    /// When the object was created, when that is said in the form of the API.
    pub(super) fn created(&self) -> Option<&str> {
        let created = self.creation_timestamp.as_deref()?;
        (created.len() == "2026-01-01T00:00:00Z".len()).then_some(created)
    }

    /// Whether the object is being deleted.
    pub(super) fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// All labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels
            .iter()
            .map(|(key, value)| (&**key, value.as_deref().unwrap_or_default()))
    }

    /// All annotations.
    pub(super) fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations
            .iter()
            .map(|(key, value)| (&**key, value.as_deref().unwrap_or_default()))
    }

    /// A label; Kubernetes reads a null one as empty.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        Some(self.labels.get(key)?.as_deref().unwrap_or_default())
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        Some(self.annotations.get(key)?.as_deref().unwrap_or_default())
    }
}

/// Reads an object, and null as the default. Serde's own way takes a list for an object whose fields stand in order.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// Reads null as the default, as Go's decoder does.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
