// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a feed tells what it learns: updates to the writer, figures to the status, failures to a person.

use super::SOURCE;
use crate::{
    model::{NodeLabels, Zone, ZoneKey, ZoneKeys},
    source::{
        FailureReason, SourceStatus, UpdateSender, WatchState,
        kube::{
            custody::Custody, failure::Failure, identity::Finding, parts::Part, wishes::Wishes,
        },
    },
    store::{Kind, Problem, Update},
};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The zone that our own node's label names, and the label.
pub(in crate::source::kube) type OwnZone = Option<(ZoneKey, Zone)>;

/// What is known of our own node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::source::kube) struct OwnNode {
    pub(in crate::source::kube) zone: OwnZone,
    pub(in crate::source::kube) labels: NodeLabels,
}

/// The way to the writer; services are looked at as they pass.
#[derive(Clone, Debug)]
pub(in crate::source::kube) struct Tap {
    pub(in crate::source::kube) sender: UpdateSender,
    pub(in crate::source::kube) wishes: Arc<watch::Sender<Wishes>>,
}

impl Tap {
    pub(in crate::source::kube) async fn send(&self, update: Update) -> Result<(), Closed> {
        self.wishes
            .send_if_modified(|wishes| wishes.observe(&update));
        self.sender.send(update).await.map_err(|_| Closed)
    }
}

/// Nobody listens any more.
pub(in crate::source::kube) struct Closed;

/// Where the updates of a feed go.
#[derive(Clone, Debug)]
pub(in crate::source::kube) enum Outlet {
    /// To the writer.
    Writer(Tap),
    /// To the union of several feeds, with the feed's number in it.
    Union(usize, mpsc::Sender<(usize, Update)>),
}

/// The outlets of one feed.
pub(in crate::source::kube) struct Out {
    pub(in crate::source::kube) keys: ZoneKeys,
    pub(in crate::source::kube) part: Part,
    pub(in crate::source::kube) outlet: Outlet,
    /// Who wants to know our own node.
    pub(in crate::source::kube) own_node: Option<watch::Sender<OwnNode>>,
    /// What the list says of the cluster, if it says something.
    pub(in crate::source::kube) identity: Option<Arc<Custody>>,
    /// Whether what the list tells can be done without, should it never be allowed.
    pub(in crate::source::kube) is_dispensable: bool,
    /// The last refusal that was told as a problem.
    pub(in crate::source::kube) told: Option<String>,
}

impl Out {
    pub(super) async fn send(&self, update: Update) -> Result<(), Closed> {
        match &self.outlet {
            Outlet::Writer(tap) => tap.send(update).await,
            Outlet::Union(number, sender) => {
                sender.send((*number, update)).await.map_err(|_| Closed)
            }
        }
    }

    pub(super) async fn send_all(
        &self,
        updates: impl IntoIterator<Item = Update>,
    ) -> Result<(), Closed> {
        for update in updates {
            self.send(update).await?;
        }
        Ok(())
    }

    pub(super) fn tell_own(&self, node: OwnNode) {
        if let Some(own_node) = &self.own_node {
            own_node.send_if_modified(|known| {
                let is_new = *known != node;
                *known = node;
                is_new
            });
        }
    }

    /// Takes in what an object says of the cluster, if it is the one that does.
    pub(super) async fn identify(&mut self, uid: Option<&str>) -> Result<(), Closed> {
        let Some((custody, uid)) = self.identity.as_ref().zip(uid) else {
            return Ok(());
        };
        let finding = custody.seen(uid);
        if matches!(finding, Some(Finding::Another { .. })) {
            // The source stops its feeds; nothing more of this one is told until then.
            return Err(Closed);
        }
        self.status().set_cluster_uid(uid);
        self.found(finding).await
    }

    /// The list is complete, and what it does not show it hides.
    pub(super) async fn identified(&mut self) -> Result<(), Closed> {
        let custody = self.identity.as_ref();
        let finding = custody.and_then(|custody| custody.listed());
        self.found(finding).await
    }

    async fn found(&self, finding: Option<Finding>) -> Result<(), Closed> {
        match finding {
            None | Some(Finding::Ours) => Ok(()),
            Some(finding) => {
                tracing::warn!(%finding, "What came from disk is another cluster's, and dropped");
                self.status().disowned();
                self.send(Update::Foreign(SOURCE)).await
            }
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.part.kind()
    }

    /// For what is merely counted.
    pub(super) fn status(&self) -> &SourceStatus {
        self.part.status()
    }

    /// The list has reached this version.
    pub(super) fn reached(&self, version: Option<u64>) {
        self.status().set_version(self.kind(), version);
    }

    /// A list begins. One that was cut off stays so until it has read something.
    pub(super) fn listing(&self) {
        self.status().list_begun(self.kind());
        if !self.is_in_doubt() {
            self.part.set_state(WatchState::Listing);
        }
    }

    /// A list of so many objects is complete; only one that is news is a sign that the server itself spoke.
    pub(super) fn synced(&self, is_news: bool, objects: usize) {
        self.part.synced(objects);
        if is_news {
            self.heard();
        }
    }

    pub(super) fn answered(&self) {
        self.part.set_connected(true);
    }

    /// A watch was accepted. After a failure it has to prove itself first.
    pub(super) fn watching(&self) {
        self.part.set_connected(true);
        if !self.is_in_doubt() {
            self.part.set_state(WatchState::Live);
        }
    }

    /// The server told something new, or held a quiet watch for a while.
    pub(super) fn heard(&self) {
        self.part.heard();
        self.part.set_state(WatchState::Live);
    }

    /// There is a reason to doubt what we have.
    pub(super) fn suspect(&self) {
        if self.part.has_synced() {
            self.part.set_state(WatchState::Suspect);
        }
    }

    pub(super) fn relisting(&self, reason: FailureReason) {
        self.status().relisting(self.kind(), reason);
    }

    pub(super) fn count(&self, failure: &Failure) {
        self.status().failed(self.kind(), failure.reason);
        self.part.set_connected(false);
        if self.part.has_synced() {
            self.part.set_state(WatchState::Stale);
        } else if self.status().is_restored() {
            self.part.set_state(WatchState::Snapshot);
        }
    }

    /// Counts a failure, and tells those that a person has to mend as a problem.
    pub(super) async fn failed(&mut self, verb: &str, failure: &Failure) -> Result<(), Closed> {
        let was_connected = self.part.is_connected();
        self.count(failure);
        let (kind, reason, error) = (self.kind(), failure.reason, &failure.text);
        if was_connected {
            tracing::warn!(%kind, verb, %reason, error, "API server request failed");
        } else {
            tracing::debug!(%kind, verb, %reason, error, "API server request failed");
        }
        if !reason.needs_person() || self.told.as_ref() == Some(error) {
            return Ok(());
        }
        self.told = Some(error.clone());
        let problem = Problem {
            kind,
            object: format!("the list of {kind}"),
            place: verb.to_owned(),
            reason: error.clone(),
        };
        if reason == FailureReason::Forbidden && self.is_dispensable && !self.part.has_synced() {
            self.send(Update::Denied(SOURCE, kind)).await?;
        }
        self.send(Update::Reject(SOURCE, problem)).await
    }

    fn is_in_doubt(&self) -> bool {
        matches!(self.part.state(), WatchState::Stale | WatchState::Suspect)
    }
}
