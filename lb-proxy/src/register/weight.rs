// SPDX-License-Identifier: MIT OR Apache-2.0
//! The weight of each instance: this host's share, less while it has hardly any room left.
//!
//! In: the share, how many of the connections that there may be are open, the time. Out: a whole number. A weight stays for a
//! while, since clients that follow it would swing.

use super::ledger::Standing;
use crate::status::ListenerStatus;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// The connections that there may be.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) permits_max: usize,
    /// Of one listener.
    pub(crate) listener_max: usize,
}

impl Load {
    /// The share of them that is open, of this host or of the listener, whichever is more; from 0 to 1.
    pub(super) fn of(&self, listener: &ListenerStatus) -> f64 {
        let open = self
            .permits_max
            .saturating_sub(self.permits.available_permits());
        ratio(open, self.permits_max).max(ratio(listener.active, self.listener_max))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "connections are far fewer than 2^52"
)]
fn ratio(part: usize, whole: usize) -> f64 {
    (part as f64 / whole.max(1) as f64).min(1.0)
}

/// The weights of the instances, by id.
#[derive(Debug, Default)]
pub(super) struct Weights(BTreeMap<String, Weight>);

#[derive(Debug)]
struct Weight {
    share: u32,
    now: u32,
    /// When it last followed the load.
    followed: Option<Instant>,
}

impl Weights {
    /// The weight of an instance now.
    pub(super) fn follow(
        &mut self,
        id: &str,
        now: Instant,
        share: u32,
        load: f64,
        every: Duration,
    ) -> u32 {
        let fresh = || Weight {
            share,
            now: share,
            followed: None,
        };
        let weight = self.0.entry(id.to_owned()).or_insert_with(fresh);
        if weight.share != share {
            *weight = fresh();
        }
        let wanted = under(share, load);
        let may = weight
            .followed
            .is_none_or(|at| now.saturating_duration_since(at) >= every);
        if wanted != weight.now && may {
            (weight.now, weight.followed) = (wanted, Some(now));
        }
        weight.now
    }

    /// Forgets the instances that are no more.
    pub(super) fn retain(&mut self, standings: &[Standing]) {
        let stands = |id: &String| standings.iter().any(|standing| standing.instance.id == *id);
        self.0.retain(|id, _| stands(id));
    }
}

/// What is left of a share under a load.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 1 to the share"
)]
fn under(share: u32, load: f64) -> u32 {
    let over = ((load - LOAD_FREE) / (1.0 - LOAD_FREE)).clamp(0.0, 1.0);
    ((f64::from(share) * (1.0 - over)).round() as u32).clamp(1, share.max(1))
}

/// Up to here a host has room for a burst.
const LOAD_FREE: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_falls_above_nine_tenths_and_never_to_nothing() {
        let of = |load| under(100, load);
        assert_eq!([0.0, 0.9, 0.95, 0.99, 1.0].map(of), [100, 100, 50, 10, 1]);
        assert_eq!(under(1, 1.0), 1);
    }

    #[test]
    fn a_weight_follows_at_once_and_then_stays_for_a_while() {
        let (mut weights, start) = (Weights::default(), Instant::now());
        let every = Duration::from_secs(30);
        let mut at = |seconds, load| {
            let now = start + Duration::from_secs(seconds);
            weights.follow("web", now, 10, load, every)
        };
        assert_eq!(at(0, 0.5), 10);
        assert_eq!(at(1, 0.95), 5);
        assert_eq!(at(2, 1.0), 5, "it has just followed");
        assert_eq!(at(30, 0.0), 5);
        assert_eq!(at(31, 0.0), 10);
        let now = start + Duration::from_secs(32);
        assert_eq!(
            weights.follow("web", now, 20, 0.0, every),
            20,
            "the share is the operator's"
        );
        weights.retain(&[]);
        assert!(weights.0.is_empty());
    }
}
