// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second responder, as naive as can be: every name of the mall is written down with its records, and a question is a
//! look-up in that list. The responder under test prepares records and reads names; both must say the same.

use crate::{
    asker::Asker,
    mall::Mall,
    packet::{A, AAAA, ANY, SRV, TXT, decode, query, query_edns},
};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::Config;
use hickory_proto::op::ResponseCode;
use std::collections::{BTreeMap, BTreeSet};

/// Names in lower case, with types and data.
#[derive(Default)]
struct Oracle(BTreeMap<String, BTreeSet<(u16, String)>>);

/// An instance: its address, port and SRV target.
type Instance = (&'static str, u16, &'static str);

impl Oracle {
    fn of_the_mall() -> Self {
        let mut oracle = Self::default();
        let web = |port: u16| {
            [
                ("10.1.0.1", port, "0a010001.addr"),
                ("10.1.0.2", port, "0a010002.addr"),
                ("10.1.0.3", port, "0a010003.addr"),
                ("fd00:1::1", port, "fd000001000000000000000000000001.addr"),
            ]
        };
        // Of several ports the first is the service's.
        for name in ["web", "web-default"] {
            oracle.service(name, &[("http", &web(8080)), ("admin", &web(9000))]);
        }
        let names = [("10.1.0.9", 53, "0a010009.addr")];
        oracle.service("names-infra", &[("udp", &names)]);
        let hosts = [
            ("10.0.0.1", 8080, "edge-a.node"),
            ("10.0.0.2", 8080, "edge-b.rack.lan.node"),
        ];
        oracle.service("host-shop", &[("http", &hosts)]);
        for zone in ["", ".mall-1", ".mall-1.dc"] {
            oracle.addresses(
                &format!("edge-a.node{zone}.consul"),
                &["10.0.0.1", "fd00::1"],
            );
            oracle.addresses(&format!("edge-b.rack.lan.node{zone}.consul"), &["10.0.0.2"]);
            for (hex, address) in [
                ("0a010001", "10.1.0.1"),
                ("7f000001", "127.0.0.1"),
                ("fd000001000000000000000000000001", "fd00:1::1"),
            ] {
                oracle.addresses(&format!("{hex}.addr{zone}.consul"), &[address]);
            }
        }
        oracle
    }

    fn addresses(&mut self, name: &str, addresses: &[&str]) {
        let records = self.0.entry(name.to_owned()).or_default();
        for address in addresses {
            let rtype = if address.contains(':') { AAAA } else { A };
            records.insert((rtype, (*address).to_owned()));
        }
    }

    /// Every form of the names of a service; the first port is its own.
    fn service(&mut self, name: &str, ports: &[(&str, &[Instance])]) {
        let (_, own) = ports[0];
        for zone in ["", ".mall-1", ".mall-1.dc"] {
            self.instances(&format!("{name}.service{zone}.consul"), own);
            // `_tcp` chooses nothing, whatever the ports are.
            self.instances(&format!("_{name}._tcp.service{zone}.consul"), own);
            self.targets(&format!("_{name}._tcp{zone}.consul"), own);
            for (port, instances) in ports {
                self.instances(&format!("{port}.{name}.service{zone}.consul"), instances);
                self.instances(&format!("_{name}._{port}.service{zone}.consul"), instances);
                self.targets(&format!("_{name}._{port}{zone}.consul"), instances);
            }
        }
    }

    fn instances(&mut self, name: &str, instances: &[Instance]) {
        let addresses: Vec<_> = instances.iter().map(|(address, ..)| *address).collect();
        self.addresses(name, &addresses);
        self.targets(name, instances);
    }

    fn targets(&mut self, name: &str, instances: &[Instance]) {
        let records = self.0.entry(name.to_owned()).or_default();
        for (_, port, target) in instances {
            records.insert((SRV, format!("1 1 {port} {target}.mall-1.consul.")));
        }
    }

    /// The code and the records that a question over TCP gets.
    fn answer(&self, name: &str, qtype: u16) -> (ResponseCode, BTreeSet<(u16, String)>) {
        let name = name.to_lowercase();
        let is_above = |known: &&String| known.ends_with(&format!(".{name}"));
        match self.0.get(&name) {
            Some(records) => {
                let of_type = records
                    .iter()
                    .filter(|(rtype, _)| qtype == *rtype || (qtype == ANY && *rtype != SRV));
                (ResponseCode::NoError, of_type.cloned().collect())
            }
            None if is_place_of_a_tag(&name) || self.0.keys().any(|known| is_above(&known)) => {
                (ResponseCode::NoError, BTreeSet::new())
            }
            None => (ResponseCode::NXDomain, BTreeSet::new()),
        }
    }
}

/// Whether services may stand below it: `_<tag>` is there for every tag, known or not, since a "no" here would be one about
/// all that stands below.
fn is_place_of_a_tag(name: &str) -> bool {
    let place = name.strip_prefix('_').and_then(|name| name.split_once('.'));
    let Some((_, place)) = place else {
        return false;
    };
    let place = place.strip_prefix("service.").unwrap_or(place);
    matches!(place, "consul" | "mall-1.consul" | "mall-1.dc.consul")
}

/// A name of the list, whole or with some labels changed, in any case.
fn any_name(known: &[&String], labels: &[&str], random: &mut fastrand::Rng) -> String {
    let name = known[random.usize(..known.len())];
    let mut name: Vec<&str> = name.split('.').collect();
    // The domain stays: names of others are refused.
    for _ in 0..random.usize(..3) {
        let at = random.usize(..name.len() - 1);
        match random.u8(..3) {
            0 => name[at] = labels[random.usize(..labels.len())],
            1 => name.insert(at, labels[random.usize(..labels.len())]),
            _ if name.len() > 3 => {
                name.remove(at);
            }
            _ => {}
        }
    }
    let in_case = |c: char| {
        if random.bool() {
            c.to_ascii_uppercase()
        } else {
            c
        }
    };
    name.join(".").chars().map(in_case).collect()
}

#[test]
fn r5_a_naive_second_responder_says_the_same_to_every_question() {
    let oracle = Oracle::of_the_mall();
    let known: Vec<_> = oracle.0.keys().collect();
    let labels: BTreeSet<&str> = known.iter().flat_map(|name| name.split('.')).collect();
    let labels: Vec<_> = labels.into_iter().collect();
    let config = Config::default().max_udp_payload(4096).unwrap();
    let mut asker = Asker::configured(&mut Mall::open(), &config);
    let questions: u32 =
        std::env::var("ZONAL_DNS_QUESTIONS").map_or(100_000, |count| count.parse().unwrap());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut found, mut cut) = (0, 0);
    for _ in 0..questions {
        let name = any_name(&known, &labels, &mut random);
        let qtype = random.choice([A, A, AAAA, SRV, ANY, TXT, 65]).unwrap();
        let (code, expected) = oracle.answer(&name, qtype);
        let (request, transport) = match random.u8(..3) {
            0 => (query(&name, qtype), DnsTransport::Udp),
            1 => (query_edns(&name, qtype, 1232), DnsTransport::Udp),
            _ => (query(&name, qtype), DnsTransport::Tcp),
        };
        let (_, reply) = asker.send(&request, transport);
        let message = decode(&reply);
        let records = message.answers.iter();
        let said = records.map(|record| (record.record_type().into(), record.data.to_string()));
        let said: BTreeSet<(u16, String)> = said.collect();
        assert_eq!(message.metadata.response_code, code, "{name} {qtype}");
        assert_eq!(
            said.len(),
            message.answers.len(),
            "{name} {qtype}: no record twice"
        );
        // Over UDP less may be said: what fits, and of two families one (RFC 8482).
        let is_whole =
            transport == DnsTransport::Tcp || !(message.metadata.truncation || qtype == ANY);
        if is_whole {
            assert_eq!(said, expected, "{name} {qtype}");
        } else {
            assert!(said.is_subset(&expected), "{name} {qtype}");
            assert_eq!(said.is_empty(), expected.is_empty(), "{name} {qtype}");
        }
        found += u32::from(!said.is_empty());
        cut += u32::from(!is_whole);
    }
    assert!(
        found > questions / 8 && cut > questions / 100,
        "{found}, {cut}"
    );
}
