// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that takes nothing, by the errors that a kernel gives: what is served goes on, and each failure is counted.

use super::*;
use crate::{
    clock::TestClock,
    model::{Node, NodeName, Zone},
    store::{Kind, Object, SourceId, StateConfig, Update, Writer, channel, persist::Owner},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::time::Instant;
use tracing::{
    Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A writer that serves one node, a persister that keeps it in the folder, and what stops both.
struct Bench {
    writer: Writer,
    reader: Reader,
    clock: TestClock,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

fn begin(folder: &Path) -> Bench {
    let node = NodeName::parse("edge-a").unwrap();
    let (mut writer, reader) = channel(StateConfig::new(node.clone()));
    let ours = Node::new(node.clone(), Some(Zone::parse("mall-1").unwrap()));
    for object in [Object::OwnNode(ours.clone()), Object::Node(ours)] {
        writer.apply(Update::Upsert(SourceId::Kube, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Kube, kind));
    }
    writer.publish();
    let owner = Owner {
        cluster: "c".into(),
        node,
        zone: None,
    };
    let (ask, mut asked) = mpsc::channel::<Ask>(1);
    tokio::spawn(async move {
        while let Some(answer) = asked.recv().await {
            if let Ask::ForDisk(answer) = answer {
                let _ = answer.send(Vec::new());
            }
        }
    });
    let (metrics, clock) = (
        Arc::new(Metrics::new(reader.clone(), Vec::new())),
        TestClock::default(),
    );
    let stop = CancellationToken::new();
    let persister = Persister {
        shelf: Shelf::new(folder.to_owned(), owner),
        reader: reader.clone(),
        asks: ask,
        sources: Vec::new(),
        metrics: metrics.clone(),
        clock: Arc::new(clock.clone()),
    };
    tokio::spawn(persister.run(stop.clone()));
    Bench {
        writer,
        reader,
        clock,
        metrics,
        stop,
    }
}

impl Bench {
    fn saves(&self, outcome: &str) -> usize {
        let start = format!("zonal_snapshot_saves_total{{outcome=\"{outcome}\"}} ");
        let exposition = self.metrics.expose();
        let value = exposition
            .lines()
            .find_map(|line| line.strip_prefix(&start));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Lets both clocks run second by second until `done`, which takes `limit` at most.
    async fn until(&self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < end, "not within {limit:?}");
            self.clock.advance(Duration::from_secs(1));
            // Paused time stands still while a write is under way.
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f36_a_disk_that_takes_nothing_is_counted_told_once_a_minute_and_tried_again() {
    // The kernel's own errors: no space left (ENOSPC), and a device that fails (EIO).
    for broken in ["/dev/full", "/proc/self/mem"] {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("snapshot.tmp");
        symlink(broken, &temporary).unwrap();
        let warnings = Warnings::default();
        let _guard = tracing::subscriber::set_default(warnings.clone());
        let mut bench = begin(folder.path());
        bench
            .until(Duration::from_secs(190), |bench| bench.saves("failed") >= 7)
            .await;
        let told = warnings.0.load(Relaxed);
        assert!(
            (2..=3).contains(&told),
            "{broken}: {told} lines in about two minutes"
        );
        assert!(!folder.path().join("snapshot").exists(), "{broken}");
        let before = bench.reader.load().generation();
        let second = Node::new(
            NodeName::parse("edge-b").unwrap(),
            Some(Zone::parse("mall-1").unwrap()),
        );
        let joins = Update::Upsert(SourceId::Kube, Object::Node(second));
        bench.writer.apply(joins);
        bench.writer.publish();
        assert!(
            bench.reader.load().generation() > before,
            "{broken}: serving goes on"
        );

        fs::remove_file(&temporary).unwrap();
        bench
            .until(Duration::from_secs(60), |bench| bench.saves("saved") == 1)
            .await;
        assert!(
            folder.path().join("snapshot").exists(),
            "{broken}: what was owed is saved"
        );
        bench.stop.cancel();
    }
}
