// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a changed slice to the visible snapshot: one endpoint of a service gone and back again, or
//! replaced by a new pod.
//!
//! The rival in the same run is the ring built anew, which is what a full sort costs.

use benches::{published, slice};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use discovery_core::{
    hash::Ring,
    store::{Object, SourceId, Update},
};
use std::hint::black_box;

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish-one-change");
    for count in [100, 1_000] {
        let (mut writer, _reader) = published(count);
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

criterion_group!(benches, publish);
criterion_main!(benches);
