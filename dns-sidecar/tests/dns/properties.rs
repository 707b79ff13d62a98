// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for every request, however random.

use crate::{
    mall::Mall,
    packet::{A, AAAA, ANY, NS, SOA, SRV, TXT, decode, query, query_edns, targets, wire_name},
    requests::cases,
};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{Config, IndexBuilder, Responder, Verdict};
use hickory_proto::op::{Message, ResponseCode};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::TestRunner,
};

struct Asker {
    index: dns_sidecar::Index,
    responder: Responder,
    reply: Vec<u8>,
}

impl Asker {
    fn new() -> Self {
        let config = Config::default().max_udp_payload(4096).unwrap();
        let index = IndexBuilder::new(&config).build(Mall::crowded().reader.snapshot());
        Self {
            index,
            responder: Responder::with_seed(&config, 1),
            reply: Vec::new(),
        }
    }

    /// The reply, if there is one; never larger than the limit.
    fn ask(&mut self, request: &[u8], transport: DnsTransport, limit: usize) -> Option<&[u8]> {
        let verdict = self
            .responder
            .answer(&self.index, request, transport, &mut self.reply);
        assert!(
            self.reply.len() <= limit,
            "{} bytes, limit {limit}",
            self.reply.len()
        );
        matches!(verdict, Verdict::Answered(_)).then_some(&self.reply)
    }

    fn message(&mut self, name: &str, qtype: u16) -> Message {
        decode(
            self.ask(&query(name, qtype), DnsTransport::Tcp, 65_535)
                .unwrap(),
        )
    }
}

/// Names of the grammar, with labels exchanged, in any case; and names of none.
fn names() -> impl Strategy<Value = String> {
    let of_grammar = select(&FORMS[..]).prop_map(str::to_owned);
    let changes = prop::collection::vec((any::<Index>(), label()), 0..2);
    let near_grammar = (of_grammar, changes).prop_map(|(form, changes)| {
        let mut labels: Vec<_> = form.split('.').map(str::to_owned).collect();
        for (at, label) in changes {
            let at = at.index(labels.len());
            labels[at] = label;
        }
        labels
    });
    let any_labels = prop::collection::vec(label(), 0..6);
    let labels = prop_oneof![3 => near_grammar, 1 => any_labels];
    let domain = select(&["consul", "CONSUL", "consul", "org"][..]);
    (labels, domain, any::<u64>()).prop_map(|(labels, domain, case)| {
        let name = [labels, vec![domain.to_owned()]].concat().join(".");
        let in_case = |(at, c): (usize, char)| match case >> (at % 64) & 1 {
            0 => c,
            _ => c.to_ascii_uppercase(),
        };
        name.chars().enumerate().map(in_case).collect()
    })
}

fn label() -> impl Strategy<Value = String> {
    let known = select(&LABELS[..]).prop_map(str::to_owned);
    prop_oneof![9 => known, 1 => "[a-z0-9_-]{1,20}"]
}

const FORMS: [&str; 14] = [
    "web.service",
    "web-default.service.mall-1",
    "http.web.service.mall-1.dc",
    "admin.web.service",
    "_web._tcp.service",
    "_web._http.service.mall-1",
    "_web._tcp.mall-1.dc",
    "_names-infra._udp",
    "host-shop.service",
    "many-shop.service.mall-1",
    "crowd-shop.service",
    "edge-a.node.mall-1",
    "edge-b.rack.lan.node",
    "0a010001.addr.mall-1",
];

const LABELS: [&str; 29] = [
    "web",
    "Web-Default",
    "host-shop",
    "many-shop",
    "crowd-shop",
    "names-infra",
    "down-shop",
    "http",
    "ADMIN",
    "udp",
    "_web",
    "_tcp",
    "_udp",
    "_http",
    "_names-infra",
    "service",
    "Service",
    "node",
    "addr",
    "mall-1",
    "mall-2",
    "dc",
    "ns",
    "edge-a",
    "edge-b",
    "rack",
    "lan",
    "0a010001",
    "zz",
];

const TYPES: [u16; 7] = [A, AAAA, SRV, ANY, SOA, NS, TXT];

/// Runs a property with one asker, which is costly to make.
fn check<S: Strategy>(cases: u32, strategy: &S, mut property: impl FnMut(&mut Asker, S::Value)) {
    let asker = std::cell::RefCell::new(Asker::new());
    let property = std::cell::RefCell::new(&mut property);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(strategy, |value| {
        property.borrow_mut()(&mut asker.borrow_mut(), value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn any_bytes_get_a_valid_reply_or_none() {
    check(
        20_000,
        &prop::collection::vec(any::<u8>(), 0..200),
        |asker, request| {
            for (transport, limit) in [(DnsTransport::Udp, 4096), (DnsTransport::Tcp, 65_535)] {
                let is_answered = asker.ask(&request, transport, limit).map(decode).is_some();
                assert_eq!(is_answered, request.len() >= 12 && request[2] & 0x80 == 0);
            }
        },
    );
}

#[test]
fn mutated_requests_get_a_valid_reply_or_none() {
    let requests = cases().into_iter().map(|(_, request, _)| request);
    let requests: Vec<_> = requests.filter(|request| !request.is_empty()).collect();
    let mutations = prop::collection::vec((any::<Index>(), any::<u8>()), 1..8);
    check(
        20_000,
        &(select(requests), mutations),
        |asker, (mut request, mutations)| {
            for (at, byte) in mutations {
                let at = at.index(request.len());
                request[at] = byte;
            }
            if let Some(reply) = asker.ask(&request, DnsTransport::Udp, 4096) {
                decode(reply);
            }
        },
    );
}

#[test]
fn a_reply_never_exceeds_the_clients_size_and_says_when_it_was_cut() {
    let sizes = prop_oneof![0_u16..1500, any::<u16>()];
    check(
        5_000,
        &(names(), select(&TYPES[..]), sizes),
        |asker, (name, qtype, size)| {
            let answers = asker.message(&name, qtype).answers;
            let fours = answers
                .iter()
                .filter(|record| u16::from(record.record_type()) == A)
                .count();
            // RFC 8482: over UDP one family is an answer to a question for any.
            let whole = if qtype == ANY && fours > 0 {
                fours
            } else {
                answers.len()
            };
            let limit = usize::from(size.clamp(512, 4096));
            let request = query_edns(&name, qtype, size);
            let cut = decode(asker.ask(&request, DnsTransport::Udp, limit).unwrap());
            assert_eq!(
                cut.metadata.truncation,
                cut.answers.len() < whole,
                "{name} {qtype} {size}"
            );
            assert!(cut.edns.is_some());
            let plain = decode(
                asker
                    .ask(&query(&name, qtype), DnsTransport::Udp, 512)
                    .unwrap(),
            );
            assert!(plain.edns.is_none());
        },
    );
}

#[test]
fn a_name_that_has_any_record_is_never_denied() {
    check(5_000, &names(), |asker, name| {
        let codes = TYPES.map(|qtype| asker.message(&name, qtype).metadata.response_code);
        assert!(
            codes.iter().all(|code| *code == codes[0]),
            "{name}: {codes:?}"
        );
        let parent = name.split_once('.').map(|(_, parent)| parent);
        // RFC 8020: below a name that does not exist there is nothing.
        if let (ResponseCode::NoError, Some(parent)) = (codes[0], parent) {
            let above = asker.message(parent, A).metadata.response_code;
            assert_ne!(above, ResponseCode::NXDomain, "{parent} above {name}");
        }
    });
}

#[test]
fn owners_are_spelled_like_the_question_and_sections_hold_no_record_twice() {
    check(
        3_000,
        &(names(), select(&TYPES[..])),
        |asker, (name, qtype)| {
            let message = asker.message(&name, qtype);
            let (question, asked) = (wire_name(&name), message.queries[0].name());
            assert_eq!(asker.reply[12..12 + question.len()], question);
            for record in &message.answers {
                // The owner of a literal address is in lower case, as Consul's is.
                let is_literal = name.to_ascii_lowercase().contains("addr");
                assert!(record.name.eq_case(asked) || is_literal, "{name}: {record}");
            }
            let has_no = message.answers.is_empty() && message.metadata.authoritative;
            // Beside the SOA record of the domain stands its name server.
            let has_no = has_no || (qtype == SOA && message.metadata.authoritative);
            assert_eq!(
                message.authorities.len(),
                usize::from(has_no),
                "{name} {qtype}"
            );
            for section in [&message.answers, &message.additionals] {
                let mut words: Vec<_> = section.iter().map(ToString::to_string).collect();
                words.sort();
                words.dedup();
                assert_eq!(words.len(), section.len(), "{name} {qtype}");
            }
        },
    );
}

#[test]
fn every_srv_target_resolves_to_what_the_additional_section_says() {
    check(500, &names(), |asker, name| {
        let message = asker.message(&name, SRV);
        for target in targets(&message.answers).into_iter().take(50) {
            let mut resolved = Vec::new();
            for qtype in [A, AAAA] {
                resolved.extend(asker.message(&target.to_ascii(), qtype).answers);
            }
            assert!(!resolved.is_empty(), "{target} of {name}");
            let glue = message
                .additionals
                .iter()
                .filter(|record| record.name == target);
            let glue: Vec<_> = glue.map(|record| record.data.clone()).collect();
            let is_cut = message.answers.len() > 1_000;
            assert!(is_cut || glue.len() == resolved.len(), "{target} of {name}");
            assert!(
                glue.iter()
                    .all(|data| resolved.iter().any(|record| record.data == *data))
            );
        }
    });
}
