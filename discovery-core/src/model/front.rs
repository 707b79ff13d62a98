// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a Service asks of the proxy in front of it: its own fields, `zonal.dev/hash-on`, and the annotations that begin with
//! `zonal.dev/proxy-`.

use serde::{Deserialize, Serialize};
use std::num::{NonZeroU16, NonZeroU32};

/// How a service wants to be fronted. The default asks for nothing.
///
/// ```
/// use discovery_core::model::{Affinity, Front, TrafficPolicy};
///
/// let front = Front::default();
/// assert_eq!(front.traffic_policy, TrafficPolicy::Cluster);
/// assert_eq!(front.affinity, Affinity::Source);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Front {
    /// Its field `externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// The port on which load balancers ask how many endpoints this node has (`healthCheckNodePort`).
    pub health_port: Option<NonZeroU16>,
    /// Whether it is being deleted: nothing new is taken, what is carried may finish.
    pub is_deleting: bool,
    /// What keeps a client at its endpoint: annotation `zonal.dev/hash-on`, as far as a proxy can see it.
    /// `sessionAffinity: ClientIP` is [`Affinity::Source`], whatever the annotation says.
    pub affinity: Affinity,
    /// The PROXY protocol that its endpoints expect: annotation `zonal.dev/proxy-protocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long a connection or session may be silent: annotation `zonal.dev/proxy-idle-seconds`.
    pub idle_seconds: Option<NonZeroU32>,
    /// How many datagrams answer one, after which a UDP session ends: annotation `zonal.dev/proxy-udp-replies`.
    pub udp_replies: Option<u32>,
}

impl Front {
    /// Whether it asks for nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which endpoints traffic from outside the cluster may reach (`externalTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// All that the zone policy allows.
    #[default]
    Cluster,
    /// Those of this node alone.
    Local,
}

/// What of a client's address keeps it at one endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// The address: all connections of a client go to one endpoint. The default.
    #[default]
    Source,
    /// The address and the port: each connection has its own endpoint, the same by whichever host it enters.
    SourcePort,
    /// Nothing: the less busy of two.
    None,
}

/// The version of the PROXY protocol that endpoints are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}
