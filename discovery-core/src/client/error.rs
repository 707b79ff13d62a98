// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong before the first call, and with a call.

use crate::{model::ModelError, pick::PickError, runtime::StartError};

/// Why a [`Discovery`](super::Discovery) could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// Nobody said on which node this process runs.
    #[error("the name of this node is not known: set NODE_NAME, or say DiscoveryBuilder::node")]
    NoNode,
    /// The name of the node is none that Kubernetes would give.
    #[error("the name of this node cannot be used")]
    Node(#[source] ModelError),
    /// The source cannot be used at all; no waiting would mend it.
    #[error("discovery cannot start")]
    Start(#[source] StartError),
}

/// Why a call got no endpoint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// [`Discovery::close`](super::Discovery::close) was called: nothing new is taken.
    #[error("discovery is closed")]
    Closed,
    /// As many calls are under way as are allowed.
    #[error("{limit} calls are under way, which is the limit")]
    Overloaded {
        /// The limit; see [`DiscoveryBuilder::in_flight_max`](super::DiscoveryBuilder::in_flight_max).
        limit: usize,
    },
    /// No endpoint could be picked.
    #[error(transparent)]
    Pick(#[from] PickError),
}

impl CallError {
    /// Whether the same call can succeed later without anybody mending a name.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Overloaded { .. } => true,
            Self::Pick(error) => error.is_retryable(),
        }
    }
}
