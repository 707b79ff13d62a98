// SPDX-License-Identifier: MIT OR Apache-2.0
//! What counts as near for one service: the node labels, or the node itself, that an endpoint must share with us.

use super::{ModelError, ZoneKey};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// One way in which two nodes can be together.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ScopeKey {
    /// They are the same node: `kubernetes.io/hostname`.
    ///
    /// Compared by the node's name, since the label of that key may say something else.
    Node,
    /// Both carry this label, with the same value.
    Label(ZoneKey),
}

impl ScopeKey {
    /// Reads the key of a node label; `kubernetes.io/hostname` means the node itself.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        match text {
            HOSTNAME => Ok(Self::Node),
            _ => ZoneKey::parse(text).map(Self::Label),
        }
    }

    /// The key as Kubernetes writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Node => HOSTNAME,
            Self::Label(key) => key.as_str(),
        }
    }
}

/// The keys by which a service finds what is near; to share one of them is enough.
///
/// There is no order among them and nothing to fall back to, as in SuperEdge's `topologyKeys`: a service that prefers one
/// over the other asks for it by its policy.
///
/// ```
/// use discovery_core::model::Scope;
///
/// let scope = Scope::parse(["kubernetes.io/hostname", "site"]).unwrap();
/// assert_eq!(scope.to_string(), "kubernetes.io/hostname or site");
/// assert_eq!(scope.zone_keys().count(), 1, "the node itself is no label");
/// assert!(Scope::parse([]).is_err(), "to share nothing is never asked for");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scope(Arc<[ScopeKey]>);

impl Scope {
    /// How many keys one service may name.
    pub const MAX: usize = 16;

    /// The keys; refused when there is none, too many, or one is no label key.
    pub fn parse<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, ModelError> {
        let mut keys: Vec<ScopeKey> = keys
            .into_iter()
            .take(Self::MAX + 1)
            .map(ScopeKey::parse)
            .collect::<Result<_, _>>()?;
        let refuse = |why| Err(ModelError::new("list of topology keys", "", why));
        match keys.len() {
            0 => return refuse("it is empty"),
            count if count > Self::MAX => return refuse("it names more than 16 keys"),
            _ => {}
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(Self(keys.into()))
    }

    /// The scope that no endpoint is in: of a wish that could not be read. Fail closed.
    pub fn nothing() -> Self {
        Self([].into())
    }

    /// The scope of one label.
    pub fn of(key: ZoneKey) -> Self {
        Self([ScopeKey::Label(key)].into())
    }

    /// The keys in their order.
    pub fn keys(&self) -> &[ScopeKey] {
        &self.0
    }

    /// The labels among the keys: what has to be known of nodes.
    pub fn zone_keys(&self) -> impl Iterator<Item = &ZoneKey> {
        self.0.iter().filter_map(|key| match key {
            ScopeKey::Node => None,
            ScopeKey::Label(key) => Some(key),
        })
    }

    /// Whether nothing but our own node is near.
    pub fn is_node_only(&self) -> bool {
        matches!(*self.0, [ScopeKey::Node])
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (position, key) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { " or " };
            write!(f, "{separator}{}", key.as_str())?;
        }
        Ok(())
    }
}

impl TryFrom<Vec<String>> for Scope {
    type Error = ModelError;

    fn try_from(keys: Vec<String>) -> Result<Self, ModelError> {
        if keys.is_empty() {
            return Ok(Self::nothing());
        }
        Self::parse(keys.iter().map(String::as_str))
    }
}

impl From<Scope> for Vec<String> {
    fn from(scope: Scope) -> Self {
        scope.0.iter().map(|key| key.as_str().to_owned()).collect()
    }
}

const HOSTNAME: &str = "kubernetes.io/hostname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_says_nothing() {
        let one = Scope::parse(["b", "kubernetes.io/hostname", "a", "b"]).unwrap();
        let other = Scope::parse(["a", "b", "kubernetes.io/hostname"]).unwrap();
        assert_eq!(one, other);
        assert!(!one.is_node_only());
        assert!(
            Scope::parse(["kubernetes.io/hostname"])
                .unwrap()
                .is_node_only()
        );
    }

    #[test]
    fn what_is_no_label_key_is_refused() {
        for bad in ["", "*", "a b", "/a", "Example.com/a", "a/"] {
            assert!(Scope::parse(["site", bad]).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("k{n}")).collect();
        assert!(Scope::parse(many.iter().map(String::as_str)).is_err());
    }
}
