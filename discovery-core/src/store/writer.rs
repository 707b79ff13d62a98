// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one writer: it owns the state and publishes; it cannot be cloned.

use super::{
    Change, Generation, GraceCounts, Object, Reader, Snapshot, SourceId, State, StateConfig,
    Stated, Update,
};
use crate::sync::ArcSwap;
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

/// Makes the writer of a new, empty state and a first reader of what it publishes.
///
/// ```
/// use discovery_core::{model::NodeName, store::{StateConfig, channel}};
///
/// let (_writer, mut reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// assert!(!reader.snapshot().is_authoritative(), "nothing was read yet");
/// ```
pub fn channel(config: StateConfig) -> (Writer, Reader) {
    let newest = Arc::new(Snapshot::empty());
    let shared = Arc::new(ArcSwap::new(newest.clone()));
    let (generations, told) = watch::channel(newest.generation());
    let reader = Reader::new(shared.clone(), told);
    (
        Writer {
            state: State::new(config),
            shared,
            generations,
            before: newest.clone(),
            newest,
        },
        reader,
    )
}

/// The only handle that can change what readers see.
#[derive(Debug)]
pub struct Writer {
    state: State,
    shared: Arc<ArcSwap<Snapshot>>,
    /// Wakes those who wait; readers never look at it to read.
    generations: watch::Sender<Generation>,
    newest: Arc<Snapshot>,
    /// Kept so that a snapshot is freed here, one publication later, and not by a reader inside a request.
    before: Arc<Snapshot>,
}

impl Writer {
    /// Takes one statement in; readers see nothing of it before [`Writer::publish`].
    pub fn apply(&mut self, update: Update) -> Change {
        self.state.apply(update)
    }

    /// Gives up what was held back for long enough, and says when to be called next.
    pub fn tick(&mut self, now: Instant) -> (Change, Option<Instant>) {
        (self.state.tick(now), self.state.due())
    }

    /// Gives up everything that is held back, because a person says that the sources are right.
    pub fn accept(&mut self) -> Change {
        self.state.accept()
    }

    /// Publishes what the updates since the last call changed, in one atomic store; none when nothing differs.
    pub fn publish(&mut self) -> Option<Arc<Snapshot>> {
        let next = Arc::new(self.state.snapshot(&self.newest)?);
        self.shared.store(next.clone());
        self.generations.send_replace(next.generation());
        self.before = std::mem::replace(&mut self.newest, next.clone());
        Some(next)
    }

    /// What has to be on disk to serve again without any source, each object with the source that states it.
    pub fn objects_of_zone(&self) -> Vec<(SourceId, Object)> {
        self.state.objects_of_zone()
    }

    /// What has become of the endpoints that left a slice while they were ready, since the last call
    /// ([`StateConfig::grace`]).
    pub fn take_grace_counts(&mut self) -> GraceCounts {
        self.state.take_grace_counts()
    }

    /// Everything that makes the view of the zone.
    pub fn stated(&self) -> Stated {
        self.state.stated()
    }

    /// Begins anew with another configuration: everything has to be stated again, and what is published stays until then.
    pub fn restart(&mut self, config: StateConfig) {
        self.state = State::anew(config);
    }
}
