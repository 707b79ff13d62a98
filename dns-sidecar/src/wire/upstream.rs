// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the answer section of another server's reply, with its names spelled out (RFC 1035 4.1.4).
//!
//! In: a message of at most 64 KiB. Out: its answers, at most [`RECORDS_MAX`], or nothing when it is malformed. Pointers
//! are followed backwards only, so that each name costs at most its own length.

use super::{Cursor, HEADER_BYTES, Header, WireName, name::NAME_BYTES_MAX, rtype};

/// A record of another server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UpstreamRecord {
    /// Whose it is.
    pub(crate) owner: WireName,
    /// Its type.
    pub(crate) rtype: u16,
    /// How long it may be kept.
    pub(crate) ttl_seconds: u32,
    /// Its data; a name in it is spelled out.
    pub(crate) data: Vec<u8>,
}

/// The answers of class IN in a reply; none when it is malformed.
pub(crate) fn read_answers(message: &[u8]) -> Option<Vec<UpstreamRecord>> {
    let header = Header::read(message)?;
    let mut cursor = Cursor {
        message,
        at: HEADER_BYTES,
    };
    for _ in 0..header.questions() {
        read_name(&mut cursor)?;
        cursor.take(4)?;
    }
    let mut records = Vec::new();
    for _ in 0..usize::from(header.answers()).min(RECORDS_MAX) {
        let owner = read_name(&mut cursor)?;
        let (rtype, class) = (cursor.u16()?, cursor.u16()?);
        let ttl_seconds = u32::from(cursor.u16()?) << 16 | u32::from(cursor.u16()?);
        let length = usize::from(cursor.u16()?);
        let mut data = cursor;
        let plain = cursor.take(length)?;
        let data = match rtype {
            rtype::CNAME | rtype::PTR => [read_name(&mut data)?.as_bytes(), &[0]].concat(),
            _ => plain.to_vec(),
        };
        if class == super::class::IN {
            records.push(UpstreamRecord {
                owner,
                rtype,
                ttl_seconds,
                data,
            });
        }
    }
    Some(records)
}

/// A record's TTL in a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TtlPlace {
    /// Where its four octets begin.
    pub(crate) at: usize,
    /// What they say.
    pub(crate) seconds: u32,
    /// The type of the record.
    pub(crate) rtype: u16,
    /// Where the record's data ends.
    pub(crate) data_end: usize,
}

/// The TTLs of all records but OPT, whose is none; nothing when the message is malformed.
pub(crate) fn ttl_places(message: &[u8]) -> Option<Vec<TtlPlace>> {
    let header = Header::read(message)?;
    let mut cursor = Cursor {
        message,
        at: HEADER_BYTES,
    };
    for _ in 0..header.questions() {
        read_name(&mut cursor)?;
        cursor.take(4)?;
    }
    let mut places = Vec::new();
    for _ in 0..header.records() {
        read_name(&mut cursor)?;
        let rtype = cursor.u16()?;
        cursor.u16()?;
        let at = cursor.at;
        let seconds = u32::from(cursor.u16()?) << 16 | u32::from(cursor.u16()?);
        let length = cursor.u16()?;
        cursor.take(length.into())?;
        if rtype != rtype::OPT {
            places.push(TtlPlace {
                at,
                seconds,
                rtype,
                data_end: cursor.at,
            });
        }
    }
    Some(places)
}

/// Where the options of a message's OPT record stand; none without one.
pub(crate) fn opt_data(message: &[u8]) -> Option<std::ops::Range<usize>> {
    let header = Header::read(message)?;
    let mut cursor = Cursor {
        message,
        at: HEADER_BYTES,
    };
    for _ in 0..header.questions() {
        read_name(&mut cursor)?;
        cursor.take(4)?;
    }
    for _ in 0..header.records() {
        read_name(&mut cursor)?;
        let rtype = cursor.u16()?;
        cursor.take(6)?;
        let length = usize::from(cursor.u16()?);
        let start = cursor.at;
        cursor.take(length)?;
        if rtype == rtype::OPT {
            return Some(start..cursor.at);
        }
    }
    None
}

/// The name at the cursor, which moves behind it.
fn read_name(cursor: &mut Cursor<'_>) -> Option<WireName> {
    let mut labels = Vec::new();
    let mut reader = *cursor;
    let (mut before, mut is_behind) = (cursor.at, false);
    loop {
        let length = reader.u8()?;
        match length {
            0 => break,
            1..=63 => {
                labels.push(length);
                labels.extend_from_slice(reader.take(usize::from(length))?);
                if labels.len() >= NAME_BYTES_MAX {
                    return None;
                }
            }
            0xc0.. => {
                let low = reader.u8()?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if !is_behind {
                    *cursor = reader;
                    is_behind = true;
                }
                // Backwards only: no loop.
                if target >= before {
                    return None;
                }
                before = target;
                reader.at = target;
            }
            _ => return None,
        }
    }
    if !is_behind {
        *cursor = reader;
    }
    Some(WireName::of_labels(&labels))
}

/// No host has more addresses that anybody would try.
const RECORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_behind_pointers_are_spelled_out() {
        let mut message =
            b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x03api\x04test\0\0\x01\0\x01".to_vec();
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x07\x04api2\xc0\x10");
        message.extend(b"\x04api2\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04");
        let records = read_answers(&message).unwrap();
        assert_eq!(records[0].data, b"\x04api2\x04test\0");
        assert_eq!(records[1].owner, WireName::parse("api2.test").unwrap());
        assert_eq!(
            (records[1].ttl_seconds, &*records[1].data),
            (60, &[1, 2, 3, 4][..])
        );
    }

    #[test]
    fn a_pointer_forwards_or_to_itself_is_refused() {
        for target in [12_u8, 14, 40] {
            let message = [
                &b"\0\x07\x81\x80\0\0\0\x01\0\0\0\0\xc0"[..],
                &[target],
                &[0; 20],
            ]
            .concat();
            assert_eq!(read_answers(&message), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut message in prop::collection::vec(any::<u8>(), 12..200)) {
            message[4..8].copy_from_slice(&[0, 1, 0, 3]);
            if let Some(records) = read_answers(&message) {
                prop_assert!(records.len() <= 3);
            }
        }
    }
}
