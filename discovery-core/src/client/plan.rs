// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoints that one call is tried at, one after the other, so that no retry comes back to a failed one.
//!
//! Who is next is asked only when somebody is: an ejected endpoint may be tried again by one call at a time, and a call that
//! never comes to it must not keep the others away.

use super::{CallError, ServiceClient, gate::Ticket, terms::Attempt};
use crate::{
    hash::HashKey,
    pick::{InFlight, candidates},
    store::{Endpoint, ServiceView, Tier},
};
use std::sync::Arc;

/// The endpoints to try for one call, in order; each is counted in flight only while it is tried.
#[derive(Debug)]
pub(super) struct Plan {
    ticket: Ticket,
    view: Arc<ServiceView>,
    key: HashKey,
    first: Option<InFlight>,
    tried: Vec<Arc<Endpoint>>,
    /// How many may still be tried.
    left: usize,
}

impl Plan {
    /// The next endpoint to try.
    pub(super) fn next(&mut self) -> Option<Attempt> {
        self.left = self.left.checked_sub(1)?;
        let in_flight = match self.first.take() {
            Some(first) => first,
            None => InFlight::new(self.other()?),
        };
        self.tried.push(in_flight.endpoint().clone());
        Some(Attempt::begin(in_flight))
    }

    /// The first on the walk that was not tried.
    fn other(&self) -> Option<&Arc<Endpoint>> {
        let is_tried = |endpoint: &Arc<Endpoint>| {
            // By the pod: the view may be a later one than that of the first.
            let mut tried = self.tried.iter();
            tried.any(|tried| Arc::ptr_eq(tried.load(), endpoint.load()))
        };
        candidates(&self.view, self.key).find(|endpoint| !is_tried(endpoint))
    }

    /// Tells how a try ended. An error for which the endpoint is not to blame says nothing of it.
    pub(super) fn ended(&self, attempt: Attempt, is_answer: bool, is_to_blame: bool) {
        if is_answer || is_to_blame {
            attempt.end(&self.ticket, is_to_blame);
        }
    }

    /// Whether nobody may be tried after this.
    #[cfg(feature = "tower")]
    pub(super) fn is_last(&self) -> bool {
        self.left == 0
    }
}

impl ServiceClient {
    /// The endpoints to try for a call, at most `count` and at least one: by the key, or for a call without one the less
    /// busy of two and then others at random.
    pub(super) fn plan(&mut self, key: Option<HashKey>, count: usize) -> Result<Plan, CallError> {
        let ticket = self.enter()?;
        // The load bound may put another than the owner first.
        let first = match key {
            Some(key) => self.picker.keyed(key),
            None => self.picker.any(),
        };
        let first = first?.into_owned();
        let view = self.picker.view()?.clone();
        let key = key.unwrap_or_else(|| HashKey(fastrand::u64(..)));
        Ok(Plan {
            ticket,
            left: count.min(view.tier_of(key).map_or(1, Tier::usable)),
            view,
            key,
            first: Some(first),
            tried: Vec::new(),
        })
    }
}
