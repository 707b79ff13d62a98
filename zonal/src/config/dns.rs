// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DNS face.

use crate::{
    cli::AgentArgs,
    failure::{Code, Failure},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDns {
    pub(super) enabled: Option<bool>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) domain: Option<String>,
    pub(super) ttl_seconds: Option<u32>,
    pub(super) profile: Option<dns_sidecar::Profile>,
    pub(super) alt_domain: Option<String>,
    pub(super) dns_config: Option<dns_sidecar::DnsConfig>,
    pub(super) recursors: Vec<String>,
    pub(super) datacenter_aliases: Vec<String>,
    pub(super) zone_labels: BTreeMap<String, String>,
    pub(super) node_meta_labels: BTreeMap<String, String>,
    pub(super) plain_namespaces: Option<Vec<String>>,
    pub(super) queries: Vec<dns_sidecar::PreparedQuery>,
    pub(super) forward_cache_bytes: usize,
    /// `off`, `errors`, `sample:N` or `client:NETWORK`.
    pub(super) log: Option<String>,
    pub(super) http: RawHttp,
    pub(super) tls: RawTls,
}

/// DNS over TLS and HTTPS, each off unless it has an address.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) dot_listen: Vec<SocketAddr>,
    pub(super) doh_listen: Vec<SocketAddr>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// A read-only part of Consul's HTTP interface.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    /// Off unless there is one.
    pub(super) listen: Vec<SocketAddr>,
    pub(super) connections_max: Option<NonZeroUsize>,
    pub(super) waiting_max: Option<NonZeroUsize>,
}

/// The DNS face.
#[derive(Debug)]
pub(crate) struct DnsConfig {
    pub(crate) listen: Vec<SocketAddr>,
    names: RawDns,
    node: String,
}

impl DnsConfig {
    /// Every address that is listened on.
    pub(super) fn own(&self) -> impl Iterator<Item = SocketAddr> {
        let RawTls {
            dot_listen,
            doh_listen,
            ..
        } = &self.names.tls;
        let faces = [
            &self.listen,
            &self.names.http.listen,
            dot_listen,
            doh_listen,
        ];
        faces.into_iter().flatten().copied()
    }

    /// The name of our node.
    pub(super) fn named(mut self, node: &str) -> Self {
        node.clone_into(&mut self.node);
        self
    }
}

impl DnsConfig {
    /// The configuration of the responder.
    pub(crate) fn face(&self) -> Result<dns_sidecar::Config, Failure> {
        let config = dns_sidecar::Config::default()
            .listen(self.listen.clone())
            .and_then(|config| self.names.apply(config));
        let config = config.map_err(|error| Failure::caused(Code::ConfigInvalid, &error))?;
        let log = self.names.log.as_deref().unwrap_or("off").parse();
        let log = log
            .map_err(|why: String| Failure::new(Code::ConfigInvalid, format!("dns.log: {why}")))?;
        let config = self.names.http.apply(config.node_name(&self.node));
        Ok(self.names.tls.apply(config)?.query_log(log))
    }
}

impl RawTls {
    fn apply(&self, config: dns_sidecar::Config) -> Result<dns_sidecar::Config, Failure> {
        let config = config
            .dot_listen(self.dot_listen.clone())
            .doh_listen(self.doh_listen.clone());
        let is_wanted = !self.dot_listen.is_empty() || !self.doh_listen.is_empty();
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Ok(config.certificate(certificate.clone(), key.clone()))
            }
            (None, None) if !is_wanted => Ok(config),
            _ => {
                let what = "dns.tls: an address needs `certificate` and `key`, and each of these the other";
                Err(Failure::new(Code::ConfigInvalid, what))
            }
        }
    }
}

impl RawHttp {
    fn apply(&self, config: dns_sidecar::Config) -> dns_sidecar::Config {
        let mut config = config.http_listen(self.listen.clone());
        if let Some(connections) = self.connections_max {
            config = config.http_connections_max(connections);
        }
        if let Some(requests) = self.waiting_max {
            config = config.http_waiting_max(requests);
        }
        config
    }
}

impl RawDns {
    /// Everything about names; a Consul's `dns_config` comes after the plain TTL and wins.
    fn apply(
        &self,
        mut config: dns_sidecar::Config,
    ) -> Result<dns_sidecar::Config, dns_sidecar::ConfigError> {
        if let Some(seconds) = self.ttl_seconds {
            config = config.ttl(Duration::from_secs(seconds.into()))?;
        }
        if let Some(domain) = &self.domain {
            config = config.domain(domain)?;
        }
        if let Some(domain) = &self.alt_domain {
            config = config.alt_domain(domain)?;
        }
        if let Some(block) = &self.dns_config {
            config = config.dns_config(block.clone())?;
        }
        if let Some(namespaces) = &self.plain_namespaces {
            config = config.plain_namespaces(namespaces.clone());
        }
        let aliases: Vec<_> = self.datacenter_aliases.iter().map(String::as_str).collect();
        let labels: Vec<_> = self
            .node_meta_labels
            .iter()
            .map(|(label, key)| (&**label, &**key))
            .collect();
        config
            .profile(self.profile.unwrap_or_default())
            .datacenter_aliases(&aliases)
            .zone_labels(self.zone_labels.clone())
            .node_meta_labels(&labels)
            .queries(self.queries.clone())
            .forward_cache_bytes(self.forward_cache_bytes)
            .recursors(&self.recursors)
    }
}

pub(super) fn dns(args: &AgentArgs, raw: RawDns) -> Option<DnsConfig> {
    let listen = match (&args.dns_listen[..], &raw.listen) {
        ([], in_file) if in_file.is_empty() => vec![DNS_LISTEN],
        ([], in_file) => in_file.clone(),
        (flags, _) => flags.to_vec(),
    };
    let enabled = !args.no_dns && raw.enabled.unwrap_or(true);
    enabled.then_some(DnsConfig {
        listen,
        names: raw,
        node: String::new(),
    })
}

/// Consul's own default.
pub(crate) const DNS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8600);
