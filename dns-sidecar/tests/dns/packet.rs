// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests by hand, so that they can be wrong in every way, and replies read by another library.

use hickory_proto::{
    op::Message,
    rr::{Name, Record, RecordType},
};

/// A question with recursion desired.
pub(crate) fn query(name: &str, qtype: u16) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend(wire_name(name));
    message.extend_from_slice(&qtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// The same with an OPT record that states a datagram size.
pub(crate) fn query_edns(name: &str, qtype: u16, payload: u16) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    with_additional(query(name, qtype), &[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0])
}

/// The request with one more record in its additional section.
pub(crate) fn with_additional(mut request: Vec<u8>, record: &[u8]) -> Vec<u8> {
    request[11] += 1;
    request.extend_from_slice(record);
    request
}

/// The request with some bytes replaced.
pub(crate) fn patched(mut request: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    request[at..at + bytes.len()].copy_from_slice(bytes);
    request
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

/// The reply as another library reads it.
pub(crate) fn decode(reply: &[u8]) -> Message {
    Message::from_vec(reply).unwrap_or_else(|error| panic!("{error} in {reply:02x?}"))
}

/// The records in words, sorted.
pub(crate) fn words(records: &[Record]) -> Vec<String> {
    let mut words: Vec<_> = records.iter().map(ToString::to_string).collect();
    words.sort();
    words
}

/// The targets of SRV records.
pub(crate) fn targets(records: &[Record]) -> Vec<Name> {
    let srv = records
        .iter()
        .filter(|record| record.record_type() == RecordType::SRV);
    srv.map(|record| match &record.data {
        hickory_proto::rr::RData::SRV(srv) => srv.target.clone(),
        other => panic!("{other} is no SRV record"),
    })
    .collect()
}

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const IXFR: u16 = 251;
pub(crate) const AXFR: u16 = 252;
pub(crate) const ANY: u16 = 255;
