// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts from a Kubernetes API server, by an engine of our own over the `kube` client.
//!
//! The client brings configuration, credentials and TLS; what is asked when, how long it may take, how large it may be and
//! what a broken answer means is decided here: for each list in [`engine`], for the server as such in [`gate`], both
//! pure. Four kinds: our own node by name; the nodes of the zone that its label names; services; endpoint slices, whole,
//! because no server can select them by zone.

mod access;
mod account;
mod answer;
mod client;
mod config;
mod custody;
mod decode;
mod engine;
mod failure;
mod feed;
mod framing;
#[cfg(test)]
mod fuzz;
mod gate;
mod groups;
mod gunzip;
mod held;
mod identity;
mod items;
mod link;
mod pace;
mod parts;
mod permissions;
mod request;
mod resource;
mod scope;
mod seat;
mod slices;
mod subsets;
#[cfg(any(test, fuzzing))]
pub(super) mod targets;
mod token;
mod union;
mod wishes;

pub use config::{KubeConfig, KubeSourceError};

use super::{Permissions, SourceStatus, UpdateSender, WatchState};
use crate::{
    model::{Zone, ZoneKey},
    store::{Kind, SourceId, Update},
};
use access::Access;
use custody::Custody;
use engine::Engine;
use feed::{Feed, Out, Outlet, OwnNode, OwnZone, Tap, Translator};
use futures::future::join_all;
use link::SharedLink;
use parts::Part;
use request::Asker;
use resource::Resource;
use seat::SharedGate;
use slices::Chooser;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use union::Union;
use wishes::Wishes;

/// A source that lists and watches an API server.
pub struct KubeSource {
    config: KubeConfig,
    access: Arc<Access>,
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
        let (access, cluster) = Access::open(&config, Instant::now().into_std()).await?;
        status.set_selection(config.selection());
        Ok(Self {
            config,
            access: Arc::new(access),
            cluster,
            status,
        })
    }

    /// Goes on where an earlier run ended: changes the configuration by what was kept of it
    /// ([`KubeConfig::known_api`], [`KubeConfig::known_versions`]).
    #[must_use]
    pub fn known(mut self, change: impl FnOnce(KubeConfig) -> KubeConfig) -> Self {
        self.config = change(self.config);
        self
    }

    /// How this cluster is called: its certificate authority, or its address when there is none. Both may change.
    pub fn cluster(&self) -> String {
        self.cluster.clone()
    }

    /// Whether the cluster's UID will be known once services are listed: the service that carries it is among them.
    pub fn tells_cluster(&self) -> bool {
        self.config.reads_cluster()
    }

    /// Lists and watches until `cancel`, or until nobody receives. Never fails: what goes wrong is in the status.
    pub async fn run(self, sender: UpdateSender, cancel: CancellationToken) {
        let run = Run {
            gate: SharedGate::new(fastrand::u64(..)),
            link: SharedLink::new(fastrand::u64(..)),
            custody: Arc::new(Custody::new(self.config.known_cluster.clone())),
            source: &self,
            tap: Tap {
                sender,
                wishes: Arc::new(watch::Sender::default()),
            },
        };
        cancel.run_until_cancelled(Box::pin(run.ours())).await;
        for kind in Kind::ALL {
            self.status.set_connected(kind, false);
        }
    }

    /// Asks for the server's version, for whom it takes us, and for each right that [`KubeSource::run`] needs. Bounded in
    /// time; what is not answered is unknown.
    pub async fn permissions(&self) -> Permissions {
        let agent = concat!("zonal-permissions/", env!("CARGO_PKG_VERSION"));
        permissions::permissions(&self.config, &self.asker(agent.to_owned())).await
    }

    fn asker(&self, user_agent: String) -> Asker {
        Asker {
            access: self.access.clone(),
            user_agent,
            is_afresh: false,
        }
    }

    fn configured_zone(&self) -> OwnZone {
        let zone = self.config.zone.clone()?;
        let key = self.config.keys.iter().next()?.clone();
        Some((key, zone))
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

/// A source at work.
struct Run<'s> {
    source: &'s KubeSource,
    gate: Arc<SharedGate>,
    link: SharedLink,
    custody: Arc<Custody>,
    tap: Tap,
}

impl Run<'_> {
    async fn all(&self) {
        let (own_sender, own) = watch::channel(OwnNode::default());
        let all = (self.own_node(own_sender), self.nodes(own));
        tokio::join!(all.0, all.1, self.services(), self.slices());
    }

    /// Lists and watches our cluster, and holds still while another one answers.
    async fn ours(&self) {
        loop {
            tokio::select! {
                biased;
                other = self.custody.another() => {
                    if self.hold(other).await.is_err() {
                        return;
                    }
                }
                () = self.all() => return,
                never = self.vouch() => match never {},
            }
        }
    }

    async fn own_node(&self, teller: watch::Sender<OwnNode>) {
        let own = Resource::own_node(&self.source.config.node);
        let part = self.parts(Kind::OwnNode, 1).remove(0);
        let mut feed = self.feed(own, part, Outlet::Writer(self.tap.clone()), None);
        feed.out.own_node = Some(teller);
        feed.run().await;
    }

    async fn services(&self) {
        let scopes = self.source.config.scopes();
        let resources = scopes.iter().map(Resource::services).collect();
        self.feeds(Kind::Services, resources, None).await;
    }

    /// Watches the slices, by another API whenever another is to be used.
    async fn slices(&self) {
        let source = self.source;
        let asker = source.asker(format!("zonal-discovery/{}", env!("CARGO_PKG_VERSION")));
        let (gate, status) = (self.gate.clone(), source.status.clone());
        let chooser = Chooser::new(&source.config, asker, gate, status);
        let mut api = chooser.first().await;
        loop {
            let scopes = source.config.scopes();
            let resources = scopes
                .iter()
                .map(|scope| Resource::slices(api, scope))
                .collect();
            let feeds = self.feeds(Kind::Slices, resources, Some(&chooser.not_served));
            tokio::select! {
                () = feeds => return,
                other = chooser.other(api) => api = other,
            }
        }
    }

    /// Watches the nodes of the zone, and those that services name as near, anew whenever these are others.
    async fn nodes(&self, mut own: watch::Receiver<OwnNode>) {
        let (configured, mut wishes) = (self.source.configured_zone(), self.tap.wishes.subscribe());
        let select = |own: &OwnNode, wishes: &Wishes| {
            let zone = configured.as_ref().or(own.zone.as_ref());
            wishes.selectors(zone, &own.labels, Union::MEMBERS_MAX)
        };
        let mut selectors = select(&own.borrow_and_update(), &wishes.borrow_and_update());
        loop {
            let others = async {
                loop {
                    tokio::select! {
                        () = changed(&mut own) => {}
                        () = changed(&mut wishes) => sleep(WISHES_SETTLE).await,
                    }
                    let others = select(&own.borrow_and_update(), &wishes.borrow_and_update());
                    if others != selectors {
                        return others;
                    }
                }
            };
            let others = tokio::select! {
                () = self.nodes_of(&selectors) => return,
                others = others => others,
            };
            selectors = others;
            let node = &self.source.config.node;
            tracing::info!(%node, labels = selectors.len(), "Nodes are asked for by other labels");
        }
    }

    /// Watches the nodes that any of the labels selects.
    async fn nodes_of(&self, selectors: &[(ZoneKey, Zone)]) {
        let status = &self.source.status;
        if selectors.is_empty() {
            status.set_state(Kind::Nodes, WatchState::Cold);
            status.set_connected(Kind::Nodes, false);
            return std::future::pending().await;
        }
        let selectors = selectors.iter().take(Union::MEMBERS_MAX);
        let resources = selectors
            .map(|(key, zone)| Resource::nodes(key, zone))
            .collect();
        self.feeds(Kind::Nodes, resources, None).await;
    }

    /// Lists and watches the resources of one kind as one.
    async fn feeds(&self, kind: Kind, resources: Vec<Resource>, not_served: Option<&Arc<Notify>>) {
        let mut parts = self.parts(kind, resources.len());
        let feed = |resource, part, outlet| self.feed(resource, part, outlet, not_served).run();
        if resources.len() == 1 {
            let outlet = Outlet::Writer(self.tap.clone());
            let feeds = resources.into_iter().zip(parts.drain(..));
            let feeds = feeds.map(|(resource, part)| feed(resource, part, outlet.clone()));
            join_all(feeds).await;
            return;
        }
        let (sender, updates) = mpsc::channel(UNION_UPDATES_MAX);
        let union = Union::new(SourceId::Kube, kind, resources.len());
        let feeds = resources.into_iter().zip(parts).enumerate();
        let feeds = feeds.map(|(number, (resource, part))| {
            feed(resource, part, Outlet::Union(number, sender.clone()))
        });
        tokio::select! {
            _ = join_all(feeds) => {}
            () = unite(union, updates, &self.tap) => {}
        }
    }

    fn parts(&self, kind: Kind, parts: usize) -> Vec<Part> {
        Part::split(kind, &self.source.status, parts)
    }

    fn feed(
        &self,
        resource: Resource,
        part: Part,
        outlet: Outlet,
        not_served: Option<&Arc<Notify>>,
    ) -> Feed {
        let config = &self.source.config;
        let known = config.known_version(resource.kind(), self.source.status.slice_api());
        Feed {
            asker: self.source.asker(resource.user_agent()),
            engine: Engine::new(fastrand::u64(..), resource.page_size()).known(known),
            seat: self.gate.seat(),
            link: self.link.clone(),
            custody: self.custody.clone(),
            translator: Translator::new(resource.kind(), config.node.clone()),
            out: Out {
                keys: config.keys.clone(),
                part,
                outlet,
                own_node: None,
                identity: resource.holds_cluster().then(|| self.custody.clone()),
                // With a zone that is given, endpoints may be located by what slices state of them.
                is_dispensable: resource.kind() == Kind::Nodes && config.zone.is_some(),
                told: None,
            },
            resource,
            not_served: not_served.cloned(),
            is_announced: false,
            objects: 0,
        }
    }
}

/// Passes on what the union makes of its members' updates, until nobody listens.
async fn unite(mut union: Union, mut updates: mpsc::Receiver<(usize, Update)>, tap: &Tap) {
    while let Some((number, update)) = updates.recv().await {
        for update in union.take(number, update) {
            if tap.send(update).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for another value; for ever when nobody will tell one.
async fn changed<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How long services may go on naming labels before nodes are asked for by them: a list names them one after another.
const WISHES_SETTLE: Duration = Duration::from_secs(1);
/// Updates on their way to a union; feeds wait when it is behind.
const UNION_UPDATES_MAX: usize = 256;
