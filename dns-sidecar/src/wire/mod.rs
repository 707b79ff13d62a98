// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of DNS messages (RFC 1035 4, RFC 6891): read a request, write a reply.
//!
//! A codec of its own because an answer is mostly copied: header and question from the request, records from the index.
//! Every access is bounds-checked, nothing panics on what came from the network, and nothing allocates per message.

mod name;
mod reply;
mod request;
mod upstream;

pub(crate) use name::{LABEL_BYTES_MAX, LowerName, WireName};
pub(crate) use reply::{
    EDNS_VERSION, Options, ReplyWriter, Section, Status, cut_to_question, pointer,
    write_header_only,
};
pub(crate) use request::{ClientSubnet, Edns, Header, Request};
pub(crate) use upstream::{UpstreamRecord, opt_data, read_answers, ttl_places};

/// The options that are between a client and the server that it asks.
pub(crate) const HOP_OPTIONS: [u16; 3] = [request::COOKIE, request::KEEPALIVE, request::PADDING];

/// Types of records that this responder knows.
pub(crate) mod rtype {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// Classes of questions.
pub(crate) mod class {
    pub(crate) const IN: u16 = 1;
    pub(crate) const ANY: u16 = 255;
}

/// The fixed part at the start of every message.
pub(crate) const HEADER_BYTES: usize = 12;

/// The operation of a question.
pub(crate) const QUERY: u16 = 0;

/// Reads a message from its start to its end, never beyond.
#[derive(Clone, Copy, Debug)]
struct Cursor<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}
