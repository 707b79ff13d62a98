// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports and addresses, which Services, EndpointSlices and Endpoints write alike.

use super::{Flaw, Flaws, flaw::Element, text::Text};
use crate::model::Protocol;
use serde::Deserialize;
use std::{fmt::Display, net::IpAddr, num::NonZeroU16, sync::Arc};

/// A port as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawPort<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    protocol: Option<Text<'a>>,
    port: Option<i64>,
    node_port: Option<i64>,
}

/// A port that was read.
pub(super) struct CheckedPort {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) number: NonZeroU16,
    pub(super) node_port: Option<NonZeroU16>,
}

/// The ports of the list that can be used; `place` is the list's own.
pub(super) fn ports(
    raw: &[Option<RawPort<'_>>],
    place: &dyn Display,
    flaws: &mut Flaws,
) -> Vec<CheckedPort> {
    let mut ports: Vec<CheckedPort> = Vec::with_capacity(raw.len());
    for (position, port) in raw.iter().enumerate() {
        let place = &Element {
            list: place,
            position,
        };
        match read(port.as_ref(), place, flaws) {
            Ok(port) if ports.iter().any(|other| other.name == port.name) => {
                let reason = format!("another port is called {:?} too", port.name);
                flaws.add(Flaw::new(&format_args!("{place}.name"), &reason));
            }
            Ok(port) => ports.push(port),
            Err(flaw) => flaws.add(flaw),
        }
    }
    ports
}

fn read(
    raw: Option<&RawPort<'_>>,
    place: &Element<'_>,
    flaws: &mut Flaws,
) -> Result<CheckedPort, Flaw> {
    let raw = raw.ok_or_else(|| Flaw::new(place, "it is null"))?;
    let number =
        number(raw.port).map_err(|reason| Flaw::new(&format_args!("{place}.port"), &reason))?;
    let protocol = protocol(raw.protocol.as_deref())
        .map_err(|reason| Flaw::new(&format_args!("{place}.protocol"), &reason))?;
    let name = name(raw.name.as_deref().unwrap_or_default())
        .map_err(|reason| Flaw::new(&format_args!("{place}.name"), &reason))?;
    let node_port = match raw.node_port {
        None | Some(0) => None,
        given => flaws.take(&format_args!("{place}.nodePort"), self::number(given)),
    };
    Ok(CheckedPort {
        name: name.into(),
        protocol,
        number,
        node_port,
    })
}

fn number(number: Option<i64>) -> Result<NonZeroU16, String> {
    let number = number.ok_or("there is no port number; all ports at once are not supported")?;
    u16::try_from(number)
        .ok()
        .and_then(NonZeroU16::new)
        .ok_or_else(|| format!("port {number} is not between 1 and 65535"))
}

fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!(
            "protocol {:?} is none of TCP, UDP, SCTP",
            short(other)
        )),
    }
}

fn name(text: &str) -> Result<&str, String> {
    if text.len() > PORT_NAME_BYTES_MAX || !text.bytes().all(is_of_name) {
        return Err(format!("{:?} is no port name", short(text)));
    }
    Ok(text)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

/// The address, with an IPv4 address mapped into IPv6 read as what it is.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map(|address: IpAddr| address.to_canonical())
        .map_err(|_| format!("{:?} is no IP address", short(text)))
}

/// A text that an error may quote.
pub(super) fn short(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

const QUOTED_CHARS_MAX: usize = 80;

/// Kubernetes allows 63 for slices and 15 for IANA names.
const PORT_NAME_BYTES_MAX: usize = 63;
