// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the last good snapshot on disk: a second after a change, at most every five seconds, and once at the end.

use super::{prepared::facts, publisher::Ask};
use crate::{
    clock::Clock,
    source::SourceStatus,
    store::{Coverage, Generation, Reader, persist::Shelf},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

pub(super) struct Persister {
    pub(super) shelf: Shelf,
    pub(super) reader: Reader,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) sources: Vec<Arc<SourceStatus>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Persister {
    /// Runs until stopped; a change that was not saved yet is saved then.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut saved = Generation::default();
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                changed = self.reader.changed() => changed.is_none(),
            };
            if !stopping {
                // Cancelled early, the save follows at once.
                let _ = stop.run_until_cancelled(sleep(SETTLE)).await;
            }
            let snapshot = self.reader.load();
            if snapshot.coverage() == Coverage::Synced && snapshot.generation() > saved {
                self.save().await;
                saved = snapshot.generation();
            }
            if stopping || stop.is_cancelled() {
                return;
            }
            let _ = stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    async fn save(&self) {
        let (ask, answer) = oneshot::channel();
        if self.asks.send(Ask::ForDisk(ask)).await.is_err() {
            return;
        }
        let Ok(objects) = answer.await else { return };
        let (shelf, facts) = (self.shelf.clone(), facts(&self.sources));
        let now = self.clock.wall();
        let saved = tokio::task::spawn_blocking(move || shelf.save(objects, facts, now)).await;
        match saved {
            Ok(Ok(())) => {
                tracing::debug!(folder = %self.shelf.folder().display(), "Snapshot saved");
            }
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "Snapshot not saved; a restart without a source would serve an older one");
            }
            Err(error) => tracing::error!(%error, "Snapshot not saved"),
        }
    }
}

/// A change is mostly followed by more of its kind.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two writes, for the sake of flash memory.
const PAUSE: Duration = Duration::from_secs(4);
