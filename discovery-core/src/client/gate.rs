// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many calls are under way, and whether new ones are taken: what a limit and a graceful close need. No lock.

use super::{CallError, terms::Terms};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The gate that all calls of one [`Discovery`](super::Discovery) pass.
#[derive(Debug)]
pub(super) struct Gate {
    limit: usize,
    in_flight: AtomicUsize,
    is_closed: AtomicBool,
    idle: Notify,
    refused: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
}

impl Gate {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            in_flight: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            idle: Notify::new(),
            refused: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// Lets nobody in from now on, and waits until everybody is out or the deadline has passed.
    pub(super) async fn close(&self, deadline: Duration) -> Closed {
        self.is_closed.store(true, SeqCst);
        let idle = async {
            loop {
                let idle = self.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if self.in_flight() == 0 {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(deadline, idle).await;
        Closed {
            unfinished: self.in_flight(),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Calls that were reported so far: those that succeeded and those that failed.
    pub(super) fn outcomes(&self) -> (u64, u64) {
        (self.successes.load(Relaxed), self.failures.load(Relaxed))
    }

    pub(super) fn ended(&self, well: bool) {
        let counter = if well {
            &self.successes
        } else {
            &self.failures
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// One call inside the gate, on the terms of its service.
#[derive(Debug)]
pub(super) struct Ticket {
    terms: Arc<Terms>,
}

impl Ticket {
    /// Lets one call in.
    pub(super) fn take(terms: &Arc<Terms>) -> Result<Self, CallError> {
        let gate = &terms.gate;
        // Counted before the flag is read: a close that sees nobody in flight is thus seen here.
        let before = gate.in_flight.fetch_add(1, SeqCst);
        let ticket = Self {
            terms: terms.clone(),
        };
        if gate.is_closed.load(SeqCst) {
            return Err(CallError::Closed);
        }
        if before >= gate.limit {
            gate.refused.fetch_add(1, Relaxed);
            return Err(CallError::Overloaded { limit: gate.limit });
        }
        Ok(ticket)
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let gate = &self.terms.gate;
        if gate.in_flight.fetch_sub(1, SeqCst) == 1 && gate.is_closed.load(SeqCst) {
            gate.idle.notify_waiters();
        }
    }
}

/// How a close ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Closed {
    unfinished: usize,
}

impl Closed {
    /// Calls that were still under way at the deadline; 0 after a close in full grace.
    pub fn unfinished(self) -> usize {
        self.unfinished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(limit: usize) -> Arc<Terms> {
        Arc::new(Terms {
            service: "web".parse().unwrap(),
            gate: Gate::new(limit),
            rule: None,
        })
    }

    #[test]
    fn the_limit_is_kept_and_what_it_refuses_is_counted() {
        let terms = terms(2);
        let (first, _second) = (Ticket::take(&terms).unwrap(), Ticket::take(&terms).unwrap());
        assert_eq!(
            Ticket::take(&terms).unwrap_err(),
            CallError::Overloaded { limit: 2 }
        );
        assert_eq!((terms.gate.in_flight(), terms.gate.refused()), (2, 1));
        drop(first);
        assert!(Ticket::take(&terms).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_for_those_inside_and_lets_nobody_in() {
        let terms = terms(10);
        let inside = Ticket::take(&terms).unwrap();
        let closing = tokio::spawn({
            let gate = terms.gate.clone();
            async move { gate.close(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(Ticket::take(&terms).unwrap_err(), CallError::Closed);
        assert!(!closing.is_finished());
        drop(inside);
        assert_eq!(closing.await.unwrap().unfinished(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_ends_at_its_deadline_and_says_how_many_are_left() {
        let terms = terms(10);
        let _inside = Ticket::take(&terms).unwrap();
        let closed = terms.gate.close(Duration::from_secs(5)).await;
        assert_eq!(closed.unfinished(), 1);
    }
}
