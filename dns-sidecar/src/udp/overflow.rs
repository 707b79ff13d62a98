// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the datagrams that the system dropped because a socket's receive buffer was full.
//!
//! They never reach a worker, so that the sum "sent = answered + dropped + shed" needs them. The system tells each
//! datagram's receiver of it by a control message only, which costs every datagram; the column `drops` of
//! `/proc/net/udp` (proc(5)) costs one read every few seconds.

use super::UdpListener;
use discovery_core::telemetry::DnsMetrics;
use std::{collections::HashMap, fs, io, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Looks every few seconds, and once more at the end, until it is told to stop.
pub(crate) async fn watch_overflows(
    listeners: Vec<UdpListener>,
    metrics: Arc<DnsMetrics>,
    stop: CancellationToken,
) {
    let mut seen = Overflows::default();
    let inodes: Vec<u64> = listeners.iter().filter_map(inode).collect();
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            () = stop.cancelled() => is_last = true,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // The table may be long: not on a thread that answers.
        let look = tokio::task::spawn_blocking(|| {
            ["/proc/self/net/udp", "/proc/self/net/udp6"].map(fs::read_to_string)
        });
        let Ok(tables) = look.await else { return };
        for table in tables.into_iter().filter_map(io::Result::ok) {
            metrics.overflowed(seen.note(&table, &inodes));
        }
    }
}

fn inode(listener: &UdpListener) -> Option<u64> {
    let status = rustix::fs::fstat(&*listener.socket).ok()?;
    Some(status.st_ino)
}

/// What was counted before, by the socket's inode.
#[derive(Debug, Default)]
struct Overflows(HashMap<u64, u32>);

impl Overflows {
    /// How many more datagrams of these sockets were dropped than when it was last called.
    fn note(&mut self, table: &str, inodes: &[u64]) -> u64 {
        let rows = table.lines().filter_map(drops);
        let own = rows.filter(|(inode, _)| inodes.contains(inode));
        own.map(|(inode, drops)| {
            let before = self.0.insert(inode, drops).unwrap_or(0);
            // The system's counter has 32 bits.
            u64::from(drops.wrapping_sub(before))
        })
        .sum()
    }
}

/// Inode and drops of a row; none for the head of the table.
fn drops(row: &str) -> Option<(u64, u32)> {
    let mut columns = row.split_whitespace().skip(INODE_COLUMN);
    let inode = columns.next()?.parse().ok()?;
    Some((inode, columns.nth(2)?.parse().ok()?))
}

/// Behind number, two addresses, state, queues, timer, retransmits, user and timeout.
const INODE_COLUMN: usize = 9;
/// Often enough for a page that is scraped every 15 s.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 0100007F:2198 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 25
  101: 0100007F:2199 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 7
";

    #[test]
    fn what_was_dropped_is_counted_once_for_the_own_sockets() {
        let mut seen = Overflows::default();
        assert_eq!(seen.note(TABLE, &[4711]), 25);
        assert_eq!(seen.note(TABLE, &[4711]), 0);
        let more = TABLE.replace(" 25\n", " 4294967295\n");
        assert_eq!(seen.note(&more, &[4711]), u64::from(u32::MAX) - 25);
        assert_eq!(seen.note(TABLE, &[4711, 4712]), 26 + 7);
    }
}
