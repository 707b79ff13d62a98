// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long answers may be kept: those about a service by its name, by the longest prefix, by `*`.

use super::{Config, ConfigError};
use std::{collections::BTreeMap, time::Duration};

/// Consul's table `service_ttl`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ServiceTtls {
    exact: BTreeMap<String, u32>,
    prefixes: BTreeMap<String, u32>,
}

impl ServiceTtls {
    /// Sets the TTL of a name, or of all that begin with what stands before a final `*`.
    pub(crate) fn set(&mut self, pattern: &str, seconds: u32) {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_suffix('*') {
            Some(prefix) => self.prefixes.insert(prefix.to_owned(), seconds),
            None => self.exact.insert(pattern, seconds),
        };
    }

    /// The TTL of a service, by its name in lower case.
    pub(crate) fn of(&self, service: &str) -> u32 {
        let longest = || {
            let matching = self
                .prefixes
                .iter()
                .filter(|(prefix, _)| service.starts_with(&***prefix));
            matching
                .max_by_key(|(prefix, _)| prefix.len())
                .map(|(_, seconds)| *seconds)
        };
        self.exact
            .get(service)
            .copied()
            .or_else(longest)
            .unwrap_or(0)
    }
}

impl Config {
    /// How long callers may keep an answer; default 0, as in Consul: every lookup sees the newest snapshot.
    pub fn ttl(mut self, ttl: Duration) -> Result<Self, ConfigError> {
        self.node_ttl_seconds = ttl_seconds("ttl", ttl)?;
        self.service_ttls.set("*", self.node_ttl_seconds);
        Ok(self)
    }
}

/// A TTL as records can say it.
pub(super) fn ttl_seconds(name: &'static str, ttl: Duration) -> Result<u32, ConfigError> {
    let seconds = ttl.as_secs();
    let fits = u32::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= TTL_SECONDS_MAX);
    fits.ok_or(ConfigError::Ttl { name, seconds })
}

/// RFC 2181 8.
pub(super) const TTL_SECONDS_MAX: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_wins_then_the_longest_prefix() {
        let mut ttls = ServiceTtls::default();
        for (pattern, seconds) in [
            ("*", 30),
            ("Web", 5),
            ("svc*", 9),
            ("svcaddr6", 11),
            ("s*", 1),
        ] {
            ttls.set(pattern, seconds);
        }
        for (service, seconds) in [("web", 5), ("svcaddr", 9), ("svcaddr6", 11), ("other", 30)] {
            assert_eq!(ttls.of(service), seconds, "{service}");
        }
        assert_eq!(ServiceTtls::default().of("web"), 0);
    }
}
