// SPDX-License-Identifier: MIT OR Apache-2.0
//! The labels of zones in names: as configured, else made from the zone's name.

use crate::{Config, names::Naming};
use discovery_core::model::Zone;

/// The names of our domains and of our zone, once it is known.
pub(super) fn naming(config: &Config, zone: Option<&Zone>) -> Naming {
    let labels = zone.map_or_else(Vec::new, |zone| labels(config, zone.as_str()));
    Naming::new(
        config.domain_name(),
        config.alt_domain_name(),
        config.profile,
        &labels,
    )
}

/// The labels of our own zone, the canonical one first.
pub(super) fn labels(config: &Config, zone: &str) -> Vec<String> {
    std::iter::once(label(config, zone))
        .chain(config.zone_aliases.iter().cloned())
        .collect()
}

/// The label of a zone.
pub(super) fn label(config: &Config, zone: &str) -> String {
    let configured = config
        .zone_labels
        .get(zone)
        .map(|label| label.to_ascii_lowercase());
    let made =
        || Zone::parse(zone).map_or_else(|_| zone.to_ascii_lowercase(), |zone| zone.dns_label());
    configured.unwrap_or_else(made)
}
