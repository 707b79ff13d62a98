// SPDX-License-Identifier: MIT OR Apache-2.0
//! A feed's place at the gate: waits until it may ask, and tells what came of it.

use super::{
    failure::Failure,
    gate::{Admission, Gate, SeatId},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{sync::Notify, time::Instant};

/// The gate of a source, shared by its feeds.
#[derive(Debug)]
pub(super) struct SharedGate {
    // Guards the gate's figures; held for one call of the machine, never across an await.
    gate: Mutex<Gate>,
    news: Notify,
}

/// The place of one feed; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<SharedGate>,
    id: SeatId,
}

impl SharedGate {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            gate: Mutex::new(Gate::new(seed)),
            news: Notify::new(),
        })
    }

    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        Seat {
            id: self.gate().join(),
            shared: self.clone(),
        }
    }

    /// Whether the server as such is taken for sick.
    pub(super) fn is_closed(&self) -> bool {
        self.gate().is_closed()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until the feed may ask.
    pub(super) async fn admitted(&self) {
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            // From here on no news is missed.
            news.as_mut().enable();
            let admission = self.shared.gate().admit(self.id, now());
            match admission {
                Admission::Go => return,
                Admission::Until(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = news => {}
                    }
                }
                Admission::UntilNews => news.await,
            }
        }
    }

    /// Whether the server as such is taken for sick.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// The request was answered.
    pub(super) fn answered(&self) {
        self.shared.gate().answered(self.id, now());
        self.shared.news.notify_waiters();
    }

    /// The request failed; a failure of the server may be the gate's to wait for.
    pub(super) fn failed(&self, failure: &mut Failure) {
        if failure.is_of_server {
            failure.is_governed = self.shared.gate().failed(self.id, now(), failure);
            self.shared.news.notify_waiters();
        } else {
            self.answered();
        }
    }

    /// What was being read broke.
    pub(super) fn lost(&self) {
        self.shared.gate().lost(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.gate().leave(self.id);
        self.shared.news.notify_waiters();
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
