// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out what the engine of one list decides, and states what it learns.
//!
//! In: answers of the API server. Out: updates to the writer, figures to the status. The updates of a list are sent only
//! when the list is complete, so that half a list never takes anything back.

use super::{
    decode::{Event, Page},
    engine::{Action, Engine, Failure, SHORT_STREAM},
    framing::Lines,
    request::{Asker, next_piece, read_body},
    resource::Resource,
};
use crate::{
    model::{NodeName, Zone, ZoneKey, ZoneKeys},
    source::{FailureReason, SourceStatus, UpdateSender, WatchState, object::Reading},
    store::{Kind, Object, ObjectKey, Problem, SourceId, Update},
};
use kube::client::Body;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The zone that our own node's label names, and the label.
pub(super) type OwnZone = Option<(ZoneKey, Zone)>;

/// The list and watch of one resource.
pub(super) struct Feed {
    pub(super) asker: Asker,
    pub(super) resource: Resource,
    pub(super) engine: Engine,
    pub(super) out: Out,
    /// What the complete part of a list under way states.
    pub(super) pending: Vec<Update>,
}

/// Where a feed tells what it learns.
pub(super) struct Out {
    pub(super) kind: Kind,
    pub(super) node: NodeName,
    pub(super) keys: ZoneKeys,
    pub(super) status: Arc<SourceStatus>,
    pub(super) sender: UpdateSender,
    /// Who wants to know the zone of our own node.
    pub(super) own_zone: Option<watch::Sender<OwnZone>>,
    /// The last refusal that was told as a problem.
    pub(super) told: Option<String>,
}

/// Nobody listens any more.
pub(super) struct Closed;

/// How a watch ended.
enum End {
    /// The server closed it, or it was given up for a new list.
    Closed,
    Relist(FailureReason),
    Failed(Failure),
    NobodyListens,
}

impl Feed {
    /// Lists and watches until nobody listens.
    pub(super) async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Closed> {
        match self.engine.next(now()) {
            Action::Wait(until) => {
                tokio::time::sleep_until(until.into()).await;
                Ok(())
            }
            Action::List {
                token,
                page_size,
                deadline,
                is_first,
            } => {
                if is_first {
                    self.list_begins();
                }
                let uri = self.resource.list_uri(page_size, token.as_deref());
                let page = timeout_at(deadline.into(), self.fetch(&uri)).await;
                let page = page.unwrap_or_else(|_| Err(too_late()));
                self.listed(page).await
            }
            Action::Watch { version, timeout } => self.watch(&version, timeout).await,
            Action::Probe => {
                self.probe().await;
                Ok(())
            }
        }
    }

    fn list_begins(&mut self) {
        self.pending.clear();
        self.out.status.list_begun(self.out.kind);
        self.out.set_state(WatchState::Listing);
    }

    async fn fetch(&self, uri: &str) -> Result<Page, Failure> {
        let out = &self.out;
        let response = self.asker.list(&self.resource, uri).await?;
        out.status.set_connected(out.kind, true);
        let count = |bytes| out.status.add_bytes(out.kind, bytes);
        let body = read_body(response.into_body(), PAGE_BYTES_MAX, count).await?;
        self.resource.page(&body, &out.keys).map_err(|error| {
            let text = format!("the list does not decode: {error}");
            Failure::new(FailureReason::Undecodable, text)
        })
    }

    async fn listed(&mut self, page: Result<Page, Failure>) -> Result<(), Closed> {
        let complete = page.and_then(|page| {
            for reading in page.readings {
                self.pending.extend(self.out.list_item(&reading));
            }
            self.engine.listed(now(), page.token, page.version)
        });
        match complete {
            Ok(true) => self.list_complete().await,
            Ok(false) => Ok(()),
            Err(failure) => {
                self.pending.clear();
                self.engine.list_failed(now(), &failure);
                self.out.failed("list", &failure, &self.engine).await
            }
        }
    }

    async fn list_complete(&mut self) -> Result<(), Closed> {
        let (kind, pending) = (self.out.kind, std::mem::take(&mut self.pending));
        let updates = pending.len();
        self.out.send(Update::Reset(SOURCE, kind)).await?;
        for update in pending {
            self.out.send(update).await?;
        }
        if kind == Kind::OwnNode && updates == 0 {
            let key = ObjectKey::OwnNode(self.out.node.clone());
            self.out.tell_zone(None);
            self.out.send(Update::Absent(SOURCE, key)).await?;
        }
        self.out.send(Update::Synced(SOURCE, kind)).await?;
        self.out.told = None;
        self.out.status.heard(kind);
        self.out.status.synced(kind);
        tracing::debug!(%kind, updates, "List complete");
        Ok(())
    }

    async fn watch(&mut self, version: &str, timeout: Duration) -> Result<(), Closed> {
        let uri = self.resource.watch_uri(version, timeout);
        self.out.status.watch_begun(self.out.kind);
        // The server ends the watch; one that it does not end is either dead or does not know the parameter.
        let deadline = Instant::now() + timeout + WATCH_TIME_MARGIN;
        let end = match timeout_at(deadline, self.asker.watch(&self.resource, &uri)).await {
            Ok(Ok(response)) => self.follow(response.into_body(), deadline).await,
            Ok(Err(failure)) => End::Failed(failure),
            Err(_) => End::Failed(silent()),
        };
        self.watch_ended(end).await
    }

    async fn follow(&mut self, mut body: Body, deadline: Instant) -> End {
        if let Some(reason) = self.engine.watching(now()) {
            return End::Relist(reason);
        }
        self.out.status.set_connected(self.out.kind, true);
        self.out.set_state(WatchState::Live);
        let (mut lines, mut has_spoken) = (Lines::default(), false);
        let mut lives_at = Some(Instant::now() + SHORT_STREAM);
        loop {
            let until = lives_at.unwrap_or(deadline).min(deadline);
            let piece = match timeout_at(until, next_piece(&mut body)).await {
                Ok(Ok(Some(piece))) => piece,
                // What is left in `lines` was cut off with the stream: the next watch repeats it.
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(failure)) => return End::Failed(failure),
                // A watch that stands and has nothing to tell is a sign of life; caches that are cut off end it at once.
                Err(_) if lives_at.take().is_some() => {
                    self.out.status.heard(self.out.kind);
                    continue;
                }
                Err(_) if has_spoken => return End::Closed,
                Err(_) => return End::Failed(silent()),
            };
            self.out.status.add_bytes(self.out.kind, piece.len());
            lines.push(&piece);
            match self.read_lines(&mut lines).await {
                Ok(spoken) => has_spoken |= spoken,
                Err(end) => return end,
            }
        }
    }

    /// Takes in the whole lines; whether there was one.
    async fn read_lines(&mut self, lines: &mut Lines) -> Result<bool, End> {
        let mut spoken = false;
        while let Some(line) = lines.next().map_err(|_| End::Failed(too_long()))? {
            let event = self.resource.event(&line, &self.out.keys);
            self.event(event).await?;
            self.out.status.heard(self.out.kind);
            spoken = true;
        }
        Ok(spoken)
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Stated(reading) => {
                self.progressed(&reading.version)?;
                let updates = self.out.changed(&reading);
                self.out
                    .send_all(updates)
                    .await
                    .map_err(|Closed| End::NobodyListens)
            }
            Event::Gone { key, version } => {
                self.progressed(&version)?;
                let update = self.out.gone(key);
                self.out
                    .send(update)
                    .await
                    .map_err(|Closed| End::NobodyListens)
            }
            Event::Bookmark { version } => self.progressed(&version),
            Event::Error { code, message } => Err(End::Failed(in_stream(code, &message))),
            Event::Refused(reading) => {
                self.progressed(&reading.version)?;
                let problems: Vec<_> = self.out.problems(&reading).collect();
                let sent = self.out.send_all(problems).await;
                sent.map_err(|Closed| End::NobodyListens)?;
                self.undecodable(FailureReason::Undecodable, &reading.name)
            }
            Event::Undecodable { reason, why } => self.undecodable(reason, &why),
        }
    }

    fn progressed(&mut self, version: &str) -> Result<(), End> {
        self.engine.progressed(now(), version).map_err(End::Failed)
    }

    fn undecodable(&mut self, reason: FailureReason, what: &str) -> Result<(), End> {
        self.out.status.failed(self.out.kind, reason);
        tracing::warn!(kind = %self.out.kind, %reason, what, "Watch event refused");
        if self.engine.undecodable(now(), reason) {
            return Err(End::Relist(reason));
        }
        Ok(())
    }

    async fn watch_ended(&mut self, end: End) -> Result<(), Closed> {
        let failure = match end {
            End::NobodyListens => return Err(Closed),
            End::Relist(reason) => {
                self.out.status.relisting(self.out.kind, reason);
                return Ok(());
            }
            End::Failed(failure) => failure,
            End::Closed => match self.engine.watch_closed(now()) {
                Err(failure) => failure,
                Ok(relist) => {
                    self.out.status.heard(self.out.kind);
                    if let Some(reason) = relist {
                        self.out.status.relisting(self.out.kind, reason);
                    }
                    return Ok(());
                }
            },
        };
        if self.engine.watch_failed(now(), &failure) {
            self.out.status.relisting(self.out.kind, failure.reason);
        }
        self.out.failed("watch", &failure, &self.engine).await
    }

    async fn probe(&mut self) {
        self.out.set_state(WatchState::Suspect);
        let uri = self.resource.list_uri(1, None);
        let deadline = Instant::now() + PROBE_TIME;
        let page = timeout_at(deadline, self.fetch(&uri)).await;
        let page = page.unwrap_or_else(|_| Err(too_late()));
        let probed = page.and_then(|page| self.engine.probed(now(), &page.version));
        if let Err(failure) = probed {
            if self.engine.watch_failed(now(), &failure) {
                self.out.status.relisting(self.out.kind, failure.reason);
            }
            self.out.count(&failure);
        }
    }
}

impl Out {
    /// What an item of a list states.
    fn list_item(&self, reading: &Reading) -> Vec<Update> {
        if self.kind == Kind::OwnNode && !reading.refused {
            self.tell_zone(own_zone(reading));
        }
        self.upserts(reading)
            .chain(self.problems(reading))
            .collect()
    }

    /// What a change in a watch states: an object that is none of ours any more is gone.
    fn changed(&self, reading: &Reading) -> Vec<Update> {
        let is_ours = reading.refused || !reading.objects.is_empty();
        let gone = reading.key.clone().filter(|_| !is_ours);
        let gone = gone.map(|key| self.gone(key));
        gone.into_iter().chain(self.list_item(reading)).collect()
    }

    fn upserts<'r>(&self, reading: &'r Reading) -> impl Iterator<Item = Update> + use<'r> {
        let is_own = self.kind == Kind::OwnNode;
        reading.objects.iter().map(move |object| {
            let object = match object.clone() {
                Object::Node(node) if is_own => Object::OwnNode(node),
                other => other,
            };
            Update::Upsert(SOURCE, object)
        })
    }

    fn problems(&self, reading: &Reading) -> impl Iterator<Item = Update> {
        let problems: Vec<_> = reading.problems(self.kind).collect();
        problems
            .into_iter()
            .map(|problem| Update::Reject(SOURCE, problem))
    }

    fn gone(&self, key: ObjectKey) -> Update {
        match key {
            ObjectKey::Node(name) if self.kind == Kind::OwnNode => {
                self.tell_zone(None);
                Update::Remove(SOURCE, ObjectKey::OwnNode(name))
            }
            key => Update::Remove(SOURCE, key),
        }
    }

    fn tell_zone(&self, zone: OwnZone) {
        if let Some(own_zone) = &self.own_zone {
            own_zone.send_if_modified(|known| {
                let is_new = *known != zone;
                *known = zone;
                is_new
            });
        }
    }

    async fn send(&self, update: Update) -> Result<(), Closed> {
        self.sender.send(update).await.map_err(|_| Closed)
    }

    async fn send_all(&self, updates: impl IntoIterator<Item = Update>) -> Result<(), Closed> {
        for update in updates {
            self.send(update).await?;
        }
        Ok(())
    }

    fn set_state(&self, state: WatchState) {
        self.status.set_state(self.kind, state);
    }

    fn count(&self, failure: &Failure) {
        self.status.failed(self.kind, failure.reason);
        self.status.set_connected(self.kind, false);
        if self.status.sync_age(self.kind).is_some() {
            self.set_state(WatchState::Stale);
        }
    }

    /// Counts a failure, and tells those that a person has to mend as a problem.
    async fn failed(
        &mut self,
        verb: &str,
        failure: &Failure,
        engine: &Engine,
    ) -> Result<(), Closed> {
        self.count(failure);
        let (kind, reason, failures) = (self.kind, failure.reason, engine.failures());
        if failures == 1 {
            tracing::warn!(%kind, verb, %reason, error = failure.text, "API server request failed");
        } else {
            tracing::debug!(%kind, verb, %reason, failures, error = failure.text, "API server request failed");
        }
        if !reason.needs_person() || self.told.as_ref() == Some(&failure.text) {
            return Ok(());
        }
        self.told = Some(failure.text.clone());
        let problem = Problem {
            kind,
            object: format!("the list of {kind}"),
            place: verb.to_owned(),
            reason: failure.text.clone(),
        };
        self.send(Update::Reject(SOURCE, problem)).await
    }
}

fn own_zone(reading: &Reading) -> OwnZone {
    let zone = reading.objects.iter().find_map(|object| match object {
        Object::Node(node) => node.zone.clone(),
        _ => None,
    })?;
    Some((reading.zone_key.clone()?, zone))
}

fn in_stream(code: u16, message: &str) -> Failure {
    let reason = match code {
        410 => FailureReason::Expired,
        _ => FailureReason::InStream,
    };
    let message: String = message.chars().take(400).collect();
    Failure::new(reason, format!("error {code} inside the watch: {message}"))
}

fn too_late() -> Failure {
    let text = "the list was not complete in time";
    Failure::new(FailureReason::Deadline, text)
}

fn silent() -> Failure {
    let text = "the watch was silent beyond its end";
    Failure::new(FailureReason::Silent, text)
}

fn too_long() -> Failure {
    let text = "a line of the watch is longer than the limit";
    Failure::new(FailureReason::TooLarge, text)
}

/// Time as the runtime has it, so that tests can pause it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

const SOURCE: SourceId = SourceId::Kube;
/// A page of 500 slices with 100 endpoints each is 14 MB; a larger one is asked for in smaller pages.
const PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
const WATCH_TIME_MARGIN: Duration = Duration::from_secs(5);
const PROBE_TIME: Duration = Duration::from_secs(10);
