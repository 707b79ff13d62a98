// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of objects that the scripted server keeps, and how the API names them. Pure.

/// A kind of objects that the server keeps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Resource {
    /// `Node`, without a namespace.
    Nodes,
    /// `Service`.
    Services,
    /// `EndpointSlice`, kept as `discovery.k8s.io/v1` and also spoken as `v1beta1`.
    EndpointSlices,
    /// `Endpoints`.
    Endpoints,
    /// `ConfigMap`.
    ConfigMaps,
}

/// Which versions of the slices' API the server speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SliceApis {
    /// `v1` alone: Kubernetes 1.25 and newer.
    #[default]
    V1,
    /// `v1beta1` alone: Kubernetes 1.17 to 1.20.
    V1Beta1,
    /// Both, `v1` preferred: Kubernetes 1.21 to 1.24.
    Both,
    /// The group is not served at all: Kubernetes 1.16 and older.
    None,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Nodes,
        Self::Services,
        Self::EndpointSlices,
        Self::Endpoints,
        Self::ConfigMaps,
    ];

    /// The word in a path: `endpointslices`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Endpoints => "endpoints",
            Self::ConfigMaps => "configmaps",
        }
    }

    /// The word in an object: `EndpointSlice`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::ConfigMaps => "ConfigMap",
        }
    }

    pub(super) fn of_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.plural() == plural)
    }

    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.kind() == kind)
    }

    pub(super) fn is_namespaced(self) -> bool {
        self != Self::Nodes
    }

    /// The `apiVersion` of its objects.
    pub(super) fn api_version(self, is_beta: bool) -> &'static str {
        match (self, is_beta) {
            (Self::EndpointSlices, true) => "discovery.k8s.io/v1beta1",
            (Self::EndpointSlices, false) => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }
}

impl SliceApis {
    /// The versions, the preferred one first.
    pub(super) fn versions(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["v1"],
            Self::V1Beta1 => &["v1beta1"],
            Self::Both => &["v1", "v1beta1"],
            Self::None => &[],
        }
    }
}
