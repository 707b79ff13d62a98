// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a Service's annotations ask of its names: in DNS, and in a registry such as Consul.

use serde::{Deserialize, Serialize};
use std::{num::NonZeroU16, sync::Arc};

/// The wishes of the annotations `zonal.dev/consul-…` and `zonal.dev/dns-ttl`; all absent by default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// Its names instead of the ones made from namespace and name (`consul-name`, a comma list).
    pub names: Vec<Arc<str>>,
    /// Whether it has names at all (`consul-register`); none means that the configuration decides.
    pub is_registered: Option<bool>,
    /// Its port among several, by name or number (`consul-port`); none means the first of the spec.
    pub port: Option<Arc<str>>,
    /// Its tags beside the names of its ports (`consul-tags`, a comma list).
    pub tags: Vec<Arc<str>>,
    /// The weight of each endpoint (`consul-weight`); none means 1.
    pub weight: Option<NonZeroU16>,
    /// Its meta data (`consul-meta-<key>`), for registries; DNS does not tell it.
    pub meta: Vec<(Arc<str>, Arc<str>)>,
    /// How long answers about it may be kept (`dns-ttl`, a number of seconds); none means that the configuration decides.
    pub ttl_seconds: Option<u32>,
}

impl Registration {
    /// How many names, tags, or pairs of meta data one Service may have.
    pub const LIST_MAX: usize = 64;
}
