// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writer, readers and what is counted; of states, snapshots and endpoints as much as those name.

#[path = "../../../src/store/load.rs"]
mod load;
#[path = "../../../src/store/reader.rs"]
mod reader;
#[path = "../../../src/store/writer.rs"]
mod writer;

pub(crate) use load::*;
pub use reader::Reader;
use std::{sync::Arc, time::Instant};
pub use writer::{Writer, channel};

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Generation(pub u64);

/// The number twice: whoever reads it whole reads it twice.
#[derive(Debug)]
pub struct Snapshot(u64, u64);

impl Snapshot {
    fn empty() -> Self {
        Self(0, 0)
    }

    pub(crate) fn generation(&self) -> Generation {
        assert_eq!(self.0, self.1, "whole");
        Generation(self.0)
    }
}

/// A state that has something new to say each time.
#[derive(Debug)]
struct State;
pub struct StateConfig;
pub struct Update;
pub struct Change;
pub struct Object;
pub struct SourceId;
pub struct Stated;
pub struct GraceCounts;

impl State {
    fn new(_: StateConfig) -> Self {
        Self
    }

    fn anew(_: StateConfig) -> Self {
        Self
    }

    fn snapshot(&self, before: &Snapshot) -> Option<Snapshot> {
        Some(Snapshot(before.0 + 1, before.1 + 1))
    }

    fn apply(&mut self, _: Update) -> Change {
        Change
    }

    fn tick(&mut self, _: Instant) -> Change {
        Change
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn accept(&mut self) -> Change {
        Change
    }

    fn take_grace_counts(&mut self) -> GraceCounts {
        GraceCounts
    }

    fn objects_of_zone(&self) -> Vec<(SourceId, Object)> {
        Vec::new()
    }

    fn stated(&self) -> Stated {
        Stated
    }
}

#[derive(Debug, Default)]
pub struct Endpoint {
    pub(crate) load: Arc<Load>,
    pub(crate) service: Arc<ServiceLoad>,
    pub(crate) is_foreign: bool,
}

impl Endpoint {
    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    pub(crate) fn service_load(&self) -> &Arc<ServiceLoad> {
        &self.service
    }
}

/// Takes the endpoints over as those that may be picked.
pub(crate) fn publish(endpoints: &[Arc<Endpoint>]) {
    let usable = endpoints.iter().map(|endpoint| &**endpoint);
    endpoints[0].service.published(usable);
}

#[derive(Debug)]
pub(crate) struct Hop {
    endpoint: Arc<Endpoint>,
}

impl Hop {
    pub(crate) fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.clone(),
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(crate) fn load(&self) -> &Load {
        &self.endpoint.load
    }
}
