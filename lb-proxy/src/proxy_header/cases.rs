// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of PROXY headers, good and bad, each with what must come of it, whole and cut at every byte.

use super::{HEADER_BYTES_MAX, Header, HeaderError, Origin, Parsed, parse, v2::SIGNATURE};
use HeaderError::{Addresses, Checksum, Extension, Line, Missing, TooLong, Version};

/// What must come of a header.
#[derive(Clone, Debug)]
enum Meant {
    /// The client and what it connected to.
    Proxied(&'static str, &'static str),
    Local,
    Refused(HeaderError),
    /// There must be more of it.
    More,
}
use Meant::{Local, More, Proxied, Refused};

struct Case {
    name: String,
    bytes: Vec<u8>,
    meant: Meant,
}

fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>, meant: Meant) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.into(),
        meant,
    }
}

/// A header of version 2 around a payload.
fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, payload].concat()
}

/// An extension, its length as it is said and not as it is.
fn extension(kind: u8, said: u16, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &said.to_be_bytes(), value].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 9, 4, 1, 1, 187];
const V6: [u8; 36] = {
    let mut bytes = [0; 36];
    (bytes[0], bytes[15], bytes[16], bytes[31]) = (0xfd, 1, 0xfd, 2);
    (bytes[33], bytes[35]) = (1, 2);
    bytes
};
const V4_MEANT: Meant = Proxied("192.0.2.7:1025", "198.51.100.9:443");
const V6_MEANT: Meant = Proxied("[fd00::1]:1", "[fd00::2]:2");

const GOOD: &[(&str, Meant)] = &[
    ("TCP4 192.0.2.7 198.51.100.9 1025 443", V4_MEANT),
    (
        "TCP4 0.0.0.0 255.255.255.255 0 65535",
        Proxied("0.0.0.0:0", "255.255.255.255:65535"),
    ),
    ("TCP6 fd00::1 fd00::2 1 2", V6_MEANT),
    (
        "TCP6 FD00:0:0:0:0:0:0:1 fd00:0000:0000:0000:0000:0000:0000:0002 1 2",
        V6_MEANT,
    ),
    (
        "TCP6 ::ffff:192.0.2.7 :: 1025 443",
        Proxied("[::ffff:192.0.2.7]:1025", "[::]:443"),
    ),
    ("UNKNOWN", Local),
    ("UNKNOWN ", Local),
    ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", Local),
    ("UNKNOWN TCP4 192.0.2.7 198.51.100.9 1025 443", Local),
];

const MALFORMED: &[&str] = &[
    "",
    " ",
    "TCP4",
    "TCP4 ",
    "TCP4 192.0.2.7",
    "TCP4 192.0.2.7 198.51.100.9",
    "TCP4 192.0.2.7 198.51.100.9 1025",
    "TCP4 192.0.2.7 198.51.100.9 1025 443 ",
    "TCP4 192.0.2.7 198.51.100.9 1025 443 1",
    "TCP4  192.0.2.7 198.51.100.9 1025 443",
    "TCP4 192.0.2.7  198.51.100.9 1025 443",
    " TCP4 192.0.2.7 198.51.100.9 1025 443",
    "TCP 192.0.2.7 198.51.100.9 1025 443",
    "TCP5 192.0.2.7 198.51.100.9 1025 443",
    "TCP46 192.0.2.7 198.51.100.9 1025 443",
    "tcp4 192.0.2.7 198.51.100.9 1025 443",
    "UDP4 192.0.2.7 198.51.100.9 1025 443",
    "unknown",
    "UNKNOWN4",
    "TCP4\t192.0.2.7 198.51.100.9 1025 443",
];

const BAD_ADDRESSES: &[&str] = &[
    "TCP4 fd00::1 fd00::2 1 2",
    "TCP6 192.0.2.7 198.51.100.9 1025 443",
    "TCP4 192.0.2.7 fd00::2 1025 443",
    "TCP4 192.0.2 198.51.100.9 1025 443",
    "TCP4 192.0.2.7.1 198.51.100.9 1025 443",
    "TCP4 192.0.2.256 198.51.100.9 1025 443",
    "TCP4 192.0.2.07 198.51.100.9 1025 443",
    "TCP4 0xc0000207 198.51.100.9 1025 443",
    "TCP4 3221225991 198.51.100.9 1025 443",
    "TCP4 -1.0.2.7 198.51.100.9 1025 443",
    "TCP4 localhost 198.51.100.9 1025 443",
    "TCP4 192.0.2.7/24 198.51.100.9 1025 443",
    "TCP4 192.0.2.7:1025 198.51.100.9:443 1025 443",
    "TCP4 192.0.2.7\0 198.51.100.9 1025 443",
    "TCP6 fd00::1%eth0 fd00::2 1 2",
    "TCP6 [fd00::1] [fd00::2] 1 2",
    "TCP6 fd00:::1 fd00::2 1 2",
    "TCP6 fd00::1::2 fd00::2 1 2",
    "TCP6 fd00::12345 fd00::2 1 2",
    "TCP6 g::1 fd00::2 1 2",
    "TCP6 1:2:3:4:5:6:7 fd00::2 1 2",
    "TCP6 1:2:3:4:5:6:7:8:9 fd00::2 1 2",
    "TCP4 192.0.2.7 198.51.100.9 65536 443",
    "TCP4 192.0.2.7 198.51.100.9 1025 65536",
    "TCP4 192.0.2.7 198.51.100.9 99999999999999999999 443",
    "TCP4 192.0.2.7 198.51.100.9 -1 443",
    "TCP4 192.0.2.7 198.51.100.9 +1025 443",
    "TCP4 192.0.2.7 198.51.100.9 01025 443",
    "TCP4 192.0.2.7 198.51.100.9 00 443",
    "TCP4 192.0.2.7 198.51.100.9 0x401 443",
    "TCP4 192.0.2.7 198.51.100.9 1025.0 443",
    "TCP4 192.0.2.7 198.51.100.9 http 443",
    "TCP4 192.0.2.7 198.51.100.9  443",
    "TCP4 192.0.2.7 198.51.100.9 1025 ",
    "TCP4 192.0.2.7 198.51.100.9 1025 443\0",
    "TCP4 192.0.2.7 198.51.100.9 1025 443\n",
    "TCP4 192.0.2.7 198.51.100.9 1025 443\r",
];

fn lines() -> Vec<Case> {
    let line =
        |text: &str, meant| case(format!("line {text:?}"), format!("PROXY {text}\r\n"), meant);
    let good = GOOD.iter().map(|(text, meant)| line(text, meant.clone()));
    let malformed = MALFORMED.iter().map(|text| line(text, Refused(Line)));
    let bad = BAD_ADDRESSES
        .iter()
        .map(|text| line(text, Refused(Addresses)));
    let mut cases: Vec<_> = good.chain(malformed).chain(bad).collect();
    let padded = |length: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(length - 2, b'x');
        [&line[..], b"\r\n"].concat()
    };
    cases.extend([
        case("a line of 107 bytes", padded(107), Local),
        case("a line of 108 bytes", padded(108), Refused(Line)),
        case(
            "a line without an end",
            b"PROXY UNKNOWN ".repeat(8),
            Refused(Line),
        ),
        case(
            "a line with an end of the other kind",
            "PROXY UNKNOWN\n",
            More,
        ),
        case("a line that is not UTF-8", b"PROXY \xff\r\n", Refused(Line)),
        case(
            "a line that is not UTF-8 after UNKNOWN",
            b"PROXY UNKNOWN \xff\r\n",
            Refused(Line),
        ),
    ]);
    cases
}

/// An IPv4 header with more after its addresses.
fn with(more: &[Vec<u8>]) -> Vec<u8> {
    binary(0x21, 0x11, &[&V4[..], &more.concat()].concat())
}

/// An IPv4 header of so many bytes.
fn full(length: usize) -> Vec<u8> {
    let mut payload = V4.to_vec();
    let room = length - 16 - V4.len() - 3;
    payload.extend(extension(
        0x04,
        u16::try_from(room).unwrap(),
        &vec![0; room],
    ));
    binary(0x21, 0x11, &payload)
}

fn cut(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.truncate(length);
    bytes
}

fn well_formed() -> Vec<Case> {
    vec![
        case("IPv4", binary(0x21, 0x11, &V4), V4_MEANT),
        case("IPv6", binary(0x21, 0x21, &V6), V6_MEANT),
        case(
            "no operation",
            with(&[extension(0x04, 3, b"abc")]),
            V4_MEANT,
        ),
        case(
            "an extension without a value",
            with(&[extension(0x04, 0, b"")]),
            V4_MEANT,
        ),
        case(
            "an unknown extension",
            with(&[extension(0x7f, 2, b"ab")]),
            V4_MEANT,
        ),
        case(
            "many extensions",
            with(&vec![extension(0x04, 1, b"a"); 900]),
            V4_MEANT,
        ),
        case("the longest header", full(HEADER_BYTES_MAX), V4_MEANT),
        case(
            "a byte more than the longest",
            full(HEADER_BYTES_MAX + 1),
            Refused(TooLong),
        ),
        case(
            "64 KiB that are only said",
            cut(binary(0x21, 0x11, &vec![0; 65_535]), 16),
            Refused(TooLong),
        ),
        case(
            "LOCAL with 64 KiB",
            cut(binary(0x20, 0x00, &vec![0; 65_535]), 16),
            Refused(TooLong),
        ),
    ]
}

fn damaged() -> Vec<Case> {
    vec![
        case(
            "a part of an address",
            binary(0x21, 0x11, &V4[..7]),
            Refused(Addresses),
        ),
        case("no address", binary(0x21, 0x11, &[]), Refused(Addresses)),
        case("no port", binary(0x21, 0x11, &V4[..8]), Refused(Addresses)),
        case(
            "a port too few",
            binary(0x21, 0x11, &V4[..10]),
            Refused(Addresses),
        ),
        case("IPv4 as IPv6", binary(0x21, 0x21, &V4), Refused(Addresses)),
        case(
            "a part of an IPv6 address",
            binary(0x21, 0x21, &V6[..35]),
            Refused(Addresses),
        ),
        case("half an extension", with(&[vec![0x04]]), Refused(Extension)),
        case(
            "an extension without all of its length",
            with(&[vec![0x04, 0]]),
            Refused(Extension),
        ),
        case(
            "an extension over the end",
            with(&[extension(0x04, 2, b"a")]),
            Refused(Extension),
        ),
        case(
            "an extension far over the end",
            with(&[extension(0x04, 65_535, b"a")]),
            Refused(Extension),
        ),
        case(
            "an extension that eats the next",
            with(&[extension(0x04, 4, b"a"), extension(0x04, 0, b"")]),
            V4_MEANT,
        ),
        case(
            "a wrong checksum",
            with(&[extension(0x03, 4, b"abcd")]),
            Refused(Checksum),
        ),
        case(
            "a short checksum",
            with(&[extension(0x03, 3, b"abc")]),
            Refused(Checksum),
        ),
        case(
            "a long checksum",
            with(&[extension(0x03, 5, b"abcde")]),
            Refused(Checksum),
        ),
        case(
            "an empty checksum",
            with(&[extension(0x03, 0, b"")]),
            Refused(Checksum),
        ),
    ]
}

/// Connections whose socket says whose they are.
fn of_the_socket() -> Vec<Case> {
    vec![
        case("LOCAL without addresses", binary(0x20, 0x00, &[]), Local),
        case(
            "LOCAL of a family without addresses",
            binary(0x20, 0x11, &[]),
            Local,
        ),
        case(
            "LOCAL with a part of an address",
            binary(0x20, 0x21, &V6[..9]),
            Local,
        ),
        case("LOCAL with addresses", binary(0x20, 0x11, &V4), Local),
        case(
            "LOCAL with a bad extension",
            binary(0x20, 0x11, &[&V4[..], &[4, 0]].concat()),
            Local,
        ),
        case(
            "LOCAL of an unknown family",
            binary(0x20, 0xff, &[1, 2, 3]),
            Local,
        ),
        case("no family", binary(0x21, 0x00, &[1, 2, 3]), Local),
        case("UDP", binary(0x21, 0x12, &V4), Local),
        case("UDP over IPv6", binary(0x21, 0x22, &V6), Local),
        case("a unix stream", binary(0x21, 0x31, &[0; 216]), Local),
        case("a unix datagram", binary(0x21, 0x32, &[0; 216]), Local),
    ]
}

/// Every value of a byte, and every beginning.
fn swept() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in 0..16 {
        let bytes = cut(binary(0x21, 0x11, &V4), length);
        let meant = if length == 0 { Refused(Missing) } else { More };
        cases.push(case(format!("the first {length} bytes"), bytes, meant));
    }
    for command in 0..=u8::MAX {
        let meant = match command {
            0x20 => Local,
            0x21 => V4_MEANT,
            _ => Refused(Version),
        };
        cases.push(case(
            format!("version and command {command:#04x}"),
            binary(command, 0x11, &V4),
            meant,
        ));
    }
    for family in
        (0..=u8::MAX).filter(|family| ![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32].contains(family))
    {
        cases.push(case(
            format!("family {family:#04x}"),
            binary(0x21, family, &V6),
            Refused(Addresses),
        ));
    }
    for at in 0..SIGNATURE.len() {
        let mut bytes = binary(0x21, 0x11, &V4);
        bytes[at] ^= 1;
        cases.push(case(
            format!("byte {at} of the signature is another"),
            bytes,
            Refused(Missing),
        ));
    }
    cases
}

fn strangers() -> Vec<Case> {
    let first_bytes: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0",
        b"\n",
        b"proxy UNKNOWN\r\n",
        b" PROXY UNKNOWN\r\n",
        b"PROXY\tUNKNOWN\r\n",
    ];
    let refused = |bytes: &[u8]| {
        case(
            format!("{:?}", bytes.escape_ascii().to_string()),
            bytes,
            Refused(Missing),
        )
    };
    first_bytes.map(refused).into()
}

#[test]
fn b4_every_proxy_header_of_the_list_meets_its_outcome_whole_followed_and_cut_at_every_byte() {
    let cases: Vec<_> = [
        lines(),
        well_formed(),
        damaged(),
        of_the_socket(),
        swept(),
        strangers(),
    ]
    .into_iter()
    .flatten()
    .collect();
    println!("{} headers", cases.len());
    assert!(cases.len() >= 200);
    for Case { name, bytes, meant } in &cases {
        let read = parse(bytes);
        match meant {
            Refused(error) => assert_eq!(read, Err(*error), "{name}"),
            More => assert_eq!(read, Ok(Parsed::Incomplete), "{name}"),
            Local => assert_eq!(
                origin(&read, bytes.len()),
                Some(Origin::Local),
                "{name}: {read:?}"
            ),
            Proxied(source, destination) => {
                let meant = Origin::Proxied {
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                };
                assert_eq!(origin(&read, bytes.len()), Some(meant), "{name}: {read:?}");
            }
        }
        if matches!(meant, Local | Proxied(..)) {
            for end in 1..bytes.len() {
                let part = parse(&bytes[..end]);
                assert_eq!(part, Ok(Parsed::Incomplete), "{name}, {end} bytes of it");
            }
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(
                parse(&followed),
                read,
                "{name}, with what follows in the same segment"
            );
        }
    }
}

/// Whose connection a header says that it is, if it takes so many bytes.
fn origin(read: &Result<Parsed, HeaderError>, bytes: usize) -> Option<Origin> {
    match read {
        Ok(Parsed::Whole(Header { origin, length, .. })) if *length == bytes => Some(*origin),
        _ => None,
    }
}
