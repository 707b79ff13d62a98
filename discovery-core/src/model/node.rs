// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node of the cluster: its name, its zone under every label key, its addresses, and what the control plane thinks of
//! it.

use super::{ModelError, Zone, ZoneKey, is_object_name};
use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

/// The name of a Kubernetes Node; endpoints and nodes are joined by it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Checks the text against the rule for object names.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        if is_object_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(ModelError::new(
                "node name",
                text,
                "it is not a lower-case DNS name of at most 253 bytes",
            ))
        }
    }

    /// The name as Kubernetes has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For look-ups by text: a name is hashed and compared as its text.
impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// The labels of a node whose values could be zones: the zone of the node under each key.
///
/// All of them are kept, since a service that names a key of its own may be read after the node. Values that are no zone
/// are left out: no two nodes are together by them. Costs about 100 bytes a label; shared by all clones.
///
/// ```
/// use discovery_core::model::{NodeLabels, Zone, ZoneKey};
///
/// let key = |text| ZoneKey::parse(text).unwrap();
/// let labels: NodeLabels = [(key("site"), Zone::parse("mall-1").unwrap())].into_iter().collect();
/// assert_eq!(labels.get(&key("site")).map(Zone::as_str), Some("mall-1"));
/// assert_eq!(labels.get(&key("floor")), None);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<ZoneKey, Zone>", into = "BTreeMap<ZoneKey, Zone>")]
pub struct NodeLabels(Arc<[(ZoneKey, Zone)]>);

impl NodeLabels {
    /// How many labels of one node are kept.
    pub const MAX: usize = 128;

    /// The zone under the key. Logarithmic in the number of labels.
    pub fn get(&self, key: &ZoneKey) -> Option<&Zone> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All keys with their zones, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&ZoneKey, &Zone)> {
        self.0.iter().map(|(key, zone)| (key, zone))
    }
}

impl FromIterator<(ZoneKey, Zone)> for NodeLabels {
    /// The last zone of a key holds; beyond [`NodeLabels::MAX`] keys the rest is dropped.
    fn from_iter<I: IntoIterator<Item = (ZoneKey, Zone)>>(labels: I) -> Self {
        labels.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl From<BTreeMap<ZoneKey, Zone>> for NodeLabels {
    fn from(labels: BTreeMap<ZoneKey, Zone>) -> Self {
        Self(labels.into_iter().take(Self::MAX).collect())
    }
}

impl From<NodeLabels> for BTreeMap<ZoneKey, Zone> {
    fn from(labels: NodeLabels) -> Self {
        labels.0.iter().cloned().collect()
    }
}

/// The condition `Ready` of a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeReadiness {
    /// The kubelet says so.
    Ready,
    /// The kubelet says that it is not.
    NotReady,
    /// The control plane has lost the kubelet, or nothing is said: what it thinks of the node's pods is second-hand.
    #[default]
    Unknown,
}

/// What discovery needs of a node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its zone under the configured keys; none when no such label is present or its value is refused.
    pub zone: Option<Zone>,
    /// Its zone under any key.
    #[serde(default)]
    pub labels: NodeLabels,
    /// Its LAN addresses, the InternalIPs, in the order of the API.
    pub addresses: Vec<IpAddr>,
    /// Its condition `Ready`.
    #[serde(default)]
    pub readiness: NodeReadiness,
    /// Whether it carries the taint `node.kubernetes.io/unreachable`: the control plane has not heard of it for a while.
    #[serde(default)]
    pub is_unreachable: bool,
    /// Whether it is being deleted: it has a deletion timestamp.
    #[serde(default)]
    pub is_deleting: bool,
    /// Its version, to tell a late word from a new one; 0 where versions are no numbers. Kept beside it and not in it: one
    /// object at two versions says the same.
    #[serde(skip)]
    pub version: u64,
}

impl Node {
    /// A node of which no more is known than its name and zone.
    pub fn new(name: NodeName, zone: Option<Zone>) -> Self {
        Self {
            name,
            zone,
            labels: NodeLabels::default(),
            addresses: Vec::new(),
            readiness: NodeReadiness::default(),
            is_unreachable: false,
            is_deleting: false,
            version: 0,
        }
    }

    /// The node with its zones under these keys as well.
    #[must_use]
    pub fn with_labels(mut self, labels: NodeLabels) -> Self {
        self.labels = labels;
        self
    }
}
