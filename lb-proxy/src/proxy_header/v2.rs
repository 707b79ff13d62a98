// SPDX-License-Identifier: MIT OR Apache-2.0
//! Version 2: a binary header with extensions (proxy-protocol.txt 2.2).

use super::{HEADER_BYTES_MAX, Header, HeaderError, Origin, Parsed, Told};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether the bytes begin as a header of version 2 does; a part of the signature is enough.
pub(super) fn begins(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .zip(SIGNATURE)
            .all(|(byte, expected)| byte == expected)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<PREFIX_BYTES>()
    else {
        return Ok(Parsed::Incomplete);
    };
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let length = PREFIX_BYTES + payload;
    if length > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Version),
    };
    let Some(payload) = rest.get(..payload) else {
        return Ok(Parsed::Incomplete);
    };
    if is_local {
        // Family, addresses and extensions are to be ignored, whatever they are.
        return Ok(whole(Origin::Local, length, Vec::new()));
    }
    let (origin, extensions) = match family {
        0x11 => addresses(payload, v4)?,
        0x21 => addresses(payload, v6)?,
        // UNSPEC, and those that can be no client of ours: the socket's own address holds.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => {
            return Ok(whole(Origin::Local, length, Vec::new()));
        }
        _ => return Err(HeaderError::Addresses),
    };
    let extensions = passed_on(extensions, &bytes[..length])?;
    Ok(whole(origin, length, extensions))
}

fn whole(origin: Origin, length: usize, extensions: Vec<u8>) -> Parsed {
    Parsed::Whole(Header {
        origin,
        length,
        extensions,
    })
}

/// Two addresses of `N` bytes, two ports, and what follows them.
fn addresses<const N: usize>(
    payload: &[u8],
    ip: fn([u8; N]) -> IpAddr,
) -> Result<(Origin, &[u8]), HeaderError> {
    let split = || {
        let (source, rest) = payload.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (&[a, b, c, d], rest) = rest.split_first_chunk::<4>()?;
        let origin = Origin::Proxied {
            source: SocketAddr::new(ip(*source), u16::from_be_bytes([a, b])),
            destination: SocketAddr::new(ip(*destination), u16::from_be_bytes([c, d])),
        };
        Some((origin, rest))
    };
    split().ok_or(HeaderError::Addresses)
}

fn v4(bytes: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(bytes).into()
}

fn v6(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).into()
}

/// The extensions that endpoints may be told; the checksum, where there is one, must hold over the whole header.
fn passed_on(mut extensions: &[u8], header: &[u8]) -> Result<Vec<u8>, HeaderError> {
    let start = header.len() - extensions.len();
    let (mut passed_on, whole) = (Vec::new(), extensions);
    while let Some((&kind, rest)) = extensions.split_first() {
        let (&length, rest) = rest.split_first_chunk().ok_or(HeaderError::Extension)?;
        let length = usize::from(u16::from_be_bytes(length));
        let value = rest.get(..length).ok_or(HeaderError::Extension)?;
        let at = start + whole.len() - extensions.len() + EXTENSION_BYTES;
        if kind == CRC32C && !is_intact(header, at, value) {
            return Err(HeaderError::Checksum);
        }
        if PASSED_ON.contains(&kind) {
            extend(&mut passed_on, kind, value);
        }
        extensions = &rest[length..];
    }
    Ok(passed_on)
}

/// Whether the checksum is that of the header with zeros in its place.
fn is_intact(header: &[u8], at: usize, value: &[u8]) -> bool {
    let Ok(stated) = value.try_into().map(u32::from_be_bytes) else {
        return false;
    };
    let sum = crc32c(0, &header[..at]);
    let sum = crc32c(sum, &[0; 4]);
    crc32c(sum, &header[at + 4..]) == stated
}

/// Over what the client came; the lower half of the byte of families.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport {
    Stream = 1,
    Datagram = 2,
}

pub(super) fn encode(
    transport: Transport,
    source: SocketAddr,
    destination: SocketAddr,
    told: Told<'_>,
) -> Vec<u8> {
    let mut payload = Vec::with_capacity(128);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            payload.extend([from.octets(), to.octets()].concat());
            0x10
        }
        (from, to) => {
            payload.extend([mapped(from).octets(), mapped(to).octets()].concat());
            0x20
        }
    };
    payload.extend(source.port().to_be_bytes());
    payload.extend(destination.port().to_be_bytes());
    if !told.unique_id.is_empty() {
        extend(&mut payload, UNIQUE_ID, told.unique_id);
    }
    if let Some(zone) = told.zone {
        extend(&mut payload, ZONE, zone.as_bytes());
    }
    payload.extend(told.extensions);
    extend(&mut payload, CRC32C, &[0; 4]);
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut header = [
        SIGNATURE,
        &[0x21, family | transport as u8],
        &length.to_be_bytes(),
        &payload,
    ]
    .concat();
    let sum = crc32c(0, &header);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// An IPv4 address beside an IPv6 one is written as that (RFC 4291 2.5.5.2).
fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn extend(into: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(VALUE_BYTES_MAX)];
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    into.push(kind);
    into.extend(length.to_be_bytes());
    into.extend(value);
}

/// Castagnoli's checksum (RFC 3309), a bit at a time: headers are short and rare.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(sum & 1));
    !bytes
        .iter()
        .fold(!sum, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PREFIX_BYTES: usize = 16;
/// Type and length of an extension.
const EXTENSION_BYTES: usize = 3;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
/// Our zone, in the range of types for applications.
const ZONE: u8 = 0xe0;

/// What the client asked for is passed on; what a stranger says of TLS, networks or zones is not.
const PASSED_ON: [u8; 2] = [ALPN, AUTHORITY];

/// A unique id has at most 128 bytes, a name 255.
const VALUE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> (SocketAddr, SocketAddr) {
        (
            "192.0.2.7:1025".parse().unwrap(),
            "198.51.100.9:443".parse().unwrap(),
        )
    }

    /// A header around a payload.
    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    const PAIR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 9, 4, 1, 1, 187];

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720 B.4: 32 bytes of zeros, and of ones.
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn a_header_has_the_golden_bytes() {
        let (source, destination) = addresses();
        let told = Told {
            unique_id: b"id",
            zone: Some("m"),
            extensions: &[],
        };
        let bytes = encode(Transport::Stream, source, destination, told);
        let mut expected = header(
            0x21,
            0x11,
            &[
                &PAIR[..],
                &[5, 0, 2, b'i', b'd', 0xe0, 0, 1, b'm', 3, 0, 4, 0, 0, 0, 0],
            ]
            .concat(),
        );
        let sum = crc32c(0, &expected).to_be_bytes();
        let at = expected.len() - 4;
        expected[at..].copy_from_slice(&sum);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn local_and_unspecified_are_the_sockets_own_address() {
        for (command, family, payload) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &PAIR),
            (0x21, 0x00, &[1, 2, 3]),
            (0x21, 0x31, &[0; 216]),
        ] {
            let bytes = header(command, family, payload);
            let Ok(Parsed::Whole(read)) = parse(&bytes) else {
                panic!("{command} {family}")
            };
            assert_eq!((read.origin, read.length), (Origin::Local, bytes.len()));
        }
    }

    #[test]
    fn unknown_extensions_are_skipped_and_those_of_the_client_passed_on() {
        let extensions = [
            &[0x30, 0, 2, 9, 9][..],
            &[1, 0, 2, b'h', b'2'],
            &[2, 0, 1, b'n'],
        ]
        .concat();
        let bytes = header(0x21, 0x11, &[&PAIR[..], &extensions].concat());
        let Ok(Parsed::Whole(read)) = parse(&bytes) else {
            panic!("refused")
        };
        assert_eq!(read.extensions, &extensions[5..]);
        let (source, destination) = addresses();
        let out = encode(
            Transport::Stream,
            source,
            destination,
            Told {
                extensions: &read.extensions,
                ..Told::default()
            },
        );
        let Ok(Parsed::Whole(again)) = parse(&out) else {
            panic!("refused")
        };
        assert_eq!(again.extensions, read.extensions);
    }

    #[test]
    fn headers_that_are_not_quite_right_are_refused() {
        let long = header(0x21, 0x11, &[0; 5_000]);
        for (bytes, error) in [
            (header(0x11, 0x11, &PAIR), HeaderError::Version),
            (header(0x22, 0x11, &PAIR), HeaderError::Version),
            (header(0x21, 0x41, &PAIR), HeaderError::Addresses),
            (header(0x21, 0x11, &PAIR[..11]), HeaderError::Addresses),
            (header(0x21, 0x21, &PAIR), HeaderError::Addresses),
            (
                header(0x21, 0x11, &[&PAIR[..], &[5]].concat()),
                HeaderError::Extension,
            ),
            (
                header(0x21, 0x11, &[&PAIR[..], &[5, 0, 2, 1]].concat()),
                HeaderError::Extension,
            ),
            (
                header(0x21, 0x11, &[&PAIR[..], &[3, 0, 4, 1, 2, 3, 4]].concat()),
                HeaderError::Checksum,
            ),
            (
                header(0x21, 0x11, &[&PAIR[..], &[3, 0, 2, 1, 2]].concat()),
                HeaderError::Checksum,
            ),
            (long, HeaderError::TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(error));
        }
    }
}
