// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes an index of each new snapshot, beside the questions and never within one.

use crate::{Index, IndexBuilder, Unnamed};
use arc_swap::ArcSwap;
use discovery_core::{runtime::Need, source::SourceStatus, store::Reader};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Makes an index of each new snapshot.
pub(super) struct Publisher {
    pub(super) builder: IndexBuilder,
    pub(super) reader: Reader,
    pub(super) sources: Vec<Arc<SourceStatus>>,
    /// Told whether the index in force can answer.
    pub(super) need: Option<Need>,
    pub(super) stale_after: Duration,
    pub(super) is_compat: bool,
    pub(super) told: HashSet<Unnamed>,
    /// Told of each index that came into force.
    pub(super) published: watch::Sender<()>,
}

impl Publisher {
    pub(super) async fn run(mut self, index: Arc<ArcSwap<Index>>, stop: CancellationToken) {
        // The last two are held, so that an index is freed here and not by a worker within a question.
        let mut newest_two = [index.load_full(), index.load_full()];
        self.tell_unnamed(&newest_two[1]);
        let mut ticks = tokio::time::interval(FRESHNESS_EVERY);
        let mut has_writer = true;
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.builder.freshness().note(&self.sources, self.stale_after);
                    continue;
                }
                changed = self.reader.changed(), if has_writer => changed,
            };
            let Some(snapshot) = changed else {
                // Without a writer there is nothing new to say, and the last index stays true.
                has_writer = false;
                continue;
            };
            let made = self.builder.build(&snapshot);
            let next = Arc::new(self.dated(made));
            index.store(next.clone());
            self.published.send_replace(());
            if let Some(need) = &self.need {
                need.set(next.is_ready());
            }
            self.tell_unnamed(&next);
            newest_two.rotate_left(1);
            newest_two[1] = next;
        }
    }

    /// Consul's serial is the time.
    fn dated(&self, index: Index) -> Index {
        if !self.is_compat {
            return index;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        index.with_serial(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Each service without a name is told once, and again only after it had one.
    fn tell_unnamed(&mut self, index: &Index) {
        for unnamed in index
            .unnamed()
            .iter()
            .filter(|unnamed| !self.told.contains(unnamed))
        {
            tracing::warn!(reason = %unnamed, "Service has no DNS name");
        }
        self.told = index.unnamed().iter().cloned().collect();
    }
}

/// How often the age of the answers is noted.
const FRESHNESS_EVERY: Duration = Duration::from_secs(1);
