// SPDX-License-Identifier: MIT OR Apache-2.0
//! A zone, and the node labels that name it.

use super::ModelError;
use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, sync::Arc};

/// A topology zone: one LAN, the value of the node's zone label.
///
/// Two nodes are in one zone when both values are present and equal. The text follows the Kubernetes rule for label
/// values: 1 to 63 bytes of `A-Z a-z 0-9 - _ .`, first and last a letter or digit.
///
/// ```
/// use discovery_core::model::Zone;
///
/// assert_eq!(Zone::parse("mall-1").unwrap().as_str(), "mall-1");
/// assert!(Zone::parse("").is_err(), "no zone is never a zone of its own");
/// assert!(Zone::parse("mall 1").is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Arc<str>);

impl Zone {
    /// Checks the text and keeps it.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let refuse = |why| Err(ModelError::new("zone", text, why));
        match text.as_bytes() {
            [] => refuse("it is empty"),
            bytes if bytes.len() > 63 => refuse("it is longer than 63 bytes"),
            bytes
                if !bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)) =>
            {
                refuse("only letters, digits, '-', '_' and '.' may stand in it")
            }
            [first, .., last]
                if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() =>
            {
                refuse("it must start and end with a letter or digit")
            }
            [only] if !only.is_ascii_alphanumeric() => refuse("it must hold a letter or digit"),
            _ => Ok(Self(text.into())),
        }
    }

    /// The text as the label has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The zone as a DNS label: lower case, with `-` for what a host name does not allow.
    ///
    /// Two zones may share a label; whoever builds names from it has to refuse both then.
    pub fn dns_label(&self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        self.0
            .chars()
            .map(|c| {
                if allowed(c) {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For look-ups by text: a zone is hashed and compared as its text.
impl Borrow<str> for Zone {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Zone {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        Self::parse(&text)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0.as_ref().to_owned()
    }
}

/// The name of a node label that may hold the zone, such as `topology.kubernetes.io/zone`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneKey(Arc<str>);

impl ZoneKey {
    /// The label that Kubernetes itself copies: from nodes to endpoints (`zone`), and from nodes to pods.
    pub const STANDARD: &'static str = "topology.kubernetes.io/zone";

    /// Checks the text against the Kubernetes rule for label keys: an optional DNS prefix and `/`, then 1 to 63 bytes.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let refuse = |why| Err(ModelError::new("zone label key", text, why));
        let name = match text.split_once('/') {
            Some((prefix, _)) if !super::is_object_name(prefix) => {
                return refuse("the part before '/' is not a DNS name");
            }
            Some((_, name)) => name,
            None => text,
        };
        if Zone::parse(name).is_err() {
            return refuse("the name must be 1 to 63 letters, digits, '-', '_' or '.'");
        }
        Ok(Self(text.into()))
    }

    /// The key as Kubernetes writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is [`ZoneKey::STANDARD`], which Kubernetes states on endpoints and pods as well.
    pub fn is_standard(&self) -> bool {
        &*self.0 == Self::STANDARD
    }
}

impl TryFrom<String> for ZoneKey {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        Self::parse(&text)
    }
}

impl From<ZoneKey> for String {
    fn from(key: ZoneKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl fmt::Display for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ordered list of node labels in which the zone is looked for; the first that is present decides.
///
/// The default is `topology.kubernetes.io/zone`, then `failure-domain.beta.kubernetes.io/zone`, which nodes of clusters
/// before 1.17 carry.
///
/// ```
/// use discovery_core::model::ZoneKeys;
///
/// let keys = ZoneKeys::default();
/// let (key, zone) = keys.resolve(|key| key.starts_with("topology").then_some("mall-1")).unwrap();
/// assert_eq!((key.as_str(), zone.unwrap().as_str()), ("topology.kubernetes.io/zone", "mall-1"));
/// assert!(keys.resolve(|_| None).is_none());
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ZoneKeys(Arc<[ZoneKey]>);

impl TryFrom<Vec<String>> for ZoneKeys {
    type Error = ModelError;

    fn try_from(keys: Vec<String>) -> Result<Self, ModelError> {
        Self::parse(keys.iter().map(String::as_str))
    }
}

impl From<ZoneKeys> for Vec<String> {
    fn from(keys: ZoneKeys) -> Self {
        keys.iter().map(ToString::to_string).collect()
    }
}

impl ZoneKeys {
    /// The keys in order of preference; refused when the list is empty.
    pub fn parse<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, ModelError> {
        let keys: Arc<[ZoneKey]> = keys
            .into_iter()
            .map(ZoneKey::parse)
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(ModelError::new(
                "list of zone label keys",
                "",
                "it is empty",
            ));
        }
        Ok(Self(keys))
    }

    /// The first key for which the node has a label, and the zone that its value names, or why that value is no zone.
    pub fn resolve<'l>(
        &self,
        label: impl Fn(&str) -> Option<&'l str>,
    ) -> Option<(&ZoneKey, Result<Zone, ModelError>)> {
        self.0.iter().find_map(|key| {
            let value = label(key.as_str())?;
            Some((key, Zone::parse(value)))
        })
    }

    /// Whether the zone is first looked for in [`ZoneKey::STANDARD`], so that what Kubernetes copies from it counts.
    pub fn is_standard(&self) -> bool {
        self.0.first().is_some_and(ZoneKey::is_standard)
    }

    /// The keys in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &ZoneKey> {
        self.0.iter()
    }
}

impl Default for ZoneKeys {
    fn default() -> Self {
        Self(
            DEFAULT_KEYS
                .iter()
                .map(|key| ZoneKey((*key).into()))
                .collect(),
        )
    }
}

impl fmt::Display for ZoneKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{key}")?;
        }
        Ok(())
    }
}

const DEFAULT_KEYS: [&str; 2] = [ZoneKey::STANDARD, "failure-domain.beta.kubernetes.io/zone"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_follows_the_rule_of_label_values() {
        for good in ["a", "mall-1", "Mall_1.a", &"z".repeat(63)] {
            assert_eq!(Zone::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            ".",
            "a b",
            "ä",
            "a/b",
            "a\n",
            "*",
            &"z".repeat(64),
        ] {
            assert!(Zone::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_key_that_is_present_decides_even_when_its_value_is_bad() {
        let keys = ZoneKeys::parse(["a", "b"]).unwrap();
        let (key, zone) = keys
            .resolve(|key| Some(if key == "a" { "" } else { "x" }))
            .unwrap();
        assert_eq!(key.as_str(), "a");
        assert!(zone.is_err());
    }

    #[test]
    fn keys_are_checked() {
        assert!(ZoneKeys::parse(["example.com/zone", "zone"]).is_ok());
        for bad in ["", "/zone", "Example.com/zone", "a/b/c", "a/"] {
            assert!(ZoneKeys::parse([bad]).is_err(), "{bad:?}");
        }
        assert!(ZoneKeys::parse([]).is_err());
    }

    #[test]
    fn a_dns_label_has_no_dots() {
        assert_eq!(Zone::parse("Mall.7_b").unwrap().dns_label(), "mall-7_b");
    }
}
