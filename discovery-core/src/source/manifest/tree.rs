// SPDX-License-Identifier: MIT OR Apache-2.0
//! A YAML document as a tree whose every value knows its line. Pure; bounded work on hostile text.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::fmt;

/// A value and its line within the document.
#[derive(Debug)]
pub(super) struct Tree {
    line: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A document that is no YAML, or larger than allowed once its aliases are followed.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) message: String,
}

impl Tree {
    /// Parses one document.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! {
                max_depth: DEPTH_MAX,
                max_nodes: NODES_MAX,
                max_events: 2 * NODES_MAX,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: REPLAYED_MAX,
            },
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let message = error.to_string();
            // The parser counts lines from the document's start, and ours are those of the file.
            let message = message.split(" at line ").next().unwrap_or_default();
            SyntaxError {
                line,
                message: message.lines().next().unwrap_or_default().to_owned(),
            }
        })
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The value of a field of a mapping.
    pub(super) fn get(&self, field: &str) -> Option<&Self> {
        let Content::Map(fields) = &self.content else {
            return None;
        };
        fields
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub(super) fn elements(&self) -> Option<&[Self]> {
        match &self.content {
            Content::List(elements) => Some(elements),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The value without its lines.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(elements) => elements.iter().map(Self::to_value).collect(),
            Content::Map(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), value.to_value()))
                .collect(),
        }
    }

    /// The line of a place such as `endpoints[3].addresses[0]`, or of the nearest that there is.
    pub(super) fn line_of(&self, place: &str) -> u64 {
        let mut here = self;
        let mut rest = place;
        while let Some((step, after)) = next_step(rest) {
            let inner = match &here.content {
                Content::List(elements) => step.parse().ok().and_then(|at: usize| elements.get(at)),
                _ => here.get(step),
            };
            let Some(inner) = inner else { break };
            (here, rest) = (inner, after);
        }
        here.line
    }
}

fn next_step(place: &str) -> Option<(&str, &str)> {
    let place = place.strip_prefix('.').unwrap_or(place);
    match place.strip_prefix('[') {
        Some(inner) => inner.split_once(']'),
        None if place.is_empty() => None,
        None => Some(place.split_at(place.find(['.', '[']).unwrap_or(place.len()))),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            content: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Content::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields: Vec<(String, Tree)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Tree>()? {
            if fields.len() >= FIELDS_MAX {
                return Err(de::Error::custom("a mapping has too many fields"));
            }
            fields.push((name, value));
        }
        Ok(Content::Map(fields))
    }
}

/// Kubernetes' own objects are a dozen levels deep; each level is a stack frame of the parser, which a thread of 2 MiB has
/// for somewhat less than a hundred.
const DEPTH_MAX: usize = 32;
/// 100 000 endpoints of seven values each, and some.
const NODES_MAX: usize = 2_000_000;
/// Anchors are rare in manifests; a chain of them that multiplies itself is an attack.
const REPLAYED_MAX: usize = 100_000;
/// Fields are searched one after another.
const FIELDS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let tree = Tree::parse(
            "---\nmetadata:\n  name: a\nendpoints:\n- addresses:\n  - 1.2.3.4\n  - x\n- {}\n",
        )
        .unwrap();
        for (place, line) in [
            ("metadata.name", 3),
            ("endpoints[0].addresses[1]", 7),
            ("endpoints[1]", 8),
            ("endpoints[9].addresses", 5),
            ("nothing", 2),
            ("", 2),
        ] {
            assert_eq!(tree.line_of(place), line, "{place}");
        }
    }

    #[test]
    fn a_place_may_name_a_field_with_dots() {
        let tree =
            Tree::parse("metadata:\n  annotations:\n    a: b\n    zonal.dev/zone-policy: x\n")
                .unwrap();
        assert_eq!(
            tree.line_of("metadata.annotations[zonal.dev/zone-policy]"),
            4
        );
    }

    #[test]
    fn values_are_those_of_json() {
        let tree = Tree::parse("a: [1, -2, 1.5, true, null, '3', text]\nb: {c: {}}\n").unwrap();
        let expected =
            serde_json::json!({"a": [1, -2, 1.5, true, null, "3", "text"], "b": {"c": {}}});
        assert_eq!(tree.to_value(), expected);
        assert_eq!(
            Tree::parse(&expected.to_string()).unwrap().to_value(),
            expected
        );
    }

    #[test]
    fn an_error_tells_the_line() {
        let error = Tree::parse("a: 1\nb: [1,\nc: }\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        assert!(!error.message.contains(" line "), "{error:?}");
    }

    #[test]
    fn a_chain_of_aliases_that_multiplies_itself_is_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.extend([format!("a{level}: &a{level} [{inner}]\n")]);
        }
        assert!(Tree::parse(&bomb).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        for depth in [40, 100, 1_000, 10_000] {
            for deep in ["[".repeat(depth), "[".repeat(depth) + &"]".repeat(depth)] {
                assert!(Tree::parse(&deep).is_err(), "{depth}");
            }
        }
        assert!(Tree::parse(&("[".repeat(20) + &"]".repeat(20))).is_ok());
    }
}
