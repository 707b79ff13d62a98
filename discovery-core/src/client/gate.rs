// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many calls are under way, and whether new ones are taken: what a limit and a graceful close need. No lock.

use super::CallError;
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

    /// Lets one call in.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Ticket, CallError> {
        // Counted before the flag is read: a close that sees nobody in flight is thus seen here.
        let before = self.in_flight.fetch_add(1, SeqCst);
        let ticket = Ticket { gate: self.clone() };
        if self.is_closed.load(SeqCst) {
            return Err(CallError::Closed);
        }
        if before >= self.limit {
            self.refused.fetch_add(1, Relaxed);
            return Err(CallError::Overloaded { limit: self.limit });
        }
        Ok(ticket)
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

/// One call inside the gate.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
}

impl Ticket {
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.gate.in_flight.fetch_sub(1, SeqCst) == 1 && self.gate.is_closed.load(SeqCst) {
            self.gate.idle.notify_waiters();
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

    #[test]
    fn the_limit_is_kept_and_what_it_refuses_is_counted() {
        let gate = Gate::new(2);
        let (first, _second) = (gate.enter().unwrap(), gate.enter().unwrap());
        assert_eq!(
            gate.enter().unwrap_err(),
            CallError::Overloaded { limit: 2 }
        );
        assert_eq!((gate.in_flight(), gate.refused()), (2, 1));
        drop(first);
        assert!(gate.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Gate::new(10);
        let inside = gate.enter().unwrap();
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.enter().unwrap_err(), CallError::Closed);
        assert!(!closing.is_finished());
        drop(inside);
        assert_eq!(closing.await.unwrap().unfinished(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_ends_at_its_deadline_and_says_how_many_are_left() {
        let gate = Gate::new(10);
        let _inside = gate.enter().unwrap();
        assert_eq!(gate.close(Duration::from_secs(5)).await.unfinished(), 1);
    }
}
