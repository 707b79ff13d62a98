// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a request says: its header, its one question, its EDNS.
//!
//! Records of the request other than OPT are stepped over: a question is answered by what it asks, whatever travels with
//! it. Octets after the last record are tolerated.

use super::{Cursor, HEADER_BYTES, LowerName, rtype};

/// The fixed part of a message (RFC 1035 4.1.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) id: [u8; 2],
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    /// The header; none when the message is shorter.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { message, at: 0 };
        let id = cursor.take(2)?;
        Some(Self {
            id: [id[0], id[1]],
            flags: cursor.u16()?,
            counts: [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?],
        })
    }

    /// Whether the message is itself an answer.
    pub(crate) fn is_response(self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// The operation that is asked for; 0 is a query.
    pub(crate) fn opcode(self) -> u16 {
        self.flags >> 11 & 0xf
    }

    /// How many questions the message claims to hold.
    pub(crate) fn questions(self) -> u16 {
        self.counts[0]
    }

    /// The bits that a reply repeats: opcode, RD and CD.
    pub(crate) fn repeated_flags(self) -> u16 {
        self.flags & (0x7800 | 0x0100 | 0x0010)
    }
}

/// What the OPT record of a request says (RFC 6891 6.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Edns {
    /// How large a datagram the client takes.
    pub(crate) payload: u16,
    /// The version; only 0 is defined.
    pub(crate) version: u8,
    /// Whether DNSSEC records are wanted; repeated in the reply (RFC 3225 3).
    pub(crate) dnssec_ok: bool,
}

/// A well-formed request with one question.
#[derive(Debug)]
pub(crate) struct Request<'m> {
    pub(crate) header: Header,
    /// Name, type and class as they were sent, for the reply.
    pub(crate) question: &'m [u8],
    pub(crate) name: LowerName,
    pub(crate) qtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
}

impl<'m> Request<'m> {
    /// Reads what follows the header; none when it is malformed.
    ///
    /// Bounded by the length of the message: every record that the header claims takes at least 11 bytes.
    pub(crate) fn read(header: Header, message: &'m [u8]) -> Option<Self> {
        let mut cursor = Cursor {
            message,
            at: HEADER_BYTES,
        };
        let name = LowerName::read(&mut cursor)?;
        let (qtype, class) = (cursor.u16()?, cursor.u16()?);
        let question = message.get(HEADER_BYTES..cursor.at)?;
        let mut edns = None;
        read_edns(header, &mut cursor, &mut edns)?;
        Some(Self {
            header,
            question,
            name,
            qtype,
            class,
            edns,
        })
    }
}

/// Reads the OPT record of the additional section, if there is one; none when any record is malformed.
fn read_edns(header: Header, cursor: &mut Cursor<'_>, edns: &mut Option<Edns>) -> Option<()> {
    let [_, answers, authorities, additionals] = header.counts;
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        read_record(cursor)?;
    }
    for _ in 0..additionals {
        let record = read_record(cursor)?;
        if record.rtype != rtype::OPT {
            continue;
        }
        // RFC 6891 6.1.1: at most one, and its owner is the root.
        if edns.is_some() || !record.is_of_root || !are_options(record.rdata) {
            return None;
        }
        let [_, version, flags, _] = record.ttl;
        *edns = Some(Edns {
            payload: record.class,
            version,
            dnssec_ok: flags & 0x80 != 0,
        });
    }
    Some(())
}

struct Record<'m> {
    is_of_root: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    rdata: &'m [u8],
}

fn read_record<'m>(cursor: &mut Cursor<'m>) -> Option<Record<'m>> {
    let is_of_root = skip_name(cursor)?;
    let (rtype, class) = (cursor.u16()?, cursor.u16()?);
    let ttl = cursor.take(4)?.try_into().ok()?;
    let length = cursor.u16()?;
    let rdata = cursor.take(usize::from(length))?;
    Some(Record {
        is_of_root,
        rtype,
        class,
        ttl,
        rdata,
    })
}

/// Steps over a name without following its pointers, and says whether it is the root.
fn skip_name(cursor: &mut Cursor<'_>) -> Option<bool> {
    let start = cursor.at;
    loop {
        match cursor.u8()? {
            0 => return Some(cursor.at == start + 1),
            length @ 1..=63 => drop(cursor.take(usize::from(length))?),
            0xc0.. => return cursor.u8().map(|_| false),
            // RFC 6891 5: the extended label types are gone.
            _ => return None,
        }
    }
}

/// Whether the bytes are options of EDNS, each as long as it says (RFC 6891 6.1.2).
fn are_options(rdata: &[u8]) -> bool {
    let mut cursor = Cursor {
        message: rdata,
        at: 0,
    };
    while cursor.at < rdata.len() {
        let option = cursor.u16().and_then(|_code| cursor.u16());
        if option
            .and_then(|length| cursor.take(usize::from(length)))
            .is_none()
        {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPT: [u8; 11] = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];

    fn request(counts: [u8; 3], records: &[&[u8]]) -> Vec<u8> {
        let [answers, authorities, additionals] = counts;
        let header = [0, 7, 1, 0, 0, 1, 0, answers, 0, authorities, 0, additionals];
        let mut message = [&header[..], b"\x01A\0\0\x01\0\x01"].concat();
        message.extend(records.concat());
        message
    }

    fn read(message: &[u8]) -> Option<Request<'_>> {
        Request::read(Header::read(message)?, message)
    }

    #[test]
    fn a_request_is_read_with_its_edns() {
        let message = request([0, 0, 1], &[&OPT]);
        let request = read(&message).unwrap();
        assert_eq!(request.question, b"\x01A\0\0\x01\0\x01");
        assert_eq!(
            (request.name.label(0), request.qtype, request.class),
            (&b"a"[..], 1, 1)
        );
        let edns = Edns {
            payload: 4096,
            version: 0,
            dnssec_ok: true,
        };
        assert_eq!(request.edns, Some(edns));
    }

    #[test]
    fn other_records_and_trailing_bytes_are_tolerated() {
        let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
        assert!(
            read(&request([1, 1, 2], &[record, record, record, &OPT, b"x"]))
                .unwrap()
                .edns
                .is_some()
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        let named = [&b"\x01a"[..], &OPT].concat();
        let mut cut_option = OPT.to_vec();
        cut_option[10] = 4;
        cut_option.extend([0, 10, 0, 1]);
        for (counts, records) in [
            ([0, 0, 1], vec![]),
            ([0, 0, 2], vec![&OPT[..]]),
            ([0, 0, 2], vec![&OPT[..], &OPT]),
            ([0, 0, 1], vec![&named[..]]),
            ([0, 0, 1], vec![&cut_option[..]]),
            ([0, 0, 1], vec![&OPT[..10]]),
            ([1, 0, 0], vec![&b"\x41a\0\0\x01\0\x01\0\0\0\0\0\0"[..]]),
        ] {
            assert!(
                read(&request(counts, &records)).is_none(),
                "{counts:?} {records:?}"
            );
        }
    }
}
