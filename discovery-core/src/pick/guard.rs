// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pick under way: it counts as one in flight until it is dropped.

use super::{EjectRule, Outcome, Verdict, report};
use crate::store::{Endpoint, Hop, Load};
use std::{mem::ManuallyDrop, ops::Deref, sync::Arc, time::Instant};

/// A picked endpoint, borrowed from a view. Counted in flight until dropped; costs no reference count.
#[derive(Debug)]
#[must_use = "dropping the pick ends its accounting"]
pub struct Pick<'v> {
    endpoint: &'v Arc<Endpoint>,
    load: &'v Load,
}

impl<'v> Pick<'v> {
    #[inline]
    pub(super) fn new(hop: &'v Hop) -> Self {
        hop.load().enter();
        Self {
            endpoint: hop.endpoint(),
            load: hop.load(),
        }
    }

    /// Tells how it ended, and ends it; see [`report`].
    pub fn end(self, outcome: Outcome, now: Instant, rule: Option<&EjectRule>) -> Option<Verdict> {
        report(self.endpoint, outcome, now, rule)
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &'v Arc<Endpoint> {
        self.endpoint
    }

    /// The same pick, to be kept across an await: one reference count.
    pub fn into_owned(self) -> InFlight {
        let kept = ManuallyDrop::new(self);
        InFlight {
            endpoint: kept.endpoint.clone(),
        }
    }
}

impl Deref for Pick<'_> {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        self.endpoint
    }
}

impl Drop for Pick<'_> {
    #[inline]
    fn drop(&mut self) {
        self.load.leave();
    }
}

/// A picked endpoint that outlives the view; counted in flight until dropped, also when a future is cancelled.
#[derive(Debug)]
#[must_use = "dropping the guard ends its accounting"]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    /// Counts one more in flight to the endpoint.
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load().enter();
        Self {
            endpoint: endpoint.clone(),
        }
    }

    /// Tells how it ended, and ends it; see [`report`].
    pub fn end(self, outcome: Outcome, now: Instant, rule: Option<&EjectRule>) -> Option<Verdict> {
        report(&self.endpoint, outcome, now, rule)
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.load().leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::view;

    #[test]
    fn in_flight_returns_to_nothing_when_all_guards_are_gone() {
        let view = view(2, &[]);
        let endpoint = &view.tiers()[0].members()[0];
        let hop = view.tiers()[0].nth_ready(0).unwrap();
        let borrowed = Pick::new(hop);
        let owned = Pick::new(hop).into_owned();
        assert_eq!(endpoint.load().in_flight(), 2);
        drop(borrowed);
        assert_eq!(owned.endpoint().load().in_flight(), 1);
        drop(owned);
        assert_eq!((endpoint.load().in_flight(), view.picks().local), (0, 2));
    }
}
