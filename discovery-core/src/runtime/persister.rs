// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the last good snapshot on disk: a second after a change, at most every five seconds, and once at the end. A disk
//! that takes nothing is counted, told once a minute and tried again; what is served does not know of it.

use super::{prepared::facts, publisher::Ask};
use crate::{
    clock::Clock,
    source::SourceStatus,
    store::{
        Coverage, Generation, Reader,
        persist::{Shelf, ShelfError},
    },
    telemetry::Metrics,
};
use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};
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
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Persister {
    /// Runs until stopped; a change that was not saved yet is saved then.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut saved = Generation::default();
        let mut is_owed = false;
        let mut told_at = None;
        loop {
            let stopping = if is_owed {
                stop.run_until_cancelled(sleep(RETRY)).await.is_none()
            } else {
                tokio::select! {
                    () = stop.cancelled() => true,
                    changed = self.reader.changed() => changed.is_none(),
                }
            };
            if !stopping {
                // Cancelled early, the save follows at once.
                let _ = stop.run_until_cancelled(sleep(SETTLE)).await;
            }
            let snapshot = self.reader.load();
            if snapshot.coverage() == Coverage::Synced && snapshot.generation() > saved {
                let outcome = self.save().await;
                self.metrics.snapshot_saved(outcome.is_ok());
                is_owed = outcome.is_err();
                match outcome {
                    Ok(()) => saved = snapshot.generation(),
                    Err(error) => self.tell(&error, &mut told_at),
                }
            }
            if stopping || stop.is_cancelled() {
                return;
            }
            let _ = stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    async fn save(&self) -> Result<(), SaveError> {
        let (ask, answer) = oneshot::channel();
        self.asks
            .send(Ask::ForDisk(ask))
            .await
            .map_err(|_| SaveError::Ended)?;
        let objects = answer.await.map_err(|_| SaveError::Ended)?;
        let (shelf, facts) = (self.shelf.clone(), facts(&self.sources));
        let now = self.clock.wall();
        let saving = tokio::task::spawn_blocking(move || shelf.save(objects, facts, now));
        saving.await.map_err(|_| SaveError::Ended)??;
        tracing::debug!(folder = %self.shelf.folder().display(), "Snapshot saved");
        Ok(())
    }

    fn tell(&self, error: &SaveError, told_at: &mut Option<Instant>) {
        let now = self.clock.now();
        if told_at.is_some_and(|told_at| now - told_at < TELL_AGAIN) {
            return;
        }
        *told_at = Some(now);
        let cause = error.source().map(ToString::to_string);
        tracing::warn!(%error, cause, "Snapshot not saved; a restart without a source would serve an older one");
    }
}

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    /// The folder or file could not be written.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The process is ending, or the task that writes broke.
    #[error("the writer ended")]
    Ended,
}

/// A change is mostly followed by more of its kind.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two writes, for the sake of flash memory.
const PAUSE: Duration = Duration::from_secs(4);
/// After a write that failed: disks fill for longer than that, and each try costs the same as a write.
const RETRY: Duration = Duration::from_secs(15);
/// A log on the same full disk is no place for more.
const TELL_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
