// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers under a writer that publishes a thousand times a second: what a pick costs the slowest of 2 and of 16 threads,
//! beside one that is alone.
//!
//! In time on the CPU, from `/proc/thread-self/schedstat`: more threads than cores wait for one another, and that is the
//! scheduler's business.

use benches::{published, slice};
use discovery_core::{
    hash::HashKey,
    pick::Picker,
    store::{Object, Reader, SourceId, Update},
};
use std::{
    fs,
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

fn main() {
    println!(
        "| readers | writer | ns a pick, slowest | against alone |\n| --- | --- | --- | --- |"
    );
    let alone = median(|| slowest(1, false));
    println!("| 1 | none | {alone:.1} | 1.0 |");
    for readers in [2, 16] {
        let under = median(|| slowest(readers, true));
        println!("| {readers} | 1 kHz | {under:.1} | {:.2} |", under / alone);
    }
}

fn median(measure: impl Fn() -> f64) -> f64 {
    let mut runs: Vec<f64> = (0..5).map(|_| measure()).collect();
    runs.sort_by(f64::total_cmp);
    runs[2]
}

/// The cost of a keyed pick in the slowest of the readers, over 0.8 s.
fn slowest(readers: usize, is_writing: bool) -> f64 {
    let (mut writer, reader) = published(100);
    let (stop, start) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Barrier::new(readers + 1)),
    );
    let threads: Vec<_> = (0..readers)
        .map(|number| {
            let (reader, stop, start) = (reader.clone(), stop.clone(), start.clone());
            thread::spawn(move || read(reader, number as u64, &stop, &start))
        })
        .collect();
    start.wait();
    let end = Instant::now() + Duration::from_millis(800);
    let whole = slice(100);
    let mut without = whole.clone();
    without.endpoints.remove(50);
    let mut next = Instant::now();
    for state in [without, whole].into_iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        next += Duration::from_millis(1);
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
        if is_writing {
            writer.apply(Update::Upsert(SourceId::Manifest, Object::Slice(state)));
            writer.publish();
        }
    }
    stop.store(true, Relaxed);
    let costs = threads
        .into_iter()
        .map(|thread| thread.join().expect("a reader does not panic"));
    costs.fold(0.0, f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn read(reader: Reader, number: u64, stop: &AtomicBool, start: &Barrier) -> f64 {
    let mut picker = Picker::new(reader, "web".parse().expect("a valid name"));
    let (mut key, mut picks) = (number << 32, 0_u64);
    start.wait();
    let began = on_cpu();
    while !stop.load(Relaxed) {
        for _ in 0..1_000 {
            key += 1;
            let pick = picker.keyed(HashKey::of(&key.to_le_bytes()));
            black_box(pick.expect("endpoints are usable").socket(None));
        }
        picks += 1_000;
    }
    (on_cpu() - began) as f64 / picks as f64
}

/// Nanoseconds that this thread was on a CPU.
fn on_cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    let first = text.split_whitespace().next().expect("three numbers");
    first.parse().expect("a number")
}
