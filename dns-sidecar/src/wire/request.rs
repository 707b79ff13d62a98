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

    /// How many records the message claims to answer with.
    pub(crate) fn answers(self) -> u16 {
        self.counts[1]
    }

    /// How many records the message claims to hold.
    pub(crate) fn records(self) -> u32 {
        let [_, records @ ..] = self.counts;
        records.into_iter().map(u32::from).sum()
    }

    /// The response code of a reply.
    pub(crate) fn rcode(self) -> u16 {
        self.flags & 0xf
    }

    /// Whether a reply was cut.
    pub(crate) fn is_truncated(self) -> bool {
        self.flags & 0x0200 != 0
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
pub(crate) struct Edns<'m> {
    /// How large a datagram the client takes.
    pub(crate) payload: u16,
    /// The version; only 0 is defined.
    pub(crate) version: u8,
    /// Whether DNSSEC records are wanted; repeated in the reply (RFC 3225 3).
    pub(crate) dnssec_ok: bool,
    /// The network for which the client asks.
    pub(crate) client_subnet: Option<ClientSubnet<'m>>,
    /// The client's cookie, and ours where it shows one (RFC 7873 4).
    pub(crate) cookie: Option<&'m [u8]>,
    /// Whether the client would know how long its connection may be idle (RFC 7828 3.1).
    pub(crate) asks_keepalive: bool,
    /// Whether the request is padded (RFC 7830).
    pub(crate) is_padded: bool,
}

/// The option of RFC 7871, as it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ClientSubnet<'m> {
    /// Family, source length, scope length and address.
    pub(crate) data: &'m [u8],
}

impl<'m> ClientSubnet<'m> {
    /// The option, when it is one: a family, an address no longer than its family allows.
    fn read(data: &'m [u8]) -> Option<Self> {
        let [0, family, source, _, address @ ..] = data else {
            return None;
        };
        let bits = match family {
            1 => 32,
            2 => 128,
            _ => return None,
        };
        let fits = *source <= bits && address.len() == usize::from(*source).div_ceil(8);
        fits.then_some(Self { data })
    }

    /// How many bits of the address are stated.
    pub(crate) fn source_bits(self) -> u8 {
        self.data.get(2).copied().unwrap_or(0)
    }
}

/// A well-formed request with one question.
#[derive(Debug)]
pub(crate) struct Request<'m> {
    pub(crate) header: Header,
    /// Name, type and class as they were sent, for the reply.
    pub(crate) question: &'m [u8],
    pub(crate) name: &'m LowerName,
    pub(crate) qtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns<'m>>,
    /// Whether it is signed (RFC 8945).
    pub(crate) is_signed: bool,
}

impl<'m> Request<'m> {
    /// Reads what follows the header, the name into `name`; none when it is malformed.
    ///
    /// Bounded by the length of the message: every record that the header claims takes at least 11 bytes.
    pub(crate) fn read(header: Header, message: &'m [u8], name: &'m mut LowerName) -> Option<Self> {
        let mut cursor = Cursor {
            message,
            at: HEADER_BYTES,
        };
        name.read(&mut cursor)?;
        let (qtype, class) = (cursor.u16()?, cursor.u16()?);
        let question = message.get(HEADER_BYTES..cursor.at)?;
        let mut request = Self {
            header,
            question,
            name,
            qtype,
            class,
            edns: None,
            is_signed: false,
        };
        read_additional(header, &mut cursor, &mut request)?;
        Some(request)
    }
}

/// Reads what the additional section says of the request itself; none when any record is malformed.
fn read_additional<'m>(
    header: Header,
    cursor: &mut Cursor<'m>,
    request: &mut Request<'m>,
) -> Option<()> {
    let [_, answers, authorities, additionals] = header.counts;
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        read_record(cursor)?;
    }
    for _ in 0..additionals {
        let record = read_record(cursor)?;
        request.is_signed |= record.rtype == rtype::TSIG;
        if record.rtype != rtype::OPT {
            continue;
        }
        // RFC 6891 6.1.1: at most one, and its owner is the root.
        if request.edns.is_some() || !record.is_of_root {
            return None;
        }
        let [_, version, flags, _] = record.ttl;
        request.edns = Some(Edns {
            payload: record.class,
            version,
            dnssec_ok: flags & 0x80 != 0,
            client_subnet: None,
            cookie: None,
            asks_keepalive: false,
            is_padded: false,
        });
        if let Some(edns) = &mut request.edns {
            read_options(record.rdata, edns)?;
        }
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

/// Takes the option that we know from among those of EDNS; none when one is not as long as it says (RFC 6891 6.1.2), or all
/// together are longer than any client's.
fn read_options<'m>(rdata: &'m [u8], edns: &mut Edns<'m>) -> Option<()> {
    if rdata.len() > OPTIONS_BYTES_MAX {
        return None;
    }
    let mut cursor = Cursor {
        message: rdata,
        at: 0,
    };
    while cursor.at < rdata.len() {
        let (code, length) = (cursor.u16()?, cursor.u16()?);
        let data = cursor.take(usize::from(length))?;
        match code {
            CLIENT_SUBNET => {
                edns.client_subnet = edns.client_subnet.or(ClientSubnet::read(data));
            }
            // RFC 7873 5.2.2: of another length it is malformed.
            COOKIE if !matches!(data.len(), 8 | 16..=40) => return None,
            COOKIE => edns.cookie = edns.cookie.or(Some(data)),
            KEEPALIVE => edns.asks_keepalive = true,
            PADDING => edns.is_padded = true,
            _ => {}
        }
    }
    Some(())
}

/// A cookie has 40 bytes, and RFC 8467 pads to 128.
const OPTIONS_BYTES_MAX: usize = 512;
/// RFC 7871 6.
pub(super) const CLIENT_SUBNET: u16 = 8;
/// RFC 7873 4.
pub(super) const COOKIE: u16 = 10;
/// RFC 7828 3.1.
pub(super) const KEEPALIVE: u16 = 11;
/// RFC 7830 3.
pub(super) const PADDING: u16 = 12;

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
        let name = Box::leak(Box::<LowerName>::default());
        Request::read(Header::read(message)?, message, name)
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
            client_subnet: None,
            cookie: None,
            asks_keepalive: false,
            is_padded: false,
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
    fn a_client_subnet_is_read_when_it_is_one() {
        let with = |option: &[u8]| {
            let mut opt = OPT.to_vec();
            opt[10] = u8::try_from(option.len()).unwrap();
            opt.extend_from_slice(option);
            request([0, 0, 1], &[&opt])
        };
        let subnet = |message: &[u8]| {
            read(message)?
                .edns?
                .client_subnet
                .map(ClientSubnet::source_bits)
        };
        assert_eq!(
            subnet(&with(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2])),
            Some(24)
        );
        for bad in [
            &[0, 8, 0, 4, 0, 1, 24, 0][..],
            &[0, 8, 0, 4, 0, 9, 0, 0],
            &[0, 8, 0, 0],
        ] {
            assert_eq!(subnet(&with(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn cookies_have_one_of_their_lengths() {
        for length in 0..=64_u8 {
            let mut opt = OPT.to_vec();
            opt[10] = 4 + length;
            opt.extend([0, 10, 0, length]);
            opt.extend(vec![7; length.into()]);
            let message = request([0, 0, 1], &[&opt]);
            let cookie = read(&message).map(|read| read.edns.unwrap().cookie.unwrap().len());
            let is_one = length == 8 || (16..=40).contains(&length);
            assert_eq!(cookie, is_one.then_some(length.into()), "{length}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        let named = [&b"\x01a"[..], &OPT].concat();
        let mut cut_option = OPT.to_vec();
        cut_option[10] = 4;
        cut_option.extend([0, 10, 0, 8]);
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
