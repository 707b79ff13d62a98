// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle of an embedding service.

use super::{Closed, DiscoveryError, ServiceClient, gate::Gate, terms::Terms};
#[cfg(feature = "kube")]
use crate::source::Selection;
use crate::{
    model::{AddressRules, NodeName, ServiceName, Zone, ZoneKeys, ZonePolicy},
    pick::{EjectRule, Picker},
    runtime::{Runtime, RuntimeConfig, SourceConfig, StartError},
    source::AgentConfig,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Discovery for the services of one zone. Clones share one watch.
///
/// ```
/// use discovery_core::client::Discovery;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let mall = folder.path().join("mall.yaml");
/// # std::fs::write(&mall, "{apiVersion: v1, kind: Node, metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}}")?;
/// let discovery = Discovery::builder().node("edge-a").manifest(mall).start().await?;
/// discovery.ready().await;
/// let mut web = discovery.service("shop/web".parse()?);
/// assert_eq!(web.pick_any().unwrap_err().to_string(), "service shop/web is unknown");
/// // On SIGTERM: nothing new is taken, what is under way may end.
/// let closed = discovery.close(Duration::from_secs(30)).await;
/// assert_eq!(closed.unfinished(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Discovery {
    runtime: Runtime,
    gate: Arc<Gate>,
    rule: Option<EjectRule>,
}

impl Discovery {
    /// Begins to build a handle: for the node that `NODE_NAME` names, by the API server, unless told otherwise.
    pub fn builder() -> DiscoveryBuilder {
        DiscoveryBuilder {
            node: None,
            source: DEFAULT_SOURCE,
            zone: None,
            zone_keys: ZoneKeys::default(),
            policy: ZonePolicy::default(),
            allow_loopback: false,
            snapshot_folder: None,
            in_flight_max: IN_FLIGHT_MAX,
            rule: Some(EjectRule::default()),
        }
    }

    /// One service: picks, replica order, watches.
    pub fn service(&self, name: ServiceName) -> ServiceClient {
        let terms = Terms {
            service: name,
            gate: self.gate.clone(),
            rule: self.rule.clone(),
        };
        ServiceClient::of(self.runtime.reader(), terms)
    }

    /// The bare picker of a service, for whoever counts calls himself: no limit, no outcome, the fastest there is. Make
    /// one per task, or clone it.
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

    /// Calls under way by [`ServiceClient`]s of this handle.
    pub fn in_flight(&self) -> usize {
        self.gate.in_flight()
    }

    /// Calls that were refused so far because too many were under way.
    pub fn overloads(&self) -> u64 {
        self.gate.refused()
    }

    /// Calls that were reported so far: how many went well, and how many failed.
    pub fn outcomes(&self) -> (u64, u64) {
        self.gate.outcomes()
    }

    /// Takes no new calls, waits for those under way until the deadline, and stops watching. Readers and bare pickers keep
    /// what they have seen.
    pub async fn close(self, deadline: Duration) -> Closed {
        let closed = self.gate.close(deadline).await;
        self.runtime.stop().await;
        closed
    }

    /// [`Discovery::close`] without waiting for calls.
    pub async fn stop(self) {
        let _ = self.close(Duration::ZERO).await;
    }
}

/// Builds a [`Discovery`]; every default is that of the agent.
#[derive(Clone, Debug)]
#[must_use]
pub struct DiscoveryBuilder {
    node: Option<String>,
    source: Option<SourceConfig>,
    zone: Option<Zone>,
    zone_keys: ZoneKeys,
    policy: ZonePolicy,
    allow_loopback: bool,
    snapshot_folder: Option<PathBuf>,
    in_flight_max: usize,
    rule: Option<EjectRule>,
}

impl DiscoveryBuilder {
    /// The node that this process runs on, as `spec.nodeName` of the Downward API gives it; `NODE_NAME` unless set.
    pub fn node(mut self, name: &str) -> Self {
        self.node = Some(name.to_owned());
        self
    }

    /// Reads a manifest file instead of watching an API server.
    pub fn manifest(mut self, path: impl AsRef<Path>) -> Self {
        self.source = Some(SourceConfig::Manifest {
            path: path.as_ref().to_owned(),
        });
        self
    }

    /// Uses this kubeconfig instead of the in-cluster configuration, `KUBECONFIG` or `~/.kube/config`.
    #[cfg(feature = "kube")]
    pub fn kubeconfig(mut self, path: impl AsRef<Path>) -> Self {
        self.source = Some(SourceConfig::Kube {
            kubeconfig: Some(path.as_ref().to_owned()),
            selection: Selection::default(),
        });
        self
    }

    /// Follows the agent of this node over its socket, `/run/zonal/agent.sock` by default of the agent, instead of
    /// watching: what it knows, and how it judges, is the agent's, whatever is said here. `NODE_NAME` is not needed.
    pub fn agent(self, socket: impl AsRef<Path>) -> Self {
        self.agent_with(AgentConfig::new(socket))
    }

    /// [`DiscoveryBuilder::agent`] with figures of its own.
    pub fn agent_with(mut self, agent: AgentConfig) -> Self {
        self.source = Some(SourceConfig::Agent {
            agent: Box::new(agent),
            own_watch: None,
        });
        self
    }

    /// Watches this source while the agent is away for too long; without an agent it changes nothing. Costs the API server a watch for each such process, so that it is not the default.
    pub fn or_own_watch(mut self, own_watch: SourceConfig) -> Self {
        if let Some(SourceConfig::Agent {
            own_watch: kept, ..
        }) = &mut self.source
        {
            *kept = Some(Box::new(own_watch));
        }
        self
    }

    /// The zone by configuration instead of by the node's label.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// The node labels that may name the zone; `topology.kubernetes.io/zone` and its beta form unless set.
    pub fn zone_keys(mut self, keys: ZoneKeys) -> Self {
        self.zone_keys = keys;
        self
    }

    /// The policy of services that ask for none; `strict` unless set.
    pub fn policy(mut self, policy: ZonePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Accepts endpoints at loopback addresses: for laptops and tests.
    pub fn allow_loopback_endpoints(mut self) -> Self {
        self.allow_loopback = true;
        self
    }

    /// Keeps the last good snapshot in this folder; none unless set.
    pub fn snapshot_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.snapshot_folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Calls that may be under way at once; 65,536 unless set, at least 1. The next one is refused and counted.
    pub fn in_flight_max(mut self, calls: usize) -> Self {
        self.in_flight_max = calls.max(1);
        self
    }

    /// When endpoints that fail are ejected; by [`EjectRule::default`] unless set, and nobody with none. Outcomes are what
    /// guards are told, and what adapters see.
    pub fn eject(mut self, rule: Option<EjectRule>) -> Self {
        self.rule = rule;
        self
    }

    /// Starts. An API server that is away is no error: see [`Discovery::ready`].
    pub async fn start(self) -> Result<Discovery, DiscoveryError> {
        let node = self.node_name()?;
        let rules = AddressRules::new(self.allow_loopback, []);
        let policy = self.policy;
        let source = self
            .source
            .ok_or(DiscoveryError::Start(StartError::NoSource))?;
        let config = RuntimeConfig::new(node, source)
            .zone(self.zone)
            .zone_keys(self.zone_keys)
            .state(|state| state.policy(policy).addresses(rules))
            .snapshot_folder(self.snapshot_folder);
        let runtime = Runtime::start(config).await;
        Ok(Discovery {
            runtime: runtime.map_err(DiscoveryError::Start)?,
            gate: Gate::new(self.in_flight_max),
            rule: self.rule,
        })
    }

    fn node_name(&self) -> Result<NodeName, DiscoveryError> {
        let by_downward_api = || std::env::var("NODE_NAME").ok();
        let name = self.node.clone().or_else(by_downward_api);
        let name = match (name, &self.source) {
            (Some(name), _) => name,
            // The agent knows, and tells.
            (
                None,
                Some(SourceConfig::Agent {
                    own_watch: None, ..
                }),
            ) => NODE_OF_AGENT.to_owned(),
            (None, _) => return Err(DiscoveryError::NoNode),
        };
        NodeName::parse(&name).map_err(DiscoveryError::Node)
    }
}

/// What stands in the status of a client that was not told its node.
const NODE_OF_AGENT: &str = "node-of-the-agent";
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
/// What a process with 1 MiB descriptors could hold many times over, and a loop that never drops its guards reaches soon.
const IN_FLIGHT_MAX: usize = 65_536;
