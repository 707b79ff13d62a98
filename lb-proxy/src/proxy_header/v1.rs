// SPDX-License-Identifier: MIT OR Apache-2.0
//! Version 1: a line of text of at most 107 bytes (proxy-protocol.txt 2.1).

use super::{Header, HeaderError, Origin, Parsed};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr},
};

/// Whether the bytes begin as a line of version 1 does; a part of its first word is enough.
pub(super) fn begins(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .zip(PREFIX)
            .all(|(byte, expected)| byte == expected)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX {
            Ok(Parsed::Incomplete)
        } else {
            Err(HeaderError::Line)
        };
    };
    let line = str::from_utf8(&window[..end]).map_err(|_| HeaderError::Line)?;
    Ok(Parsed::Whole(Header {
        origin: origin(line)?,
        length: end + 2,
        extensions: Vec::new(),
    }))
}

fn origin(line: &str) -> Result<Origin, HeaderError> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(HeaderError::Line)?;
    // Whatever follows UNKNOWN is to be ignored.
    if family == "UNKNOWN" {
        return Ok(Origin::Local);
    }
    let fields: Vec<&str> = words.collect();
    let &[source, destination, source_port, destination_port] = &fields[..] else {
        return Err(HeaderError::Line);
    };
    let address = |text: &str| -> Result<IpAddr, HeaderError> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from),
            _ => return Err(HeaderError::Line),
        }
        .map_err(|_| HeaderError::Addresses)
    };
    Ok(Origin::Proxied {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

/// A port without sign and without leading zeros.
fn port(text: &str) -> Result<u16, HeaderError> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain {
        u16::from_str(text).map_err(|_| HeaderError::Addresses)
    } else {
        Err(HeaderError::Addresses)
    }
}

pub(super) fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip(), destination.ip());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return b"PROXY UNKNOWN\r\n".to_vec(),
    };
    let ports = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
}

const PREFIX: &[u8] = b"PROXY ";

/// The longest line with its end: two IPv6 addresses written in full.
const LINE_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Parsed, HeaderError> {
        parse(line.as_bytes())
    }

    #[test]
    fn the_line_is_the_one_of_the_specification() {
        let header = encode(
            "192.168.0.1:56324".parse().unwrap(),
            "192.168.0.11:443".parse().unwrap(),
        );
        assert_eq!(header, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let header = encode(
            "[fd00::1]:1".parse().unwrap(),
            "[fd00::2]:2".parse().unwrap(),
        );
        assert_eq!(header, b"PROXY TCP6 fd00::1 fd00::2 1 2\r\n");
    }

    #[test]
    fn unknown_is_the_sockets_own_address_whatever_follows() {
        for line in [
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN ffff::1 what ever\r\nGET /",
        ] {
            let Ok(Parsed::Whole(header)) = read(line) else {
                panic!("{line}")
            };
            assert_eq!(header.origin, Origin::Local);
            assert_eq!(header.length, line.find('\n').unwrap() + 1);
        }
    }

    #[test]
    fn lines_that_are_not_quite_right_are_refused() {
        for line in [
            "PROXY\u{20}\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.5 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.5  2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.5 1 2\r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.5 1 2\r\n",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(read(&long), Err(HeaderError::Line));
    }
}
