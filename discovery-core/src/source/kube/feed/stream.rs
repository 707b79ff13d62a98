// SPDX-License-Identifier: MIT OR Apache-2.0
//! One watch over one connection: asked for, standing, ended; and the moments at which its silence means something.

use crate::source::kube::{
    answer::{Answer, Piece},
    engine::SHORT_STREAM,
    failure::Failure,
    framing::Lines,
    link::WatchTime,
};
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;

/// A request under way for the head of a watch.
pub(super) type Asking = BoxFuture<'static, Result<Answer, Failure>>;

/// One watch.
pub(super) struct Stream {
    stage: Stage,
    time: WatchTime,
    pub(super) lines: Lines,
    pub(super) life: Life,
}

enum Stage {
    Asked(Asking),
    Standing(Answer),
}

/// What came of a watch.
pub(super) enum Came {
    /// The server has begun to answer.
    Head,
    Piece(Piece),
    /// The server ended it; what is left in the lines was cut off with it, and the next watch repeats it.
    End,
}

impl Stream {
    /// One that was asked for, to be ended by the server after `time`. It is late without a head after `head_within`.
    pub(super) fn new(asking: Asking, time: WatchTime, head_within: Option<Duration>) -> Self {
        Self {
            stage: Stage::Asked(asking),
            time,
            lines: Lines::default(),
            life: Life {
                overdue_at: head_within.map(|within| Instant::now() + within),
                ..Life::default()
            },
        }
    }

    /// Waits for more. To be given up at any time without a loss, and not to be called again after a failure.
    pub(super) async fn next(&mut self) -> Result<Came, Failure> {
        match &mut self.stage {
            Stage::Asked(asking) => {
                self.stage = Stage::Standing(asking.await?);
                self.life = Life::standing(self.time);
                Ok(Came::Head)
            }
            Stage::Standing(answer) => {
                let piece = answer.next().await?;
                Ok(piece.map_or(Came::End, Came::Piece))
            }
        }
    }

    /// Whether it ends about when it was asked to.
    pub(super) fn ends_in_time(&self) -> bool {
        let stood = self.life.stands_since.map(|since| since.elapsed());
        stood.is_some_and(|stood| stood.abs_diff(self.time.asked) < OVERDUE)
    }
}

/// The moments in the life of a watch.
#[derive(Default)]
pub(super) struct Life {
    stands_since: Option<Instant>,
    /// It has stood long enough to be one; none once that was noted.
    lives_at: Option<Instant>,
    /// Something should have come by now; none once that was noted.
    overdue_at: Option<Instant>,
    /// The server should have ended it by now; none once that was noted.
    suspect_at: Option<Instant>,
    /// It is given up; none while there is no head, for which the request has a time of its own.
    deadline: Option<Instant>,
    last_line: Option<Instant>,
}

/// What a moment means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moment {
    /// It has stood for a while: a sign of life, since caches that are cut off end it at once.
    Lives,
    Overdue,
    Suspect,
    Deadline,
}

impl Life {
    fn standing(time: WatchTime) -> Self {
        let now = Instant::now();
        let doubted = now + time.believed;
        Self {
            stands_since: Some(now),
            lives_at: Some(now + SHORT_STREAM),
            overdue_at: Some(now + time.asked + OVERDUE),
            suspect_at: Some(doubted + WATCH_TIME_MARGIN / 2),
            deadline: Some(doubted + WATCH_TIME_MARGIN),
            last_line: None,
        }
    }

    /// When the next moment is; none while there is nothing to wait for but an answer.
    pub(super) fn next(&self) -> Option<Instant> {
        let moments = [self.lives_at, self.overdue_at, self.suspect_at];
        moments.into_iter().chain([self.deadline]).flatten().min()
    }

    /// A moment that has come.
    pub(super) fn moment(&mut self) -> Option<Moment> {
        let now = Instant::now();
        let is_over = |at: &mut Instant| *at <= now;
        if self.lives_at.take_if(is_over).is_some() {
            return Some(Moment::Lives);
        }
        if self.overdue_at.take_if(is_over).is_some() {
            // What has just spoken gets on, late as it may be.
            let quiet_at = self.last_line.map(|line| line + OVERDUE);
            self.overdue_at = quiet_at.filter(|at| *at > now);
            return self.overdue_at.is_none().then_some(Moment::Overdue);
        }
        if self.suspect_at.take_if(is_over).is_some() {
            return Some(Moment::Suspect);
        }
        self.deadline
            .is_some_and(|at| at <= now)
            .then_some(Moment::Deadline)
    }

    /// It spoke.
    pub(super) fn spoke(&mut self) {
        self.last_line = Some(Instant::now());
    }

    /// What was begun because it is overdue did not help: it may be tried again after a while.
    pub(super) fn is_still_overdue(&mut self) {
        self.overdue_at = Some(Instant::now() + AGAIN);
    }

    /// Whether it spoke so recently that it cannot be dead.
    pub(super) fn spoke_lately(&self) -> bool {
        self.last_line
            .is_some_and(|line| line.elapsed() < SPOKE_LATELY)
    }
}

/// How much longer than asked for a watch may last.
const WATCH_TIME_MARGIN: Duration = Duration::from_secs(5);
/// The end of a watch comes as its head came: what a busy server and a full queue add is less.
const OVERDUE: Duration = Duration::from_secs(2);
/// Between two attempts at a second watch beside the same one.
const AGAIN: Duration = Duration::from_secs(1);
const SPOKE_LATELY: Duration = Duration::from_secs(10);
