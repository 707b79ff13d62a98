// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides what to ask the API server next: a page of a list, a watch, or nothing for a while.
//!
//! In: what became of each request, and the time. Out: the next [`Action`]. One machine for each list. Its rules:
//! a list that is not complete in time is begun again; any 410, any answer without a version, a version that goes back and
//! anything that does not decode leads to a new list; a watch that ends within seconds counts as a failure, or an
//! answering but empty cache would be asked without pause. When to ask again is said here for what is wrong with this
//! list, and by the [gate](super::gate) for what is wrong with the server. Pure: no I/O, no clock, randomness is seeded.

use super::{failure::Failure, gate};
use crate::source::{Backoff, BackoffRule, FailureReason};
use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Nothing until then.
    Wait(Instant),
    /// Read a page of the list; `is_first` when a new list begins with it.
    List {
        token: Option<String>,
        page_size: u32,
        /// How long the server may take to begin its answer.
        answer_within: Duration,
        /// When the whole list, all pages, is given up.
        deadline: Instant,
        is_first: bool,
    },
    /// Watch from the version.
    Watch { version: String },
    /// Ask for the server's present version, because the watch has been quiet for very long.
    Probe,
}

/// What a page did for its list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listed {
    /// More pages follow.
    More,
    /// The list is complete.
    Complete(Standing),
}

/// How the version of a list stands to what was known before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It is newer, the first, or cannot be compared.
    Newer,
    Same,
    /// The server was restored, or a cache answers.
    Older,
}

/// The machine of one list.
#[derive(Debug)]
pub(super) struct Engine {
    phase: Phase,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// Spaces the lists that are read again because something did not decode.
    repair: Backoff,
    repair_not_before: Option<Instant>,
    /// A list that is to be read again as soon as the spacing allows.
    owed: Option<FailureReason>,
    answer_time: Duration,
    page_size: u32,
    page_size_max: u32,
    good_pages: u32,
    /// The version up to which we knew before the list under way.
    known: Option<u64>,
    /// When an event, a bookmark or a list last told a version.
    progress: Option<Instant>,
    watch_since: Option<Instant>,
    /// The server refused to be watched for a reason that a person has to mend.
    is_refused: bool,
}

#[derive(Debug)]
enum Phase {
    List {
        token: Option<String>,
        deadline: Option<Instant>,
    },
    Watch {
        version: String,
    },
}

impl Engine {
    /// A machine that begins with a list, in pages of at most `page_size` objects.
    pub(super) fn new(seed: u64, page_size: u32) -> Self {
        Self {
            phase: Phase::BEGIN,
            not_before: None,
            backoff: Backoff::new(BackoffRule::default(), seed),
            repair: Backoff::new(REPAIR, seed ^ 1),
            repair_not_before: None,
            owed: None,
            answer_time: ANSWER_TIME_MIN,
            page_size,
            page_size_max: page_size,
            good_pages: 0,
            known: None,
            progress: None,
            watch_since: None,
            is_refused: false,
        }
    }

    /// The version that an earlier run had reached: a list that is behind it went back.
    pub(super) fn known(mut self, version: Option<u64>) -> Self {
        self.known = version;
        self
    }

    /// The version up to which we know.
    pub(super) fn version(&self) -> Option<u64> {
        self.known
    }

    /// Whether the watch has been quiet for so long that the server's version is to be asked for.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        is_quiet(self.progress, now)
    }

    /// The version from which to watch; none while a list is under way.
    pub(super) fn watched_from(&self) -> Option<&str> {
        match &self.phase {
            Phase::Watch { version } => Some(version),
            Phase::List { .. } => None,
        }
    }

    /// Failures since the last success that held.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Until when nothing is to be asked.
    pub(super) fn waits(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Action {
        if let Some(until) = self.waits(now) {
            return Action::Wait(until);
        }
        self.not_before = None;
        match &mut self.phase {
            Phase::List { token, deadline } => Action::List {
                is_first: deadline.is_none(),
                deadline: *deadline.get_or_insert(now + LIST_TIME_MAX),
                answer_within: self.answer_time,
                token: token.clone(),
                page_size: self.page_size,
            },
            Phase::Watch { .. } if is_quiet(self.progress, now) => Action::Probe,
            Phase::Watch { version } => Action::Watch {
                version: version.clone(),
            },
        }
    }

    /// A page was read.
    pub(super) fn listed(
        &mut self,
        now: Instant,
        next: Option<String>,
        version: String,
    ) -> Result<Listed, Failure> {
        self.page_was_good();
        if next.is_some() {
            if let Phase::List { token, .. } = &mut self.phase {
                *token = next;
            }
            return Ok(Listed::More);
        }
        if version.is_empty() {
            return Err(Failure::new(
                FailureReason::NoVersion,
                "the list has no resourceVersion",
            ));
        }
        let told = number(&version);
        let standing = match told.zip(self.known).map(|(told, known)| told.cmp(&known)) {
            None | Some(Ordering::Greater) => Standing::Newer,
            Some(Ordering::Equal) => Standing::Same,
            Some(Ordering::Less) => Standing::Older,
        };
        self.known = told;
        self.phase = Phase::Watch { version };
        self.owed = None;
        self.progress = Some(now);
        self.answer_time = ANSWER_TIME_MIN;
        self.backoff.succeeded(now);
        Ok(Listed::Complete(standing))
    }

    /// Large objects make small pages; once they are gone pages grow again, slowly.
    fn page_was_good(&mut self) {
        self.good_pages += 1;
        if self.good_pages >= GOOD_PAGES && self.page_size < self.page_size_max {
            self.page_size = (self.page_size * 2).min(self.page_size_max);
            self.good_pages = 0;
        }
    }

    /// A list failed; it begins again after the backoff.
    pub(super) fn list_failed(&mut self, now: Instant, failure: &Failure) {
        match failure.reason {
            FailureReason::Deadline => {
                self.answer_time = (self.answer_time * 2).min(ANSWER_TIME_MAX);
            }
            FailureReason::TooLarge => {
                self.page_size = (self.page_size / 2).max(1);
                self.good_pages = 0;
            }
            _ => {}
        }
        self.phase = Phase::BEGIN;
        self.back_off(now, failure);
    }

    /// A watch was accepted. Some reason when it is to be given up at once for a new list.
    pub(super) fn watching(&mut self, now: Instant) -> Option<FailureReason> {
        self.watch_since = Some(now);
        if std::mem::take(&mut self.is_refused) {
            // The list's start withdraws what was said of the refusal.
            self.phase = Phase::BEGIN;
            return Some(FailureReason::Recovered);
        }
        None
    }

    /// A watch told that it has reached this version.
    pub(super) fn progressed(&mut self, now: Instant, version: &str) -> Result<(), Failure> {
        if version.is_empty() {
            let text = "an event has no resourceVersion";
            return Err(Failure::new(FailureReason::NoVersion, text));
        }
        let told = number(version);
        // Versions are opaque, and compared for guards only: a server tells no event twice, a cache that was cut off may.
        if let (Some(told), Some(known)) = (told, self.known)
            && told < known
        {
            let text = format!("an event is of version {told}, behind the known {known}");
            return Err(Failure::new(FailureReason::VersionAhead, text));
        }
        self.known = told;
        if let Phase::Watch { version: known } = &mut self.phase {
            version.clone_into(known);
        }
        self.progress = Some(now);
        Ok(())
    }

    /// Something in the watch did not decode. True when the watch is to be given up for a new list now; otherwise the
    /// list is owed, because one was read for the same reason not long ago.
    pub(super) fn undecodable(&mut self, now: Instant, reason: FailureReason) -> bool {
        if self.repair_not_before.is_some_and(|until| until > now) {
            self.owed = Some(reason);
            return false;
        }
        self.repair_begins(now);
        true
    }

    /// The server ended the watch in good order. Some reason when a new list follows.
    pub(super) fn watch_closed(&mut self, now: Instant) -> Result<Option<FailureReason>, Failure> {
        let since = self.watch_since.take().unwrap_or(now);
        if now.saturating_duration_since(since) < SHORT_STREAM {
            let text = "the watch ended within seconds";
            return Err(Failure::new(FailureReason::ShortStream, text));
        }
        self.backoff.succeeded(since);
        let repair = self.repair_not_before.is_none_or(|until| until <= now);
        let owed = self.owed.filter(|_| repair);
        if owed.is_some() {
            self.repair_begins(now);
        }
        Ok(owed)
    }

    /// A watch or a probe failed. True when a new list follows.
    pub(super) fn watch_failed(&mut self, now: Instant, failure: &Failure) -> bool {
        self.watch_since = None;
        self.is_refused |= failure.reason.needs_person();
        let relists = matches!(
            failure.reason,
            FailureReason::Expired
                | FailureReason::NoVersion
                | FailureReason::VersionAhead
                | FailureReason::Refused
        );
        if relists {
            self.phase = Phase::BEGIN;
        }
        self.back_off(now, failure);
        if !failure.is_governed {
            // Also with luck in the draw, a watch that does not hold is begun once a second at most.
            self.not_before = self.not_before.max(Some(now + WATCH_PAUSE_MIN));
        }
        relists
    }

    /// The server's present version is known: ours must not be ahead of it.
    pub(super) fn probed(&mut self, now: Instant, version: &str) -> Result<(), Failure> {
        let Phase::Watch { version: known } = &self.phase else {
            return Ok(());
        };
        if let (Some(ours), Some(theirs)) = (number(known), number(version))
            && ours > theirs
        {
            let text = format!("the server is at version {theirs}, behind the known {ours}");
            return Err(Failure::new(FailureReason::VersionAhead, text));
        }
        self.progress = Some(now);
        Ok(())
    }

    fn repair_begins(&mut self, now: Instant) {
        let wait = self.repair.failed(now).max(REPAIR_PAUSE_MIN);
        self.repair_not_before = Some(now + wait);
        self.owed = None;
        self.watch_since = None;
        self.phase = Phase::BEGIN;
        self.not_before = Some(now + self.backoff.failed(now));
    }

    /// The next request waits, unless the gate says when it may be sent.
    fn back_off(&mut self, now: Instant, failure: &Failure) {
        if failure.is_governed {
            return;
        }
        let cap = gate::cap(failure);
        let wait = self.backoff.failed_asked(now, cap, failure.retry_after);
        self.not_before = Some(now + wait);
    }
}

impl Phase {
    const BEGIN: Self = Self::List {
        token: None,
        deadline: None,
    };
}

fn is_quiet(progress: Option<Instant>, now: Instant) -> bool {
    progress.is_some_and(|progress| now.saturating_duration_since(progress) >= QUIET_MAX)
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Until the answer to a list begins; doubled when it did not suffice.
const ANSWER_TIME_MIN: Duration = Duration::from_secs(30);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// A whole list, as long as it gets on: 7 MB, some 400,000 endpoints when compressed, at 32 kbit/s.
const LIST_TIME_MAX: Duration = Duration::from_secs(1800);
/// After so many good pages in a row the page size is tried at its double.
const GOOD_PAGES: u32 = 50;
/// A watch that lives shorter did not work.
pub(super) const SHORT_STREAM: Duration = Duration::from_secs(5);
const WATCH_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Bookmarks come about once a minute: without any for that long a watch may wait for a version of the future.
const QUIET_MAX: Duration = Duration::from_secs(180);
/// An object that never decodes and changes often must not cost a list at each change.
const REPAIR: BackoffRule = BackoffRule {
    first: Duration::from_secs(60),
    cap: Duration::from_secs(900),
    hold: Duration::from_secs(1800),
};
const REPAIR_PAUSE_MIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
