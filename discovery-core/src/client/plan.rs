// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoints that one call is tried at: made before the first try, so that no retry comes back to a failed one.

use super::{CallError, ServiceClient, gate::Ticket, terms::Attempt};
use crate::{hash::HashKey, pick::InFlight, store::Endpoint};
use std::sync::Arc;

/// The endpoints to try for one call, in order; each is counted in flight only while it is tried.
#[derive(Debug)]
pub(super) struct Plan {
    ticket: Ticket,
    first: Option<InFlight>,
    others: std::vec::IntoIter<Arc<Endpoint>>,
}

impl Plan {
    /// The next endpoint to try.
    pub(super) fn next(&mut self) -> Option<Attempt> {
        let in_flight = match self.first.take() {
            Some(first) => first,
            None => InFlight::new(&self.others.next()?),
        };
        Some(Attempt::begin(in_flight))
    }

    /// Tells how a try ended.
    pub(super) fn ended(&self, attempt: Attempt, is_error: bool) {
        attempt.end(&self.ticket, is_error);
    }

    /// Whether there is another one to try.
    pub(super) fn is_last(&self) -> bool {
        self.first.is_none() && self.others.len() == 0
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
        let mut others = Vec::new();
        let key = key.unwrap_or_else(|| HashKey(fastrand::u64(..)));
        if let Ok(candidates) = self.picker.candidates(key) {
            let is_other = |endpoint: &&Arc<Endpoint>| !Arc::ptr_eq(endpoint, first.endpoint());
            let more = candidates.filter(is_other);
            others.extend(more.take(count.saturating_sub(1)).cloned());
        }
        Ok(Plan {
            ticket,
            first: Some(first),
            others: others.into_iter(),
        })
    }
}
