// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who an endpoint is: the pod, not its address.
//!
//! Two keys for two purposes. The [`Identity`] places the endpoint on the ring and is the same at every caller; a
//! StatefulSet pod keeps it through a restart with a new address. The [`StateKey`] owns what a caller counts about the
//! endpoint (requests in flight); a new pod of the same name starts clean.

use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, sync::Arc};

/// The pod behind an endpoint, from `targetRef`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct TargetRef {
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's UID; empty when a hand-made slice gives none.
    pub uid: Arc<str>,
}

/// What places an endpoint on the ring: the pod's name, else `ip:port` (rule of `ring/v1`).
///
/// Ordered and hashed by its bytes, never by `std::hash::Hash`, so that every caller agrees on every machine.
///
/// ```
/// use discovery_core::model::Identity;
///
/// let pod = Identity::of_pod("web-0");
/// let bare = Identity::of_address("10.0.0.1:8080".parse().unwrap());
/// assert_eq!((pod.as_str(), bare.as_str()), ("web-0", "10.0.0.1:8080"));
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The identity of a pod.
    pub fn of_pod(name: &str) -> Self {
        Self(name.into())
    }

    /// The identity of an endpoint without a pod.
    pub fn of_address(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }

    /// The text; its UTF-8 bytes are what the placement hashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What owns a caller's counters about an endpoint: the pod's UID, else its name, else `ip:port`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct StateKey(Arc<str>);

impl StateKey {
    /// The key of an endpoint with the given pod and identity.
    pub fn new(target: Option<&TargetRef>, identity: &Identity) -> Self {
        match target {
            Some(target) if !target.uid.is_empty() => Self(target.uid.clone()),
            _ => Self(identity.0.clone()),
        }
    }
}
