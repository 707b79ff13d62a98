// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer's task: applies updates, waits a little for more of a gain and not at all for a loss, publishes.

use crate::{
    clock::Clock,
    source::Batch,
    store::{Change, Coverage, Held, Object, Snapshot, SourceId, Stated, Update, Writer},
    telemetry::Metrics,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// What the writer is asked for.
pub(super) enum Ask {
    /// What has to be on disk.
    ForDisk(oneshot::Sender<Vec<(SourceId, Object)>>),
    /// What another process needs to build the same view.
    ForPeer(oneshot::Sender<Stated>),
}

/// What the task works on.
pub(super) struct Publisher {
    pub(super) writer: Writer,
    pub(super) updates: mpsc::Receiver<Update>,
    /// Statements of another process that has judged them already.
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// A person accepts what is held back.
    pub(super) accepted: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) debounce: Duration,
    /// What the last snapshot held back.
    pub(super) held: Vec<Held>,
}

impl Publisher {
    /// Runs until stopped or until every source is gone; what was received by then is published.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut waiting_since: Option<Instant> = None;
        let mut held_until: Option<Instant> = None;
        loop {
            let release = sleep_until(held_until, &*self.clock);
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
                Some(ask) = self.asks.recv() => self.answer(ask),
                Some(batch) = self.batches.recv() => self.take_batch(batch, &mut waiting_since),
                () = due => self.publish(&mut waiting_since),
                () = release => {}
                () = self.accepted.notified() => self.accept(&mut waiting_since),
                update = self.updates.recv() => match update {
                    Some(update) => self.take(update, &mut waiting_since),
                    None => break,
                },
            }
            let (change, due) = self.writer.tick(self.clock.now());
            held_until = due;
            self.metrics.graced(self.writer.take_grace_counts());
            self.changed(change, &mut waiting_since);
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
        self.changed(change, waiting_since);
    }

    fn answer(&self, ask: Ask) {
        match ask {
            Ask::ForDisk(to) => drop(to.send(self.writer.objects_of_zone())),
            Ask::ForPeer(to) => drop(to.send(self.writer.stated())),
        }
    }

    /// Applies the batch whole and publishes it as one generation. What it takes away is not held back: that was judged
    /// where it comes from.
    fn take_batch(&mut self, batch: Batch, waiting_since: &mut Option<Instant>) {
        if let Some(config) = batch.config {
            self.writer.restart(*config);
        }
        for update in batch.updates {
            self.writer.apply(update);
        }
        self.writer.accept();
        waiting_since.get_or_insert(self.clock.now());
        self.publish(waiting_since);
        let _ = batch.applied.send(());
    }

    fn accept(&mut self, waiting_since: &mut Option<Instant>) {
        tracing::warn!(
            held = self.held.len(),
            "What was held back is accepted by a person"
        );
        let change = self.writer.accept();
        self.changed(change, waiting_since);
    }

    fn changed(&mut self, change: Change, waiting_since: &mut Option<Instant>) {
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
        self.alarm(&snapshot);
    }

    /// Tells a person once of each hold.
    fn alarm(&mut self, snapshot: &Snapshot) {
        let before = std::mem::replace(&mut self.held, snapshot.held().to_vec());
        for held in snapshot.held().iter().filter(|held| !before.contains(held)) {
            let reason = held.reason.as_str();
            tracing::error!(%held, reason, "Mass change held back; see zonal status");
        }
        if !before.is_empty() && self.held.is_empty() {
            tracing::info!("Nothing is held back any more");
        }
    }
}

/// Waits until then; for ever when nothing is due.
async fn sleep_until(due: Option<Instant>, clock: &dyn Clock) {
    match due {
        Some(due) => sleep(due.saturating_duration_since(clock.now())).await,
        None => std::future::pending().await,
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
