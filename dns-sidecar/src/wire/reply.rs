// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a reply that never exceeds its limit.
//!
//! Room for the OPT record is kept from the start, so that a reply that had to be cut still carries it (RFC 6891 7).
//! Header counts and flags are filled in at the end.

use super::{
    Edns, HEADER_BYTES, Header, Request,
    request::{CLIENT_SUBNET, COOKIE, KEEPALIVE, PADDING},
    rtype,
};
use crate::cookie::Cookie;
use discovery_core::telemetry::DnsRcode;

/// The sections that follow the question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// What the header and OPT of a finished reply say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) rcode: DnsRcode,
    pub(crate) is_authoritative: bool,
    pub(crate) is_truncated: bool,
    /// An extended error (RFC 8914), told to clients that speak EDNS.
    pub(crate) extended_error: Option<u16>,
    /// Whether names of others are looked up for the client (RA).
    pub(crate) is_recursive: bool,
    /// How many bits of a client's network the answer depends on (RFC 7871 7.2.1).
    pub(crate) subnet_scope: u8,
}

impl Status {
    /// A bare code.
    pub(crate) fn of(rcode: DnsRcode) -> Self {
        Self {
            rcode,
            is_authoritative: false,
            is_truncated: false,
            extended_error: None,
            is_recursive: false,
            subnet_scope: 0,
        }
    }

    /// With the word of an authority.
    pub(crate) fn authoritative(self) -> Self {
        Self {
            is_authoritative: true,
            ..self
        }
    }
}

/// What the OPT record of replies carries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Whether DO is repeated (RFC 3225 3).
    pub(crate) repeats_dnssec_ok: bool,
    /// Whether extended errors are told.
    pub(crate) tells_errors: bool,
    /// The client's cookie with ours.
    pub(crate) cookie: Option<Cookie>,
    /// How long the connection may be idle, in tenths of a second.
    pub(crate) keepalive: Option<u16>,
    /// Whether the reply's length is to tell little.
    pub(crate) pads: bool,
}

impl Options {
    /// What they take.
    fn bytes(self) -> usize {
        let cookie = self.cookie.map_or(0, |cookie| 4 + cookie.len());
        cookie + self.keepalive.map_or(0, |_| 6)
    }
}

/// A reply under construction.
#[derive(Debug)]
pub(crate) struct ReplyWriter<'o> {
    out: &'o mut Vec<u8>,
    header: Header,
    edns: Option<Edns<'o>>,
    options: Options,
    /// Where the records must end; what follows is kept for OPT.
    limit: usize,
    counts: [u16; 3],
}

impl<'o> ReplyWriter<'o> {
    /// Begins with header and question.
    ///
    /// `limit` is at least 512, which header, the longest question and the longest OPT never reach.
    pub(crate) fn new(
        out: &'o mut Vec<u8>,
        request: &Request<'o>,
        limit: usize,
        options: Options,
        has_error: bool,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(request.question);
        let reserved = request.edns.map_or(0, |edns| {
            let subnet = edns.client_subnet.map_or(0, |subnet| 4 + subnet.data.len());
            OPT_BYTES + subnet + options.bytes() + if has_error { ERROR_BYTES } else { 0 }
        });
        Self {
            out,
            header: request.header,
            edns: request.edns,
            options,
            limit: limit.saturating_sub(reserved),
            counts: [0; 3],
        }
    }

    /// Leaves OPT out.
    pub(crate) fn without_edns(&mut self) {
        self.edns = None;
    }

    /// How many records the answer has.
    pub(crate) fn answers(&self) -> usize {
        self.counts[Section::Answer as usize].into()
    }

    /// How many bytes records may still take.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> usize {
        self.out.len()
    }

    /// Appends one whole record, given in parts, or nothing when there is no room.
    pub(crate) fn push(&mut self, section: Section, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum();
        if !self.admit(section, length) {
            return false;
        }
        for part in parts {
            self.out.extend_from_slice(part);
        }
        true
    }

    /// Appends records of one size by their numbers, as many as there is room for; whether that was all.
    pub(crate) fn push_alike<const N: usize>(
        &mut self,
        section: Section,
        records: &[[u8; N]],
        numbers: &[usize],
    ) -> bool {
        let room = (self.room() / N).min(
            RECORDS_MAX
                .saturating_sub(self.counts[section as usize])
                .into(),
        );
        let fitting = numbers.len().min(room);
        let begin = self.out.len();
        self.out.resize(begin + fitting * N, 0);
        let (places, _) = self.out[begin..].as_chunks_mut::<N>();
        let mut pushed = 0;
        for (place, number) in places.iter_mut().zip(numbers) {
            let Some(record) = records.get(*number) else {
                continue;
            };
            *place = *record;
            pushed += 1;
        }
        self.out.truncate(begin + usize::from(pushed) * N);
        self.counts[section as usize] += pushed;
        usize::from(pushed) == numbers.len()
    }

    /// Appends one whole record with the name at `position` as owner, spelled out, or nothing when there is no room. Names in
    /// a reply hold no pointers: the question's, and those that we spelled.
    pub(crate) fn push_spelled(&mut self, section: Section, position: usize, rest: &[u8]) -> bool {
        let name = position..name_end(self.out, position);
        if !self.admit(section, name.len() + rest.len()) {
            return false;
        }
        self.out.extend_from_within(name);
        self.out.extend_from_slice(rest);
        true
    }

    fn admit(&mut self, section: Section, length: usize) -> bool {
        let count = &mut self.counts[section as usize];
        let fits = length <= self.limit.saturating_sub(self.out.len()) && *count < RECORDS_MAX;
        *count += u16::from(fits);
        fits
    }

    /// The bytes so far, to patch what was just written.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        self.out
    }

    /// Takes back everything behind the question.
    pub(crate) fn restart(&mut self, question: usize) {
        self.out.truncate(HEADER_BYTES + question);
        self.counts = [0; 3];
    }

    /// Completes the reply.
    pub(crate) fn finish(mut self, status: Status) {
        if let Some(edns) = self.edns {
            self.counts[Section::Additional as usize] += 1;
            write_opt(self.out, edns, self.options, status);
        }
        let [answers, authorities, additionals] = self.counts;
        write_header(
            self.out,
            self.header,
            status,
            [1, answers, authorities, additionals],
        );
    }
}

/// A reply of the header alone, for requests whose question cannot be repeated.
pub(crate) fn write_header_only(out: &mut Vec<u8>, header: Header, rcode: DnsRcode) {
    out.clear();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write_header(out, header, Status::of(rcode), [0; 4]);
}

/// Leaves a finished reply nothing but its question, and says that it was cut.
pub(crate) fn cut_to_question(reply: &mut Vec<u8>) {
    let questions = reply.get(5).copied().unwrap_or(0);
    let end = match questions {
        0 => HEADER_BYTES,
        _ => name_end(reply, HEADER_BYTES) + 4,
    };
    reply.truncate(end);
    if let Some([flags, _, _, _, counts @ ..]) = reply.get_mut(2..HEADER_BYTES) {
        *flags |= 0x02;
        counts.fill(0);
    }
}

/// A compression pointer to a position of the message (RFC 1035 4.1.4); none beyond its 14 bits.
pub(crate) fn pointer(position: usize) -> Option<[u8; 2]> {
    let position = u16::try_from(position)
        .ok()
        .filter(|position| *position < 0x4000)?;
    Some((0xc000 | position).to_be_bytes())
}

/// Where the name that begins at `position` ends. It was written by us and holds no pointer.
fn name_end(message: &[u8], position: usize) -> usize {
    let mut at = position;
    loop {
        match message.get(at) {
            None => return message.len(),
            Some(0) => return at + 1,
            Some(length) => at += 1 + usize::from(*length),
        }
    }
}

fn write_header(out: &mut [u8], header: Header, status: Status, counts: [u16; 4]) {
    let flags = 0x8000
        | header.repeated_flags()
        | if status.is_authoritative { 0x0400 } else { 0 }
        | if status.is_truncated { 0x0200 } else { 0 }
        | if status.is_recursive { 0x0080 } else { 0 }
        | status.rcode.code() & 0xf;
    out[..2].copy_from_slice(&header.id);
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    for (place, count) in out[4..HEADER_BYTES].chunks_exact_mut(2).zip(counts) {
        place.copy_from_slice(&count.to_be_bytes());
    }
}

fn write_opt(out: &mut Vec<u8>, edns: Edns<'_>, options: Options, status: Status) {
    let [_, rcode_high] = (status.rcode.code() >> 4).to_be_bytes();
    let repeats = edns.dnssec_ok && options.repeats_dnssec_ok;
    out.push(0);
    out.extend_from_slice(&rtype::OPT.to_be_bytes());
    // As Consul: what the client said of itself.
    out.extend_from_slice(&edns.payload.to_be_bytes());
    out.extend_from_slice(&[rcode_high, EDNS_VERSION, if repeats { 0x80 } else { 0 }, 0]);
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    if let Some(subnet) = edns.client_subnet {
        write_option(out, CLIENT_SUBNET, subnet.data);
        let scope_at = length_at + 2 + 4 + 3;
        out[scope_at] = status.subnet_scope;
    }
    if let Some(code) = status.extended_error.filter(|_| options.tells_errors) {
        write_option(out, EXTENDED_ERROR, &code.to_be_bytes());
    }
    if let Some(cookie) = options.cookie {
        write_option(out, COOKIE, &cookie);
    }
    if let Some(tenths) = options.keepalive {
        write_option(out, KEEPALIVE, &tenths.to_be_bytes());
    }
    if options.pads {
        // RFC 8467 4.1; what would no longer be a message is not padded.
        let padding = (out.len() + 4).next_multiple_of(PADDED_BYTES) - out.len() - 4;
        if u16::try_from(out.len() + 4 + padding).is_ok() {
            write_option(out, PADDING, &[0; PADDED_BYTES][..padding]);
        }
    }
    // Bounded by the options of a request and some of ours.
    let length = u16::try_from(out.len() - length_at - 2).unwrap_or(0);
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

fn write_option(out: &mut Vec<u8>, code: u16, data: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(data);
}

/// The only version there is (RFC 6891 6.1.3).
pub(crate) const EDNS_VERSION: u8 = 0;
/// The option code of RFC 8914.
const EXTENDED_ERROR: u16 = 15;
/// RFC 8467 4.1: what replies are padded to a multiple of.
const PADDED_BYTES: usize = 468;
/// The record without options.
const OPT_BYTES: usize = 11;
/// One extended error without text.
const ERROR_BYTES: usize = 6;
/// What a header can count, one left for OPT.
const RECORDS_MAX: u16 = u16::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LowerName;
    use hickory_proto::op::Message;

    const REQUEST: &[u8] = b"\0\x07\x01\x10\0\x01\0\0\0\0\0\x01\x01a\x06CONSUL\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\x80\0\0\0";
    const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x01";

    fn reply(limit: usize, status: Status, write: impl FnOnce(&mut ReplyWriter<'_>)) -> Vec<u8> {
        let mut name = LowerName::default();
        let header = Header::read(REQUEST).unwrap();
        let request = Request::read(header, REQUEST, &mut name).unwrap();
        let mut out = Vec::new();
        let options = Options {
            repeats_dnssec_ok: true,
            tells_errors: true,
            ..Options::default()
        };
        let mut writer = ReplyWriter::new(&mut out, &request, limit, options, true);
        write(&mut writer);
        writer.finish(status);
        out
    }

    #[test]
    fn a_reply_decodes_as_what_was_written() {
        let bytes = reply(
            512,
            Status::of(DnsRcode::NoError).authoritative(),
            |writer| {
                assert!(writer.push(Section::Answer, &[RECORD]));
                assert!(writer.push_spelled(Section::Additional, 14, &RECORD[2..]));
            },
        );
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(
            (message.metadata.id, message.metadata.authoritative),
            (7, true)
        );
        assert!(message.metadata.recursion_desired && message.metadata.checking_disabled);
        assert_eq!(message.queries[0].name().to_string(), "a.CONSUL.");
        assert_eq!(message.answers[0].to_string(), "a.CONSUL. 5 IN A 10.0.0.1");
        assert_eq!(message.additionals[0].name.to_string(), "CONSUL.");
        assert!(message.edns.unwrap().flags().dnssec_ok);
    }

    #[test]
    fn a_full_reply_keeps_its_opt_record() {
        let status = Status {
            is_truncated: true,
            ..Status::of(DnsRcode::NoError)
        };
        let bytes = reply(100, status, |writer| {
            while writer.push(Section::Answer, &[RECORD]) {}
        });
        let message = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 100 && message.metadata.truncation && message.edns.is_some());
        assert_eq!(
            message.answers.len(),
            (100 - 26 - OPT_BYTES - ERROR_BYTES) / 16
        );
    }

    #[test]
    fn codes_above_15_are_split_between_header_and_opt() {
        let bytes = reply(512, Status::of(DnsRcode::BadVers), |_| {});
        let code = Message::from_vec(&bytes).unwrap().metadata.response_code;
        assert_eq!(u16::from(code), 16);
    }

    #[test]
    fn an_extended_error_stands_in_the_opt_record() {
        let status = Status {
            extended_error: Some(14),
            ..Status::of(DnsRcode::ServFail)
        };
        assert!(reply(512, status, |_| {}).ends_with(&[0, 6, 0, 15, 0, 2, 0, 14]));
    }

    #[test]
    fn a_reply_that_is_cut_to_its_question_says_so() {
        let mut bytes = reply(512, Status::of(DnsRcode::NoError), |writer| {
            assert!(writer.push(Section::Answer, &[RECORD]));
        });
        cut_to_question(&mut bytes);
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.metadata.truncation && message.answers.is_empty());
        assert_eq!(message.queries.len(), 1);
    }

    #[test]
    fn names_beyond_the_reach_of_a_pointer_are_spelled_out() {
        assert_eq!(
            (pointer(0x3fff), pointer(0x4000)),
            (Some([0xff, 0xff]), None)
        );
        let bytes = reply(65_535, Status::of(DnsRcode::NoError), |writer| {
            while writer.position() < 0x4000 {
                assert!(writer.push(Section::Answer, &[RECORD]));
            }
            let position = writer.position();
            assert!(writer.push(Section::Answer, &[b"\x03far\0", &RECORD[2..]]));
            assert!(writer.push_spelled(Section::Additional, position, &RECORD[2..]));
        });
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.additionals[0].name.to_string(), "far.");
    }
}
