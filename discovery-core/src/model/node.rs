// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node of the cluster: its name, zone and addresses.

use super::{ModelError, Zone, is_object_name};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

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

/// What discovery needs of a node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its zone; none when no zone label is present or its value is refused.
    pub zone: Option<Zone>,
    /// Its LAN addresses, the InternalIPs, in the order of the API.
    pub addresses: Vec<IpAddr>,
}
