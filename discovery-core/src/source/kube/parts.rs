// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins the figures of several feeds of one kind into the figures of the kind: it is as well as its worst part.

use crate::{
    source::{SourceStatus, WatchState},
    store::Kind,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The feed's part in the figures of its kind.
#[derive(Debug)]
pub(super) struct Part {
    shared: Arc<Shared>,
    number: usize,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    status: Arc<SourceStatus>,
    // Guards what the parts last said; held for one figure, never across an await.
    figures: Mutex<Vec<Figures>>,
}

#[derive(Clone, Copy, Debug)]
struct Figures {
    state: WatchState,
    is_connected: bool,
    has_synced: bool,
    /// Objects of its last full list.
    objects: usize,
    /// Whether it was heard of since the kind as a whole was.
    is_heard: bool,
}

impl Part {
    /// The parts of a kind that is read by so many feeds.
    pub(super) fn split(kind: Kind, status: &Arc<SourceStatus>, parts: usize) -> Vec<Self> {
        let figures = Figures {
            state: status.state(kind),
            is_connected: false,
            has_synced: false,
            objects: 0,
            is_heard: false,
        };
        let shared = Arc::new(Shared {
            kind,
            status: status.clone(),
            figures: Mutex::new(vec![figures; parts]),
        });
        let part = |number| Self {
            shared: shared.clone(),
            number,
        };
        (0..parts).map(part).collect()
    }

    pub(super) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// The figures of the kind, for what is merely counted.
    pub(super) fn status(&self) -> &SourceStatus {
        &self.shared.status
    }

    pub(super) fn state(&self) -> WatchState {
        self.figures()[self.number].state
    }

    pub(super) fn has_synced(&self) -> bool {
        self.figures()[self.number].has_synced
    }

    pub(super) fn is_connected(&self) -> bool {
        self.figures()[self.number].is_connected
    }

    pub(super) fn set_state(&self, state: WatchState) {
        let mut figures = self.figures();
        figures[self.number].state = state;
        let worst = figures
            .iter()
            .map(|part| part.state)
            .max_by_key(|state| badness(*state));
        self.status().set_state(self.kind(), worst.unwrap_or(state));
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        let mut figures = self.figures();
        figures[self.number].is_connected = is_connected;
        let all = figures.iter().all(|part| part.is_connected);
        self.status().set_connected(self.kind(), all);
    }

    /// The kind was heard of when each of its parts was.
    pub(super) fn heard(&self) {
        let mut figures = self.figures();
        figures[self.number].is_heard = true;
        if figures.iter().all(|part| part.is_heard) {
            figures.iter_mut().for_each(|part| part.is_heard = false);
            self.status().heard(self.kind());
        }
    }

    /// A list of so many objects is complete.
    pub(super) fn synced(&self, objects: usize) {
        let mut figures = self.figures();
        figures[self.number].has_synced = true;
        figures[self.number].objects = objects;
        let all = figures.iter().map(|part| part.objects).sum();
        self.status().set_objects(self.kind(), all);
        if figures.iter().all(|part| part.has_synced) {
            self.status().synced(self.kind());
        }
    }

    fn figures(&self) -> MutexGuard<'_, Vec<Figures>> {
        self.shared
            .figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn badness(state: WatchState) -> u8 {
    match state {
        WatchState::Live => 0,
        WatchState::Listing => 1,
        WatchState::Suspect => 2,
        WatchState::Stale => 3,
        WatchState::Snapshot => 4,
        WatchState::Cold => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::TestClock, store::SourceId};
    use std::time::Duration;

    #[test]
    fn a_kind_is_as_well_as_its_worst_part() {
        let clock = TestClock::default();
        let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(clock.clone())));
        let parts = Part::split(Kind::Slices, &status, 2);
        parts[0].set_state(WatchState::Live);
        parts[0].set_connected(true);
        parts[0].synced(3);
        assert_eq!(status.sync_age(Kind::Slices), None);
        parts[1].synced(4);
        assert_eq!(status.objects(Kind::Slices), 7);
        assert_eq!(status.state(Kind::Slices), WatchState::Cold);
        assert!(!status.is_kind_connected(Kind::Slices));
        parts[1].set_state(WatchState::Stale);
        assert_eq!(status.state(Kind::Slices), WatchState::Stale);
        parts[0].heard();
        parts[1].heard();
        clock.advance(Duration::from_secs(9));
        parts[0].heard();
        assert_eq!(status.kind_age(Kind::Slices), Some(Duration::from_secs(9)));
        parts[1].heard();
        assert_eq!(status.kind_age(Kind::Slices), Some(Duration::ZERO));
    }
}
