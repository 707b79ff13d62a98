// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts each message once on arrival and once by what became of it, so that the sums agree.

use crate::{Verdict, answer::Answered};
use discovery_core::telemetry::{DnsDrop, DnsMetrics, DnsQueryType, DnsTransport};

/// Counts the arrival of a message, and its end when it gets no answer.
pub(crate) fn arrived(metrics: &DnsMetrics, transport: DnsTransport, verdict: Verdict) {
    match verdict {
        Verdict::Answered(answered) => metrics.received(transport, answered.qtype),
        Verdict::Dropped(reason) => dropped(metrics, transport, reason),
    }
}

/// Counts a message that was not looked at.
pub(crate) fn dropped(metrics: &DnsMetrics, transport: DnsTransport, reason: DnsDrop) {
    metrics.received(transport, DnsQueryType::Unread);
    metrics.dropped(transport, reason);
}

/// Counts an answer that the system took.
pub(crate) fn delivered(metrics: &DnsMetrics, transport: DnsTransport, answered: Answered) {
    metrics.answered(transport, answered.rcode);
    if answered.is_truncated {
        metrics.truncated();
    }
    if answered.is_stale {
        metrics.stale();
    }
}
