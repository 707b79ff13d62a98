// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches a list: from the request to the end of what answers it, event by event.
//!
//! One that is overdue gets a second beside it, from the same version over a new connection. Whichever speaks first is
//! followed and the other is closed; where the first ends meanwhile the second is the next one, so that nothing is asked for
//! that would not have been asked a moment later.

use super::{
    Closed, Feed, OwnNode, now,
    stream::{Came, Moment, Stream},
};
use crate::source::{
    FailureReason, SecondWatch,
    kube::{answer::Piece, decode::Event, failure::Failure, request::Asked},
};
use std::time::Duration;
use tokio::time::sleep_until;

/// How a watch ended.
enum End {
    /// The server closed it.
    Closed,
    /// It was given up for a new list.
    Relist(FailureReason),
    Failed(Failure),
    /// It is overdue, and so quiet that there is something else to ask first.
    Probe,
    NobodyListens,
}

/// A watch, and the one that may have begun beside it.
struct Pair {
    first: Stream,
    second: Option<Stream>,
}

/// What one of them has to say, or a moment in the life of the first.
enum Happened {
    First(Result<Came, Failure>),
    Second(Result<Came, Failure>),
    Moment,
}

impl Pair {
    async fn happens(&mut self) -> Happened {
        let Self { first, second } = self;
        let second = async {
            match second {
                Some(second) => second.next().await,
                None => std::future::pending().await,
            }
        };
        let moment = first.life.next();
        let moment = async {
            match moment {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            came = first.next() => Happened::First(came),
            came = second => Happened::Second(came),
            () = moment => Happened::Moment,
        }
    }
}

impl Feed {
    pub(super) async fn watch(&mut self, version: &str) -> Result<(), Closed> {
        let mut pair = Pair {
            first: self.begin(version, false),
            second: None,
        };
        let end = loop {
            let went_on = match pair.happens().await {
                Happened::First(Ok(came)) => self.came(&mut pair, came).await,
                Happened::First(Err(failure)) => self.broke(&mut pair, failure),
                Happened::Second(Ok(_)) => self.takes_over(&mut pair),
                Happened::Second(Err(failure)) => {
                    self.second_failed(&mut pair, &failure);
                    Ok(())
                }
                Happened::Moment => self.moment(&mut pair),
            };
            if let Err(end) = went_on {
                break end;
            }
        };
        if pair.second.is_some() {
            self.count(SecondWatch::NotNeeded);
        }
        self.watch_ended(end).await
    }

    /// Asks for a watch.
    fn begin(&self, version: &str, is_second: bool) -> Stream {
        let now = now();
        let (time, is_late) = {
            let mut link = self.link.link();
            (link.watch_time(now, is_second), link.is_late(now))
        };
        self.out.status().watch_begun(self.out.kind());
        let uri = self.resource.watch_uri(version, time.asked);
        let (asker, resource) = (self.asker.clone(), self.resource.clone());
        let asker = if is_second || is_late {
            asker.afresh()
        } else {
            asker
        };
        let asking = async move {
            let asked = Asked::Resource("watch", &resource);
            asker.ask(&asked, &uri, WATCH_ANSWER_TIME).await
        };
        Stream::new(Box::pin(asking), time, is_late.then_some(LATE_HEAD_TIME))
    }

    async fn came(&mut self, pair: &mut Pair, came: Came) -> Result<(), End> {
        match came {
            Came::Head => {
                self.not_needed(pair);
                self.stands()
            }
            Came::Piece(piece) => {
                // What the second would repeat is known by now.
                if self.read(&mut pair.first, &piece).await? && self.not_needed(pair) {
                    pair.first.life.is_still_overdue();
                }
                Ok(())
            }
            Came::End => self.closed(pair),
        }
    }

    /// The server has begun to answer.
    fn stands(&mut self) -> Result<(), End> {
        self.seat.answered();
        if let Some(reason) = self.engine.watching(now()) {
            return Err(End::Relist(reason));
        }
        self.out.watching();
        Ok(())
    }

    /// Takes in the whole lines; whether there was one.
    async fn read(&mut self, stream: &mut Stream, piece: &Piece) -> Result<bool, End> {
        let (status, kind) = (self.out.status(), self.out.kind());
        status.add_bytes(kind, piece.wire_bytes, piece.bytes.len());
        stream.lines.push(&piece.bytes);
        let mut has_spoken = false;
        while let Some(line) = stream.lines.next().map_err(|_| End::Failed(too_long()))? {
            let names = &mut self.translator.names;
            let event = self.resource.event(line, &self.out.keys, names);
            self.event(event).await?;
            self.out.heard();
            stream.life.spoke();
            has_spoken = true;
        }
        Ok(has_spoken)
    }

    /// The server ended the first; the second is the next.
    fn closed(&mut self, pair: &mut Pair) -> Result<(), End> {
        if pair.first.ends_in_time() {
            self.link.link().ended_in_time();
        }
        let Some(second) = pair.second.take() else {
            return Err(End::Closed);
        };
        match self.engine.watch_closed(now()) {
            Ok(None) => {
                self.count(SecondWatch::TookOver);
                self.out.heard();
                pair.first = second;
                Ok(())
            }
            Ok(Some(reason)) => Err(End::Relist(reason)),
            Err(failure) => Err(End::Failed(failure)),
        }
    }

    /// The first broke. The second is the next, unless the server itself had something to say.
    fn broke(&mut self, pair: &mut Pair, failure: Failure) -> Result<(), End> {
        match pair.second.take_if(|_| failure.is_of_way()) {
            Some(second) => {
                self.count(SecondWatch::TookOver);
                self.seat.lost();
                self.custody.doubt();
                self.out.count(&failure);
                pair.first = second;
                Ok(())
            }
            None => Err(End::Failed(failure)),
        }
    }

    /// The second speaks while the first is silent.
    fn takes_over(&mut self, pair: &mut Pair) -> Result<(), End> {
        let Some(second) = pair.second.take() else {
            return Ok(());
        };
        self.count(SecondWatch::TookOver);
        if self.link.link().was_late(now()) {
            let kind = self.out.kind();
            tracing::warn!(%kind, "A new connection is quicker than one that stands: watches are short for a while");
        }
        pair.first = second;
        self.stands()
    }

    /// Where the server refused it, the next watch will hear the same; it is tried again only where none was reached.
    fn second_failed(&mut self, pair: &mut Pair, failure: &Failure) {
        pair.second = None;
        self.count(SecondWatch::Failed);
        if !failure.was_asked {
            pair.first.life.is_still_overdue();
        }
    }

    /// Nothing came up to a moment of the first's life.
    fn moment(&mut self, pair: &mut Pair) -> Result<(), End> {
        let life = &mut pair.first.life;
        match life.moment() {
            None => {}
            Some(Moment::Lives) => self.out.heard(),
            Some(Moment::Overdue) => return self.overdue(pair),
            Some(Moment::Suspect) if life.spoke_lately() => {}
            Some(Moment::Suspect) => self.out.suspect(),
            // It does not know the parameter by which watches end.
            Some(Moment::Deadline) if life.spoke_lately() => return self.closed(pair),
            Some(Moment::Deadline) => return self.broke(pair, silent()),
        }
        Ok(())
    }

    /// Begins a second watch beside one that should have spoken by now, unless the server as such is sick.
    fn overdue(&mut self, pair: &mut Pair) -> Result<(), End> {
        if self.engine.is_quiet(now()) {
            return Err(End::Probe);
        }
        if pair.second.is_some() || self.seat.is_closed() {
            return Ok(());
        }
        let may_begin = self.link.link().second(now());
        if let Some(version) = self.engine.watched_from().filter(|_| may_begin) {
            pair.second = Some(self.begin(version, true));
        }
        Ok(())
    }

    /// Closes the second, if there is one.
    fn not_needed(&self, pair: &mut Pair) -> bool {
        let is_closed = pair.second.take().is_some();
        if is_closed {
            self.count(SecondWatch::NotNeeded);
        }
        is_closed
    }

    fn count(&self, outcome: SecondWatch) {
        self.out.status().second_watch(self.out.kind(), outcome);
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        let updates = match event {
            Event::Stated(reading) => {
                self.progressed(&reading.version)?;
                if let Some(node) = self.translator.own_node(&reading) {
                    self.out.tell_own(node);
                }
                let identified = self.out.identify(reading.cluster_uid.as_deref()).await;
                identified.map_err(|Closed| End::NobodyListens)?;
                self.translator.changed(reading)
            }
            Event::Gone { named, version } => {
                self.progressed(&version)?;
                self.out.tell_own(OwnNode::default());
                self.translator.gone(named)
            }
            Event::Bookmark { version } => return self.progressed(&version),
            Event::Error { code, message } => return Err(End::Failed(in_stream(code, &message))),
            Event::Refused(reading) => {
                self.progressed(&reading.version)?;
                let name = reading.name.clone();
                let problems = self.translator.changed(reading);
                self.send_all(problems).await?;
                return self.undecodable(FailureReason::Undecodable, &name);
            }
            Event::Undecodable { reason, why } => return self.undecodable(reason, &why),
        };
        self.send_all(updates).await
    }

    async fn send_all(&self, updates: Vec<crate::store::Update>) -> Result<(), End> {
        let sent = self.out.send_all(updates).await;
        sent.map_err(|Closed| End::NobodyListens)
    }

    fn progressed(&mut self, version: &str) -> Result<(), End> {
        let progressed = self.engine.progressed(now(), version);
        progressed.map_err(End::Failed)?;
        self.out.reached(self.engine.version());
        Ok(())
    }

    fn undecodable(&mut self, reason: FailureReason, what: &str) -> Result<(), End> {
        self.out.status().failed(self.out.kind(), reason);
        self.out.status().rejected(self.out.kind(), reason);
        tracing::warn!(kind = %self.out.kind(), %reason, what, "Watch event refused");
        if self.engine.undecodable(now(), reason) {
            return Err(End::Relist(reason));
        }
        Ok(())
    }

    async fn watch_ended(&mut self, end: End) -> Result<(), Closed> {
        let mut failure = match end {
            End::NobodyListens => return Err(Closed),
            End::Probe => return Ok(()),
            End::Relist(reason) => {
                self.out.relisting(reason);
                return Ok(());
            }
            End::Failed(failure) => failure,
            End::Closed => match self.engine.watch_closed(now()) {
                Err(failure) => failure,
                Ok(relist) => {
                    self.out.heard();
                    if let Some(reason) = relist {
                        self.out.relisting(reason);
                    }
                    return Ok(());
                }
            },
        };
        self.report(&mut failure);
        if failure.reason == FailureReason::TooLarge {
            self.out.status().rejected(self.out.kind(), failure.reason);
        }
        if self.engine.watch_failed(now(), &failure) {
            self.out.relisting(failure.reason);
        }
        self.out.failed("watch", &failure).await
    }
}

fn in_stream(code: u16, message: &str) -> Failure {
    let reason = match code {
        410 => FailureReason::Expired,
        _ => FailureReason::InStream,
    };
    let message: String = message.chars().take(400).collect();
    Failure::new(reason, format!("error {code} inside the watch: {message}"))
}

fn silent() -> Failure {
    let text = "the watch was silent beyond its end";
    Failure::new(FailureReason::Silent, text)
}

fn too_long() -> Failure {
    let text = "a line of the watch is longer than the limit";
    Failure::new(FailureReason::TooLarge, text)
}

/// Servers send the head of a watch at once.
const WATCH_ANSWER_TIME: Duration = Duration::from_secs(15);
/// While the link is late: four times what a first packet that was lost takes to be sent again.
const LATE_HEAD_TIME: Duration = Duration::from_secs(4);
