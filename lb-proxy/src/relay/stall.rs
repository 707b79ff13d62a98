// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a peer that takes nothing is still there.
//!
//! Linux ends a connection whose reader has kept its window at zero for `TCP_USER_TIMEOUT`, and does not begin anew when the
//! reader goes on but leaves less room than the next segment needs (`icsk_probes_tstamp` of `tcp_probe_timer`): who reads
//! slowly all the time is cut like one who does not read. So from the first time on that a peer has no room, the kernel's
//! timer is off for it, and this clock is asked instead: it begins anew with every byte that the kernel takes.

use crate::sockets::give_up_after;
use std::time::Duration;
use tokio::{net::TcpStream, time::Instant};

/// What is known of the sink of one direction; nothing as long as it has had room, and the kernel judges it. Boxed: most
/// connections never need it, and every one would keep room for it.
#[derive(Debug, Default)]
pub(super) struct Stall(Option<Box<Stalled>>);

#[derive(Debug)]
struct Stalled {
    /// Since when it has taken nothing although something waits; none while nothing waits.
    since: Option<Instant>,
}

impl Stall {
    /// After a turn in which `moved` bytes went to the sink, and `owed` are left.
    pub(super) fn turned(&mut self, sink: &TcpStream, moved: u64, owed: usize) {
        match &mut self.0 {
            None if owed == 0 => {}
            None => {
                // It fails only on a socket that is gone, and writing tells why.
                let _ = give_up_after(sink, None);
                let since = Some(Instant::now());
                self.0 = Some(Box::new(Stalled { since }));
            }
            Some(stalled) if owed == 0 => stalled.since = None,
            Some(stalled) if moved > 0 || stalled.since.is_none() => {
                stalled.since = Some(Instant::now());
            }
            Some(_) => {}
        }
    }

    /// Whether the kernel does not judge the sink.
    pub(super) fn is_ours(&self) -> bool {
        self.0.is_some()
    }

    /// When it has to be looked at; none while nothing waits.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        Some(self.0.as_ref()?.since? + timeout)
    }

    /// Whether nothing was taken for so long.
    pub(super) fn is_over(&self, timeout: Duration) -> bool {
        let since = self.0.as_ref().and_then(|stalled| stalled.since);
        since.is_some_and(|since| since.elapsed() >= timeout)
    }
}
