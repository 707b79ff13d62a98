// SPDX-License-Identifier: MIT OR Apache-2.0
//! When two questions are one, and how the reply to one becomes the reply to the other. Pure.
//!
//! Alike are questions that differ in id and in the case of their name alone: flags, type, class, EDNS and transport say
//! what a reply may look like, so that they belong to the key.

use crate::wire::{HEADER_BYTES, HOP_OPTIONS, opt_data};
use discovery_core::telemetry::DnsTransport;

/// What questions that are one have in common.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// The key of a request that was read before.
    pub(super) fn of(request: &[u8], transport: DnsTransport) -> Self {
        let mut key = request.to_vec();
        // RFC 4343; type and class behind the name are numbers.
        let name = HEADER_BYTES..question_end(request).saturating_sub(4);
        if let Some(name) = key.get_mut(name) {
            name.make_ascii_lowercase();
        }
        if let Some(id) = key.get_mut(..2) {
            id.copy_from_slice(&[0, transport as u8]);
        }
        Self(key.into())
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The reply with the id and the spelling of this request, which is one with the request that was answered.
pub(super) fn as_reply_to(request: &[u8], reply: &[u8]) -> Vec<u8> {
    let mut reply = reply.to_vec();
    let question = HEADER_BYTES..question_end(request);
    for part in [0..2, question] {
        if let (Some(place), Some(own)) = (reply.get_mut(part.clone()), request.get(part)) {
            place.copy_from_slice(own);
        }
    }
    reply
}

/// The request without what its client says to us alone: cookie, keepalive and padding (RFC 7873 5.5, RFC 7828 3.1, RFC 7830 3).
pub(super) fn without_hop_options(request: &[u8]) -> Vec<u8> {
    let mut told = request.to_vec();
    let Some(options) = opt_data(request) else {
        return told;
    };
    let mut kept = Vec::new();
    let mut rest = request.get(options.clone()).unwrap_or_default();
    while let [a, b, c, d, tail @ ..] = rest {
        let (code, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let (data, behind) = tail.split_at(tail.len().min(length.into()));
        if !HOP_OPTIONS.contains(&code) {
            kept.extend_from_slice(&[*a, *b, *c, *d]);
            kept.extend_from_slice(data);
        }
        rest = behind;
    }
    let length = u16::try_from(kept.len()).unwrap_or(0);
    told.splice(
        options.start - 2..options.end,
        length.to_be_bytes().into_iter().chain(kept),
    );
    told
}

/// Where the question of a request that was read before ends.
pub(super) fn question_end(request: &[u8]) -> usize {
    let mut at = HEADER_BYTES;
    while let Some(length) = request.get(at) {
        if *length == 0 {
            return (at + 5).min(request.len());
        }
        at += 1 + usize::from(*length);
    }
    request.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x04test\0\0\x01\0\x01";

    #[test]
    fn questions_that_differ_in_id_and_case_are_one() {
        let key = |at: usize, byte| {
            let mut other = REQUEST.to_vec();
            other[at] = byte;
            Key::of(&other, DnsTransport::Udp)
        };
        let same = Key::of(REQUEST, DnsTransport::Udp);
        for (at, byte) in [(0, 9), (1, 9), (14, b'e'), (13, b'W')] {
            assert_eq!(key(at, byte), same, "{at}");
        }
        // RD, CD, name, type.
        for (at, byte) in [(2, 0), (3, 0x10), (13, b'x'), (23, 28)] {
            assert_ne!(key(at, byte), same, "{at}");
        }
        assert_ne!(Key::of(REQUEST, DnsTransport::Tcp), same);
    }

    #[test]
    fn what_is_said_to_us_alone_is_not_passed_on() {
        let mut request = REQUEST.to_vec();
        request[11] = 2;
        let opt = |options: &[u8]| {
            let mut opt = vec![0, 0, 41, 4, 208, 0, 0, 0, 0];
            opt.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
            opt.extend(options);
            opt
        };
        let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
        let (subnet, cookie) = (
            [0, 8, 0, 4, 0, 1, 0, 0],
            [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        );
        let (keepalive, padding) = ([0, 11, 0, 0], [0, 12, 0, 2, 0, 0]);
        let all = [&cookie[..], &subnet, &keepalive, &padding].concat();
        let with = |options: &[u8]| [&request[..], &opt(options), record].concat();
        assert_eq!(without_hop_options(&with(&all)), with(&subnet));
        assert_eq!(without_hop_options(&with(&cookie)), with(&[]));
        for same in [
            with(&subnet),
            REQUEST.to_vec(),
            request.clone(),
            REQUEST[..20].to_vec(),
        ] {
            assert_eq!(without_hop_options(&same), same);
        }
    }

    #[test]
    fn each_client_sees_its_own_id_and_spelling() {
        let mut reply = REQUEST.to_vec();
        reply[2] |= 0x80;
        reply.extend(b"\xc0\x0c");
        let mut other = REQUEST.to_vec();
        other[..2].copy_from_slice(&[7, 7]);
        other[13..16].copy_from_slice(b"WEB");
        let told = as_reply_to(&other, &reply);
        assert_eq!(told[..2], [7, 7]);
        assert_eq!(&told[13..16], b"WEB");
        assert_eq!(told[2..12], reply[2..12]);
        assert_eq!(told[other.len()..], reply[other.len()..]);
        // What is cut before its question ends is left as it is.
        assert_eq!(as_reply_to(&other, &reply[..14])[2..], reply[2..14]);
    }
}
