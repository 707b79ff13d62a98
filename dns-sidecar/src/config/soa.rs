// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the SOA record of the domain says beside its names.

use super::{Config, ConfigError, Profile, ttl::ttl_seconds};
use std::time::Duration;

/// What the SOA record says beside its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoaTimes {
    pub(crate) refresh: u32,
    pub(crate) retry: u32,
    pub(crate) expire: u32,
    /// None means the default of the profile.
    pub(super) minimum: Option<u32>,
}

impl Default for SoaTimes {
    fn default() -> Self {
        Self {
            refresh: 3600, // these three are Consul's; nobody transfers this domain
            retry: 600,
            expire: 86_400,
            minimum: None,
        }
    }
}

impl Config {
    /// How long callers may keep a "does not exist" (RFC 2308 5); default 1 s, which bounds both the load of callers that
    /// ask in a loop and the wait after a service appears; 0 in the profile `compat`.
    pub fn soa_minimum_ttl(mut self, ttl: Duration) -> Result<Self, ConfigError> {
        self.soa.minimum = Some(ttl_seconds("soa_minimum_ttl", ttl)?);
        Ok(self)
    }

    pub(crate) fn soa_minimum_seconds(&self) -> u32 {
        let default = match self.profile {
            Profile::Modern => SOA_MINIMUM_TTL_SECONDS,
            Profile::Compat => 0,
        };
        self.soa.minimum.unwrap_or(default)
    }
}

/// Negative answers are kept by some resolvers for as long as they may: as short as a zone file can say.
const SOA_MINIMUM_TTL_SECONDS: u32 = 1;
