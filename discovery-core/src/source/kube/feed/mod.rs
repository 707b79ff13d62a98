// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out what the engine of one list decides, and states what it learns.
//!
//! In: answers of the API server. Out: updates to the writer, figures to the status. A list is stated page by page as it
//! is read; what it does not name is gone only with its end, so that half a list never takes anything back.

mod out;
mod stream;
mod translate;
mod watch;

pub(super) use out::{Closed, Out, Outlet, OwnNode, OwnZone, Tap};
pub(super) use translate::Translator;

use super::{
    answer::Pieces,
    custody::{Answers, Custody},
    decode::{Page, PageError},
    engine::{Action, Engine, Listed, Standing},
    failure::Failure,
    link::SharedLink,
    request::{Asked, Asker},
    resource::Resource,
    seat::Seat,
};
use crate::{
    source::{FailureReason, object::Reading},
    store::{Kind, ObjectKey, SourceId, Update},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The list and watch of one resource.
pub(super) struct Feed {
    pub(super) asker: Asker,
    pub(super) resource: Resource,
    pub(super) engine: Engine,
    pub(super) seat: Seat,
    pub(super) link: SharedLink,
    pub(super) custody: Arc<Custody>,
    pub(super) translator: Translator,
    pub(super) out: Out,
    /// Told when the server says that it does not serve the resource.
    pub(super) not_served: Option<Arc<Notify>>,
    /// Whether the list under way was announced.
    pub(super) is_announced: bool,
    /// Objects of the list under way.
    pub(super) objects: usize,
}

impl Feed {
    /// Lists and watches until nobody listens.
    pub(super) async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Closed> {
        if let Some(until) = self.engine.waits(now()) {
            sleep_until(until.into()).await;
            return Ok(());
        }
        self.seat.admitted().await;
        match self.engine.next(now()) {
            Action::Wait(_) => Ok(()),
            Action::List {
                token,
                page_size,
                answer_within,
                deadline,
                is_first,
            } => {
                if is_first {
                    self.list_begins();
                }
                let uri = self.resource.list_uri(page_size, token.as_deref());
                let page = self.page(&uri, answer_within, deadline.into()).await;
                self.listed(page).await
            }
            Action::Watch { version } => self.watch(&version).await,
            Action::Probe => {
                self.probe().await;
                Ok(())
            }
        }
    }

    fn list_begins(&mut self) {
        self.is_announced = false;
        self.objects = 0;
        self.translator.list_begins();
        self.out.listing();
    }

    /// Asks for a page of the list.
    async fn ask(
        &self,
        uri: &str,
        answer_within: Duration,
        deadline: Instant,
    ) -> Result<Pieces, Failure> {
        let asked = Asked::Resource("list", &self.resource);
        let answer = self.asker.ask(&asked, uri, answer_within).await?;
        self.seat.answered();
        self.out.answered();
        Ok(answer.pieces(PAGE_BYTES_MAX, deadline))
    }

    /// Reads a page. Nothing of it is believed before it is whole: a checksum comes last.
    async fn page(
        &mut self,
        uri: &str,
        answer_within: Duration,
        deadline: Instant,
    ) -> Result<(Vec<Reading>, Page), Failure> {
        let mut pieces = self.ask(uri, answer_within, deadline).await?;
        let names = &mut self.translator.names;
        let (mut page, mut readings) = (self.resource.page_reader(&self.out.keys), Vec::new());
        while let Some(piece) = pieces.next().await? {
            let (wire, decoded) = (piece.wire_bytes, piece.bytes.len());
            (self.out.status()).add_list_bytes(self.out.kind(), wire, decoded);
            readings.extend(page.push(&piece.bytes, names)?);
        }
        Ok((readings, page.finish()?))
    }

    async fn listed(&mut self, page: Result<(Vec<Reading>, Page), Failure>) -> Result<(), Closed> {
        let (readings, page) = match page {
            Ok(page) => page,
            Err(failure) => return self.list_failed(failure).await,
        };
        if !self.is_announced {
            // A list replaces all that is known: none is told of another cluster.
            if self.custody.ask(&self.asker).await == Answers::Another {
                return Err(Closed);
            }
            self.is_announced = true;
            self.out
                .send(Update::Reset(SOURCE, self.out.kind()))
                .await?;
        }
        self.objects += readings.len();
        for reading in readings {
            if let Some(node) = self.translator.own_node(&reading) {
                self.out.tell_own(node);
            }
            self.out.identify(reading.cluster_uid.as_deref()).await?;
            let updates = self.translator.list_item(reading);
            self.out.send_all(updates).await?;
        }
        match self.engine.listed(now(), page.token, page.version) {
            Ok(Listed::More) => Ok(()),
            Ok(Listed::Complete(standing)) => {
                self.out.reached(self.engine.version());
                self.list_complete(standing).await
            }
            Err(failure) => self.list_failed(failure).await,
        }
    }

    async fn list_complete(&mut self, standing: Standing) -> Result<(), Closed> {
        let kind = self.out.kind();
        if kind == Kind::OwnNode && self.translator.has_stated_nothing() {
            let key = ObjectKey::OwnNode(self.translator.node().clone());
            self.out.tell_own(OwnNode::default());
            self.out.send(Update::Absent(SOURCE, key)).await?;
        }
        self.out.identified().await?;
        if standing == Standing::Older {
            self.out.send(Update::WentBack(SOURCE, kind)).await?;
        }
        self.translator.list_ends();
        self.out.send(Update::Synced(SOURCE, kind)).await?;
        self.out.told = None;
        // Only a list that is news is a sign that the server itself spoke.
        self.out.synced(standing == Standing::Newer, self.objects);
        tracing::debug!(%kind, "List complete");
        Ok(())
    }

    async fn list_failed(&mut self, mut failure: Failure) -> Result<(), Closed> {
        self.report(&mut failure);
        self.engine.list_failed(now(), &failure);
        self.out.failed("list", &failure).await
    }

    /// Tells the gate, and whoever knows what else to ask for.
    fn report(&self, failure: &mut Failure) {
        match failure.reason {
            // What breaks, stalls or goes silent after its head has come says nothing of what the next request meets.
            _ if failure.is_of_server => self.seat.failed(failure),
            FailureReason::Connection | FailureReason::Silent | FailureReason::TooSlow => {
                self.seat.lost();
            }
            _ => self.seat.answered(),
        }
        if failure.is_of_way() {
            self.custody.doubt();
        }
        if failure.reason == FailureReason::NotFound
            && let Some(not_served) = &self.not_served
        {
            not_served.notify_one();
        }
    }

    async fn probe(&mut self) {
        let uri = self.resource.list_uri(1, None);
        let deadline = Instant::now() + PROBE_TIME;
        let page = self.page(&uri, PROBE_TIME, deadline).await;
        let probed = page.and_then(|(_, page)| self.engine.probed(now(), &page.version));
        if let Err(mut failure) = probed {
            self.report(&mut failure);
            self.out.suspect();
            if self.engine.watch_failed(now(), &failure) {
                self.out.relisting(failure.reason);
            }
            self.out.count(&failure);
        }
    }
}

impl From<PageError> for Failure {
    fn from(error: PageError) -> Self {
        let reason = match error {
            PageError::Json(_) => FailureReason::Undecodable,
            PageError::TooLarge => FailureReason::TooLarge,
        };
        Self::new(reason, error.to_string())
    }
}

/// Time as the runtime has it, so that tests can pause it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

pub(super) const SOURCE: SourceId = SourceId::Kube;
/// A page is asked for in sizes of a few MB; what is far larger is asked for in smaller pages.
const PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
const PROBE_TIME: Duration = Duration::from_secs(10);
