// SPDX-License-Identifier: MIT OR Apache-2.0
//! One blocking query, asked again and again: what is heard, or why nothing is.
//!
//! The rules are those of [`Blocking`], [`Gate`] and [`Backoff`]; here they meet the client and the clock.

use super::{
    blocking::Blocking,
    client::{Client, Question, Reply},
    failure::Failure,
    gate::{Gate, REFUSED_PAUSE},
};
use crate::source::{Backoff, BackoffRule, FailureReason, SourceStatus, WatchState};
use crate::store::Kind;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

/// What all watches of a source share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) status: Arc<SourceStatus>,
    pub(super) wait: Duration,
    pub(super) stale_max: Duration,
    /// Connections for the watches of services; who waits longest is next.
    pub(super) slots: Semaphore,
    /// Watches of services.
    pub(super) services: AtomicUsize,
    // Guards the gate; held for one question to it, never across an await.
    pub(super) gate: Mutex<Gate>,
}

/// A query and how it stands.
pub(super) struct Watch<T> {
    kind: Kind,
    question: Question,
    decode: fn(&[u8]) -> Result<T, serde_json::Error>,
    shared: Arc<Shared>,
    blocking: Blocking,
    backoff: Backoff,
    due: Instant,
}

/// What a watch heard.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// Something new.
    News {
        value: T,
        /// The token may not see all of it.
        is_filtered: bool,
        /// The server that answered is not too far behind.
        is_fresh: bool,
    },
    /// Nothing new; whether that is a sign of life.
    Same { is_fresh: bool },
    /// No answer, and why.
    Failed(Failure),
}

impl<T> Watch<T> {
    pub(super) fn new(
        kind: Kind,
        question: Question,
        decode: fn(&[u8]) -> Result<T, serde_json::Error>,
        shared: Arc<Shared>,
    ) -> Self {
        let seed = fastrand::u64(..);
        Self {
            kind,
            question,
            decode,
            blocking: Blocking::new(shared.wait, shared.stale_max, seed),
            backoff: Backoff::new(BackoffRule::default(), seed),
            shared,
            due: Instant::now(),
        }
    }

    /// Waits until it may ask, asks, and says what was heard.
    pub(super) async fn next(&mut self) -> Heard<T> {
        sleep_until(self.due).await;
        self.pass_gate().await;
        let (shared, is_service) = (self.shared.clone(), self.kind == Kind::Slices);
        // Closed never: the semaphore lives as long as its watches.
        let slot = if is_service {
            shared.slots.acquire().await.ok()
        } else {
            None
        };
        let share = if is_service { shared.share() } else { 1.0 };
        let ask = self.blocking.ask(Instant::now().into_std(), share);
        match ask.block {
            None => shared.status.list_begun(self.kind),
            Some(_) => shared.status.watch_begun(self.kind),
        }
        let answer = shared.client.get(&self.question, ask).await;
        drop(slot);
        match answer.and_then(|reply| self.decoded(reply)) {
            Ok((reply, value)) => self.answered(&reply, value),
            Err(failure) => self.failed(failure),
        }
    }

    fn decoded(&self, reply: Reply) -> Result<(Reply, T), Failure> {
        let bytes = reply.body.len();
        self.shared.status.add_bytes(self.kind, bytes, bytes);
        match (self.decode)(&reply.body) {
            Ok(value) => Ok((reply, value)),
            Err(error) => {
                let text = format!(
                    "the answer to {} does not decode: {error}",
                    self.question.path
                );
                Err(Failure::new(FailureReason::Undecodable, &text))
            }
        }
    }

    fn answered(&mut self, reply: &Reply, value: T) -> Heard<T> {
        let now = Instant::now();
        self.backoff.succeeded(now.into_std());
        self.shared.gate().answered();
        let is_empty = matches!(reply.body.trim_ascii(), b"" | b"[]" | b"{}" | b"null");
        let verdict = self.blocking.answered(now.into_std(), reply, is_empty);
        self.due = now + verdict.pause;
        let is_fresh = verdict.is_fresh;
        if verdict.is_news {
            Heard::News {
                value,
                is_filtered: reply.is_filtered,
                is_fresh,
            }
        } else {
            Heard::Same { is_fresh }
        }
    }

    fn failed(&mut self, failure: Failure) -> Heard<T> {
        let now = Instant::now();
        self.blocking.failed();
        let mut pause = self.backoff.failed(now.into_std());
        if failure.reason == FailureReason::Forbidden {
            self.shared
                .gate()
                .refused(now.into_std(), failure.is_of_token);
            pause = REFUSED_PAUSE + pause / 10;
        }
        self.due = now + pause;
        self.shared.status.failed(self.kind, failure.reason);
        Heard::Failed(failure)
    }

    async fn pass_gate(&self) {
        loop {
            let passed = self.shared.gate().pass(Instant::now().into_std());
            match passed {
                Ok(()) => return,
                // Looked at again early, since an answer to another watch opens it.
                Err(pause) => sleep(pause.min(GATE_LOOK)).await,
            }
        }
    }
}

impl Shared {
    /// What part of its wait a watch of a service may hold its connection: all of it while there is one for each, else so
    /// much that every watch has its turn in about ten seconds.
    fn share(&self) -> f64 {
        let services = u32::try_from(self.services.load(Relaxed)).unwrap_or(u32::MAX);
        let slots = u32::try_from(super::CONNECTIONS_MAX).unwrap_or(u32::MAX);
        if services <= slots {
            return 1.0;
        }
        let round = TURN.as_secs_f64() / self.wait.as_secs_f64().max(1.0);
        (round * f64::from(slots) / f64::from(services)).min(1.0)
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a kind looks like when its watches are so: none yet, some failing, all well.
    pub(super) fn show(&self, kind: Kind, pulse: &super::pulse::Pulse) {
        let now = Instant::now();
        let (status, state) = (&self.status, pulse.state(status_synced(&self.status, kind)));
        status.set_state(kind, state);
        status.set_connected(kind, pulse.is_connected());
        if let Some(contact) = pulse.contact() {
            status.heard_before(kind, now.saturating_duration_since(contact));
        }
        if state == WatchState::Cold {
            status.set_connected(kind, false);
        }
    }
}

fn status_synced(status: &SourceStatus, kind: Kind) -> bool {
    status.sync_age(kind).is_some()
}

/// Every watched service has its turn within this time when there are more of them than connections.
const TURN: Duration = Duration::from_secs(10);
const GATE_LOOK: Duration = Duration::from_secs(5);
