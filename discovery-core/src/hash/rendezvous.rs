// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rendezvous hashing `rendezvous/v1`: of all members the one with the highest score owns the key (Thaler and Ravishankar,
//! 1998; weighted as by Schindelhauer and Schomaker, 2005).
//!
//! In: members with their weights, and a key. Out: the members in the order of their scores. Exact balance and weights, no
//! table, only its own keys move with a member; each candidate costs a look at every member.

use super::{
    key::{HashKey, SCORE_SALT, identity_hash, mix},
    score::negative_log2,
    table::{Member, NOBODY},
};

/// The members by the hashes of their identities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rendezvous {
    hashes: Box<[u64]>,
    /// None where all weights are alike and above 0: then the hash alone decides, and no logarithm is taken.
    weights: Option<Box<[u32]>>,
}

/// The lower, the better: the cost −log₂(hash)/weight, then the higher hash, then the smaller identity.
type Rank = (u64, u64, u16);

impl Rendezvous {
    /// The members in ascending order of the identity bytes; 16 bytes each at most.
    pub fn build(members: &[Member<'_>]) -> Self {
        let first = members
            .first()
            .map_or(0, |member| member.weight.hundredths());
        let is_even = first > 0 && members.iter().all(|m| m.weight.hundredths() == first);
        let weights = members.iter().map(|member| member.weight.hundredths());
        Self {
            hashes: members
                .iter()
                .map(|member| identity_hash(member.identity))
                .collect(),
            weights: (!is_even).then(|| weights.collect()),
        }
    }

    /// The best member after the given one; the best of all after none.
    pub(super) fn after(&self, key: HashKey, last: Option<u16>) -> Option<u16> {
        let ranks = (0..NOBODY)
            .zip(&self.hashes)
            .filter_map(|(member, _)| self.rank(key, member));
        let best = match last {
            None => ranks.min(),
            Some(last) => {
                let last = self.rank(key, last)?;
                ranks.filter(|rank| *rank > last).min()
            }
        };
        best.map(|(_, _, member)| member)
    }

    fn rank(&self, key: HashKey, member: u16) -> Option<Rank> {
        let hash = mix(key.0 ^ self.hashes[usize::from(member)] ^ SCORE_SALT);
        Some((self.cost(hash, member)?, !hash, member))
    }

    fn cost(&self, hash: u64, member: u16) -> Option<u64> {
        let Some(weights) = &self.weights else {
            return Some(0);
        };
        // 55 bits of logarithm leave room for 9 more before the division.
        (negative_log2(hash) << 9).checked_div(u64::from(weights[usize::from(member)]))
    }

    /// The share of the keys that each member owns: that of its weight.
    pub(super) fn shares(&self) -> Vec<f64> {
        let Some(weights) = &self.weights else {
            #[expect(clippy::cast_precision_loss, reason = "at most 65,535 members")]
            let even = 1.0 / self.hashes.len() as f64;
            return vec![even; self.hashes.len()];
        };
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let share = |weight: &u32| {
            if total > 0.0 {
                f64::from(*weight) / total
            } else {
                0.0
            }
        };
        weights.iter().map(share).collect()
    }

    pub(super) fn members(&self) -> usize {
        self.hashes.len()
    }

    /// How many members a walk names: those with a weight.
    pub(super) fn steps(&self) -> usize {
        match &self.weights {
            None => self.hashes.len(),
            Some(weights) => weights.iter().filter(|weight| **weight > 0).count(),
        }
    }
}
