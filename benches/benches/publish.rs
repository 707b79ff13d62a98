// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a changed slice to the visible snapshot: one endpoint of a service gone and back again, replaced by a new pod, or
//! unready and ready again among thousands of other zones.
//!
//! The rival in the same run is the ring built anew, which is what a full sort costs.
//!
//! `callgrind` counts what a flip costs on a machine that has other work, too: `BENCH --bench --profile-time 1
//! publish-own-flip/zonal/` under `valgrind --tool=callgrind --toggle-collect='*flip_once*'`, built with
//! `CARGO_PROFILE_BENCH_STRIP=none`.

use benches::{CROWD, flipped, published, published_crowd, slice};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use discovery_core::{
    hash::Ring,
    pick::Picker,
    store::{Object, SourceId, Update, Writer},
};
use std::hint::black_box;

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish-one-change");
    for count in [100, 1_000] {
        let (mut writer, reader) = published(count);
        // Somebody picks by key: else no ring would be built.
        let _picker = Picker::new(reader, "web".parse().expect("a valid name"));
        let whole = slice(count);
        let mut without = whole.clone();
        without.endpoints.remove(count / 2);
        let mut states = [without, whole].into_iter().cycle();
        group.bench_function(BenchmarkId::new("zonal", count), |b| {
            b.iter_batched(
                || {
                    Update::Upsert(
                        SourceId::Manifest,
                        Object::Slice(states.next().expect("a cycle goes on")),
                    )
                },
                |update| {
                    writer.apply(update);
                    black_box(writer.publish().expect("a change is published"))
                },
                BatchSize::SmallInput,
            );
        });
        let mut replaced = slice(count);
        let mut number = 0_u32;
        group.bench_function(BenchmarkId::new("zonal-pod-replaced", count), |b| {
            b.iter_batched(
                || {
                    number += 1;
                    let pod = replaced.endpoints[count / 2].target.as_mut();
                    pod.expect("pods have names").name = format!("web-new-{number}").into();
                    Update::Upsert(SourceId::Manifest, Object::Slice(replaced.clone()))
                },
                |update| {
                    writer.apply(update);
                    black_box(writer.publish().expect("a change is published"))
                },
                BatchSize::SmallInput,
            );
        });
        let identities: Vec<_> = (0..count).map(|i| format!("web-{i:05}")).collect();
        group.bench_function(BenchmarkId::new("ring-built-anew", count), |b| {
            b.iter(|| black_box(Ring::build(&identities)));
        });
    }
    group.finish();
}

/// A pod of our zone, of which there are ten among 5,000, turns unready and ready again; and so that each of the 5,000 has to be
/// looked at.
fn own_flip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish-own-flip");
    for (name, replaces) in [("zonal", false), ("zonal-and-a-far-pod-replaced", true)] {
        let (mut writer, reader) = published_crowd();
        let _picker = Picker::new(reader, "web".parse().expect("a valid name"));
        let mut number = 0;
        group.bench_function(BenchmarkId::new(name, CROWD), |b| {
            b.iter_batched(
                || {
                    number += 1;
                    Update::Upsert(SourceId::Kube, Object::Slice(flipped(number, replaces)))
                },
                |update| flip_once(&mut writer, update),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

#[inline(never)]
fn flip_once(writer: &mut Writer, update: Update) {
    writer.apply(update);
    black_box(writer.publish().expect("a change is published"));
}

criterion_group!(benches, publish, own_flip);
criterion_main!(benches);
