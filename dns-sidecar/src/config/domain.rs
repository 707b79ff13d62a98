// SPDX-License-Identifier: MIT OR Apache-2.0
//! The domains that all names stand in.

use super::{Config, ConfigError};
use crate::wire::WireName;

impl Config {
    /// The domain under which all names stand; default `consul`.
    pub fn domain(mut self, domain: &str) -> Result<Self, ConfigError> {
        let text = domain.strip_suffix('.').unwrap_or(domain);
        let refuse = || ConfigError::Domain {
            domain: domain.chars().take(2 * DOMAIN_BYTES_MAX).collect(),
        };
        if text.len() > DOMAIN_BYTES_MAX || !text.bytes().all(is_host_byte) {
            return Err(refuse());
        }
        self.domain = WireName::parse(text).ok_or_else(refuse)?;
        self.domain_text = text.to_ascii_lowercase();
        Ok(self)
    }

    /// A second domain with the same names, as Consul's `alt_domain`; none by default.
    pub fn alt_domain(mut self, domain: &str) -> Result<Self, ConfigError> {
        let other = self.clone().domain(domain)?;
        self.alt_domain = Some(other.domain);
        Ok(self)
    }

    /// The domain in lower case, without a final dot.
    pub fn domain_text(&self) -> &str {
        &self.domain_text
    }

    pub(crate) fn domain_name(&self) -> &WireName {
        &self.domain
    }

    pub(crate) fn alt_domain_name(&self) -> Option<&WireName> {
        self.alt_domain.as_ref()
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// What Consul answers for.
pub(super) const DOMAIN: &str = "consul";
/// Leaves room for the longest label of an address, a kind and a zone in a name of 255 bytes.
pub(super) const DOMAIN_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names_of_bounded_length() {
        for good in ["consul", "Mall.Internal.", "a_b.c-d"] {
            let config = Config::default().domain(good).unwrap();
            assert_eq!(
                config.domain_text(),
                good.to_lowercase().trim_end_matches('.')
            );
        }
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "ä",
            &"a".repeat(64),
            &"a.".repeat(65),
        ] {
            assert!(Config::default().domain(bad).is_err(), "{bad:?}");
        }
    }
}
