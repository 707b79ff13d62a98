// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle of an embedding service.

#[cfg(feature = "kube")]
use crate::source::Selection;
use crate::{
    model::{AddressRules, ModelError, NodeName, ServiceName, Zone, ZoneKeys, ZonePolicy},
    pick::Picker,
    runtime::{Runtime, RuntimeConfig, SourceConfig, StartError},
};
use std::path::{Path, PathBuf};

/// Discovery for the services of one zone. Clones share one watch.
#[derive(Clone, Debug)]
pub struct Discovery {
    runtime: Runtime,
}

impl Discovery {
    /// Begins to build a handle for a process on the node with this name, as `spec.nodeName` of the Downward API gives it.
    pub fn builder(node_name: &str) -> Result<DiscoveryBuilder, ModelError> {
        Ok(DiscoveryBuilder {
            node: NodeName::parse(node_name)?,
            source: DEFAULT_SOURCE,
            zone: None,
            zone_keys: ZoneKeys::default(),
            policy: ZonePolicy::default(),
            allow_loopback: false,
            snapshot_folder: None,
        })
    }

    /// A picker for a service; make one per task, or clone it.
    pub fn picker(&self, service: ServiceName) -> Picker {
        Picker::new(self.runtime.reader(), service)
    }

    /// Waits until the zone is known and every list was read, or restored from disk.
    pub async fn ready(&self) {
        self.runtime.ready().await;
    }

    /// The runtime underneath: readiness, status, counters.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Stops watching. Pickers keep what they have seen.
    pub async fn stop(self) {
        self.runtime.stop().await;
    }
}

/// Builds a [`Discovery`]; every default is that of the agent.
#[derive(Clone, Debug)]
pub struct DiscoveryBuilder {
    node: NodeName,
    source: Option<SourceConfig>,
    zone: Option<Zone>,
    zone_keys: ZoneKeys,
    policy: ZonePolicy,
    allow_loopback: bool,
    snapshot_folder: Option<PathBuf>,
}

impl DiscoveryBuilder {
    /// Reads a manifest file instead of watching an API server.
    #[must_use]
    pub fn manifest(mut self, path: impl AsRef<Path>) -> Self {
        self.source = Some(SourceConfig::Manifest {
            path: path.as_ref().to_owned(),
        });
        self
    }

    /// Uses this kubeconfig instead of the in-cluster configuration, `KUBECONFIG` or `~/.kube/config`.
    #[cfg(feature = "kube")]
    #[must_use]
    pub fn kubeconfig(mut self, path: impl AsRef<Path>) -> Self {
        self.source = Some(SourceConfig::Kube {
            kubeconfig: Some(path.as_ref().to_owned()),
            selection: Selection::default(),
        });
        self
    }

    /// The zone by configuration instead of by the node's label.
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// The node labels that may name the zone; `topology.kubernetes.io/zone` and its beta form unless set.
    #[must_use]
    pub fn zone_keys(mut self, keys: ZoneKeys) -> Self {
        self.zone_keys = keys;
        self
    }

    /// The policy of services that ask for none; `strict` unless set.
    #[must_use]
    pub fn policy(mut self, policy: ZonePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Accepts endpoints at loopback addresses: for laptops and tests.
    #[must_use]
    pub fn allow_loopback_endpoints(mut self) -> Self {
        self.allow_loopback = true;
        self
    }

    /// Keeps the last good snapshot in this folder; none unless set.
    #[must_use]
    pub fn snapshot_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.snapshot_folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Starts. An API server that is away is no error: see [`Discovery::ready`].
    pub async fn start(self) -> Result<Discovery, StartError> {
        let rules = AddressRules::new(self.allow_loopback, []);
        let policy = self.policy;
        let source = self.source.ok_or(StartError::NoSource)?;
        let config = RuntimeConfig::new(self.node, source)
            .zone(self.zone)
            .zone_keys(self.zone_keys)
            .state(|state| state.policy(policy).addresses(rules))
            .snapshot_folder(self.snapshot_folder);
        Ok(Discovery {
            runtime: Runtime::start(config).await?,
        })
    }
}

/// The API server of the cluster that we run in; nothing where none can be watched.
#[cfg(feature = "kube")]
const DEFAULT_SOURCE: Option<SourceConfig> = Some(SourceConfig::Kube {
    kubeconfig: None,
    selection: Selection {
        selector: None,
        namespaces: Vec::new(),
    },
});
#[cfg(not(feature = "kube"))]
const DEFAULT_SOURCE: Option<SourceConfig> = None;
