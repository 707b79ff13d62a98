// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PROXY protocol, version 1 and 2: what a load balancer in front says of its client, and what we say to endpoints.
//!
//! In: the first bytes of a connection. Out: whose it is and how many bytes the header has, or that more are needed, or what
//! is wrong. Pure; no allocation but for the values of extensions. Source: `proxy-protocol.txt` of `HAProxy`,
//! sections 2.1 and 2.2. A header is taken whole or the connection is reset: guessing would let strangers name themselves.

mod trust;
mod v1;
mod v2;

pub use trust::{Network, NetworkError};

use discovery_core::model::ProxyProtocol;
use std::net::SocketAddr;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The sender speaks for itself, as a health check does: the socket's own addresses hold.
    Local,
    /// A client, and the address that it connected to.
    Proxied {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

/// A header that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) origin: Origin,
    /// Bytes that the header takes; what follows is the client's.
    pub(crate) length: usize,
    /// Extensions that are passed on, encoded as they came.
    pub(crate) extensions: Vec<u8>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Parsed {
    Whole(Header),
    /// The beginning of a header.
    Incomplete,
}

/// Why the first bytes of a connection are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the line of version 1 is malformed")]
    Line,
    #[error("the version or command is unknown")]
    Version,
    #[error("the addresses do not fit the family")]
    Addresses,
    #[error("an extension is longer than the header")]
    Extension,
    #[error("the header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the checksum is wrong")]
    Checksum,
}

/// Reads the header at the start of the bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    if v2::begins(bytes) {
        v2::parse(bytes)
    } else if v1::begins(bytes) {
        v1::parse(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// What an endpoint is told besides the addresses; version 1 has no room for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told<'t> {
    /// Tells this connection from all others (`PP2_TYPE_UNIQUE_ID`).
    pub(crate) unique_id: &'t [u8],
    /// Our zone.
    pub(crate) zone: Option<&'t str>,
    /// Extensions of the header that came in.
    pub(crate) extensions: &'t [u8],
}

/// The header that tells an endpoint whose connection it is.
pub(crate) fn encode(
    version: ProxyProtocol,
    source: SocketAddr,
    destination: SocketAddr,
    told: Told<'_>,
) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => v1::encode(source, destination),
        ProxyProtocol::V2 => v2::encode(v2::Transport::Stream, source, destination, told),
    }
}

/// The same before each datagram; none in version 1, which knows streams alone.
pub(crate) fn encode_datagram(
    version: ProxyProtocol,
    source: SocketAddr,
    destination: SocketAddr,
    told: Told<'_>,
) -> Option<Vec<u8>> {
    match version {
        ProxyProtocol::V1 => None,
        ProxyProtocol::V2 => {
            let transport = v2::Transport::Datagram;
            Some(v2::encode(transport, source, destination, told))
        }
    }
}

/// Far above what load balancers send, and below a buffer.
pub(crate) const HEADER_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod cases;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn whole(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Ok(Parsed::Whole(header)) => header,
            other => panic!("{other:?}"),
        }
    }

    fn pairs() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<[u32; 2]>().prop_map(|ips| ips.map(|ip| IpAddr::from(Ipv4Addr::from(ip))));
        let v6 = any::<[u128; 2]>().prop_map(|ips| ips.map(|ip| IpAddr::from(Ipv6Addr::from(ip))));
        (prop_oneof![v4, v6], any::<[u16; 2]>()).prop_map(|(ips, ports)| {
            (
                SocketAddr::new(ips[0], ports[0]),
                SocketAddr::new(ips[1], ports[1]),
            )
        })
    }

    fn versions() -> impl Strategy<Value = ProxyProtocol> {
        prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What is written is read again, split at every byte, and what follows is left alone.
        #[test]
        fn a_header_is_read_as_it_was_written(
            version in versions(), (source, destination) in pairs(), id in proptest::collection::vec(any::<u8>(), 0..128),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let told = Told { unique_id: &id, zone: Some("mall-1"), extensions: &[] };
            let mut bytes = encode(version, source, destination, told);
            let length = bytes.len();
            for split in 0..length {
                prop_assert_eq!(parse(&bytes[..split]), if split == 0 { parse(&[]) } else { Ok(Parsed::Incomplete) });
            }
            bytes.extend(rest);
            let header = whole(&bytes);
            // Version 1 has one family for both.
            prop_assert_eq!(header.origin, Origin::Proxied { source, destination });
            prop_assert_eq!(header.length, length);
        }

        /// No bytes panic, and whatever is taken for a header is not longer than what is there.
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0_usize..4) {
            let starts: [&[u8]; 4] = [b"", v2::SIGNATURE, b"PROXY ", b"PROXY TCP4 "];
            let bytes = [starts[start], &bytes].concat();
            if let Ok(Parsed::Whole(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len() && header.length <= HEADER_BYTES_MAX);
            }
        }

        /// A flipped bit is noticed, or changes the meaning of nothing but what it lies in: version 2 carries a checksum.
        #[test]
        fn a_flipped_bit_after_the_length_is_noticed((source, destination) in pairs(), at in 16_usize..60, bit in 0_u8..8) {
            let mut bytes = encode(ProxyProtocol::V2, source, destination, Told { unique_id: b"id", ..Told::default() });
            let at = 16 + (at - 16) % (bytes.len() - 16);
            bytes[at] ^= 1 << bit;
            let read = parse(&bytes);
            let said = Origin::Proxied { source, destination };
            // Only a flip in the type of the checksum's own extension can go unnoticed, and then nothing else is changed.
            prop_assert!(!matches!(read, Ok(Parsed::Whole(ref header)) if header.origin != said), "{read:?}");
        }
    }
}
