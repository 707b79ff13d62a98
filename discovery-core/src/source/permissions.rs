// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an API server says of itself and of what our credentials may do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an API server says of itself and of us, asked once.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Its version, as it writes it: `v1.33.2`; none when it did not say.
    pub version: Option<String>,
    /// Whom it takes us for; none before Kubernetes 1.28 and where nobody may ask.
    pub user: Option<String>,
    /// Every right that the source needs.
    pub rights: Vec<Right>,
}

/// A right that the source needs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, in the plural: `nodes`.
    pub resource: String,
    /// `list` or `watch`.
    pub verb: String,
    /// In which namespace; none means in all of them.
    pub namespace: Option<String>,
    /// Whether we have it.
    pub verdict: Verdict,
}

impl Right {
    /// The resource as `kubectl` takes it: `endpointslices.discovery.k8s.io`.
    pub fn resource_name(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }
}

/// Whether a right is ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is.
    Allowed,
    /// It is not.
    Denied,
    /// The server did not say.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        })
    }
}
