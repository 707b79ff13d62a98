// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests as a case describes them, and replies in the words of a case. By hand, so that every bit is seen.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A reply in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) rcode: String,
    pub(crate) opcode: String,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) question: Vec<String>,
    pub(crate) edns: Option<Edns>,
    pub(crate) sections: [Vec<String>; 3],
    pub(crate) bytes: usize,
}

/// The OPT record in words.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize)]
pub(crate) struct Edns {
    pub(crate) version: u8,
    pub(crate) size: u16,
    pub(crate) r#do: bool,
    pub(crate) options: Vec<String>,
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> u8 {
        self.at += 1;
        self.message[self.at - 1]
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn name(&mut self) -> String {
        let (mut at, mut after, mut text) = (self.at, None, String::new());
        loop {
            let length = usize::from(self.message[at]);
            match length {
                0 => break,
                1..=63 => {
                    text.extend(
                        self.message[at + 1..=at + length]
                            .iter()
                            .map(|b| char::from(*b)),
                    );
                    text.push('.');
                    at += 1 + length;
                }
                _ => {
                    after = after.or(Some(at + 2));
                    at = (length & 63) << 8 | usize::from(self.message[at + 1]);
                }
            }
        }
        self.at = after.unwrap_or(at + 1);
        if text.is_empty() {
            ".".to_owned()
        } else {
            text
        }
    }
}

impl Message {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader {
            message: bytes,
            at: 2,
        };
        let flags = reader.u16();
        let counts = [(); 4].map(|()| reader.u16());
        let mut message = Self {
            opcode: word(flags >> 11 & 15, &OPCODES),
            flags: FLAGS
                .iter()
                .filter(|(_, bit)| flags & (1 << bit) != 0)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            bytes: bytes.len(),
            ..Self::default()
        };
        for _ in 0..counts[0] {
            let name = reader.name();
            let (rtype, class) = (reader.u16(), reader.u16());
            message
                .question
                .push(format!("{name} {} {}", class_word(class), type_word(rtype)));
        }
        let mut high = 0;
        for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                match record(&mut reader) {
                    Ok(words) => message.sections[section].push(words),
                    Err((rcode, edns)) => {
                        high = rcode;
                        message.edns = Some(edns);
                    }
                }
            }
        }
        assert_eq!(reader.at, bytes.len(), "bytes after the last record");
        message.rcode = word(flags & 15 | u16::from(high) << 4, &RCODES);
        message
    }
}

/// A record in words, or what the OPT record says.
fn record(reader: &mut Reader<'_>) -> Result<String, (u8, Edns)> {
    let owner = reader.name();
    let (rtype, class) = (reader.u16(), reader.u16());
    let ttl = reader.u32();
    let length = usize::from(reader.u16());
    let end = reader.at + length;
    if rtype == 41 {
        let [high, version, flags, _] = ttl.to_be_bytes();
        let mut options = Vec::new();
        while reader.at < end {
            options.push(option(reader));
        }
        let edns = Edns {
            version,
            size: class,
            r#do: flags & 0x80 != 0,
            options,
        };
        return Err((high, edns));
    }
    let data = &reader.message[reader.at..end];
    let words = match rtype {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
        28 => Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
        2 | 5 | 12 => reader.name(),
        33 => {
            let numbers = [(); 3].map(|()| reader.u16());
            format!(
                "{} {} {} {}",
                numbers[0],
                numbers[1],
                numbers[2],
                reader.name()
            )
        }
        6 => {
            let (host, mailbox, _serial) = (reader.name(), reader.name(), reader.u32());
            let times = [(); 4].map(|()| reader.u32().to_string());
            format!("{host} {mailbox} <unixtime> {}", times.join(" "))
        }
        16 => texts(data),
        _ => format!("{data:02x?}"),
    };
    reader.at = end;
    Ok(format!("{owner} {ttl} IN {} {words}", type_word(rtype)))
}

fn texts(mut data: &[u8]) -> String {
    let mut strings = Vec::new();
    while let [length, rest @ ..] = data {
        let (text, rest) = rest.split_at(usize::from(*length));
        strings.push(format!(
            "\"{}\"",
            text.iter().map(|b| char::from(*b)).collect::<String>()
        ));
        data = rest;
    }
    strings.join(" ")
}

fn option(reader: &mut Reader<'_>) -> String {
    let (code, length) = (reader.u16(), usize::from(reader.u16()));
    let data = &reader.message[reader.at..reader.at + length];
    reader.at += length;
    match (code, data) {
        (8, [0, family, source, scope, address @ ..]) => {
            let mut octets = [0; 16];
            octets[..address.len()].copy_from_slice(address);
            let address: IpAddr = match family {
                1 => <[u8; 4]>::try_from(&octets[..4]).unwrap().into(),
                _ => octets.into(),
            };
            format!("ECS {address}/{source} scope/{scope}")
        }
        // What is ours in it is another each second.
        (10, [client @ .., 1, 0, 0, 0, _, _, _, _, _, _, _, _, _, _, _, _]) => {
            format!("COOKIE {client:02x?} with ours")
        }
        _ => format!("{code} {data:02x?}"),
    }
}

fn word(number: u16, words: &[(u16, &str)]) -> String {
    let known = words.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

fn class_word(class: u16) -> String {
    word(class, &[(1, "IN"), (3, "CH"), (255, "ANY")])
}

fn type_word(rtype: u16) -> String {
    word(rtype, &TYPES)
}

pub(crate) fn type_number(word: &str) -> u16 {
    let known = TYPES.iter().find(|(_, known)| *known == word);
    known.unwrap_or_else(|| panic!("type {word}")).0
}

pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

const FLAGS: [(&str, u16); 7] = [
    ("qr", 15),
    ("aa", 10),
    ("tc", 9),
    ("rd", 8),
    ("ra", 7),
    ("ad", 5),
    ("cd", 4),
];
const OPCODES: [(u16, &str); 4] = [(0, "QUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE")];
const RCODES: [(u16, &str); 8] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (9, "NOTAUTH"),
    (16, "BADVERS"),
];
const TYPES: [(u16, &str); 15] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (43, "DS"),
    (48, "DNSKEY"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
];
