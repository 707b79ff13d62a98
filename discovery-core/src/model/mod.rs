// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plain values of discovery: zones, nodes, services, slices, endpoints.
//!
//! A value of this module was checked when it was made: parse at the edge, believe inside. No I/O, no clock, no
//! Kubernetes types. Sources translate what they read into these, and say with [`Reason`] and [`ModelError`] what
//! they refused.

mod balancing;
mod condition;
mod endpoint;
mod front;
mod identity;
mod node;
mod placement;
mod registration;
mod scope;
mod service;
mod unlocated;
mod weight;
mod zone;

pub use balancing::{Balancing, HashOn, LoadFactor, SlowStart, SpillBelow, WithoutKey};
pub use condition::{Conditions, Reason, Standing};
pub use endpoint::{AddressClass, AddressRules, Hints, Slice, SliceEndpoint, SliceKey, SlicePort};
pub use front::{Affinity, Front, ProxyProtocol, TrafficPolicy};
pub use identity::{Identity, StateKey, TargetRef, Uid};
pub use node::{Node, NodeLabels, NodeName, NodeReadiness};
pub use placement::{Placement, PlacementWish};
pub use registration::Registration;
pub use scope::{Scope, ScopeKey};
pub use service::{
    HostPort, Protocol, Service, ServiceKind, ServiceName, ServicePort, TopologyMode,
    TrafficDistribution, ZonePolicy,
};
pub use unlocated::{CidrMap, Unlocated};
pub use weight::{Weight, Weights};
pub use zone::{Zone, ZoneKey, ZoneKeys};

/// Why a text is not the value that it should be.
///
/// The offending text is quoted with control characters escaped and cut at 80 characters, so that an error can be
/// logged as it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} {text:?} is refused: {why}")]
pub struct ModelError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl ModelError {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(QUOTED_CHARS_MAX).collect(),
            why,
        }
    }

    /// The rule that the text broke, in words.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

const QUOTED_CHARS_MAX: usize = 80;

/// Whether `text` is a DNS label or subdomain as Kubernetes names its objects (RFC 1123): lower case letters, digits,
/// `-` and `.`, at most 253 bytes, starting and ending with a letter or digit.
pub(crate) fn is_object_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=253)
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}
