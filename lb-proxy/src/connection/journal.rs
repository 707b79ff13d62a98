// SPDX-License-Identifier: MIT OR Apache-2.0
//! One log line per connection that ended otherwise than well, at a bounded rate.
//!
//! In: ends of connections. Out: events of tracing: `debug` for what went well, `info` for the rest, and a count of the lines
//! that the rate left out.

use crate::{plan::Target, reason::Reason};
use discovery_core::telemetry::{ConnectionMetrics, ProxyPhase};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::{debug, info};

/// The journal of a process. The lock guards the rate; held for one addition, and only for what did not go well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Option<Rate>>>);

#[derive(Debug)]
struct Rate {
    tokens: f64,
    counted_at: Instant,
}

/// What is told of a connection's end.
#[derive(Debug)]
pub(crate) struct Entry<'e> {
    pub(crate) target: &'e Target,
    pub(crate) client: SocketAddr,
    pub(crate) reason: Reason,
    pub(crate) phase: ProxyPhase,
    pub(crate) lasted: Duration,
    /// What is known of the endpoint, once there was one.
    pub(crate) carried: Option<Carried<'e>>,
}

/// What is told of a connection that was carried.
#[derive(Debug)]
pub(crate) struct Carried<'e> {
    pub(crate) endpoint: &'e str,
    pub(crate) address: SocketAddr,
    pub(crate) is_local: bool,
    pub(crate) candidate: u32,
    pub(crate) dialled: Duration,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) spliced: u64,
}

/// One line; the level has to stand in the macro.
macro_rules! line {
    ($level:ident, $entry:expr) => {{
        let Entry { target, client, reason, phase, lasted, carried } = $entry;
        let (service, port) = (&target.service, target.port);
        match carried {
            Some(Carried { endpoint, address, is_local, candidate, dialled, up, down, spliced }) => $level!(
                %service, port, %client, %reason, %phase, ?lasted, endpoint, %address, is_local, candidate, ?dialled,
                up, down, spliced, "Connection ended",
            ),
            None => $level!(%service, port, %client, %reason, %phase, ?lasted, "Connection not carried"),
        }
    }};
}

impl Journal {
    /// Tells the end of a connection, and counts the line when the rate leaves it out.
    pub(crate) fn ended(&self, entry: &Entry<'_>, counted: &ConnectionMetrics) {
        if entry.reason.is_success() {
            line!(debug, entry);
        } else if self.may_tell(Instant::now()) {
            line!(info, entry);
        } else {
            counted.log_line_dropped();
        }
    }

    fn may_tell(&self, now: Instant) -> bool {
        let mut rate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = rate.get_or_insert(Rate {
            tokens: BURST,
            counted_at: now,
        });
        let passed = now.saturating_duration_since(rate.counted_at).as_secs_f64();
        rate.tokens = (rate.tokens + passed * LINES_PER_SECOND).min(BURST);
        rate.counted_at = now;
        let may = rate.tokens >= 1.0;
        rate.tokens -= f64::from(u8::from(may));
        may
    }
}

/// An outage must not fill a disk: about 4 MB of lines in an hour.
const LINES_PER_SECOND: f64 = 5.0;
const BURST: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_held_to_a_rate() {
        let (journal, now) = (Journal::default(), Instant::now());
        let told = (0..1_000).filter(|_| journal.may_tell(now)).count();
        assert_eq!(told, 100);
        let later = now + Duration::from_secs(2);
        assert_eq!((0..1_000).filter(|_| journal.may_tell(later)).count(), 10);
    }
}
