// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service that a host name of a URL means.

use crate::model::{ModelError, ServiceName};
use std::net::IpAddr;

/// The service that a URL's host means: `web` is `default/web`, `web.shop` is `shop/web`, and what follows the namespace
/// (`web.shop.svc.cluster.local`) is passed over.
///
/// ```
/// use discovery_core::client::service_of_host;
///
/// assert_eq!(service_of_host("web.shop.svc.cluster.local").unwrap().to_string(), "shop/web");
/// assert!(service_of_host("10.0.0.1").is_err(), "an address is no service");
/// ```
pub fn service_of_host(host: &str) -> Result<ServiceName, ModelError> {
    let host = host.trim_end_matches('.');
    if host.parse::<IpAddr>().is_ok() {
        return Err(ModelError::new(
            "service",
            host,
            "it is an address, not the name of a service",
        ));
    }
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    match labels.next() {
        None => name.parse(),
        Some(namespace) => ServiceName::new(namespace, name),
    }
}
