// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources that are known to be usable and do not run yet: which there are, and what each of them is to tell.

use super::{RuntimeConfig, SourceConfig, StartError};
use crate::{
    clock::Clock,
    source::{
        AgentConfig, AgentSource, BatchSender, ConsulConfig, ConsulSource, KubeConfig, KubeSource,
        Manifest, OwnWatch, SourceStatus, UpdateSender,
    },
    store::{Kind, SourceId, persist::SourceFacts},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A source before its start.
pub(super) struct PreparedSource {
    pub(super) status: Arc<SourceStatus>,
    pub(super) cluster: String,
    /// The lists that it will give.
    kinds: Vec<Kind>,
    kind: Prepared,
    /// Of what is watched only while this source is away.
    stand_in: Option<Arc<SourceStatus>>,
}

/// What is kept on disk of the sources beside their objects.
pub(super) fn facts(sources: &[Arc<SourceStatus>]) -> BTreeMap<SourceId, SourceFacts> {
    let facts = |status: &Arc<SourceStatus>| {
        let version = |kind| Some((kind, status.version(kind)?));
        let facts = SourceFacts {
            slice_api: status.slice_api().map(|api| api.to_string()),
            versions: Kind::ALL.into_iter().filter_map(version).collect(),
            age_seconds: status.age().map(|age| age.as_secs()),
        };
        (status.source(), facts)
    };
    sources.iter().map(facts).collect()
}

enum Prepared {
    Kube(KubeSource),
    Manifest(Manifest),
    Consul(ConsulSource),
    Agent(AgentSource),
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
        [Some(self.status.clone()), self.stand_in.clone()]
            .into_iter()
            .flatten()
    }

    /// The lists that it will give, with its name.
    pub(super) fn lists(&self) -> impl Iterator<Item = (SourceId, Kind)> {
        let source = self.status.source();
        self.kinds.iter().map(move |kind| (source, *kind))
    }

    /// Goes on where the run that kept the snapshot ended, which the source is told of with the age of what it said.
    pub(super) fn recall(mut self, facts: &SourceFacts, age: Duration) -> Self {
        self.status.restored(&self.kinds, age);
        self.kind = match self.kind {
            Prepared::Kube(kube) => Prepared::Kube(kube.known(|config| {
                let api = facts.slice_api.as_deref().and_then(|api| api.parse().ok());
                config.known_api(api).known_versions(facts.versions.clone())
            })),
            other => other,
        };
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
            Prepared::Kube(source) => source.run(sender, stop).await,
            Prepared::Manifest(source) => source.run(sender, stop).await,
            Prepared::Consul(source) => source.run(sender, stop).await,
            Prepared::Agent(source) => source.run(batches, sender, stop).await,
        }
    }

    async fn new(
        config: &RuntimeConfig,
        source: &SourceConfig,
        status: Arc<SourceStatus>,
        is_first: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let (node, keys) = (config.node.clone(), config.zone_keys.clone());
        let mut stand_in = None;
        let (cluster, kinds, kind) = match source {
            SourceConfig::Agent { agent, own_watch } => {
                let cluster = format!("agent:{}", agent.socket().display());
                let agent = AgentConfig::clone(agent).folder(config.snapshot_folder.clone());
                let own_watch = own_watch.as_deref().map(|source| {
                    let status = Arc::new(SourceStatus::new(source.id(), clock.clone()));
                    stand_in = Some(status.clone());
                    own_watch_of(config, source, status, clock)
                });
                let source = AgentSource::new(agent, status.clone(), clock.clone(), own_watch);
                // Which lists there are the agent says.
                (cluster, Vec::new(), Prepared::Agent(source))
            }
            SourceConfig::Manifest { path } => {
                let manifest = Manifest::open(path.clone(), node, keys, status.clone())
                    .map_err(StartError::Manifest)?;
                let cluster = format!("static:{}", path.display());
                (cluster, Kind::ALL.to_vec(), Prepared::Manifest(manifest))
            }
            SourceConfig::Kube {
                kubeconfig,
                selection,
            } => {
                let kube = KubeConfig::new(node, keys)
                    .kubeconfig(kubeconfig.clone())
                    .select(selection.clone())
                    .zone(config.given_zone());
                let kube = KubeSource::new(kube, status.clone())
                    .await
                    .map_err(StartError::Kube)?;
                (kube.cluster(), Kind::ALL.to_vec(), Prepared::Kube(kube))
            }
            SourceConfig::Consul(consul) => {
                // One source tells our own node: another that knows it goes first.
                let tells_own = is_first && config.zone.is_none();
                let consul = ConsulConfig::clone(consul).own_node(tells_own.then_some(node));
                let kinds = ConsulConfig::kinds(&consul).collect();
                let consul =
                    ConsulSource::new(consul, status.clone()).map_err(StartError::Consul)?;
                (consul.cluster(), kinds, Prepared::Consul(consul))
            }
        };
        Ok(Self {
            status,
            cluster,
            kinds,
            kind,
            stand_in,
        })
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
