// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a peer that takes nothing is still there.
//!
//! Linux ends a connection whose reader has kept its window at zero for `TCP_USER_TIMEOUT`, and does not begin anew when the
//! reader goes on but leaves less room than the next segment needs (`icsk_probes_tstamp` of `tcp_probe_timer`): who reads
//! slowly all the time is cut like one who does not read. So from the first time on that a peer has no room, the kernel's
//! timer is off for it, and this clock is asked instead: it begins anew with every byte that the kernel takes.

use crate::sockets::give_up_after;
use std::time::Duration;
use tokio::net::TcpStream;

/// What is known of the sink of one direction: one word, since every idle connection has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Stall(u32);

/// It has had room so far, and the kernel judges it.
const WELL: u32 = 0;
/// It had no room once, and nothing waits now.
const CLEAR: u32 = 1;
// Everything else: something waits, and since that age nothing was taken, in tenths of a second from 2.

impl Stall {
    /// After a turn in which `moved` bytes went to the sink, and `owed` are left.
    pub(super) fn turned(
        &mut self,
        sink: &TcpStream,
        moved: u64,
        owed: usize,
        age: impl FnOnce() -> Duration,
    ) {
        match self.0 {
            WELL if owed == 0 => {}
            _ if owed == 0 => self.0 = CLEAR,
            state if moved > 0 || state <= CLEAR => {
                if state == WELL {
                    // It fails only on a socket that is gone, and writing tells why.
                    let _ = give_up_after(sink, None);
                }
                let tenths = age().as_millis().div_ceil(100);
                let tenths = u32::try_from(tenths).unwrap_or(u32::MAX);
                self.0 = tenths.saturating_add(2);
            }
            _ => {}
        }
    }

    /// Whether the kernel does not judge the sink.
    pub(super) fn is_ours(self) -> bool {
        self.0 != WELL
    }

    /// The age at which it has to be looked at; none while nothing waits.
    pub(super) fn deadline(self, timeout: Duration) -> Option<Duration> {
        let tenths = self.0.checked_sub(2)?;
        Some(Duration::from_millis(u64::from(tenths) * 100) + timeout)
    }

    /// Whether nothing was taken for so long.
    pub(super) fn is_over(self, age: Duration, timeout: Duration) -> bool {
        self.deadline(timeout)
            .is_some_and(|deadline| age >= deadline)
    }
}
