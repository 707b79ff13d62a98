// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy face, and where this host is registered for it.

use crate::failure::{Code, Failure};
use discovery_core::{
    model::NodeName,
    source::{ConsulAddressError, ConsulAgent, Token},
};
use lb_proxy::Registration;
use serde::Deserialize;
use std::{net::IpAddr, path::PathBuf, time::Duration};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProxy {
    pub(super) enabled: Option<bool>,
    pub(super) drain_seconds: Option<u64>,
    pub(super) register: RawRegister,
}

/// At which Consul agent this host is registered for what it fronts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRegister {
    consul: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    address: Option<IpAddr>,
    tags: Vec<String>,
    weight: Option<u32>,
    ttl_seconds: Option<u64>,
    leave_wait_seconds: Option<u64>,
}

/// The proxy face.
#[derive(Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) node: NodeName,
    pub(crate) drain: Duration,
    pub(crate) registration: Option<Registration>,
}

impl ProxyConfig {
    /// The configuration of the proxy.
    pub(crate) fn face(&self) -> lb_proxy::Config {
        let config = lb_proxy::Config::default()
            .node(self.node.clone())
            .self_proof(true)
            .drain_timeout(self.drain);
        match &self.registration {
            Some(registration) => config.register(registration.clone()),
            None => config,
        }
    }
}

pub(super) fn proxy(node: NodeName, raw: RawProxy) -> Result<ProxyConfig, Failure> {
    Ok(ProxyConfig {
        node,
        drain: raw.drain_seconds.map_or(DRAIN, Duration::from_secs),
        registration: registration(raw.register)?,
    })
}

fn registration(raw: RawRegister) -> Result<Option<Registration>, Failure> {
    let Some(address) = raw.consul else {
        return Ok(None);
    };
    let refuse = |text: String| Failure::new(Code::ConfigInvalid, text);
    let address = address
        .parse()
        .map_err(|error: ConsulAddressError| refuse(error.to_string()))?;
    let token = raw.token_file.map_or(Token::Anonymous, Token::File);
    let agent = ConsulAgent::new(address, token, raw.ca_file.as_deref()).map_err(refuse)?;
    let mut registration = Registration::new(agent).tags(raw.tags);
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

/// The default grace period of a pod.
const DRAIN: Duration = Duration::from_secs(25);
