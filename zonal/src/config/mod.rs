// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's configuration: file → raw → checked, flags and environment before the file.

mod dns;
mod limits;
mod proxy;
mod socket;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use dns::{DNS_LISTEN, DnsConfig};
pub(crate) use proxy::ProxyConfig;
pub(crate) use view::DirectConfig;

use crate::{
    agent::DoorAddress,
    cli::{AgentArgs, SourceArgs},
    failure::{Code, Failure},
    sources::{RawSource, Sources},
};
use discovery_core::{
    config::{self, ConfigError},
    model::{AddressRules, ModelError},
    runtime::{AgentSocketConfig, RuntimeConfig},
};
use dns::{RawDns, dns};
use proxy::{RawProxy, proxy};
use serde::Deserialize;
use socket::{RawAgent, door, socket};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};
use view::{RawZone, ViewConfig, grace, holds};

/// The configuration file as it stands: every key optional, an unknown key an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    node_name: Option<String>,
    zone: RawZone,
    source: RawSource,
    dns: RawDns,
    proxy: RawProxy,
    admin: RawListener,
    metrics: RawListener,
    snapshot: RawSnapshot,
    agent: RawAgent,
    allow_loopback_endpoints: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawListener {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSnapshot {
    folder: Option<PathBuf>,
}

/// The checked configuration of an agent.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    pub(crate) runtime: RuntimeConfig,
    pub(crate) dns: Option<DnsConfig>,
    pub(crate) proxy: Option<ProxyConfig>,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_write: bool,
    pub(crate) metrics_listen: SocketAddr,
    pub(crate) socket: Option<AgentSocketConfig>,
    pub(crate) door: Option<DoorAddress>,
}

impl AgentConfig {
    /// Reads the file, if one is named, and lays flags and environment over it.
    pub(crate) fn load(args: &AgentArgs) -> Result<Self, Failure> {
        Self::check(args, RawConfig::load(&args.source)?)
    }

    fn check(args: &AgentArgs, raw: RawConfig) -> Result<Self, Failure> {
        let admin_listen = args
            .admin_listen
            .or(raw.admin.listen)
            .unwrap_or(ADMIN_LISTEN);
        let metrics_listen = args
            .metrics_listen
            .or(raw.metrics.listen)
            .unwrap_or(METRICS_LISTEN);
        let dns = dns(args, raw.dns);
        let mut own: Vec<_> = dns.iter().flat_map(DnsConfig::own).collect();
        own.extend([admin_listen, metrics_listen]);
        let holds = holds(&raw.zone, &raw.source);
        let grace = grace(&raw.source)?;
        let view = ViewConfig::check(&args.source, raw.node_name, raw.zone)?;
        let allows_loopback = args.source.allow_loopback_endpoints || raw.allow_loopback_endpoints;
        let sources = Sources::check(args, raw.source)?;
        let node = view.node.clone();
        let dns = dns.map(|dns| dns.named(node.as_str()));
        let runtime = view
            .runtime(sources, AddressRules::new(allows_loopback, own))
            .state(|state| {
                let state = state.holds(holds);
                match grace {
                    Some(grace) => state.grace(grace),
                    None => state,
                }
            })
            .snapshot_folder(args.snapshot_folder.clone().or(raw.snapshot.folder));
        let is_proxy = !args.no_proxy && raw.proxy.enabled.unwrap_or(true);
        let metrics_port = metrics_listen.port();
        let proxy = is_proxy
            .then(|| proxy(node, raw.proxy, metrics_port))
            .transpose()?;
        Ok(Self {
            runtime,
            dns,
            proxy,
            admin_listen,
            admin_write: args.admin_write,
            metrics_listen,
            door: door(args, &raw.agent)?,
            socket: socket(args, raw.agent)?,
        })
    }
}

impl RawConfig {
    fn load(args: &SourceArgs) -> Result<Self, Failure> {
        match &args.config {
            Some(path) => config::read(path).map_err(|error| file_failure(&error)),
            None => Ok(Self::default()),
        }
    }
}

fn invalid(error: &ModelError) -> Failure {
    Failure::caused(Code::ConfigInvalid, error)
}

fn file_failure(error: &ConfigError) -> Failure {
    let code = if error.is_io() {
        Code::ConfigUnreadable
    } else {
        Code::ConfigInvalid
    };
    let failure = Failure::caused(code, error);
    match error.suggestion() {
        Some(suggestion) => failure.help(suggestion),
        None => failure,
    }
}

/// Loopback only: whoever may log in here may look.
pub(crate) const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9690);
/// Scrapers and probes come from outside.
const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9691);
