// SPDX-License-Identifier: MIT OR Apache-2.0
//! On what terms a service is called: through which gate, and when its endpoints are ejected.
//!
//! Every call of the client, by hand or by an adapter, ends in [`Attempt::end`]: one way for an outcome to reach the
//! counters, the ejection and the latency of the endpoint.

use super::gate::{Gate, Ticket};
use crate::{
    clock,
    model::ServiceName,
    pick::{EjectRule, InFlight, Outcome, Verdict, report},
    store::Endpoint,
};
use std::{sync::Arc, time::Instant};

/// What all calls of one [`ServiceClient`](super::ServiceClient) and its clones have in common.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) service: ServiceName,
    pub(super) gate: Arc<Gate>,
    /// None ejects nobody.
    pub(super) rule: Option<EjectRule>,
}

/// One try of a call at an endpoint; counted in flight until dropped. Dropped without an end it says nothing of the endpoint.
#[derive(Debug)]
pub(super) struct Attempt {
    in_flight: InFlight,
    began: Instant,
}

impl Attempt {
    /// One that begins now.
    pub(super) fn begin(in_flight: InFlight) -> Self {
        Self {
            in_flight,
            began: clock::now(),
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }

    /// Tells how it ended, and what that led to.
    pub(super) fn end(self, ticket: &Ticket, is_error: bool) -> Option<Verdict> {
        let (terms, endpoint) = (ticket.terms(), self.endpoint());
        terms.gate.ended(!is_error);
        let now = clock::now();
        let outcome = Outcome {
            is_error,
            latency: now.saturating_duration_since(self.began),
        };
        let verdict = report(endpoint, outcome, now, terms.rule.as_ref());
        if let Some(verdict) = verdict {
            terms.log(verdict, endpoint);
        }
        verdict
    }
}

impl Terms {
    #[cold]
    fn log(&self, verdict: Verdict, endpoint: &Endpoint) {
        let (service, endpoint) = (&self.service, endpoint.identity());
        match verdict {
            Verdict::Ejected => {
                tracing::info!(%service, %endpoint, "Endpoint ejected: calls to it failed");
            }
            Verdict::Restored => {
                tracing::info!(%service, %endpoint, "Endpoint is in again: its trial went well");
            }
            Verdict::StillEjected => {
                tracing::debug!(%service, %endpoint, "Endpoint failed its trial");
            }
        }
    }
}
