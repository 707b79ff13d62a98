// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the snapshot on disk: whose it is, and what of it the writer and the sources begin with.

use super::{RuntimeConfig, prepared::PreparedSource};
use crate::store::{
    SourceId, Update, Writer,
    persist::{Owner, Restored, Shelf, ShelfError},
};
use std::{path::PathBuf, time::SystemTime};

/// The shelf of these sources: the UID of the first one's cluster goes before its name.
pub(super) fn shelf(folder: PathBuf, config: &RuntimeConfig, sources: &[PreparedSource]) -> Shelf {
    let first = sources.first().filter(|source| source.tells_cluster());
    let first = first.map(|source| source.status.source());
    Shelf::new(folder, owner(config, sources)).vouched_by(first)
}

/// The first source names what the disk belongs to: its objects are most of it, and another one may come and go.
fn owner(config: &RuntimeConfig, sources: &[PreparedSource]) -> Owner {
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
            Some((facts, age)) => source.recall(facts, age, restored.other_name.is_none()),
            None => source,
        }
    };
    tracing::info!(
        age_seconds = restored.saved_age(now).as_secs(),
        passed_over = restored.passed_over,
        was_named = restored.other_name,
        "Serving from the snapshot on disk"
    );
    sources.into_iter().map(recall).collect()
}
