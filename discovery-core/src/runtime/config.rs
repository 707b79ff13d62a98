// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a runtime is told before it starts, and why it may not start.

#[cfg(feature = "consul")]
use crate::source::{ConsulConfig, ConsulSourceError};
#[cfg(feature = "kube")]
use crate::source::{KubeSourceError, Selection};
use crate::{
    model::{NodeName, Zone, ZoneKeys},
    source::{AgentConfig, ManifestError},
    store::{SourceId, StateConfig},
};
use std::{path::PathBuf, time::Duration};

/// Where the facts come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourceConfig {
    /// A Kubernetes API server; with the feature `kube`.
    #[cfg(feature = "kube")]
    Kube {
        /// The kubeconfig file; none means in-cluster, `KUBECONFIG`, or `~/.kube/config`.
        kubeconfig: Option<PathBuf>,
        /// Which services and slices are read.
        selection: Selection,
    },
    /// A manifest file.
    Manifest {
        /// The file.
        path: PathBuf,
    },
    /// The agent of our node, over its socket. Nothing stands beside it.
    Agent {
        /// How it is followed.
        agent: Box<AgentConfig>,
        /// What is watched instead while it is away for too long; none means that what it said last stays.
        own_watch: Option<Box<SourceConfig>>,
    },
    /// A Consul agent; with the feature `consul`. Where it is the only source and no zone is configured, it tells our own
    /// node.
    #[cfg(feature = "consul")]
    Consul(Box<ConsulConfig>),
}

impl SourceConfig {
    /// Which source it is.
    pub fn id(&self) -> SourceId {
        match self {
            #[cfg(feature = "kube")]
            Self::Kube { .. } => SourceId::Kube,
            Self::Manifest { .. } => SourceId::Manifest,
            #[cfg(feature = "consul")]
            Self::Consul(_) => SourceId::Consul,
            Self::Agent { .. } => SourceId::Agent,
        }
    }
}

/// What a runtime needs to start.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    pub(super) node: NodeName,
    pub(super) zone: Option<Zone>,
    pod_zone: Option<Zone>,
    pub(super) zone_keys: ZoneKeys,
    pub(super) state: StateConfig,
    pub(super) sources: Vec<SourceConfig>,
    pub(super) snapshot_folder: Option<PathBuf>,
}

impl RuntimeConfig {
    /// A runtime for the node with the given source; no snapshot on disk. A pod that is moved between slices stays for a
    /// second ([`StateConfig::grace`]).
    pub fn new(node: NodeName, source: SourceConfig) -> Self {
        Self {
            state: StateConfig::new(node.clone()).grace(GRACE),
            node,
            zone: None,
            pod_zone: None,
            zone_keys: ZoneKeys::default(),
            sources: vec![source],
            snapshot_folder: None,
        }
    }

    /// Adds a source beside those that are there; what is done where both state one service is a matter of the state
    /// ([`StateConfig::merge`]).
    #[must_use]
    pub fn and_source(mut self, source: SourceConfig) -> Self {
        self.sources.push(source);
        self
    }

    /// The zone by configuration instead of by label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.state = self.state.zone(zone.clone());
        self.zone = zone;
        self
    }

    /// The zone by the label of our own pod ([`StateConfig::pod_zone`]).
    #[must_use]
    pub fn pod_zone(mut self, zone: Option<Zone>) -> Self {
        self.state = self.state.pod_zone(zone.clone());
        self.pod_zone = zone;
        self
    }

    /// The node labels that may name the zone.
    #[must_use]
    pub fn zone_keys(mut self, keys: ZoneKeys) -> Self {
        self.state = self.state.zone_keys(keys.clone());
        self.zone_keys = keys;
        self
    }

    /// The zone that needs no node to tell it: for a source that asks for nodes by it.
    #[cfg_attr(not(feature = "kube"), allow(dead_code))]
    pub(super) fn given_zone(&self) -> Option<Zone> {
        let pod = self.pod_zone.clone();
        self.zone
            .clone()
            .or_else(|| pod.filter(|_| self.zone_keys.is_standard()))
    }

    /// Whether the agent of our node is the source.
    pub(super) fn follows_agent(&self) -> bool {
        self.sources
            .iter()
            .any(|source| source.id() == SourceId::Agent)
    }

    /// Changes how the state judges: default policy, addresses.
    #[must_use]
    pub fn state(mut self, change: impl FnOnce(StateConfig) -> StateConfig) -> Self {
        self.state = change(self.state);
        self
    }

    /// Keeps the last good snapshot in this folder, and starts from it when no source answers.
    #[must_use]
    pub fn snapshot_folder(mut self, folder: Option<PathBuf>) -> Self {
        self.snapshot_folder = folder;
        self
    }
}

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The manifest cannot be read.
    #[error("the manifest cannot be used")]
    Manifest(#[source] ManifestError),
    /// There is no usable configuration for an API server.
    #[cfg(feature = "kube")]
    #[error("there is no usable Kubernetes configuration")]
    Kube(#[source] KubeSourceError),
    /// There is no usable configuration for a Consul agent.
    #[cfg(feature = "consul")]
    #[error("the configuration for Consul cannot be used")]
    Consul(#[source] ConsulSourceError),
    /// A source is configured beside the agent, which passes on its own.
    #[error("{source_id} is configured beside the agent, which passes on its own sources")]
    BesideAgent {
        /// The source.
        source_id: SourceId,
    },
    /// No source is configured, and there is none by default without the feature `kube`.
    #[error("no source is configured: name a manifest file, or build with the feature `kube`")]
    NoSource,
    /// A source is configured twice.
    #[error("{source_id} is configured twice as a source")]
    Twice {
        /// The source.
        source_id: SourceId,
    },
}

/// The control plane writes the slices between which it moves a pod within milliseconds; over a link of 300 ms that loses
/// packets their events come within a second.
const GRACE: Duration = Duration::from_secs(1);
