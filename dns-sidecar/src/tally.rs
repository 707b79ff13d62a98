// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts each message once on arrival and once by what became of it, so that the sums agree.
//!
//! In plain numbers while a batch is answered, and into the shared counters once after it: no atomic for each message.

use crate::answer::Answered;
use discovery_core::telemetry::{
    DnsDrop, DnsMetrics, DnsQueryType, DnsRcode, DnsShed, DnsTransport,
};

/// What became of the messages since the last [`Tally::hand_over`].
#[derive(Debug)]
pub(crate) struct Tally {
    transport: DnsTransport,
    received: Vec<(DnsQueryType, u64)>,
    answered: Vec<(DnsRcode, u64)>,
    dropped: Vec<(DnsDrop, u64)>,
    shed: Vec<(DnsShed, u64)>,
    truncated: u64,
    stale: u64,
}

impl Tally {
    pub(crate) fn new(transport: DnsTransport) -> Self {
        Self {
            transport,
            received: Vec::new(),
            answered: Vec::new(),
            dropped: Vec::new(),
            shed: Vec::new(),
            truncated: 0,
            stale: 0,
        }
    }

    /// A message arrived, of which the question was read, or not.
    pub(crate) fn received(&mut self, qtype: DnsQueryType) {
        add(&mut self.received, qtype);
    }

    /// A message arrived that gets no reply by rule.
    pub(crate) fn dropped(&mut self, reason: DnsDrop) {
        self.received(DnsQueryType::Unread);
        add(&mut self.dropped, reason);
    }

    /// The system took an answer.
    pub(crate) fn delivered(&mut self, answered: Answered) {
        add(&mut self.answered, answered.rcode);
        self.truncated += u64::from(answered.is_truncated);
        self.stale += u64::from(answered.is_stale);
    }

    /// An answer was not delivered.
    pub(crate) fn shed(&mut self, reason: DnsShed) {
        add(&mut self.shed, reason);
    }

    /// Adds everything to the shared counters, and begins anew.
    pub(crate) fn hand_over(&mut self, metrics: &DnsMetrics) {
        let transport = self.transport;
        for (qtype, count) in self.received.drain(..) {
            metrics.received_many(transport, qtype, count);
        }
        for (rcode, count) in self.answered.drain(..) {
            metrics.answered_many(transport, rcode, count);
        }
        for (reason, count) in self.dropped.drain(..) {
            metrics.dropped_many(transport, reason, count);
        }
        for (reason, count) in self.shed.drain(..) {
            metrics.shed_many(transport, reason, count);
        }
        metrics.truncated_many(std::mem::take(&mut self.truncated));
        metrics.stale_many(std::mem::take(&mut self.stale));
    }
}

/// A handful of different values at most: a list is faster than a table.
fn add<T: PartialEq>(counts: &mut Vec<(T, u64)>, value: T) {
    match counts.iter_mut().find(|(known, _)| *known == value) {
        Some((_, count)) => *count += 1,
        None => counts.push((value, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_handed_over_once() {
        let metrics = DnsMetrics::default();
        let mut tally = Tally::new(DnsTransport::Udp);
        let answered = Answered {
            qtype: DnsQueryType::A,
            rcode: DnsRcode::NoError,
            is_truncated: true,
            is_stale: false,
        };
        for _ in 0..3 {
            tally.received(DnsQueryType::A);
            tally.delivered(answered);
        }
        tally.dropped(DnsDrop::Short);
        tally.received(DnsQueryType::Srv);
        tally.shed(DnsShed::SendBlocked);
        for _ in 0..2 {
            tally.hand_over(&metrics);
            let totals = metrics.totals();
            assert_eq!((totals.requests, totals.responses), (5, 3));
            assert_eq!((totals.dropped, totals.shed, totals.truncated), (1, 1, 3));
        }
    }
}
