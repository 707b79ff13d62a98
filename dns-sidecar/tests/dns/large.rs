// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services with thousands of endpoints.

use crate::{
    mall::{HTTP, Mall},
    packet::{SRV, decode, query},
};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::{Config, IndexBuilder, Responder, Verdict};
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [10, 100, 1_000, 5_000];

fn mall() -> Mall {
    let mut mall = Mall::empty();
    for size in SIZES {
        let service = format!("shop/of-{size}");
        mall.service(&service, &[HTTP]);
        let pods: Vec<_> = (0..size)
            .map(|at| {
                (
                    format!("pod-{at}"),
                    format!("10.{}.{}.{}", size % 251, at / 250, 1 + at % 250),
                )
            })
            .collect();
        for (slice, pods) in pods.chunks(100).enumerate() {
            let listed: Vec<_> = pods
                .iter()
                .map(|(pod, address)| (pod.as_str(), "edge-a", address.as_str()))
                .collect();
            mall.endpoints(&service, &slice.to_string(), &[HTTP], &listed);
        }
    }
    mall.writer.publish();
    mall
}

/// A Consul-style answer compresses names against all that stand before; done by looking through them, its time grows with the
/// square of the endpoints (RUSTSEC-2026-0119).
#[test]
fn l2b_an_srv_answer_takes_no_more_time_than_in_proportion_to_its_endpoints() {
    let (config, mall) = (Config::default(), mall());
    let index = IndexBuilder::new(&config).build(&mall.reader.load());
    let mut responder = Responder::with_seed(&config, 1);
    let mut reply = Vec::new();
    let mut measure = || {
        SIZES.map(|size| {
            let request = query(&format!("of-{size}-shop.service.consul"), SRV);
            // The least of many: what other work on the machine does is not ours.
            let least = (0..200).map(|_| {
                let began = Instant::now();
                let verdict = responder.answer(&index, &request, DnsTransport::Tcp, &mut reply);
                let took = began.elapsed();
                assert!(matches!(verdict, Verdict::Answered(_)));
                took
            });
            let least = least.min().unwrap();
            let answers = decode(&reply).answers.len();
            println!("{size} endpoints: {answers} SRV records in {least:?}");
            assert!(answers >= size.min(500), "{size}");
            least
        })
    };
    let is_in_proportion = |took: [Duration; SIZES.len()]| {
        let limit = |size: usize| took[0] * u32::try_from(size / SIZES[0]).unwrap() * 3 / 2;
        SIZES
            .into_iter()
            .zip(took)
            .all(|(size, took)| took <= limit(size))
    };
    assert!((0..TRIES).any(|_| is_in_proportion(measure())));
}

/// A thousand endpoints take three quarters of the limit, which a busy machine may eat up once.
const TRIES: usize = 5;
