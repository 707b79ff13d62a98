// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that reach the proxy's parsers: PROXY headers, networks, and the facts of a UDP session that
//! one process tells the next. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use crate::{
    Network, SessionFacts,
    proxy_header::{HEADER_BYTES_MAX, Header, Origin, Parsed, Told, encode, parse},
};
use discovery_core::model::ProxyProtocol;

/// Any first bytes of a connection are a header, the beginning of one, or refused; more bytes change neither of the first
/// nor of the last, and what was read is read again from what is written of it.
pub fn proxy_header(bytes: &[u8]) {
    let parsed = parse(bytes);
    let more = [bytes, b"\r\nmore"].concat();
    match &parsed {
        Ok(Parsed::Incomplete) => assert!(bytes.len() < HEADER_BYTES_MAX),
        Ok(Parsed::Whole(header)) => {
            assert!(header.length <= bytes.len() && header.length <= HEADER_BYTES_MAX);
            assert_eq!(parse(&more), parsed, "what follows is the client's");
            for end in 1..header.length {
                assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end}");
            }
            written(header);
        }
        Err(_) if bytes.is_empty() => {}
        Err(_) => assert_eq!(parse(&more), parsed, "no more bytes make a header of it"),
    }
}

/// What an endpoint is told of the header says the same.
fn written(header: &Header) {
    let Origin::Proxied {
        source,
        destination,
    } = header.origin
    else {
        return;
    };
    let told = Told {
        extensions: &header.extensions,
        ..Told::default()
    };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let bytes = encode(version, source, destination, told);
        let Ok(Parsed::Whole(again)) = parse(&bytes) else {
            assert!(bytes.len() > HEADER_BYTES_MAX, "{version:?} {header:?}");
            continue;
        };
        assert_eq!(again.origin, header.origin);
        assert_eq!(again.length, bytes.len());
        if version == ProxyProtocol::V2 {
            assert_eq!(again.extensions, header.extensions);
        }
    }
}

/// Any text is a session's facts, which print as they are read, or is refused; and so is a network.
pub fn session_facts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(facts) = text.parse::<SessionFacts>() {
        let printed = facts.to_string();
        assert_eq!(printed.parse(), Ok(facts), "{printed}");
    }
    if let Ok(network) = text.parse::<Network>() {
        let address = text.split('/').next().unwrap_or_default();
        assert!(
            network.contains(address.parse().expect("it was read")),
            "{text}"
        );
    }
}

#[cfg(test)]
#[path = "../../fuzz/targets/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::run, *};

    #[test]
    fn b2_the_corpus_of_proxy_headers_holds() {
        run("proxy_header", proxy_header);
    }

    #[test]
    fn b2_the_corpus_of_session_facts_holds() {
        run("session_facts", session_facts);
    }
}
