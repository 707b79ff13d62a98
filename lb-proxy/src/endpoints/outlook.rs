// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether this host reaches any endpoint of a listener's service.
//!
//! In: dials of clients, and rounds of our own. Out: not known yet, reached, or isolated. A host whose cable to the endpoints is
//! cut looks well from outside, and its listeners accept: who is isolated has to say so itself.

use discovery_core::telemetry::ConnectFailure;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

/// What is known of the way to the endpoints. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Outlook(Arc<Shared>);

/// What is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum View {
    /// Nobody has tried.
    Unknown,
    /// The last one who tried reached an endpoint, or nobody asks.
    Reached,
    /// Two rounds in a row reached none.
    Isolated(ConnectFailure),
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    /// When an endpoint was reached last, in milliseconds after the beginning.
    reached: AtomicU64,
    /// Whether the view is isolated: looked at for each connection, without a lock.
    is_isolated: AtomicBool,
    failed: Notify,
    view: watch::Sender<View>,
}

impl Outlook {
    /// Not known where somebody will try, else believed to be good.
    pub(crate) fn new(is_asked: bool) -> Self {
        let view = if is_asked {
            View::Unknown
        } else {
            View::Reached
        };
        Self(Arc::new(Shared {
            began: Instant::now(),
            reached: AtomicU64::new(0),
            is_isolated: AtomicBool::new(false),
            failed: Notify::new(),
            view: watch::Sender::new(view),
        }))
    }

    /// Takes in that a client's dial reached an endpoint.
    pub(crate) fn reached(&self) {
        self.0.reached.store(self.now(), Relaxed);
        if self.is_isolated() {
            self.tell(View::Reached);
        }
    }

    /// Takes in that a client's dial reached none.
    pub(crate) fn failed(&self) {
        self.0.failed.notify_one();
    }

    pub(crate) fn is_isolated(&self) -> bool {
        self.0.is_isolated.load(Relaxed)
    }

    /// What is known, now and later.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    /// Says what a round came to.
    pub(crate) fn tell(&self, view: View) {
        let is_isolated = matches!(view, View::Isolated(_));
        self.0.is_isolated.store(is_isolated, Relaxed);
        if view == View::Reached {
            self.0.reached.store(self.now(), Relaxed);
        }
        self.0.view.send_if_modified(|known| {
            let is_other = *known != view;
            *known = view;
            is_other
        });
    }

    /// Waits until a client's dial fails, or none has reached an endpoint for so long.
    pub(crate) async fn doubted(&self, quiet: Duration) {
        loop {
            let reached = Duration::from_millis(self.0.reached.load(Relaxed));
            let age = self.0.began.elapsed().saturating_sub(reached);
            if age >= quiet {
                return;
            }
            tokio::select! {
                () = self.0.failed.notified() => return,
                () = sleep(quiet.saturating_sub(age)) => {}
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Counts rounds into a view; pure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    failed: u32,
}

impl Rounds {
    /// What a round makes of the view; none while it stays.
    pub(crate) fn observe(&mut self, outcome: Result<(), ConnectFailure>) -> Option<View> {
        match outcome {
            Ok(()) => {
                self.failed = 0;
                Some(View::Reached)
            }
            Err(failure) => {
                self.failed = self.failed.saturating_add(1);
                (self.failed >= ROUNDS_MAX).then_some(View::Isolated(failure))
            }
        }
    }
}

/// One round may meet a switch that restarts.
const ROUNDS_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failed_rounds_isolate_and_one_good_one_ends_it() {
        let mut rounds = Rounds::default();
        let timeout = Err(ConnectFailure::Timeout);
        assert_eq!(rounds.observe(timeout), None);
        assert_eq!(rounds.observe(Ok(())), Some(View::Reached));
        assert_eq!(rounds.observe(timeout), None, "the count begins anew");
        let isolated = Some(View::Isolated(ConnectFailure::Timeout));
        assert_eq!(rounds.observe(timeout), isolated);
        assert_eq!(rounds.observe(timeout), isolated);
        assert_eq!(rounds.observe(Ok(())), Some(View::Reached));
    }

    #[tokio::test]
    async fn a_failed_dial_is_doubt_and_a_client_that_got_through_ends_isolation() {
        let outlook = Outlook::new(true);
        outlook.tell(View::Reached);
        outlook.failed();
        outlook.doubted(Duration::from_secs(3_600)).await;
        outlook.tell(View::Isolated(ConnectFailure::Refused));
        assert!(outlook.is_isolated());
        outlook.reached();
        assert_eq!(*outlook.view().borrow(), View::Reached);
        outlook.doubted(Duration::ZERO).await;
    }
}
