// SPDX-License-Identifier: MIT OR Apache-2.0
//! One pick, beside those of hashring, pingora-load-balancing and tower, in one run.
//!
//! Ours includes the snapshot read, the key's hash, the health check, the load bound and the accounting in flight; so do the
//! rivals' as far as they have it: pingora has hash and health, hashring hash alone, tower's p2c the accounting.

use benches::{address, keys, published};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use discovery_core::{
    hash::HashKey,
    pick::{Bound, Picker},
};
use hashring::HashRing;
use pingora_load_balancing::{Backends, LoadBalancer, discovery, selection::Consistent};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    hint::black_box,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};
use tower::{
    Service,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
    service_fn,
};

const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];

fn keyed(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("keyed");
    for count in COUNTS {
        let (_writer, reader) = published(count);
        let mut picker =
            Picker::new(reader, "web".parse().expect("a valid name")).bound(Bound::new(150, 8));
        let mut next = (0..keys.len()).cycle();
        group.bench_function(BenchmarkId::new("zonal", count), |b| {
            b.iter(|| {
                let key = &keys[next.next().unwrap_or(0)];
                let pick = picker
                    .keyed(HashKey::of(black_box(key)))
                    .expect("endpoints are usable");
                black_box(pick.socket(None))
            });
        });
        let pingora = pingora(count);
        group.bench_function(BenchmarkId::new("pingora", count), |b| {
            b.iter(|| {
                let key = &keys[next.next().unwrap_or(0)];
                black_box(pingora.select(black_box(key), 256))
            });
        });
        let ring = hashring(count);
        group.bench_function(BenchmarkId::new("hashring", count), |b| {
            b.iter(|| {
                let key = &keys[next.next().unwrap_or(0)];
                black_box(ring.get(black_box(key)))
            });
        });
    }
    group.finish();
}

fn second_candidate(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("second-candidate");
    for count in COUNTS {
        let (_writer, reader) = published(count);
        let mut picker = Picker::new(reader, "web".parse().expect("a valid name"));
        let mut next = (0..keys.len()).cycle();
        group.bench_function(BenchmarkId::new("zonal", count), |b| {
            b.iter(|| {
                let key = HashKey::of(black_box(&keys[next.next().unwrap_or(0)]));
                let [_, second] = picker.first(key).expect("endpoints are usable");
                black_box(second.expect("so is a second").socket(None))
            });
        });
        group.bench_function(BenchmarkId::new("zonal-iterator", count), |b| {
            b.iter(|| {
                let key = HashKey::of(black_box(&keys[next.next().unwrap_or(0)]));
                let mut candidates = picker.candidates(key).expect("endpoints are usable");
                let second = candidates.nth(1).expect("so is a second");
                black_box(second.socket(None))
            });
        });
        let ring = hashring(count);
        group.bench_function(BenchmarkId::new("hashring", count), |b| {
            b.iter(|| black_box(ring.get_with_replicas(&keys[next.next().unwrap_or(0)], 1)));
        });
    }
    group.finish();
}

fn p2c(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("p2c");
    for count in COUNTS {
        let (_writer, reader) = published(count);
        let mut picker = Picker::new(reader, "web".parse().expect("a valid name"));
        group.bench_function(BenchmarkId::new("zonal", count), |b| {
            b.iter(|| black_box(picker.any().expect("endpoints are usable").socket(None)));
        });
        let services = (0..count).map(|i| {
            let ready = service_fn(move |(): ()| std::future::ready(Ok::<_, Infallible>(i)));
            PendingRequests::new(ready, CompleteOnResponse::default())
        });
        let mut balance = Balance::new(ServiceList::new(services));
        let mut context = Context::from_waker(Waker::noop());
        // The first poll takes all endpoints in.
        while !matches!(balance.poll_ready(&mut context), Poll::Ready(Ok(()))) {}
        group.bench_function(BenchmarkId::new("tower", count), |b| {
            b.iter(|| {
                let ready = balance.poll_ready(&mut context);
                assert!(matches!(ready, Poll::Ready(Ok(()))));
                drop(black_box(balance.call(())));
            });
        });
    }
    group.finish();
}

fn pingora(count: usize) -> LoadBalancer<Consistent> {
    let backends = (0..count).map(|i| {
        let address = SocketAddr::new(address(i).into(), 8080).to_string();
        pingora_load_balancing::Backend::new(&address).expect("a valid address")
    });
    let backends = Backends::new(discovery::Static::new(backends.collect::<BTreeSet<_>>()));
    let balancer = LoadBalancer::from_backends(backends);
    futures::executor::block_on(balancer.update()).expect("a static list updates");
    balancer
}

fn hashring(count: usize) -> HashRing<(u32, u32)> {
    let mut ring = HashRing::new();
    let vnodes = (0..count).flat_map(|i| (0..160).map(move |j| (u32::from(address(i)), j)));
    ring.batch_add(vnodes.collect());
    ring
}

criterion_group!(benches, keyed, second_candidate, p2c);
criterion_main!(benches);
