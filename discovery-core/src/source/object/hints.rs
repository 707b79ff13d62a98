// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hints of an endpoint: the zones and nodes whose callers should use it.
//!
//! They are a preference and must not cost the endpoint, whatever stands in their place. So anything at all decodes here,
//! and what it was is judged afterwards.

use super::{Flaws, Names, few::Few, text::Text};
use crate::model::{Hints, NodeName, Zone};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData, sync::Arc};

/// Hints as the JSON has them.
#[derive(Debug, PartialEq)]
pub(super) enum RawHints<'a> {
    Object {
        for_zones: RawNames<'a>,
        for_nodes: RawNames<'a>,
    },
    Other,
}

/// A list of objects that have a name.
#[derive(Debug, Default, PartialEq)]
pub(super) enum RawNames<'a> {
    #[default]
    Missing,
    Named(Few<Text<'a>>),
    TooMany,
    /// An entry has no name.
    Unnamed,
    NoList,
}

impl RawHints<'_> {
    /// The hints; none when nothing is in them, or nothing that can be read. `known` may be the same.
    pub(super) fn read(
        &self,
        known: Option<&Arc<Hints>>,
        place: &dyn fmt::Display,
        names: &mut Names,
        flaws: &mut Flaws,
    ) -> Option<Arc<Hints>> {
        let Self::Object {
            for_zones,
            for_nodes,
        } = self
        else {
            flaws.take(
                &format_args!("{place}.hints"),
                Err::<(), _>("it is no object"),
            );
            return None;
        };
        let is_same = |known: &&Arc<Hints>| {
            for_zones.is(known.zones.iter().map(Zone::as_str))
                && for_nodes.is(known.nodes.iter().map(NodeName::as_str))
        };
        if let Some(known) = known.filter(is_same) {
            return Some(known.clone());
        }
        let zones = for_zones.read(|text| names.zone(text).map_err(|error| error.to_string()));
        let nodes = for_nodes.read(|text| names.node(text).map_err(|error| error.to_string()));
        let hints = Hints {
            zones: flaws.take(&format_args!("{place}.hints.forZones"), zones)?,
            nodes: flaws.take(&format_args!("{place}.hints.forNodes"), nodes)?,
        };
        (hints != Hints::default()).then(|| names.hints(hints))
    }
}

impl RawNames<'_> {
    fn is<'n>(&self, names: impl Iterator<Item = &'n str>) -> bool {
        match self {
            Self::Named(ours) => ours.iter().map(|name| &**name).eq(names),
            _ => names.count() == 0 && *self == Self::Missing,
        }
    }

    fn read<T>(&self, parse: impl FnMut(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        match self {
            Self::Missing => Ok(Vec::new()),
            Self::Named(names) => names.iter().map(|name| &**name).map(parse).collect(),
            Self::TooMany => Err(format!("it has more than {} entries", Hints::MAX)),
            Self::Unnamed => Err("an entry has no name".to_owned()),
            Self::NoList => Err("it is no list".to_owned()),
        }
    }
}

/// What is made of any value at all.
trait Lenient<'de>: Sized {
    /// Of a value for which nothing is said below.
    fn other() -> Self;

    fn null() -> Self {
        Self::other()
    }

    fn text(_: Text<'de>) -> Self {
        Self::other()
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::other())
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::other())
    }
}

impl<'de> Lenient<'de> for RawHints<'de> {
    fn other() -> Self {
        Self::Other
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let (mut for_zones, mut for_nodes) = (RawNames::Missing, RawNames::Missing);
        while let Some(field) = object.next_key::<Text<'de>>()? {
            match &*field {
                "forZones" => for_zones = object.next_value_seed(Anything::new())?,
                "forNodes" => for_nodes = object.next_value_seed(Anything::new())?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Self::Object {
            for_zones,
            for_nodes,
        })
    }
}

impl<'de> Lenient<'de> for RawNames<'de> {
    fn other() -> Self {
        Self::NoList
    }

    fn null() -> Self {
        Self::Missing
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut names = Few::default();
        let (mut is_named, mut is_short) = (true, true);
        while let Some(Entry(name)) = list.next_element_seed(Anything::new())? {
            is_short &= names.len() < Hints::MAX;
            match name {
                Some(name) if is_named && is_short => names.push(name),
                name => is_named &= name.is_some(),
            }
        }
        Ok(match (is_short, is_named) {
            (false, _) => Self::TooMany,
            (true, false) => Self::Unnamed,
            (true, true) => Self::Named(names),
        })
    }
}

/// The name of an entry of a list.
struct Entry<'a>(Option<Text<'a>>);

impl<'de> Lenient<'de> for Entry<'de> {
    fn other() -> Self {
        Self(None)
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut found = None;
        while let Some(field) = object.next_key::<Text<'de>>()? {
            match &*field {
                "name" => Name(found) = object.next_value_seed(Anything::new())?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Self(found))
    }
}

/// A text, where one stands.
struct Name<'a>(Option<Text<'a>>);

impl<'de> Lenient<'de> for Name<'de> {
    fn other() -> Self {
        Self(None)
    }

    fn text(text: Text<'de>) -> Self {
        Self(Some(text))
    }
}

/// Takes any value and makes of it what [`Lenient`] says.
struct Anything<T>(PhantomData<T>);

impl<T> Anything<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Lenient<'de>> DeserializeSeed<'de> for Anything<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Lenient<'de>> Visitor<'de> for Anything<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::null())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::other())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::other())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::other())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::other())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T, E> {
        Ok(T::text(Text::borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(Text::owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::object(object)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawHints<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Anything::<RawHints<'de>>::new().deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<Arc<Hints>>, String> {
        let raw: Option<RawHints<'_>> = serde_json::from_str(json).unwrap();
        let mut flaws = Flaws::default();
        let raw = raw.as_ref();
        let hints = raw.and_then(|raw| raw.read(None, &"at", &mut Names::default(), &mut flaws));
        match &flaws.into_list()[..] {
            [] => Ok(hints),
            [flaw, ..] => Err(format!("{}: {}", flaw.place, flaw.reason)),
        }
    }

    #[test]
    fn anything_decodes_and_is_named() {
        for json in [
            "null",
            "{}",
            r#"{"forZones":null,"forNodes":[],"other":[{"a":[1]}]}"#,
        ] {
            assert_eq!(read(json), Ok(None), "{json}");
        }
        for (json, expected) in [
            ("3", "at.hints: it is no object"),
            ("-3.5", "at.hints: it is no object"),
            ("true", "at.hints: it is no object"),
            ("[{}]", "at.hints: it is no object"),
            (r#""a\n""#, "at.hints: it is no object"),
            (r#"{"forZones":{}}"#, "at.hints.forZones: it is no list"),
            (r#"{"forZones":"x"}"#, "at.hints.forZones: it is no list"),
            (
                r#"{"forNodes":[{"name":3}]}"#,
                "at.hints.forNodes: an entry has no name",
            ),
            (
                r#"{"forNodes":["n1"]}"#,
                "at.hints.forNodes: an entry has no name",
            ),
            (
                r#"{"forNodes":[{"name":"n1"},{}]}"#,
                "at.hints.forNodes: an entry has no name",
            ),
        ] {
            assert_eq!(read(json), Err(expected.to_owned()), "{json}");
        }
        let many = [r#"{"name":"a"}"#; Hints::MAX + 1].join(",");
        let error = read(&format!(r#"{{"forZones":[{many}]}}"#));
        assert_eq!(
            error,
            Err("at.hints.forZones: it has more than 8 entries".to_owned())
        );
    }

    #[test]
    fn zones_and_nodes_are_read() {
        let json = r#"{"forZones":[{"name":"mall-1","x":1}],"forNodes":[{"name":"n\u0031"}]}"#;
        let hints = read(json).unwrap().unwrap();
        let raw: RawHints<'_> = serde_json::from_str(json).unwrap();
        let (names, flaws) = (&mut Names::default(), &mut Flaws::default());
        let again = raw.read(Some(&hints), &"at", names, flaws).unwrap();
        assert!(Arc::ptr_eq(&again, &hints));
        let empty: RawHints<'_> = serde_json::from_str(r#"{"forZones":[]}"#).unwrap();
        assert_eq!(empty.read(Some(&hints), &"at", names, flaws), None);
        assert_eq!(
            (hints.zones[0].as_str(), hints.nodes[0].as_str()),
            ("mall-1", "n1")
        );
    }
}
