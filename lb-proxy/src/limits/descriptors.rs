// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections the process may carry at once.
//!
//! In: the configuration and the descriptor limit of the process. Out: a number. It reads the limit and never raises it.

use rustix::process::{Resource, getrlimit};

/// The configured cap, else 45 % of the soft descriptor limit: a connection takes two descriptors, and the rest has to
/// do for listeners, watches and the administration page. Where that is more than a small device has memory for, 16,384.
pub(crate) fn connections_max(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| of_descriptors(getrlimit(Resource::Nofile).current))
}

/// The cap for a soft descriptor limit; none is no limit, which the kernel still bounds.
fn of_descriptors(soft: Option<u64>) -> usize {
    let soft = soft.unwrap_or(NR_OPEN).min(NR_OPEN);
    usize::try_from(soft * CONNECTIONS_PERCENT / 100)
        .unwrap_or(usize::MAX)
        .clamp(1, CONNECTIONS_UNASKED_MAX)
}

/// The share of the descriptor limit that connections may count to.
const CONNECTIONS_PERCENT: u64 = 45;

/// What nobody has to ask for: idle, 32 MiB of ours and some 320 of the kernel's.
const CONNECTIONS_UNASKED_MAX: usize = 16_384;

/// The kernel's own default limit of descriptors per process (`fs.nr_open`).
const NR_OPEN: u64 = 1_048_576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_less_than_half_of_the_descriptors() {
        assert_eq!(of_descriptors(Some(1_024)), 460);
        assert_eq!(of_descriptors(Some(1)), 1);
        assert_eq!(of_descriptors(None), CONNECTIONS_UNASKED_MAX);
        assert_eq!(connections_max(Some(7)), 7);
    }
}
