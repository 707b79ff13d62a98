// SPDX-License-Identifier: MIT OR Apache-2.0
//! How to reach an API server, for whom, and for what part of the cluster.

use super::{
    account::{AccountError, ServiceAccount},
    identity::KnownCluster,
    resource::Resource,
    scope::Scope,
    token::TokenFile,
    union::Union,
};
use crate::{
    model::{NodeName, ServiceName, Zone, ZoneKeys},
    source::{Selection, Selector, SliceApi, error_chain},
    store::Kind,
};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{collections::BTreeMap, error::Error, path::PathBuf, sync::Arc};

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
    pub(super) node: NodeName,
    pub(super) keys: ZoneKeys,
    kubeconfig: Option<PathBuf>,
    server: Option<String>,
    account: Option<ServiceAccount>,
    pub(super) zone: Option<Zone>,
    pub(super) known_api: Option<SliceApi>,
    pub(super) known_versions: BTreeMap<Kind, u64>,
    pub(super) known_cluster: Option<KnownCluster>,
    selector: Option<Selector>,
    namespaces: Vec<String>,
}

impl KubeConfig {
    /// The API server of the cluster that we run in, or that `KUBECONFIG` or `~/.kube/config` names.
    pub fn new(node: NodeName, keys: ZoneKeys) -> Self {
        Self {
            node,
            keys,
            kubeconfig: None,
            server: None,
            account: None,
            zone: None,
            known_api: None,
            known_versions: BTreeMap::new(),
            known_cluster: None,
            selector: None,
            namespaces: Vec::new(),
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

    /// The API server at `host:port` with the service account in this folder, as a pod has one: `ca.crt` and `token`, both
    /// looked at again while we run. Pods need not call this: without any way that is given the folder is that of
    /// every pod and the server that of its environment.
    #[must_use]
    pub fn service_account(mut self, folder: PathBuf, server: String) -> Self {
        self.account = Some(ServiceAccount::new(folder, Some(server)));
        self
    }

    /// The zone by configuration instead of by our node's label; nodes are then selected by the first zone label.
    #[must_use]
    pub fn zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }

    /// The API that endpoints were read from in the last run, from [`SourceStatus::slice_api`](super::SourceStatus).
    ///
    /// With it no discovery document is needed to begin, and a cache that answers 404 changes nothing. Without it the
    /// server is asked.
    #[must_use]
    pub fn known_api(mut self, api: Option<SliceApi>) -> Self {
        self.known_api = api;
        self
    }

    /// The versions that the lists had reached in the last run, from
    /// [`SourceStatus::version`](super::SourceStatus::version): a first list that is behind is held against, since the
    /// server was restored or a cache answers.
    #[must_use]
    pub fn known_versions(mut self, versions: BTreeMap<Kind, u64>) -> Self {
        self.known_versions = versions;
        self
    }

    /// The cluster that the last run was in, from [`SourceStatus::cluster_uid`](super::SourceStatus::cluster_uid); when it
    /// is another one, or cannot be shown to be the same although its name has changed, this is told by
    /// [`Update::Foreign`](crate::store::Update).
    #[must_use]
    pub fn known_cluster(mut self, uid: Option<String>, is_named_alike: bool) -> Self {
        self.known_cluster = uid.map(|uid| KnownCluster {
            uid,
            is_named_alike,
        });
        self
    }

    /// Whether the service that tells the cluster is among those that are read.
    pub(super) fn reads_cluster(&self) -> bool {
        let mut services = self
            .scopes()
            .into_iter()
            .map(|scope| Resource::services(&scope));
        services.any(|services| services.holds_cluster())
    }

    /// The version that is known of a list. That of slices counts for the API that told it alone.
    pub(super) fn known_version(&self, kind: Kind, api: Option<SliceApi>) -> Option<u64> {
        let is_same = kind != Kind::Slices || api == self.known_api;
        self.known_versions.get(&kind).copied().filter(|_| is_same)
    }

    /// Only services and slices with these labels; none means all. A Service without them does not exist for us.
    #[must_use]
    pub fn selector(mut self, selector: Option<Selector>) -> Self {
        self.selector = selector;
        self
    }

    /// Only services and slices of these namespaces, at most 64, each with a watch of its own; empty means all.
    #[must_use]
    pub fn namespaces(mut self, namespaces: Vec<String>) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// As [`KubeConfig::selector`] and [`KubeConfig::namespaces`].
    #[must_use]
    pub fn select(self, selection: Selection) -> Self {
        self.selector(selection.selector)
            .namespaces(selection.namespaces)
    }

    pub(super) fn selection(&self) -> Selection {
        Selection {
            selector: self.selector.clone(),
            namespaces: self.namespaces.clone(),
        }
    }

    /// What services and slices are asked for: one list of each for each scope.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let scope = |namespace| Scope {
            namespace,
            selector: self.selector.clone(),
        };
        if self.namespaces.is_empty() {
            return vec![scope(None)];
        }
        self.namespaces
            .iter()
            .cloned()
            .map(|name| scope(Some(name)))
            .collect()
    }

    /// The client's configuration, and the token's file where we read it ourselves.
    pub(super) async fn load(&self) -> Result<(Config, Token), KubeSourceError> {
        self.check_namespaces()?;
        let mut config = match (&self.server, &self.kubeconfig, &self.account) {
            (Some(server), ..) => match server.parse() {
                Ok(address) => Config::new(address),
                Err(error) => {
                    return Err(KubeSourceError::Address {
                        address: server.clone(),
                        source: Box::new(error),
                    });
                }
            },
            (None, Some(path), _) => self.load_file(path).await?,
            (None, None, Some(account)) => account.load().map_err(nowhere)?,
            (None, None, None) => find().await?,
        };
        // One backoff, in one place: kube's own would hide minutes of failure.
        config.default_retry = false;
        // One reader of files, too: see `access`.
        config.root_cert_file = None;
        let token = take_token_file(&mut config);
        Ok((config, token.map(Arc::new)))
    }

    /// Whether the way to the server is all said: nothing in any file could change it.
    pub(super) fn needs_no_files(&self) -> bool {
        self.server.is_some()
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

    fn check_namespaces(&self) -> Result<(), KubeSourceError> {
        if self.namespaces.len() > Union::MEMBERS_MAX {
            return Err(KubeSourceError::Namespaces {
                namespaces: self.namespaces.len(),
            });
        }
        for namespace in &self.namespaces {
            ServiceName::new(namespace, "any").map_err(|error| KubeSourceError::Namespace {
                namespace: namespace.clone(),
                source: Box::new(error),
            })?;
        }
        Ok(())
    }
}

/// What `kubectl` would use, or else the service account of the pod that we are.
async fn find() -> Result<Config, KubeSourceError> {
    let kubeconfig = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let account = ServiceAccount::default().load();
    account.map_err(|account| {
        let both = NoWay {
            kubeconfig: error_chain(&kubeconfig),
            account: error_chain(&account),
        };
        KubeSourceError::Nowhere(Box::new(both))
    })
}

fn nowhere(error: AccountError) -> KubeSourceError {
    KubeSourceError::Nowhere(Box::new(error))
}

/// Why neither could be used.
#[derive(Debug, thiserror::Error)]
#[error("{kubeconfig}; {account}")]
struct NoWay {
    kubeconfig: String,
    account: String,
}

/// A token file is ours to read, unless kube would prefer something else to it.
fn take_token_file(config: &mut Config) -> Option<TokenFile> {
    let auth = &mut config.auth_info;
    let has_better =
        auth.auth_provider.is_some() || auth.username.is_some() || auth.token.is_some();
    let path = auth.token_file.take_if(|_| !has_better)?;
    Some(TokenFile::new(path.into()))
}

/// Shared by the feeds of a source.
pub(super) type Token = Option<Arc<TokenFile>>;

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
    /// A namespace is none.
    #[error("{namespace:?} is no namespace")]
    Namespace {
        /// The text.
        namespace: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There are more namespaces than are watched one by one.
    #[error(
        "{namespaces} namespaces are more than {}: watch all, by a selector",
        Union::MEMBERS_MAX
    )]
    Namespaces {
        /// How many.
        namespaces: usize,
    },
    /// The credentials or certificates cannot be used.
    #[error("the client of {cluster} cannot be made")]
    Client {
        /// The API server.
        cluster: String,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}
