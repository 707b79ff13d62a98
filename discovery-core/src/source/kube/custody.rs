// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose cluster answers a source, for as long as the source runs; asked where there is a reason to doubt it.
//!
//! In: what lists and watches tell of the service `default/kubernetes`, and that connections broke. Out: whether another
//! cluster answers. A connection that broke may come back from another server, and a list that is read anew replaces all
//! that is known: so who answers is asked a moment after the one, and before the other is told. Decision 0032 has the
//! reasons.

use super::{
    failure::Failure,
    identity::{Finding, Identity, KnownCluster},
    request::{Asked, Asker},
};
use serde::Deserialize;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// What is known of the cluster; one for each source, shared by its feeds.
#[derive(Debug)]
pub(super) struct Custody {
    // Guards a few words; held for one call of the machine, never across an await.
    identity: Mutex<Identity>,
    /// The other cluster that answers.
    other: watch::Sender<Option<String>>,
    doubted: Notify,
}

/// What came of the question who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answers {
    Ours,
    Another,
    /// It is not shown to us, or ours is not known.
    Hidden,
    /// There was no answer.
    Nobody,
}

impl Custody {
    pub(super) fn new(known: Option<KnownCluster>) -> Self {
        Self {
            identity: Mutex::new(Identity::new(known)),
            other: watch::Sender::default(),
            doubted: Notify::new(),
        }
    }

    /// The cluster that answers has this UID; some finding when that is news.
    pub(super) fn seen(&self, uid: &str) -> Option<Finding> {
        let finding = self.identity().seen(uid);
        let is_other = matches!(finding, Some(Finding::Another { .. }));
        let other = is_other.then(|| uid.to_owned());
        self.other.send_if_modified(|known| {
            let is_news = *known != other;
            *known = other;
            is_news
        });
        finding
    }

    /// The list in which the service stands is complete.
    pub(super) fn listed(&self) -> Option<Finding> {
        self.identity().listed()
    }

    /// A person says that whoever answers is ours.
    pub(super) fn accept(&self) {
        *self.identity() = Identity::new(None);
        self.other.send_replace(None);
    }

    /// There is a reason to ask.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits for a reason to ask.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Waits until another cluster answers; its UID.
    pub(super) async fn another(&self) -> String {
        let mut other = self.other.subscribe();
        loop {
            if let Some(uid) = other.borrow_and_update().clone() {
                return uid;
            }
            if other.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks who answers, where it is known who should: one request for one object.
    pub(super) async fn ask(&self, asker: &Asker) -> Answers {
        if !self.identity().is_known() {
            return Answers::Hidden;
        }
        match uid(asker).await {
            Ok(Some(uid)) => match self.seen(&uid) {
                Some(Finding::Another { .. }) => Answers::Another,
                _ => Answers::Ours,
            },
            Ok(None) => Answers::Hidden,
            Err(failure) if failure.was_asked && !failure.is_of_server => Answers::Hidden,
            Err(_) => Answers::Nobody,
        }
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The UID of the service by which a cluster is known.
async fn uid(asker: &Asker) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Service {
        metadata: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        uid: Option<String>,
    }
    let answer = asker.ask(&Asked::Document, SERVICE, ASK_TIME).await?;
    let deadline = Instant::now() + ASK_TIME;
    let body = answer.read(SERVICE_BYTES_MAX, deadline, |_, _| {}).await?;
    let service: Option<Service> = serde_json::from_slice(&body).ok();
    Ok(service.and_then(|service| service.metadata.uid))
}

const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const SERVICE_BYTES_MAX: usize = 64 * 1024;
const ASK_TIME: Duration = Duration::from_secs(10);
