// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets of a node's agent: for the clients of this node, and for the agent that takes over.

use crate::{
    agent::DoorAddress,
    cli::AgentArgs,
    failure::{Code, Failure},
};
use discovery_core::{runtime::AgentSocketConfig, source::PeerUids};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAgent {
    pub(super) socket: Option<PathBuf>,
    pub(super) mode: Option<String>,
    pub(super) uids: Vec<u32>,
    pub(super) any_uid: bool,
    pub(super) clients_max: Option<usize>,
    pub(super) take_over: Option<String>,
}

/// Where the next agent of this host takes over; none unless an address is given.
pub(super) fn door(args: &AgentArgs, raw: &RawAgent) -> Result<Option<DoorAddress>, Failure> {
    let Some(text) = args.take_over.as_ref().or(raw.take_over.as_ref()) else {
        return Ok(None);
    };
    let address = text.parse().map_err(|error| {
        let what = format!("{text:?} is no address to take over at: {error}");
        Failure::new(Code::ConfigInvalid, what)
            .help("say a path, or @NAME for the network namespace: agent: {take_over: '@zonal'}")
    })?;
    Ok(Some(address))
}

/// The socket for clients of this node; none unless a path is given.
pub(super) fn socket(
    args: &AgentArgs,
    raw: RawAgent,
) -> Result<Option<AgentSocketConfig>, Failure> {
    let Some(path) = args.agent_socket.clone().or(raw.socket) else {
        return Ok(None);
    };
    let uids = if raw.any_uid {
        PeerUids::any()
    } else {
        raw.uids
            .into_iter()
            .fold(PeerUids::default(), PeerUids::and)
    };
    let mut config = AgentSocketConfig::new(path).uids(uids);
    if let Some(mode) = raw.mode {
        let octal = u32::from_str_radix(&mode, 8).ok();
        let octal = octal.filter(|mode| *mode <= 0o777).ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                format!("{mode:?} is no mode of a file"),
            )
            .help("say it in octal digits: agent: {mode: '0660'}")
        })?;
        config = config.mode(octal);
    }
    if let Some(clients) = raw.clients_max {
        config = config.clients_max(clients);
    }
    Ok(Some(config))
}
