// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints of one listener accept connections and leave them without an answer.
//!
//! In: first answers, and connections on which the client spoke first and nothing came back in time. Out: ejections. A proxy of
//! bytes cannot tell a slow endpoint from a hung one, nor a service that never answers from one that hangs. So any answer of its
//! own begins the count of an endpoint anew, it is ejected only when another one has answered since the first silence of the row,
//! and at most half of the endpoints are (decision 0074).

use super::eject::{Rules, SharedEjections};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// What the endpoints of one listener answer.
#[derive(Debug)]
pub(crate) struct Silences {
    began: Instant,
    /// When any endpoint answered last, in milliseconds after the beginning, from 1; 0 for never.
    answered: AtomicU64,
    /// The endpoints that may be used.
    members: AtomicUsize,
    ejections: SharedEjections,
}

impl Silences {
    /// For an answer that may take so long.
    pub(crate) fn new(answer_timeout: Option<Duration>) -> Self {
        let rules = Rules {
            weight_max: IN_A_ROW,
            trial: answer_timeout.unwrap_or_default() + DIALLING,
        };
        Self {
            began: Instant::now(),
            answered: AtomicU64::new(0),
            members: AtomicUsize::new(0),
            ejections: SharedEjections::new(rules),
        }
    }

    /// Says how many endpoints may be used now.
    pub(crate) fn members(&self, members: usize) {
        self.members.store(members, Relaxed);
    }

    /// Takes in the first bytes of an endpoint on a connection.
    pub(crate) fn answered(&self, address: SocketAddr) {
        self.answered.store(self.at(Instant::now()), Relaxed);
        self.ejections.succeeded(address);
    }

    /// Takes in that nothing came back on a connection; whether the endpoint is ejected now.
    pub(crate) fn unanswered(&self, address: SocketAddr) -> bool {
        let (answered, members) = (self.answered.load(Relaxed), self.members.load(Relaxed));
        self.ejections.failed_by(address, 1, |first, others| {
            // An answer of its own would have ended the row, so that this one is another's.
            answered >= self.at(first) && others < members / 2
        })
    }

    /// Whether the endpoint is ejected; changes nothing.
    pub(crate) fn is_ejected(&self, address: SocketAddr) -> bool {
        self.ejections.is_ejected(address)
    }

    /// Whether the endpoint may be dialled, as [`SharedEjections::may_try`].
    pub(crate) fn may_try(&self, address: SocketAddr) -> bool {
        self.ejections.may_try(address)
    }

    fn at(&self, time: Instant) -> u64 {
        let millis = time.saturating_duration_since(self.began).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1
    }
}

/// A client may ask for what takes long; three in a row, while others are answered, are no chance.
const IN_A_ROW: u32 = 3;

/// What comes before a client has spoken.
const DIALLING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn silences() -> Silences {
        let silences = Silences::new(Some(Duration::from_secs(1)));
        silences.members(4);
        silences
    }

    #[test]
    fn f48_three_silences_in_a_row_eject_while_others_answer() {
        let silences = silences();
        assert!(![0; 2].iter().any(|_| silences.unanswered(address(1))));
        silences.answered(address(2));
        assert!(silences.unanswered(address(1)));
        assert!(silences.is_ejected(address(1)) && !silences.is_ejected(address(2)));
        silences.answered(address(1));
        assert!(!silences.is_ejected(address(1)), "it answers again");
    }

    #[test]
    fn f48_where_nobody_answers_nobody_is_ejected() {
        let silences = silences();
        // Long ago: before the first silence.
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        let silences = Silences {
            began: long_ago.unwrap_or(silences.began),
            answered: AtomicU64::new(1),
            ..silences
        };
        for _ in 0..10 {
            for port in 1..5 {
                assert!(!silences.unanswered(address(port)), "no answer since");
            }
        }
    }

    #[test]
    fn f48_an_endpoint_that_answers_now_and_then_stays() {
        let silences = silences();
        for _ in 0..10 {
            assert!(!silences.unanswered(address(1)));
            silences.answered(address(2));
            assert!(!silences.unanswered(address(1)));
            silences.answered(address(1));
        }
    }

    #[test]
    fn f48_at_most_half_of_the_endpoints_are_ejected() {
        let silences = silences();
        for _ in 0..5 {
            for port in 1..5 {
                silences.unanswered(address(port));
            }
            silences.answered(address(9));
        }
        let ejected = (1..5).filter(|port| silences.is_ejected(address(*port)));
        assert_eq!(ejected.count(), 2);
    }
}
