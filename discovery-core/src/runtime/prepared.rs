// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources that are known to be usable and do not run yet: which there are, and what each of them is to tell.

use super::{RuntimeConfig, SourceConfig, StartError};
#[cfg(feature = "consul")]
use crate::source::{ConsulConfig, ConsulSource};
#[cfg(feature = "kube")]
use crate::source::{KubeConfig, KubeSource};
use crate::{
    clock::Clock,
    source::{
        AgentConfig, AgentSource, BatchSender, Manifest, OwnWatch, SourceStatus, UpdateSender,
    },
    store::{Kind, SourceId, persist::SourceFacts},
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A source before its start.
pub(super) struct PreparedSource {
    pub(super) status: Arc<SourceStatus>,
    pub(super) cluster: String,
    /// The lists that it will give.
    kinds: Vec<Kind>,
    kind: Prepared,
}

/// What is kept on disk of the sources beside their objects.
pub(super) fn facts(sources: &[Arc<SourceStatus>]) -> BTreeMap<SourceId, SourceFacts> {
    let facts = |status: &Arc<SourceStatus>| {
        let version = |kind| Some((kind, status.version(kind)?));
        let facts = SourceFacts {
            slice_api: status.slice_api().map(|api| api.to_string()),
            versions: Kind::ALL.into_iter().filter_map(version).collect(),
            age_seconds: status.age().map(|age| age.as_secs()),
            cluster_uid: status.cluster_uid(),
        };
        (status.source(), facts)
    };
    sources.iter().map(facts).collect()
}

enum Prepared {
    #[cfg(feature = "kube")]
    Kube(KubeSource),
    Manifest(Manifest),
    #[cfg(feature = "consul")]
    Consul(ConsulSource),
    Agent {
        source: AgentSource,
        /// Of what is watched only while the agent is away.
        stand_in: Option<Arc<SourceStatus>>,
    },
}

impl PreparedSource {
    /// The sources in the order in which they are told of: those that tell our own node first.
    pub(super) async fn all(
        config: &RuntimeConfig,
        sources: &[SourceConfig],
        clock: &Arc<dyn Clock>,
    ) -> Result<Vec<Self>, StartError> {
        let mut sources: Vec<_> = sources.iter().collect();
        sources.sort_by_key(|source| source.id());
        if let Some(twice) = sources.windows(2).find(|pair| pair[0].id() == pair[1].id()) {
            let source_id = twice[0].id();
            return Err(StartError::Twice { source_id });
        }
        let beside = sources.iter().find(|source| source.id() != SourceId::Agent);
        if let Some(beside) = beside.filter(|_| config.follows_agent() && sources.len() > 1) {
            let source_id = beside.id();
            return Err(StartError::BesideAgent { source_id });
        }
        let mut prepared = Vec::new();
        for source in sources {
            let is_first = prepared.is_empty();
            let status = Arc::new(SourceStatus::new(source.id(), clock.clone()));
            prepared.push(Self::new(config, source, status, is_first, clock).await?);
        }
        Ok(prepared)
    }

    /// How it fares, and what stands in for it.
    pub(super) fn statuses(&self) -> impl Iterator<Item = Arc<SourceStatus>> {
        let stand_in = if let Prepared::Agent { stand_in, .. } = &self.kind {
            stand_in.clone()
        } else {
            None
        };
        [Some(self.status.clone()), stand_in].into_iter().flatten()
    }

    /// The lists that it will give, with its name.
    pub(super) fn lists(&self) -> impl Iterator<Item = (SourceId, Kind)> {
        let source = self.status.source();
        self.kinds.iter().map(move |kind| (source, *kind))
    }

    /// Whether its cluster will be known by a UID, whatever it is called.
    pub(super) fn tells_cluster(&self) -> bool {
        match &self.kind {
            #[cfg(feature = "kube")]
            Prepared::Kube(kube) => kube.tells_cluster(),
            _ => false,
        }
    }

    /// Goes on where the run that kept the snapshot ended, which the source is told of with the age of what it said, and
    /// whether its cluster is called as it was.
    pub(super) fn recall(
        mut self,
        facts: &SourceFacts,
        age: Duration,
        is_named_alike: bool,
    ) -> Self {
        self.status.restored(&self.kinds, age);
        self.kind = self.kind.known(facts, is_named_alike);
        self
    }

    /// Runs until `stop`, or until nobody receives.
    pub(super) async fn run(
        self,
        sender: UpdateSender,
        batches: BatchSender,
        stop: CancellationToken,
    ) {
        match self.kind {
            #[cfg(feature = "kube")]
            Prepared::Kube(source) => source.run(sender, stop).await,
            Prepared::Manifest(source) => source.run(sender, stop).await,
            #[cfg(feature = "consul")]
            Prepared::Consul(source) => source.run(sender, stop).await,
            Prepared::Agent { source, .. } => source.run(batches, sender, stop).await,
        }
    }

    // Only Consul asks whether it is the first, and only the API server's client is made while others wait.
    #[cfg_attr(not(feature = "consul"), allow(unused_variables))]
    #[cfg_attr(not(feature = "kube"), allow(clippy::unused_async))]
    async fn new(
        config: &RuntimeConfig,
        source: &SourceConfig,
        status: Arc<SourceStatus>,
        is_first: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        match source {
            SourceConfig::Agent { agent, own_watch } => {
                let agent = AgentConfig::clone(agent).folder(config.snapshot_folder.clone());
                Ok(Self::agent(
                    config,
                    agent,
                    own_watch.as_deref(),
                    status,
                    clock,
                ))
            }
            SourceConfig::Manifest { path } => Self::manifest(config, path, status),
            #[cfg(feature = "kube")]
            SourceConfig::Kube {
                kubeconfig,
                selection,
            } => {
                let kube = KubeConfig::new(config.node.clone(), config.zone_keys.clone())
                    .kubeconfig(kubeconfig.clone())
                    .select(selection.clone())
                    .zone(config.given_zone());
                Self::kube(kube, status).await
            }
            #[cfg(feature = "consul")]
            SourceConfig::Consul(consul) => {
                // One source tells our own node: another that knows it goes first.
                let tells_own = is_first && config.zone.is_none();
                let node = tells_own.then(|| config.node.clone());
                Self::consul(ConsulConfig::clone(consul).own_node(node), status)
            }
        }
    }

    fn agent(
        config: &RuntimeConfig,
        agent: AgentConfig,
        own_watch: Option<&SourceConfig>,
        status: Arc<SourceStatus>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let cluster = format!("agent:{}", agent.socket().display());
        let stand_in = own_watch.map(|source| SourceStatus::new(source.id(), clock.clone()));
        let stand_in = stand_in.map(Arc::new);
        let own_watch = own_watch.zip(stand_in.clone());
        let own_watch =
            own_watch.map(|(source, status)| own_watch_of(config, source, status, clock));
        let source = AgentSource::new(agent, status.clone(), clock.clone(), own_watch);
        Self {
            status,
            cluster,
            // Which lists there are the agent says.
            kinds: Vec::new(),
            kind: Prepared::Agent { source, stand_in },
        }
    }

    fn manifest(
        config: &RuntimeConfig,
        path: &Path,
        status: Arc<SourceStatus>,
    ) -> Result<Self, StartError> {
        let (node, keys) = (config.node.clone(), config.zone_keys.clone());
        let manifest = Manifest::open(path.to_owned(), node, keys, status.clone())
            .map_err(StartError::Manifest)?;
        Ok(Self {
            status,
            cluster: format!("static:{}", path.display()),
            kinds: Kind::ALL.to_vec(),
            kind: Prepared::Manifest(manifest),
        })
    }

    #[cfg(feature = "kube")]
    async fn kube(config: KubeConfig, status: Arc<SourceStatus>) -> Result<Self, StartError> {
        let kube = KubeSource::new(config, status.clone())
            .await
            .map_err(StartError::Kube)?;
        Ok(Self {
            status,
            cluster: kube.cluster(),
            kinds: Kind::ALL.to_vec(),
            kind: Prepared::Kube(kube),
        })
    }

    #[cfg(feature = "consul")]
    fn consul(config: ConsulConfig, status: Arc<SourceStatus>) -> Result<Self, StartError> {
        let kinds = config.kinds().collect();
        let consul = ConsulSource::new(config, status.clone()).map_err(StartError::Consul)?;
        Ok(Self {
            status,
            cluster: consul.cluster(),
            kinds,
            kind: Prepared::Consul(consul),
        })
    }
}

impl Prepared {
    #[cfg_attr(not(feature = "kube"), allow(unused_variables))] // others begin anew
    fn known(self, facts: &SourceFacts, is_named_alike: bool) -> Self {
        match self {
            #[cfg(feature = "kube")]
            Self::Kube(kube) => Self::Kube(kube.known(|config| {
                let api = facts.slice_api.as_deref().and_then(|api| api.parse().ok());
                config
                    .known_api(api)
                    .known_versions(facts.versions.clone())
                    .known_cluster(facts.cluster_uid.clone(), is_named_alike)
            })),
            other => other,
        }
    }
}

/// What stands in for the agent: made anew each time, since what it needs may come and go.
fn own_watch_of(
    config: &RuntimeConfig,
    source: &SourceConfig,
    status: Arc<SourceStatus>,
    clock: &Arc<dyn Clock>,
) -> OwnWatch {
    let (config, source, clock) = (config.clone(), source.clone(), clock.clone());
    Arc::new(move |sender, stop| {
        let (config, source) = (config.clone(), source.clone());
        let (status, clock) = (status.clone(), clock.clone());
        Box::pin(async move {
            let prepared = PreparedSource::new(&config, &source, status, true, &clock);
            // An agent does not stand in for an agent: nothing here sends batches.
            let (batches, _) = tokio::sync::mpsc::channel(1);
            match Box::pin(prepared).await {
                Ok(prepared) => prepared.run(sender, batches, stop).await,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "Own watch cannot begin");
                }
            }
        })
    })
}
