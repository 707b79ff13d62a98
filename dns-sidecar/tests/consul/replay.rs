// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every recorded case, over real sockets.

use crate::{
    cases::{self, Case},
    fixture,
    message::Message,
    modern, upstream,
};
use dns_sidecar::{
    DnsServer, Profile,
    catalog::{Catalog, InstanceAddress, LanAddresses},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server of the fixture in some variant.
struct Site {
    address: SocketAddr,
    udp: UdpSocket,
    _stop: DropGuard,
}

impl Site {
    async fn start(variant: &str, profile: Profile, catalog: &Catalog) -> Self {
        let config = fixture::config(variant, profile, upstream::start().await);
        let server = DnsServer::bind_catalog(config, catalog, Arc::default()).unwrap();
        let address = server.local_addrs()[0];
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(address).await.unwrap();
        Self {
            address,
            udp,
            _stop: stop.drop_guard(),
        }
    }

    /// The reply; none when there is none.
    async fn ask(&self, case: &Case, id: u16) -> Option<Message> {
        let request = case.request(id);
        let is_silent = case.observed.rcode == "NO-REPLY";
        let patience = Duration::from_secs(if is_silent { 1 } else { 10 });
        if case.is_tcp() {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let length = u16::try_from(request.len()).unwrap();
            stream
                .write_all(&[&length.to_be_bytes()[..], &request].concat())
                .await
                .unwrap();
            let mut reply = vec![
                0;
                timeout(patience, stream.read_u16())
                    .await
                    .ok()?
                    .unwrap()
                    .into()
            ];
            stream.read_exact(&mut reply).await.unwrap();
            return Some(Message::read(&reply));
        }
        self.udp.send(&request).await.unwrap();
        let mut reply = vec![0; 65_535];
        let length = timeout(patience, self.udp.recv(&mut reply))
            .await
            .ok()?
            .unwrap();
        assert_eq!(reply[..2], request[..2], "another id");
        Some(Message::read(&reply[..length]))
    }

    /// Everything in which the case is answered otherwise than it says.
    async fn differences(&self, case: &Case) -> Vec<String> {
        let mut unseen = case.observed.answer.pool.clone();
        let mut firsts = BTreeSet::new();
        // One of 40 is never first in 2,000 draws once in 10^20.
        let times = if case.is_random() { 2_000 } else { 3 };
        for id in 0..times {
            let reply = match (self.ask(case, id).await, case.observed.rcode.as_str()) {
                (None, "NO-REPLY") => return Vec::new(),
                (Some(reply), _) => reply,
                (None, _) => return vec!["no reply".to_owned()],
            };
            let differences = case.differences(&reply);
            if !differences.is_empty() {
                return differences;
            }
            firsts.extend(reply.sections[0].first().cloned());
            unseen.retain(|record| !reply.sections[0].contains(record));
            // All of a choice was seen, in every place: enough.
            if id >= 3
                && unseen.is_empty()
                && (firsts.len() == case.observed.answer.pool.len() || !varies(case))
            {
                return Vec::new();
            }
        }
        let mut differences: Vec<_> = unseen
            .iter()
            .map(|record| format!("never answered {record}"))
            .collect();
        if varies(case) && firsts.len() < case.observed.answer.pool.len() {
            differences.push(format!("only these come first: {firsts:?}"));
        }
        differences
    }
}

/// Whether every record comes first at some time: aliases come first always, and texts after addresses.
fn varies(case: &Case) -> bool {
    let pool = &case.observed.answer.pool;
    case.is_random()
        && !pool
            .iter()
            .any(|record| record.contains(" CNAME ") || record.contains(" TXT "))
}

fn by_variant(cases: &[Case]) -> BTreeMap<&str, Vec<&Case>> {
    let mut variants: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        variants.entry(&case.variant).or_default().push(case);
    }
    variants
}

/// The cases that are answered otherwise, and in what.
async fn replay(profile: Profile, cases: &[Case]) -> Vec<String> {
    let (catalog, _) = fixture::catalog();
    let mut failures = Vec::new();
    for (variant, cases) in by_variant(cases) {
        let site = Site::start(variant, profile, &catalog).await;
        for case in cases {
            let differences = site.differences(case).await;
            if !differences.is_empty() {
                failures.push(format!(
                    "{} ({}, {}): {differences:#?}",
                    case.id, case.class, case.title
                ));
            }
        }
    }
    failures
}

#[tokio::test]
async fn compat_answers_all_178_cases_as_consul_1_8_7() {
    let cases = cases::all();
    assert_eq!(cases.len(), 178);
    let failures = replay(Profile::Compat, &cases).await;
    assert!(
        failures.is_empty(),
        "{} of 178 differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[tokio::test]
async fn modern_answers_all_cases_but_those_of_its_table_as_consul_1_8_7() {
    let all = cases::all();
    let expected: Vec<Case> = all
        .iter()
        .map(|case| modern::expected(case, &all).map_or_else(|| case.clone(), |(case, _)| case))
        .collect();
    let failures = replay(Profile::Modern, &expected).await;
    assert!(
        failures.is_empty(),
        "{} of 178 differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn the_table_of_differences_touches_no_more_core_cases_than_it_says() {
    let all = cases::all();
    let changed: BTreeSet<String> = modern::changed(&all)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let of_class = |class: &str| -> Vec<&str> {
        let cases = all.iter().filter(|case| case.class == class);
        cases
            .map(|case| case.id.as_str())
            .filter(|id| changed.contains(*id))
            .collect()
    };
    assert_eq!(of_class("core"), ["S23", "V08", "N18", "X03", "X04", "T11"]);
    assert_eq!(of_class("edge"), ["S05", "N22", "O05", "E03", "E06", "M09"]);
    let quirks = all.iter().filter(|case| case.class == "quirk").count();
    // U17's limit is set, so that it holds in both.
    assert_eq!((quirks, of_class("quirk").len()), (27, 26));
}

#[tokio::test]
async fn the_cases_of_each_variant_differ_from_the_base_configuration() {
    let (catalog, _) = fixture::catalog();
    let all = cases::all();
    let site = Site::start("base", Profile::Compat, &catalog).await;
    for (variant, cases) in by_variant(&all) {
        // Consul's own switches for what we have not: other datacenters, and asking servers. The one case with a domain inside
        // the other asks a name of the outer one.
        if matches!(variant, "base" | "wan" | "cache" | "overlapdomain") {
            continue;
        }
        let mut differing = 0;
        for case in cases {
            differing += usize::from(!site.differences(case).await.is_empty());
        }
        assert!(
            differing > 0,
            "the cases of {variant} do not tell it from the base"
        );
    }
}

#[tokio::test]
async fn the_cases_of_each_variant_notice_a_changed_catalogue() {
    let (mut catalog, _) = fixture::catalog();
    for service in catalog.services.values_mut() {
        for instance in &mut service.instances {
            instance.address = Some(InstanceAddress::Ip("192.0.2.7".parse().unwrap()));
            instance.lan = LanAddresses::default();
        }
    }
    catalog.nodes.clear();
    catalog.servers.clear();
    for (variant, cases) in by_variant(&cases::all()) {
        let site = Site::start(variant, Profile::Compat, &catalog).await;
        let mut differing = 0;
        for case in &cases {
            differing += usize::from(!site.differences(case).await.is_empty());
        }
        // Where everything is denied, the catalogue makes no difference.
        assert!(
            differing > 0 || variant == "acldeny",
            "the cases of {variant} notice nothing"
        );
    }
}
