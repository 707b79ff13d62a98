// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call under way: the endpoint that was picked for it, and how it ends.

use super::gate::Ticket;
use crate::{pick::InFlight, store::Endpoint};
use std::{ops::Deref, sync::Arc};

/// A picked endpoint. It counts as in flight until dropped, also when a future is cancelled.
///
/// Say how the call ended with [`Guard::success`] or [`Guard::failure`]; dropped without a word it counts as neither,
/// which is right for a call that was given up for reasons of our own.
#[derive(Debug)]
#[must_use = "dropping the guard ends its accounting"]
pub struct Guard {
    in_flight: InFlight,
    ticket: Ticket,
}

impl Guard {
    pub(super) fn new(in_flight: InFlight, ticket: Ticket) -> Self {
        Self { in_flight, ticket }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }

    /// The endpoint answered as it should.
    pub fn success(self) {
        self.ticket.gate().ended(true);
    }

    /// The endpoint failed: it could not be reached, broke off, or answered that it cannot serve.
    pub fn failure(self) {
        self.ticket.gate().ended(false);
    }
}

impl Deref for Guard {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        self.in_flight.endpoint()
    }
}
