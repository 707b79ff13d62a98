// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses the API that endpoints are read from, and stays with the choice.
//!
//! The choice is made from a discovery document and kept over restarts. It changes only by a document that was read while
//! the server itself was heard of by other watches: a cache that is cut off answers 404 to what it does not have, and
//! that says nothing about the cluster.

use super::{
    config::KubeConfig,
    failure::Failure,
    groups::{GROUP_PATH, GROUPS_PATH, of_group, of_groups},
    request::{Asked, Asker},
    seat::{Seat, SharedGate},
};
use crate::{
    source::{Backoff, BackoffRule, FailureReason, SliceApi, SourceStatus, WatchState},
    store::Kind,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Who chooses.
pub(super) struct Chooser {
    asker: Asker,
    gate: Arc<SharedGate>,
    status: Arc<SourceStatus>,
    known: Option<SliceApi>,
    /// Told when the chosen API is said not to be served.
    pub(super) not_served: Arc<Notify>,
}

impl Chooser {
    pub(super) fn new(
        config: &KubeConfig,
        asker: Asker,
        gate: Arc<SharedGate>,
        status: Arc<SourceStatus>,
    ) -> Self {
        Self {
            asker,
            gate,
            status,
            known: config.known_api,
            not_served: Arc::new(Notify::new()),
        }
    }

    /// The API to begin with: the known one, else what the server says, asked until it says something.
    pub(super) async fn first(&self) -> SliceApi {
        let api = match self.known {
            Some(api) => api,
            None => self.ask_until_told().await,
        };
        self.status.set_slice_api(api);
        api
    }

    /// Waits until another API is to be used than the present one.
    pub(super) async fn other(&self, present: SliceApi) -> SliceApi {
        loop {
            tokio::select! {
                () = self.not_served.notified() => {}
                () = sleep(LOOK_AGAIN), if present != SliceApi::V1 => {}
            }
            if !self.hears_the_server() {
                continue;
            }
            let seat = self.gate.seat();
            let told = self.ask(&seat).await;
            drop(seat);
            match told {
                Ok(api) if api != present => {
                    tracing::info!(%present, %api, "Endpoints are read from another API");
                    self.status.set_slice_api(api);
                    return api;
                }
                Ok(_) => {}
                Err(failure) => {
                    tracing::debug!(error = failure.text, "No discovery document");
                }
            }
        }
    }

    /// Whether the server itself is heard: a watch other than that of endpoints has stood for a while. Caches that were
    /// cut off answer lists, and end watches at once.
    fn hears_the_server(&self) -> bool {
        let is_live = |kind| {
            self.status.state(kind) == WatchState::Live
                && self
                    .status
                    .state_age(kind)
                    .is_some_and(|age| age >= STOOD_MIN)
        };
        !self.gate.is_closed() && [Kind::OwnNode, Kind::Services].into_iter().any(is_live)
    }

    async fn ask_until_told(&self) -> SliceApi {
        let (seat, kind) = (self.gate.seat(), Kind::Slices);
        let mut backoff = Backoff::new(BackoffRule::default(), fastrand::u64(..));
        loop {
            seat.admitted().await;
            let failure = match self.ask(&seat).await {
                Ok(api) => return api,
                Err(failure) => failure,
            };
            self.status.failed(kind, failure.reason);
            tracing::debug!(error = failure.text, "No discovery document");
            if !failure.is_governed {
                let asked = failure.retry_after;
                let now = Instant::now().into_std();
                sleep(backoff.failed_asked(now, Duration::MAX, asked)).await;
            }
        }
    }

    async fn ask(&self, seat: &Seat) -> Result<SliceApi, Failure> {
        let told = match self.document(GROUP_PATH).await {
            Ok(document) => of_group(&document),
            Err(failure) if failure.reason == FailureReason::NotFound => {
                // No group, no slices; but only a server that tells its groups knows that.
                match self.document(GROUPS_PATH).await {
                    Ok(document) => of_groups(&document),
                    Err(failure) => return Err(report(seat, failure)),
                }
            }
            // Who may not read it has a cluster of today: everybody may, unless somebody forbade it.
            Err(failure) if failure.reason == FailureReason::Forbidden => Some(SliceApi::V1),
            Err(failure) => return Err(report(seat, failure)),
        };
        seat.answered();
        let no_document = || {
            let text = "the answer is no discovery document";
            Failure::new(FailureReason::Undecodable, text)
        };
        told.ok_or_else(no_document)
    }

    async fn document(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + ANSWER_TIME;
        let answer = self.asker.ask(&Asked::Document, path, ANSWER_TIME).await?;
        let count = |wire, decoded| self.status.add_list_bytes(Kind::Slices, wire, decoded);
        answer.read(DOCUMENT_BYTES_MAX, deadline, count).await
    }
}

fn report(seat: &Seat, mut failure: Failure) -> Failure {
    seat.failed(&mut failure);
    failure
}

/// How often a better API is looked for: clusters are upgraded a few times a year.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
const STOOD_MIN: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// A cluster of many extensions has 30 KB.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
