// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy face, and where this host is registered for it.

use super::limits::{Limits, RawLimits, RawTimeouts};
use crate::failure::{Code, Failure};
use discovery_core::{
    model::NodeName,
    source::{ConsulAddressError, ConsulAgent, Token},
};
use lb_proxy::{Network, NetworkError, Registration};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProxy {
    pub(super) enabled: Option<bool>,
    listen: Vec<IpAddr>,
    drain_seconds: Option<u64>,
    peer_timeout_seconds: Option<u64>,
    peer_proof_seconds: Option<u64>,
    expect_proxy_header: BTreeMap<NonZeroU16, Vec<String>>,
    limits: RawLimits,
    timeouts: RawTimeouts,
    register: RawRegister,
}

/// At which Consul agent this host is registered for what it fronts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRegister {
    consul: Option<String>,
    client: RegisterClient,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    address: Option<IpAddr>,
    tags: Vec<String>,
    weight: Option<u32>,
    ttl_seconds: Option<u64>,
    leave_wait_seconds: Option<u64>,
}

/// Who asks the agent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum RegisterClient {
    /// Ours.
    #[default]
    Own,
    /// The crate `consulrs`, where it is built in.
    Consulrs,
}

/// The proxy face.
#[derive(Debug)]
pub(crate) struct ProxyConfig {
    node: NodeName,
    listen: Vec<IpAddr>,
    drain: Duration,
    peer_timeout: Option<Duration>,
    /// By port, from whom a PROXY header is expected.
    headers: Vec<(NonZeroU16, Vec<Network>)>,
    limits: Limits,
    registration: Option<Registration>,
    /// Where peers announce their visits, and how often they come.
    visits: Option<(u16, Duration)>,
}

impl ProxyConfig {
    /// The configuration of the proxy.
    pub(crate) fn face(&self) -> lb_proxy::Config {
        let mut config = self
            .limits
            .apply(lb_proxy::Config::default())
            .node(self.node.clone())
            .self_proof(true)
            .try_endpoints(true)
            .drain_timeout(self.drain);
        if !self.listen.is_empty() {
            config = config.bind_addresses(self.listen.clone());
        }
        if let Some(timeout) = self.peer_timeout {
            config = config.peer_timeout(timeout);
        }
        if let Some((announce_port, every)) = self.visits {
            config = config.visit_peers(announce_port, every);
        }
        for (port, networks) in &self.headers {
            config = config.expect_proxy_header(*port, networks.clone());
        }
        match &self.registration {
            Some(registration) => config.register(registration.clone()),
            None => config,
        }
    }
}

/// The proxy of a node whose probes and metrics are at that port.
pub(super) fn proxy(
    node: NodeName,
    raw: RawProxy,
    metrics_port: u16,
) -> Result<ProxyConfig, Failure> {
    let headers = raw.expect_proxy_header.into_iter();
    Ok(ProxyConfig {
        node,
        listen: raw.listen,
        drain: raw.drain_seconds.map_or(DRAIN, Duration::from_secs),
        peer_timeout: raw.peer_timeout_seconds.map(Duration::from_secs),
        headers: headers
            .map(|(port, networks)| Ok((port, trusted(port, &networks)?)))
            .collect::<Result<_, Failure>>()?,
        limits: Limits::check(raw.limits, raw.timeouts)?,
        registration: registration(raw.register)?,
        visits: visits(raw.peer_proof_seconds, metrics_port),
    })
}

/// None with 0 s, or where nobody can know the port.
fn visits(seconds: Option<u64>, metrics_port: u16) -> Option<(u16, Duration)> {
    let every = seconds.map_or(PEER_PROOF, Duration::from_secs);
    (!every.is_zero() && metrics_port != 0).then_some((metrics_port, every))
}

/// The networks from which a PROXY header is believed; whoever else connects to the port is reset.
fn trusted(port: NonZeroU16, networks: &[String]) -> Result<Vec<Network>, Failure> {
    let refuse = |what| {
        Failure::new(Code::ConfigInvalid, what)
            .help("name who is in front: proxy: {expect_proxy_header: {30080: [10.0.0.0/8]}}")
    };
    if networks.is_empty() {
        let what = format!("port {port} expects a PROXY header from nobody");
        return Err(refuse(what));
    }
    let parsed = networks.iter().map(|network| network.parse());
    let parsed: Result<_, NetworkError> = parsed.collect();
    parsed.map_err(|error| refuse(format!("port {port} expects a PROXY header: {error}")))
}

fn registration(raw: RawRegister) -> Result<Option<Registration>, Failure> {
    let Some(address) = raw.consul else {
        return Ok(None);
    };
    let begun = match raw.client {
        RegisterClient::Own => by_own(&address, raw.token_file, raw.ca_file.as_deref()),
        RegisterClient::Consulrs => by_consulrs(&address, raw.token_file),
    };
    let begun = begun.map_err(|text| Failure::new(Code::ConfigInvalid, text))?;
    let mut registration = begun.tags(raw.tags);
    if let Some(address) = raw.address {
        registration = registration.address(address);
    }
    if let Some(weight) = raw.weight {
        registration = registration.weight(weight);
    }
    if let Some(seconds) = raw.ttl_seconds.filter(|seconds| *seconds > 0) {
        registration = registration.ttl(Duration::from_secs(seconds));
    }
    if let Some(seconds) = raw.leave_wait_seconds {
        registration = registration.leave_wait(Duration::from_secs(seconds));
    }
    Ok(Some(registration))
}

fn by_own(
    address: &str,
    token_file: Option<PathBuf>,
    ca_file: Option<&Path>,
) -> Result<Registration, String> {
    let address = address
        .parse()
        .map_err(|error: ConsulAddressError| error.to_string())?;
    let token = token_file.map_or(Token::Anonymous, Token::File);
    let agent = ConsulAgent::new(address, token, ca_file)?;
    Ok(Registration::new(agent))
}

#[cfg(feature = "consulrs")]
fn by_consulrs(address: &str, token_file: Option<PathBuf>) -> Result<Registration, String> {
    Registration::by_consulrs(address, token_file)
}

#[cfg(not(feature = "consulrs"))]
fn by_consulrs(_: &str, _: Option<PathBuf>) -> Result<Registration, String> {
    Err(
        "register.client: consulrs is not built in; build zonal with --features consulrs"
            .to_owned(),
    )
}

/// The default grace period of a pod.
const DRAIN: Duration = Duration::from_secs(25);

/// Two visits that are missed tell within 20 s.
const PEER_PROOF: Duration = Duration::from_secs(10);
