// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer's task: applies updates, waits a little for more of a gain and not at all for a loss, publishes.

use crate::{
    clock::Clock,
    store::{Change, Coverage, Object, Snapshot, SourceId, Update, Writer},
    telemetry::Metrics,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Asks the writer for what has to be on disk.
pub(super) type SaveRequest = oneshot::Sender<Vec<(SourceId, Object)>>;

/// What the task works on.
pub(super) struct Publisher {
    pub(super) writer: Writer,
    pub(super) updates: mpsc::Receiver<Update>,
    pub(super) saves: mpsc::Receiver<SaveRequest>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) debounce: Duration,
}

impl Publisher {
    /// Runs until stopped or until every source is gone; what was received by then is published.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut waiting_since: Option<Instant> = None;
        loop {
            let due = async {
                match waiting_since {
                    Some(since) => {
                        sleep(self.debounce.saturating_sub(self.clock.now() - since)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(save) = self.saves.recv() => drop(save.send(self.writer.objects_of_zone())),
                () = due => self.publish(&mut waiting_since),
                update = self.updates.recv() => match update {
                    Some(update) => self.take(update, &mut waiting_since),
                    None => break,
                },
            }
        }
        if waiting_since.is_some() {
            self.publish(&mut waiting_since);
        }
    }

    /// Applies the update and those that already wait behind it, so that one burst is one generation.
    fn take(&mut self, update: Update, waiting_since: &mut Option<Instant>) {
        let mut change = self.writer.apply(update);
        for _ in 0..BATCH_MAX {
            let Ok(update) = self.updates.try_recv() else {
                break;
            };
            change = change.max(self.writer.apply(update));
        }
        if change != Change::Nothing && waiting_since.is_none() {
            *waiting_since = Some(self.clock.now());
        }
        if change == Change::Lost {
            self.publish(waiting_since);
        }
    }

    fn publish(&mut self, waiting_since: &mut Option<Instant>) {
        let since = waiting_since.take();
        let Some(snapshot) = self.writer.publish() else {
            return;
        };
        if let Some(since) = since {
            self.metrics.propagated(self.clock.now() - since);
        }
        log(&snapshot);
    }
}

fn log(snapshot: &Snapshot) {
    let services = snapshot.services().count();
    let endpoints: usize = snapshot.services().map(|view| view.usable().count()).sum();
    let generation = snapshot.generation().0;
    if snapshot.coverage() == Coverage::Partial || snapshot.zone().zone().is_none() {
        tracing::info!(generation, zone = %snapshot.zone(), missing = ?snapshot.missing(), "Nothing served yet");
    } else {
        tracing::info!(generation, zone = %snapshot.zone(), services, endpoints, "Snapshot published");
    }
}

/// Updates applied before the task looks at anything else: a list of a zone fits.
const BATCH_MAX: usize = 4_096;
