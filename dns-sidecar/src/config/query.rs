// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prepared queries: names under `query.<domain>` that stand for a choice of a service's instances.

use serde::Deserialize;

/// A static prepared query, or a template for all names with a prefix.
///
/// ```
/// use dns_sidecar::PreparedQuery;
///
/// let passing = PreparedQuery::new("web-passing", "web").only_passing().ttl_seconds(7);
/// let every = PreparedQuery::prefix("geo-"); // `geo-web.query.consul` asks for `web`
/// # let _ = (passing, every);
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PreparedQuery {
    /// Its name; of a template the prefix.
    pub(crate) name: String,
    /// The service; none in a template, where the rest of the name is the service.
    #[serde(default)]
    pub(crate) service: Option<String>,
    #[serde(default)]
    pub(crate) only_passing: bool,
    #[serde(default)]
    pub(crate) ttl_seconds: Option<u32>,
}

impl PreparedQuery {
    /// The instances of a service under another name.
    pub fn new(name: &str, service: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            ..Self::prefix(name)
        }
    }

    /// All names that begin with `prefix`; what follows it is the service.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            name: prefix.to_owned(),
            service: None,
            only_passing: false,
            ttl_seconds: None,
        }
    }

    /// Leaves out instances that only just serve: those that terminate.
    #[must_use]
    pub fn only_passing(mut self) -> Self {
        self.only_passing = true;
        self
    }

    /// How long answers may be kept; without, as answers about the service.
    #[must_use]
    pub fn ttl_seconds(mut self, seconds: u32) -> Self {
        self.ttl_seconds = Some(seconds);
        self
    }
}
