// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a source can say: one statement of fact.

use crate::model::{ModelError, Node, NodeName, Service, ServiceName, Slice, SliceKey};
use std::{fmt, str::FromStr};

/// Which source speaks.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceId {
    /// A Kubernetes API server.
    Kube,
    /// A manifest file.
    Manifest,
    /// A Consul agent.
    Consul,
    /// The agent of our node, which passes on what its own sources state, each under its name.
    Agent,
    /// The last good snapshot on disk: what holds until a live source has spoken.
    Disk,
}

impl SourceId {
    /// All sources.
    pub const ALL: [Self; 5] = [
        Self::Kube,
        Self::Manifest,
        Self::Consul,
        Self::Agent,
        Self::Disk,
    ];

    /// Whether it is a server that can be wiped, restored or replaced without anybody meaning it.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::Kube | Self::Consul)
    }

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kube => "kube",
            Self::Manifest => "static",
            Self::Consul => "consul",
            Self::Agent => "agent",
            Self::Disk => "snapshot",
        }
    }
}

impl FromStr for SourceId {
    type Err = ModelError;

    /// Reads the word of a source that can be configured.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let is_configured = |id: &Self| !matches!(id, Self::Agent | Self::Disk);
        let mut sources = Self::ALL.into_iter().filter(is_configured);
        sources.find(|id| id.as_str() == text).ok_or_else(|| {
            ModelError::new("source", text, "the sources are kube, static and consul")
        })
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is listed and watched as one.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Our own node, by name; it decides the zone.
    OwnNode,
    /// The nodes of the zone.
    Nodes,
    /// Services.
    Services,
    /// Endpoint slices.
    Slices,
}

impl Kind {
    /// All kinds in the order in which a person asks for them.
    pub const ALL: [Self; 4] = [Self::OwnNode, Self::Nodes, Self::Services, Self::Slices];

    /// The word for metrics, logs and readiness.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnNode => "own-node",
            Self::Nodes => "nodes",
            Self::Services => "services",
            Self::Slices => "slices",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A whole object as a source states it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// Our own node.
    OwnNode(Node),
    /// A node of the cluster.
    Node(Node),
    /// A service.
    Service(Service),
    /// A slice of a service's endpoints.
    Slice(Slice),
}

impl Object {
    /// What names the object.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::OwnNode(node) => ObjectKey::OwnNode(node.name.clone()),
            Self::Node(node) => ObjectKey::Node(node.name.clone()),
            Self::Service(service) => ObjectKey::Service(service.name.clone()),
            Self::Slice(slice) => ObjectKey::Slice(slice.key.clone()),
        }
    }
}

/// What names an object.
#[derive(
    Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKey {
    /// Our own node.
    OwnNode(NodeName),
    /// A node of the cluster.
    Node(NodeName),
    /// A service.
    Service(ServiceName),
    /// A slice.
    Slice(SliceKey),
}

impl ObjectKey {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OwnNode(_) => Kind::OwnNode,
            Self::Node(_) => Kind::Nodes,
            Self::Service(_) => Kind::Services,
            Self::Slice(_) => Kind::Slices,
        }
    }
}

impl fmt::Display for ObjectKey {
    /// The object as Kubernetes calls it: `EndpointSlice shop/web-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnNode(name) | Self::Node(name) => write!(f, "Node {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Slice(key) => write!(f, "EndpointSlice {key}"),
        }
    }
}

/// An object, or a part of it, that could not be read, for a person to mend. The last good version stays in force.
///
/// It is dropped when the object is next stated, so a source rejects a part after the upsert of the whole.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// The kind of list that it came in.
    pub kind: Kind,
    /// What is known of its name, in the form of [`ObjectKey`]: `EndpointSlice default/web-1`.
    pub object: String,
    /// Where: a line of a file, a field of an object.
    pub place: String,
    /// Why it was refused.
    pub reason: String,
}

/// One statement of a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Update {
    /// A new full list of the kind begins. What it does not name is gone once `Synced` follows, and stays until then.
    Reset(SourceId, Kind),
    /// The list under way is of a lower version than what the source stated before.
    WentBack(SourceId, Kind),
    /// The object is as given.
    Upsert(SourceId, Object),
    /// A list names the object, and what it is now could not be read: its last good version stays, if there is one.
    Kept(SourceId, ObjectKey),
    /// The object existed and is gone.
    Remove(SourceId, ObjectKey),
    /// The source was asked for this object and says that there is none.
    Absent(SourceId, ObjectKey),
    /// The source may not read the kind at all, and somebody wants it so: what needs it has to do without until `Synced`.
    Denied(SourceId, Kind),
    /// The source has found itself in another cluster than the one that the snapshot on disk is of: what came from there in
    /// its name is another's.
    Foreign(SourceId),
    /// Another cluster answers the source than the one that it has stated: it states nothing of that one, and what it said
    /// last stays in force, until `Ours` or until a person accepts the other.
    Another(SourceId),
    /// The cluster that the source has stated answers again.
    Ours(SourceId),
    /// The full list of the kind is complete.
    Synced(SourceId, Kind),
    /// An object was refused.
    Reject(SourceId, Problem),
}
