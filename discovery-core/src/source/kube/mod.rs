// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts from a Kubernetes API server, by an engine of our own over the `kube` client.
//!
//! The client brings configuration, credentials and TLS; what is asked when, how long it may take, how large it may be and
//! what a broken answer means is decided here ([`engine`], pure). Four lists: our own node by name; the nodes of the zone
//! that its label names; services; endpoint slices, whole, because no server can select them by zone.

mod decode;
mod engine;
mod feed;
mod framing;
mod request;
mod resource;

use super::{SourceStatus, UpdateSender, WatchState};
use crate::{
    model::{NodeName, Zone, ZoneKeys},
    store::Kind,
};
use engine::Engine;
use feed::{Feed, Out, OwnZone};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use request::Asker;
use resource::Resource;
use std::{error::Error, fmt, path::PathBuf, sync::Arc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How to reach an API server, and for whom.
///
/// ```no_run
/// use discovery_core::{model::{NodeName, ZoneKeys}, source::KubeConfig};
///
/// let node = NodeName::parse("mall-1-host-a").unwrap();
/// let config = KubeConfig::new(node, ZoneKeys::default()).kubeconfig(Some("/etc/zonal/kubeconfig".into()));
/// ```
#[derive(Clone, Debug)]
pub struct KubeConfig {
    node: NodeName,
    keys: ZoneKeys,
    kubeconfig: Option<PathBuf>,
    server: Option<String>,
    zone: Option<Zone>,
}

impl KubeConfig {
    /// The API server of the cluster that we run in, or that `KUBECONFIG` or `~/.kube/config` names.
    pub fn new(node: NodeName, keys: ZoneKeys) -> Self {
        Self {
            node,
            keys,
            kubeconfig: None,
            server: None,
            zone: None,
        }
    }

    /// The API server and credentials of this file.
    #[must_use]
    pub fn kubeconfig(mut self, file: Option<PathBuf>) -> Self {
        self.kubeconfig = file;
        self
    }

    /// The API server at this address, without credentials: what `kubectl proxy` offers at `http://127.0.0.1:8001`.
    #[must_use]
    pub fn server(mut self, address: Option<String>) -> Self {
        self.server = address;
        self
    }

    /// The zone by configuration instead of by our node's label; nodes are then selected by the first zone label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }

    async fn load(&self) -> Result<Config, KubeSourceError> {
        let mut config = match (&self.server, &self.kubeconfig) {
            (Some(server), _) => match server.parse() {
                Ok(address) => Config::new(address),
                Err(error) => {
                    return Err(KubeSourceError::Address {
                        address: server.clone(),
                        source: Box::new(error),
                    });
                }
            },
            (None, Some(path)) => self.load_file(path).await?,
            (None, None) => Config::infer()
                .await
                .map_err(|error| KubeSourceError::Nowhere(Box::new(error)))?,
        };
        // One backoff, in one place: kube's own would hide minutes of failure.
        config.default_retry = false;
        Ok(config)
    }

    async fn load_file(&self, path: &PathBuf) -> Result<Config, KubeSourceError> {
        let fail = |error: Box<dyn Error + Send + Sync>| KubeSourceError::File {
            path: path.clone(),
            source: error,
        };
        let file = Kubeconfig::read_from(path).map_err(|error| fail(Box::new(error)))?;
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| fail(Box::new(error)))
    }
}

/// Why there is no way to an API server. Waiting mends none of these; a person has to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeSourceError {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The address is none.
    #[error("{address:?} is no address of an API server")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error("there is no KUBECONFIG, no ~/.kube/config and no service account")]
    Nowhere(#[source] Box<dyn Error + Send + Sync>),
    /// The credentials or certificates cannot be used.
    #[error("the client of {cluster} cannot be made")]
    Client {
        /// The API server.
        cluster: String,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A source that lists and watches an API server.
pub struct KubeSource {
    config: KubeConfig,
    client: Client,
    cluster: String,
    status: Arc<SourceStatus>,
}

impl KubeSource {
    /// Finds the configuration and makes the client; nothing is asked yet, and a server that is away is no error.
    ///
    /// # Errors
    /// When no configuration is found, or it cannot be used.
    pub async fn new(
        config: KubeConfig,
        status: Arc<SourceStatus>,
    ) -> Result<Self, KubeSourceError> {
        let kube = config.load().await?;
        let cluster = cluster(&kube);
        let client = Client::try_from(kube).map_err(|error| KubeSourceError::Client {
            cluster: cluster.clone(),
            source: Box::new(error),
        })?;
        Ok(Self {
            config,
            client,
            cluster,
            status,
        })
    }

    /// What tells this cluster from others: its certificate authority, or its address when there is none.
    pub fn cluster(&self) -> String {
        self.cluster.clone()
    }

    /// Lists and watches until `cancel`, or until nobody receives. Never fails: what goes wrong is in the status.
    pub async fn run(self, sender: UpdateSender, cancel: CancellationToken) {
        let configured = self.configured_zone();
        let observes = configured.is_none();
        let (zone_sender, zones) = watch::channel(configured);
        let own = Resource::own_node(&self.config.node);
        let own = self.feed(own, &sender, observes.then_some(zone_sender));
        let services = self.feed(Resource::services(), &sender, None);
        let slices = self.feed(Resource::slices(), &sender, None);
        let all = async {
            tokio::join!(
                own.run(),
                services.run(),
                slices.run(),
                self.run_nodes(zones, &sender)
            )
        };
        cancel.run_until_cancelled(Box::pin(all)).await;
        for kind in Kind::ALL {
            self.status.set_connected(kind, false);
        }
    }

    /// Watches the nodes of the zone, anew whenever the zone changes.
    async fn run_nodes(&self, mut zones: watch::Receiver<OwnZone>, sender: &UpdateSender) {
        loop {
            let zone = zones.borrow_and_update().clone();
            let nodes = async {
                if let Some((key, zone)) = &zone {
                    self.feed(Resource::nodes(key, zone), sender, None)
                        .run()
                        .await;
                } else {
                    self.status.set_state(Kind::Nodes, WatchState::Cold);
                    self.status.set_connected(Kind::Nodes, false);
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = nodes => return,
                () = changed(&mut zones) => {}
            }
            tracing::info!(node = %self.config.node, "Zone of our node changed");
        }
    }

    fn configured_zone(&self) -> OwnZone {
        let zone = self.config.zone.clone()?;
        let key = self.config.keys.iter().next()?.clone();
        Some((key, zone))
    }

    fn feed(
        &self,
        resource: Resource,
        sender: &UpdateSender,
        own_zone: Option<watch::Sender<OwnZone>>,
    ) -> Feed {
        Feed {
            asker: Asker {
                client: self.client.clone(),
                user_agent: resource.user_agent(),
            },
            engine: Engine::new(fastrand::u64(..)),
            out: Out {
                kind: resource.kind(),
                node: self.config.node.clone(),
                keys: self.config.keys.clone(),
                status: self.status.clone(),
                sender: sender.clone(),
                own_zone,
                told: None,
            },
            resource,
            pending: Vec::new(),
        }
    }
}

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource")
            .field("config", &self.config)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Waits for another zone; for ever when it is configured and nobody will tell another.
async fn changed(zones: &mut watch::Receiver<OwnZone>) {
    if zones.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The addresses of API servers inside clusters are all alike, so that the authority is asked first.
fn cluster(config: &Config) -> String {
    match &config.root_cert {
        Some(certificates) if !certificates.is_empty() => {
            let authority = xxhash_rust::xxh3::xxh3_64(&certificates.concat());
            format!("ca:{authority:016x}")
        }
        _ => config.cluster_url.to_string(),
    }
}
