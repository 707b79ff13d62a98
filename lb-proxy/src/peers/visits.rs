// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the visits of peers say of one port; pure.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};
use tokio::time::Instant;

/// The peers that came to one port, or tried to.
#[derive(Clone, Debug)]
pub(crate) struct Visits {
    fresh: Duration,
    peers: BTreeMap<IpAddr, Visited>,
}

#[derive(Clone, Copy, Debug)]
struct Visited {
    at: Instant,
    /// In a row.
    misses: u32,
}

impl Visits {
    /// None so far; one counts for so long.
    pub(crate) fn new(fresh: Duration) -> Self {
        Self {
            fresh,
            peers: BTreeMap::new(),
        }
    }

    /// Takes in a visit that came out here, or did not; how many of this peer were missed in a row.
    pub(crate) fn observe(&mut self, peer: IpAddr, has_come: bool, now: Instant) -> u32 {
        let fresh = self.fresh;
        self.peers.retain(|_, visited| now < visited.at + fresh);
        let visited = self
            .peers
            .entry(peer)
            .or_insert(Visited { at: now, misses: 0 });
        visited.at = now;
        visited.misses = if has_come {
            0
        } else {
            visited.misses.saturating_add(1)
        };
        visited.misses
    }

    /// The peers that agree that nothing of theirs comes out here: at least two that each missed twice in a row, while nobody's
    /// last visit came out. Empty where they do not agree.
    pub(crate) fn kept_out(&self, now: Instant) -> Vec<IpAddr> {
        let fresh = || {
            self.peers
                .iter()
                .filter(|(_, visited)| now < visited.at + self.fresh)
        };
        if fresh().any(|(_, visited)| visited.misses == 0) {
            return Vec::new();
        }
        let missed = fresh().filter(|(_, visited)| visited.misses >= MISSES_MIN);
        let missed: Vec<_> = missed.map(|(peer, _)| *peer).collect();
        if missed.len() < PEERS_MIN {
            return Vec::new();
        }
        missed
    }

    /// When the next of the visits that count now does so no more.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let ends = self.peers.values().map(|visited| visited.at + self.fresh);
        ends.filter(|end| now < *end).min()
    }
}

/// A rule may be on its way, or the process of before take the connection while it hands over.
pub(super) const MISSES_MIN: u32 = 2;

/// One peer's own way out may be what is broken.
const PEERS_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(39);

    fn peer(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn two_that_missed_twice_agree_and_one_does_not() {
        let (mut visits, now) = (Visits::new(FRESH), Instant::now());
        for round in 1..=2 {
            assert_eq!(visits.observe(peer(1), false, now), round);
            assert!(visits.kept_out(now).is_empty());
        }
        visits.observe(peer(2), false, now);
        assert!(visits.kept_out(now).is_empty(), "one may miss once");
        visits.observe(peer(2), false, now);
        assert_eq!(visits.kept_out(now), [peer(1), peer(2)]);
    }

    #[test]
    fn whoever_comes_through_ends_it() {
        let (mut visits, now) = (Visits::new(FRESH), Instant::now());
        for at in [1, 2, 1, 2] {
            visits.observe(peer(at), false, now);
        }
        visits.observe(peer(3), true, now);
        assert!(visits.kept_out(now).is_empty(), "a third one comes through");
        let later = now + FRESH - Duration::from_secs(1);
        visits.observe(peer(1), false, later);
        visits.observe(peer(2), false, later);
        assert!(visits.kept_out(later).is_empty());
        let silent = now + FRESH;
        assert_eq!(
            visits.kept_out(silent),
            [peer(1), peer(2)],
            "the third one is gone"
        );
        assert_eq!(visits.observe(peer(1), true, silent), 0);
        assert!(visits.kept_out(silent).is_empty());
    }

    #[test]
    fn peers_that_say_nothing_any_more_keep_nobody_out() {
        let (mut visits, now) = (Visits::new(FRESH), Instant::now());
        for at in [1, 2, 1, 2] {
            visits.observe(peer(at), false, now);
        }
        assert_eq!(visits.due(now), Some(now + FRESH));
        assert_eq!(visits.due(now + FRESH), None);
        assert!(visits.kept_out(now + FRESH).is_empty());
        visits.observe(peer(9), true, now + FRESH);
        assert_eq!(visits.peers.len(), 1, "what does not count is forgotten");
    }
}
