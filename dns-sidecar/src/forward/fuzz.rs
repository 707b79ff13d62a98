// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that another server replies. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{
    cache::Cache,
    exchange::answers,
    loops::Marks,
    question::{Key, as_reply_to, question_end},
    relay::relayed,
};
use crate::wire::{Header, read_answers, ttl_places};
use discovery_core::telemetry::DnsTransport;
use std::time::Duration;
use tokio::time::Instant;

/// Any bytes are a reply to our question or passed over. What is relayed has our client's id and question, the word that
/// others were asked and not that of an authority; what is kept of it comes back as long as it was, and ages.
pub fn upstream_reply(bytes: &[u8]) {
    let records = read_answers(bytes).unwrap_or_default();
    assert!(records.len() <= 256);
    for place in ttl_places(bytes).unwrap_or_default() {
        assert!(place.at + 6 <= place.data_end && place.data_end <= bytes.len());
    }
    assert_eq!(
        Marks::new(2).server_of(bytes),
        None,
        "nobody guesses a mark"
    );
    // The id may be any: a server echoes it.
    let mut sent = REQUEST.to_vec();
    for (own, theirs) in sent.iter_mut().zip(bytes).take(2) {
        *own = *theirs;
    }
    if !answers(&sent, bytes) {
        return;
    }
    let reply = as_reply_to(REQUEST, bytes);
    assert_eq!(reply.len(), bytes.len());
    let end = question_end(REQUEST);
    assert_eq!(
        (&reply[..2], &reply[12..end]),
        (&REQUEST[..2], &REQUEST[12..end])
    );
    let relayed = relayed(REQUEST, reply.clone());
    let header = Header::read(&relayed.bytes).expect("a reply has a header");
    assert!(relayed.bytes[2] & 0x84 == 0x80 && relayed.bytes[3] & 0x80 != 0);
    assert_eq!(relayed.answered.is_truncated, header.is_truncated());
    kept(&reply);
}

fn kept(reply: &[u8]) {
    let (cache, now) = (Cache::new(1024 * 1024), Instant::now());
    let key = Key::of(REQUEST, DnsTransport::Udp);
    cache.put(&key, reply, now);
    if let Some(now_too) = cache.get(&key, now) {
        assert_eq!(now_too, reply);
        assert!(!header_is_cut(reply), "what was cut is not kept");
        let least = ttl_places(reply).unwrap_or_default();
        let least = least
            .iter()
            .map(|place| place.seconds)
            .min()
            .unwrap_or_default();
        let ended = now + Duration::from_secs(u64::from(least.min(3_600)));
        assert!(
            least == 0 || cache.get(&key, ended).is_none(),
            "no longer than its least TTL"
        );
    }
}

fn header_is_cut(reply: &[u8]) -> bool {
    Header::read(reply).is_some_and(Header::is_truncated)
}

const REQUEST: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x04test\0\0\x01\0\x01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_replies_of_other_servers_holds() {
        run("upstream_reply", upstream_reply);
    }
}
