// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the snapshot on disk: whose it is, and what of it the writer and the sources begin with.

use super::{RuntimeConfig, prepared::PreparedSource};
use crate::store::{
    SourceId, Update, Writer,
    persist::{Owner, Restored, Shelf, ShelfError},
};
use std::time::SystemTime;

/// The first source names what the disk belongs to: its objects are most of it, and another one may come and go.
pub(super) fn owner(config: &RuntimeConfig, sources: &[PreparedSource]) -> Owner {
    Owner {
        cluster: sources[0].cluster.clone(),
        node: config.node.clone(),
        zone: config.zone.clone(),
    }
}

pub(super) fn load(shelf: &Shelf) -> Option<Restored> {
    match shelf.load() {
        Ok(restored) => return Some(restored),
        Err(ShelfError::Missing { .. }) => tracing::info!("No snapshot on disk yet"),
        Err(error) => tracing::warn!(%error, "Snapshot on disk refused"),
    }
    None
}

/// Serves from disk until a source has spoken. What a source stated that is none any more is passed over; the others go on
/// where they ended.
pub(super) fn restore(
    restored: &Restored,
    sources: Vec<PreparedSource>,
    writer: &mut Writer,
    now: SystemTime,
) -> Vec<PreparedSource> {
    let is_source = |id: SourceId| sources.iter().any(|source| source.status.source() == id);
    for update in &restored.updates {
        match update {
            Update::Upsert(source, _) if !is_source(*source) => {}
            update => drop(writer.apply(update.clone())),
        }
    }
    writer.publish();
    let recall = |source: PreparedSource| {
        let id = source.status.source();
        match restored.facts.get(&id).zip(restored.age(id, now)) {
            Some((facts, age)) => source.recall(facts, age),
            None => source,
        }
    };
    tracing::info!(
        age_seconds = restored.saved_age(now).as_secs(),
        passed_over = restored.passed_over,
        "Serving from the snapshot on disk"
    );
    sources.into_iter().map(recall).collect()
}
