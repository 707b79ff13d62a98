// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maglev hashing `maglev/v1`: a table of 65,537 slots that members fill in turns (Eisenbud et al., NSDI 2016).
//!
//! In: members with their weights, in the order of their identity bytes. Out: the member of each slot. The flattest lookup
//! and the most even shares; a member that leaves moves some keys of others too: 0.3 % beside its own at 10 members, 0.6 %
//! at 100 and 1,000. Built anew for every change, about 1 ms.

use super::{
    key::{HashKey, SCORE_SALT, identity_hash, mix},
    slots::number,
    table::{Member, NOBODY},
};

/// The table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Maglev {
    slots: Box<[u16]>,
    /// Members of a weight so small, or so many, that they found no slot: tried last.
    rest: Box<[u16]>,
    members: usize,
}

/// One member's way through the table while it is filled.
pub(super) struct Turn {
    member: u16,
    offset: u64,
    skip: u64,
    weight: f64,
    next: u64,
    target: f64,
}

impl Maglev {
    /// The number of slots, a prime: 100 times that of members keeps shares within 1 %.
    pub const SLOTS: u64 = 65_537;

    /// Builds the table of members in ascending order of the identity bytes, distinct. 128 KiB whatever their number.
    pub fn build(members: &[Member<'_>]) -> Self {
        let turns = members.iter().enumerate();
        let turns = turns.map(|(at, member)| turn(number(at), member)).collect();
        Self::filled(turns, Self::SLOTS, members.len())
    }

    /// The table of so many slots, a prime, that `members` members fill in these turns.
    pub(super) fn filled(mut turns: Vec<Turn>, slots: u64, members: usize) -> Self {
        let slots = fill(&mut turns, slots);
        let has_none = |turn: &&Turn| turn.weight > 0.0 && turn.next == 0;
        Self {
            slots: slots.into(),
            rest: turns
                .iter()
                .filter(has_none)
                .map(|turn| turn.member)
                .collect(),
            members,
        }
    }

    /// The slot of the key.
    #[inline]
    pub(super) fn slot(key: HashKey) -> usize {
        scale(key.0, Self::SLOTS).try_into().unwrap_or(0)
    }

    #[inline]
    pub(super) fn slots(&self) -> &[u16] {
        &self.slots
    }

    pub(super) fn rest(&self) -> &[u16] {
        &self.rest
    }

    /// The steps of a whole walk: once around the table, then those that found no slot in it.
    #[inline]
    pub(super) fn steps(&self) -> usize {
        self.slots.len() + self.rest.len()
    }

    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// The share of the table that each member owns.
    pub(super) fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.members];
        for &member in &self.slots {
            if let Some(share) = shares.get_mut(usize::from(member)) {
                *share += 1.0 / f64::from(65_537_u32);
            }
        }
        shares
    }
}

impl Turn {
    pub(super) fn new(member: u16, offset: u64, skip: u64, weight: f64) -> Self {
        Self {
            member,
            offset,
            skip,
            weight,
            next: 0,
            target: 0.0,
        }
    }

    /// The next slot of the member's permutation.
    fn step(&mut self, slots: u64) -> usize {
        let slot = (self.offset + self.skip * self.next) % slots;
        self.next += 1;
        slot.try_into().unwrap_or(0)
    }
}

/// The turn of a member of `maglev/v1`. Its weight is a whole number, and so are all sums of it: they are exact.
fn turn(number: u16, member: &Member<'_>) -> Turn {
    let hash = identity_hash(member.identity);
    Turn::new(
        number,
        scale(hash, Maglev::SLOTS),
        scale(mix(hash ^ SCORE_SALT), Maglev::SLOTS - 1) + 1,
        member.weight.hundredths().into(),
    )
}

/// Members take turns in their order; one of a smaller weight waits out some of them, as in Envoy's table.
fn fill(turns: &mut [Turn], len: u64) -> Vec<u16> {
    let mut slots = vec![NOBODY; usize::try_from(len).unwrap_or(0)];
    let heaviest = turns.iter().fold(0.0_f64, |max, turn| max.max(turn.weight));
    let mut free = slots.len();
    // The heaviest takes a slot in every round.
    for round in (1..=len).take_while(|_| heaviest > 0.0) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "at most as many rounds as slots"
        )]
        let round = round as f64;
        for turn in &mut *turns {
            if turn.weight <= 0.0 || round * turn.weight < turn.target {
                continue;
            }
            turn.target += heaviest;
            let slot = loop {
                let slot = turn.step(len);
                if slots[slot] == NOBODY {
                    break slot;
                }
            };
            slots[slot] = turn.member;
            free -= 1;
            if free == 0 {
                return slots;
            }
        }
    }
    slots
}

/// The hash scaled down to 0..n, without the bias or the cost of a division.
fn scale(hash: u64, n: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(n)) >> 64).unwrap_or(0)
}
