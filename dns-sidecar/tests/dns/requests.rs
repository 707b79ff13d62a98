// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests that are wrong, odd or hostile, each with the one right reaction (RFC 8906: no silence to what is well-formed).

use crate::{
    mall::Mall,
    packet::{
        A, ANY, AXFR, IXFR, NS, SOA, decode, patched, query, query_edns, wire_name, with_additional,
    },
};
use discovery_core::telemetry::{DnsDrop, DnsRcode, DnsTransport};
use dns_sidecar::{Config, IndexBuilder, Responder, Verdict};

/// What a request leads to.
pub(crate) type Reaction = Result<DnsRcode, DnsDrop>;

const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
const WEB: &str = "web.service.consul";

/// The requests with their names and reactions.
pub(crate) fn cases() -> Vec<(String, Vec<u8>, Reaction)> {
    let mut cases = headers();
    cases.extend(names());
    cases.extend(types_and_classes());
    cases.extend(extensions());
    let named = cases
        .into_iter()
        .map(|(name, request, reaction)| (name.to_owned(), request, reaction));
    named.chain(every_type()).chain(every_cut()).collect()
}

/// Types of every kind, known or not: what a name does not have is no error.
fn every_type() -> impl Iterator<Item = (String, Vec<u8>, Reaction)> {
    let types = [
        0, 5, 10, 11, 12, 13, 15, 29, 35, 39, 43, 44, 46, 47, 48, 50, 51, 52, 59, 61, 64, 65, 99,
        108, 249, 253, 254, 256, 257, 32768, 65534,
    ];
    types.into_iter().map(|rtype| {
        (
            format!("type {rtype}"),
            query(WEB, rtype),
            Ok(DnsRcode::NoError),
        )
    })
}

/// A request that ends anywhere is malformed, but where only its header is short of bytes: then it is none.
fn every_cut() -> impl Iterator<Item = (String, Vec<u8>, Reaction)> {
    let whole = web();
    (2..whole.len()).map(move |length| {
        let reaction = if length < 12 {
            Err(DnsDrop::Short)
        } else {
            Ok(DnsRcode::FormErr)
        };
        (
            format!("cut to {length} bytes"),
            whole[..length].to_vec(),
            reaction,
        )
    })
}

fn web() -> Vec<u8> {
    query(WEB, A)
}

/// A header of one question that is followed by these bytes.
fn asked(rest: &[u8]) -> Vec<u8> {
    [&web()[..12], rest].concat()
}

fn headers() -> Vec<(&'static str, Vec<u8>, Reaction)> {
    let opcode = |opcode: u8| patched(web(), 2, &[opcode << 3]);
    let questions = |count: u16| patched(web(), 4, &count.to_be_bytes());
    vec![
        ("a plain question", web(), Ok(DnsRcode::NoError)),
        ("nothing", vec![], Err(DnsDrop::Short)),
        ("one byte", vec![0], Err(DnsDrop::Short)),
        ("11 bytes", web()[..11].to_vec(), Err(DnsDrop::Short)),
        (
            "a response",
            patched(web(), 2, &[0x81]),
            Err(DnsDrop::Response),
        ),
        (
            "a malformed response",
            patched(web(), 2, &[0x80, 0, 255, 255])[..13].to_vec(),
            Err(DnsDrop::Response),
        ),
        (
            "a response with an unknown opcode",
            patched(web(), 2, &[0xf8]),
            Err(DnsDrop::Response),
        ),
        ("inverse query", opcode(1), Ok(DnsRcode::NotImp)),
        ("status", opcode(2), Ok(DnsRcode::NotImp)),
        ("notify", opcode(4), Ok(DnsRcode::NotImp)),
        ("update", opcode(5), Ok(DnsRcode::NotImp)),
        (
            "a stateful session",
            patched(opcode(6), 4, &[0, 0])[..12].to_vec(),
            Ok(DnsRcode::NotImp),
        ),
        ("opcode 15", opcode(15), Ok(DnsRcode::NotImp)),
        (
            "a header alone that claims no question",
            questions(0)[..12].to_vec(),
            Ok(DnsRcode::FormErr),
        ),
        ("no question claimed", questions(0), Ok(DnsRcode::FormErr)),
        ("two questions claimed", questions(2), Ok(DnsRcode::FormErr)),
        (
            "two questions",
            [&questions(2)[..], &web()[12..]].concat(),
            Ok(DnsRcode::FormErr),
        ),
        (
            "65535 questions claimed",
            questions(65535),
            Ok(DnsRcode::FormErr),
        ),
        (
            "65535 questions claimed in 12 bytes",
            questions(65535)[..12].to_vec(),
            Ok(DnsRcode::FormErr),
        ),
        (
            "all flags but QR and opcode",
            patched(web(), 2, &[0x07, 0xff]),
            Ok(DnsRcode::NoError),
        ),
        (
            "an answer claimed",
            patched(web(), 6, &[0, 1]),
            Ok(DnsRcode::FormErr),
        ),
        (
            "65535 additional records claimed",
            patched(web(), 10, &[255, 255]),
            Ok(DnsRcode::FormErr),
        ),
    ]
}

fn names() -> Vec<(&'static str, Vec<u8>, Reaction)> {
    let label = |byte: u8| [&[63][..], &[byte; 63]].concat();
    let long = [label(b'a'), label(b'b'), label(b'c')].concat();
    let too_long = [&long[..], &[62], &[b'd'; 62], b"\0\0\x01\0\x01"].concat();
    let longest = [&long[..], &[61], &[b'd'; 61], b"\0\0\x01\0\x01"].concat();
    let escaped = [
        &b"\x07a.b\0\xff\"\\"[..],
        &wire_name("service.consul"),
        b"\0\x01\0\x01",
    ]
    .concat();
    vec![
        ("no question bytes", asked(b""), Ok(DnsRcode::FormErr)),
        (
            "a name cut in a label",
            asked(b"\x03we"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a name without its end",
            asked(b"\x03web"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a name without type",
            asked(b"\x03web\0"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a name without class",
            asked(b"\x03web\0\0\x01\0"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a pointer to itself",
            asked(b"\xc0\x0c\0\x01\0\x01"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a pointer into the header",
            asked(b"\x03web\xc0\x00\0\x01\0\x01"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a label of 64 bytes",
            asked(&[&[64][..], &[b'a'; 64], b"\0\0\x01\0\x01"].concat()),
            Ok(DnsRcode::FormErr),
        ),
        (
            "an extended label",
            asked(b"\x41a\0\0\x01\0\x01"),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a name of 256 bytes",
            asked(&too_long),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a name of 255 bytes",
            asked(&longest),
            Ok(DnsRcode::Refused),
        ),
        ("the root", query(".", NS), Ok(DnsRcode::Refused)),
        (
            "another domain",
            query("example.org", A),
            Ok(DnsRcode::Refused),
        ),
        (
            "a domain that ends alike",
            query("web.service.notconsul", A),
            Ok(DnsRcode::Refused),
        ),
        (
            "bytes that are no text",
            asked(&escaped),
            Ok(DnsRcode::NxDomain),
        ),
        (
            "only a kind",
            query("service.consul", A),
            Ok(DnsRcode::NoError),
        ),
        (
            "a deep name",
            query(&format!("{}{WEB}", "a.".repeat(100)), A),
            Ok(DnsRcode::NxDomain),
        ),
    ]
}

fn types_and_classes() -> Vec<(&'static str, Vec<u8>, Reaction)> {
    let class = |class: u16| patched(web(), web().len() - 2, &class.to_be_bytes());
    vec![
        ("class CHAOS", class(3), Ok(DnsRcode::Refused)),
        ("class HESIOD", class(4), Ok(DnsRcode::Refused)),
        ("class NONE", class(254), Ok(DnsRcode::Refused)),
        ("class 0", class(0), Ok(DnsRcode::Refused)),
        ("class ANY", class(255), Ok(DnsRcode::NoError)),
        ("type ANY", query(WEB, ANY), Ok(DnsRcode::NoError)),
        ("type 0", query(WEB, 0), Ok(DnsRcode::NoError)),
        ("an unknown type", query(WEB, 65_280), Ok(DnsRcode::NoError)),
        ("type OPT", query(WEB, 41), Ok(DnsRcode::NoError)),
        ("a transfer", query("consul", AXFR), Ok(DnsRcode::NotImp)),
        (
            "an incremental transfer",
            query("consul", IXFR),
            Ok(DnsRcode::NotImp),
        ),
        (
            "a transfer of another domain",
            query("example.org", AXFR),
            Ok(DnsRcode::Refused),
        ),
        (
            "the start of authority",
            query("consul", SOA),
            Ok(DnsRcode::NoError),
        ),
    ]
}

fn extensions() -> Vec<(&'static str, Vec<u8>, Reaction)> {
    let opt = |tail: &[u8]| with_additional(web(), &[&OPT[..9], tail].concat());
    let cookie = [0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let version = patched(query_edns(WEB, A, 1232), web().len() + 6, &[1]);
    let flags = patched(query_edns(WEB, A, 1232), web().len() + 7, &[0xff, 0xff]);
    let of_name = with_additional(web(), &[b"\x01a", OPT].concat());
    let in_answer = [&patched(web(), 6, &[0, 1])[..], OPT].concat();
    vec![
        ("EDNS", query_edns(WEB, A, 1232), Ok(DnsRcode::NoError)),
        (
            "EDNS of size 0",
            query_edns(WEB, A, 0),
            Ok(DnsRcode::NoError),
        ),
        (
            "EDNS of size 65535",
            query_edns(WEB, A, 65_535),
            Ok(DnsRcode::NoError),
        ),
        ("EDNS version 1", version, Ok(DnsRcode::BadVers)),
        ("EDNS with all flags", flags, Ok(DnsRcode::NoError)),
        ("EDNS with a cookie", opt(&cookie), Ok(DnsRcode::NoError)),
        (
            "EDNS with an unknown option",
            opt(&[0, 4, 0xff, 0xfe, 0, 0]),
            Ok(DnsRcode::NoError),
        ),
        (
            "an option longer than its record",
            opt(&[0, 4, 0, 10, 0, 8]),
            Ok(DnsRcode::FormErr),
        ),
        (
            "half an option",
            opt(&[0, 3, 0, 10, 0]),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a record longer than the message",
            opt(&[0, 9]),
            Ok(DnsRcode::FormErr),
        ),
        (
            "two OPT records",
            with_additional(with_additional(web(), OPT), OPT),
            Ok(DnsRcode::FormErr),
        ),
        ("an OPT record with a name", of_name, Ok(DnsRcode::FormErr)),
        (
            "an OPT record among the answers",
            in_answer,
            Ok(DnsRcode::FormErr),
        ),
        (
            "an answer in the question",
            [&patched(web(), 6, &[0, 1])[..], RECORD].concat(),
            Ok(DnsRcode::FormErr),
        ),
        (
            "a signature by an unknown key",
            with_additional(web(), b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0"),
            Ok(DnsRcode::NotAuth),
        ),
        (
            "a record in the authority section",
            [&patched(web(), 8, &[0, 1])[..], RECORD].concat(),
            Ok(DnsRcode::NoError),
        ),
        (
            "EDNS after another record",
            with_additional(with_additional(web(), RECORD), OPT),
            Ok(DnsRcode::NoError),
        ),
        (
            "bytes after the question",
            [&web()[..], b"trailing"].concat(),
            Ok(DnsRcode::NoError),
        ),
    ]
}

#[test]
fn every_request_meets_its_reaction() {
    let mut mall = Mall::open();
    let config = Config::default();
    let index = IndexBuilder::new(&config).build(mall.reader.snapshot());
    let mut responder = Responder::with_seed(&config, 1);
    let mut reply = Vec::new();
    for (name, request, reaction) in cases() {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            let verdict = responder.answer(&index, &request, transport, &mut reply);
            match (verdict, reaction) {
                (Verdict::Answered(answered), Ok(rcode)) => {
                    assert_eq!(answered.rcode, rcode, "{name}");
                    check_reply(&name, &request, &reply, rcode);
                }
                (Verdict::Dropped(dropped), Err(reason)) => {
                    assert_eq!((dropped, reply.len()), (reason, 0), "{name}");
                }
                (verdict, reaction) => panic!("{name}: {verdict:?} instead of {reaction:?}"),
            }
        }
    }
}

/// What holds for every reply.
fn check_reply(name: &str, request: &[u8], reply: &[u8], rcode: DnsRcode) {
    let message = decode(reply);
    assert_eq!(
        u16::from(message.metadata.response_code),
        rcode.code(),
        "{name}"
    );
    assert_eq!(reply[..2], request[..2], "{name}: id");
    assert_eq!(
        reply[2] & 0xf9,
        0x80 | request[2] & 0x79,
        "{name}: QR, opcode, RD"
    );
    assert_eq!(reply[3] & 0xf0, request[3] & 0x10, "{name}: RA, Z, AD, CD");
    let is_ours = matches!(rcode, DnsRcode::NoError | DnsRcode::NxDomain);
    assert!(message.metadata.authoritative || !is_ours, "{name}: AA");
    if let [_] = message.queries[..] {
        let question = 12..12
            + wire_name(&message.queries[0].name().to_ascii())
                .len()
                .min(request.len() - 12);
        assert_eq!(
            reply.get(question.clone()),
            request.get(question),
            "{name}: question"
        );
    }
}
