// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts from a Consul agent, by a thin client of our own.
//!
//! A blocking query on the catalog says which services there are, one on the health of each service says which instances it
//! has; instances become nodes, services and slices of the model. Index rules ([`blocking`]), refusals ([`gate`]),
//! translation ([`translate`]), choice ([`select`]) and differences ([`ledger`]) are pure; [`manager`] and [`watch`] carry
//! them out. [`agent`] alone writes: it registers what its caller says at the host's own agent.

mod address;
mod agent;
mod blocking;
mod client;
mod connect;
mod failure;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod gate;
mod ledger;
mod manager;
mod pulse;
mod secret;
mod select;
mod translate;
mod troubles;
mod watch;
mod wire;

pub use address::{ConsulAddress, ConsulAddressError};
pub use agent::{ConsulAgent, ConsulCallError, ConsulHealth, ConsulInstance};
pub use secret::{Secret, Token};
pub use translate::ZoneFrom;

use super::{SourceStatus, UpdateSender};
use crate::{
    model::{ModelError, NodeName, ServiceName},
    store::Kind,
};
use client::Client;
use connect::Dialer;
use manager::{Manager, Plan};
use secret::TokenReader;
use select::Filter;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use translate::Dictionary;
use watch::Shared;

/// How to reach a Consul agent, and what to read from it.
///
/// ```
/// use discovery_core::source::{ConsulConfig, ZoneFrom};
///
/// let config = ConsulConfig::new("127.0.0.1:8500".parse().unwrap())
///     .services(["web", "pay-*"])
///     .zone_from(ZoneFrom::NodeMeta("zone".into()));
/// assert!(!format!("{config:?}").contains("token\""));
/// ```
#[derive(Clone, Debug)]
pub struct ConsulConfig {
    address: ConsulAddress,
    token: Token,
    authorities: Option<PathBuf>,
    datacenter: Option<String>,
    namespace: String,
    services: Vec<String>,
    tag: Option<String>,
    services_max: usize,
    zone_from: ZoneFrom,
    own_node: Option<NodeName>,
    stale_max: Duration,
}

impl ConsulConfig {
    /// The agent at this address, asked without a token for all services of its datacenter.
    pub fn new(address: ConsulAddress) -> Self {
        Self {
            address,
            token: Token::default(),
            authorities: None,
            datacenter: None,
            namespace: "default".to_owned(),
            services: Vec::new(),
            tag: None,
            services_max: SERVICES_MAX,
            zone_from: ZoneFrom::default(),
            own_node: None,
            stale_max: STALE_MAX,
        }
    }

    /// The token to ask with.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    /// The file with the certificate authority of an agent that is asked over https, in PEM.
    #[must_use]
    pub fn authorities(mut self, file: Option<PathBuf>) -> Self {
        self.authorities = file;
        self
    }

    /// The datacenter to ask about instead of the agent's own.
    #[must_use]
    pub fn datacenter(mut self, datacenter: Option<String>) -> Self {
        self.datacenter = datacenter;
        self
    }

    /// The namespace that Consul's services are put in; `default` by default.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The services to read: names, with `*` for any text. By default all but Consul itself. Plain names alone need no
    /// right to read the catalog.
    #[must_use]
    pub fn services<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.services = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// Only instances with this tag.
    #[must_use]
    pub fn tag(mut self, tag: Option<String>) -> Self {
        self.tag = tag;
        self
    }

    /// How many services are read at most, 100 by default: each holds a connection to the agent, which takes 200 of one
    /// client by its own default. Above 100 they take turns, and a change is seen after up to about 10 s.
    #[must_use]
    pub fn services_max(mut self, services: usize) -> Self {
        self.services_max = services;
        self
    }

    /// What names the zone of an instance; its datacenter by default.
    #[must_use]
    pub fn zone_from(mut self, zone_from: ZoneFrom) -> Self {
        self.zone_from = zone_from;
        self
    }

    /// Our own node, when Consul is to tell our zone.
    #[must_use]
    pub fn own_node(mut self, node: Option<NodeName>) -> Self {
        self.own_node = node;
        self
    }

    /// How far the server that answers may be behind its leader before the leader itself is asked, 30 s by default.
    #[must_use]
    pub fn stale_max(mut self, stale_max: Duration) -> Self {
        self.stale_max = stale_max;
        self
    }

    /// The lists that a source with this configuration gives.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let tells_own_node = self.own_node.is_some();
        Kind::ALL
            .into_iter()
            .filter(move |kind| tells_own_node || *kind != Kind::OwnNode)
    }
}

/// Why there is no way to a Consul agent. Waiting mends none of these; a person has to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsulSourceError {
    /// TLS cannot be set up.
    #[error("Consul at {address} cannot be asked: {why}")]
    Tls {
        /// The agent.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The namespace is none.
    #[error("the namespace for Consul's services cannot be used")]
    Namespace(#[source] ModelError),
    /// The zone of our own node would have to come from the meta of a service.
    #[error("no service can tell our own zone: with zone_from service-meta the zone is configured")]
    OwnZone,
}

/// A source that watches a Consul agent.
#[derive(Debug)]
pub struct ConsulSource {
    plan: Plan,
    shared: Arc<Shared>,
    address: ConsulAddress,
}

impl ConsulSource {
    /// Makes the client; nothing is asked yet, and an agent that is away is no error. Reads the file of the certificate
    /// authority.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: ConsulConfig, status: Arc<SourceStatus>) -> Result<Self, ConsulSourceError> {
        ServiceName::new(&config.namespace, "any").map_err(ConsulSourceError::Namespace)?;
        if config.own_node.is_some() && matches!(config.zone_from, ZoneFrom::ServiceMeta(_)) {
            return Err(ConsulSourceError::OwnZone);
        }
        let address = config.address.clone();
        let dialer = Dialer::new(config.address, config.authorities.as_deref());
        let dialer = dialer.map_err(|why| ConsulSourceError::Tls {
            address: address.to_string(),
            why,
        })?;
        let shared = Shared {
            client: Client::new(dialer, TokenReader::new(config.token)),
            status,
            wait: WAIT,
            stale_max: config.stale_max,
            slots: tokio::sync::Semaphore::new(CONNECTIONS_MAX),
            services: 0.into(),
            breaks: 0.into(),
            gate: std::sync::Mutex::default(),
        };
        let plan = Plan {
            filter: Filter {
                patterns: config.services,
                tag: config.tag.clone(),
                services_max: config.services_max.clamp(1, SERVICES_LIMIT),
            },
            dictionary: Dictionary {
                namespace: config.namespace,
                zone_from: config.zone_from,
                tag: config.tag,
            },
            datacenter: config.datacenter,
            own_node: config.own_node,
        };
        Ok(Self {
            plan,
            shared: Arc::new(shared),
            address,
        })
    }

    /// What tells this agent from others: its address.
    pub fn cluster(&self) -> String {
        format!("consul:{}", self.address)
    }

    /// Watches until `cancel`, or until nobody receives. Never fails: what goes wrong is in the status.
    pub async fn run(self, sender: UpdateSender, cancel: CancellationToken) {
        let status = self.shared.status.clone();
        let manager = Manager::run(self.plan, self.shared, sender);
        cancel.run_until_cancelled(manager).await;
        for kind in Kind::ALL {
            status.set_connected(kind, false);
        }
    }
}

impl fmt::Display for ConsulSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consul at {}", self.address)
    }
}

/// How long Consul may hold an answer back: half of what makes a view stale, so that silence shows in time.
const WAIT: Duration = Duration::from_secs(45);
/// As Kubernetes' watches: what is older is called stale.
const STALE_MAX: Duration = Duration::from_secs(30);
/// Connections for services; an agent takes 200 of one client, and is asked by others on this host as well.
const CONNECTIONS_MAX: usize = 100;
/// One connection each.
const SERVICES_MAX: usize = CONNECTIONS_MAX;
/// More are no site's.
const SERVICES_LIMIT: usize = 2_000;
