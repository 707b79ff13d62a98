// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ring hash `ring/v1`: each member owns the arcs that end at its virtual nodes.
//!
//! In: members, in the order of their identity bytes, and positions. Out: the member that owns a position, and those that
//! follow on the circle. Pure; a lookup takes no lock and allocates nothing.
//!
//! A member's virtual nodes depend on its own identity and weight alone, so that a member that leaves moves only its own
//! keys and one that joins takes only what it will own (Karger et al., 1997; excess movement measured: none). A change
//! merges one sorted run into the ring instead of sorting it anew.

use super::key::{Position, vnode_positions};

/// The tag of a placement; callers that know another tag must not guess.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Placement {
    /// `ring/v1`: XXH3-64 identities, SplitMix64 virtual nodes, 512 per unit of weight.
    #[default]
    RingV1,
}

impl Placement {
    /// The tag as configuration and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RingV1 => "ring/v1",
        }
    }
}

/// Virtual nodes per unit of weight.
///
/// The fullest of 10 members then carries about 1.06 times the mean, of 100 about 1.12; a member costs 10 bytes per
/// virtual node and about 4 of the index: 7 KiB.
pub const VNODES_PER_WEIGHT: usize = 512;

/// An immutable ring over members numbered from 0.
///
/// Memory: 14 bytes per virtual node at most. Lookup: one index read and about one step, 5 to 10 ns while it fits the
/// cache. Build: O(n log n) from nothing, O(n) from a previous ring.
///
/// ```
/// use discovery_core::hash::{HashKey, Ring};
///
/// let ring = Ring::build(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
/// let owner = ring.walk(HashKey::of(b"foo").position()).next();
/// assert_eq!(owner, Some(2));
/// ```
#[derive(Debug, Eq, PartialEq)]
pub struct Ring {
    positions: Box<[u64]>,
    owners: Box<[u16]>,
    /// `index[i]` is the first virtual node at or after `i << shift`.
    index: Box<[u32]>,
    shift: u32,
}

impl Ring {
    /// The most members that a ring can hold.
    pub const MEMBERS_MAX: usize = u16::MAX as usize;

    /// Builds the ring of members given by their identities, in ascending order of the identity bytes and distinct.
    ///
    /// # Panics
    /// If there are more than [`Ring::MEMBERS_MAX`] members.
    pub fn build<I: AsRef<str>>(members: &[I]) -> Self {
        Self::from_sorted(sorted_run(members.iter().map(AsRef::as_ref).enumerate()))
    }

    /// Builds the ring of `members` from this one, of `before`: O(n) for a change of few. Both lists ascend.
    ///
    /// The result equals [`Ring::build`] of `members`.
    ///
    /// # Panics
    /// If there are more than [`Ring::MEMBERS_MAX`] members.
    #[must_use]
    pub fn rebuild<A: AsRef<str>, B: AsRef<str>>(&self, before: &[A], members: &[B]) -> Self {
        let (renumbered, joined) = difference(before, members);
        let kept = self
            .positions
            .iter()
            .zip(&self.owners)
            .filter_map(|(&position, &owner)| Some((position, renumbered[usize::from(owner)]?)));
        Self::from_sorted(merge(kept, sorted_run(joined), self.positions.len()))
    }

    /// The members from the owner of the position on, along the circle, with repeats; one full turn.
    #[inline]
    pub fn walk(&self, from: Position) -> Walk<'_> {
        Walk {
            owners: &self.owners,
            at: self.first_at_or_after(from),
            left: self.owners.len(),
        }
    }

    /// The share of the circle that each of `members` members owns; the shares add up to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share is shown to people")]
    pub fn shares(&self, members: usize) -> Vec<f64> {
        let mut shares = vec![0.0; members];
        let last = self.positions.last().copied().unwrap_or(0);
        let mut previous = last;
        for (&position, &owner) in self.positions.iter().zip(&self.owners) {
            shares[usize::from(owner)] += position.wrapping_sub(previous) as f64 / 2_f64.powi(64);
            previous = position;
        }
        shares
    }

    /// The number of virtual nodes.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    #[inline]
    fn first_at_or_after(&self, Position(position): Position) -> usize {
        let slot = usize::try_from(position >> self.shift).unwrap_or(usize::MAX);
        let Some(&hint) = self.index.get(slot) else {
            return 0;
        };
        let mut at = hint as usize;
        while self.positions.get(at).is_some_and(|&p| p < position) {
            at += 1;
        }
        if at == self.positions.len() { 0 } else { at }
    }

    fn from_sorted(vnodes: Vec<(u64, u16)>) -> Self {
        let bits = usize::BITS - vnodes.len().saturating_sub(1).leading_zeros();
        let shift = u64::BITS - bits.max(1);
        let (positions, owners): (Vec<_>, Vec<_>) = vnodes.into_iter().unzip();
        let index = index_of(&positions, shift);
        Self {
            positions: positions.into(),
            owners: owners.into(),
            index,
            shift,
        }
    }
}

/// One turn around a ring: the owner of each virtual node in turn.
#[derive(Clone, Debug)]
pub struct Walk<'r> {
    owners: &'r [u16],
    at: usize,
    left: usize,
}

impl Iterator for Walk<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let owner = *self.owners.get(self.at)?;
        self.at = if self.at + 1 == self.owners.len() {
            0
        } else {
            self.at + 1
        };
        Some(usize::from(owner))
    }
}

/// For each slot of the circle the first virtual node at or after its start, in one pass.
fn index_of(positions: &[u64], shift: u32) -> Box<[u32]> {
    let slots = 1_u64 << (u64::BITS - shift);
    let mut at = 0;
    (0..slots)
        .map(|slot| {
            while positions.get(at).is_some_and(|&p| p < slot << shift) {
                at += 1;
            }
            u32::try_from(at).expect("65,535 members of 512 virtual nodes stay below 2^32")
        })
        .collect()
}

/// The virtual nodes of the members in the order of the ring: position, then member, which is identity order.
fn sorted_run<'a>(members: impl IntoIterator<Item = (usize, &'a str)>) -> Vec<(u64, u16)> {
    let mut run: Vec<(u64, u16)> = Vec::new();
    for (number, identity) in members {
        let owner = u16::try_from(number).expect("the caller keeps to MEMBERS_MAX");
        let positions = vnode_positions(identity.as_bytes()).take(VNODES_PER_WEIGHT);
        run.extend(positions.map(|Position(position)| (position, owner)));
    }
    run.sort_unstable();
    run
}

/// The new number of each old member, if it stays, and the members that joined with their numbers.
fn difference<'m, A: AsRef<str>, B: AsRef<str>>(
    before: &[A],
    members: &'m [B],
) -> (Vec<Option<u16>>, Vec<(usize, &'m str)>) {
    let mut renumbered = vec![None; before.len()];
    let mut joined = Vec::new();
    let mut old = before.iter().map(AsRef::as_ref).enumerate().peekable();
    for (number, identity) in members.iter().map(AsRef::as_ref).enumerate() {
        while old.next_if(|(_, other)| *other < identity).is_some() {}
        match old.next_if(|(_, other)| *other == identity) {
            Some((place, _)) => renumbered[place] = u16::try_from(number).ok(),
            None => joined.push((number, identity)),
        }
    }
    (renumbered, joined)
}

fn merge(
    kept: impl Iterator<Item = (u64, u16)>,
    joined: Vec<(u64, u16)>,
    kept_max: usize,
) -> Vec<(u64, u16)> {
    let mut merged = Vec::with_capacity(kept_max + joined.len());
    let mut joined = joined.into_iter().peekable();
    for vnode in kept {
        while let Some(earlier) = joined.next_if(|other| *other < vnode) {
            merged.push(earlier);
        }
        merged.push(vnode);
    }
    merged.extend(joined);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn owner(members: &[String], key: u64) -> Option<&String> {
        Ring::build(members)
            .walk(Position(key))
            .next()
            .map(|at| &members[at])
    }

    fn distinct(ring: &Ring, key: &str) -> Vec<usize> {
        let mut seen = Vec::new();
        for member in ring.walk(HashKey::of(key.as_bytes()).position()) {
            if !seen.contains(&member) {
                seen.push(member);
            }
        }
        seen
    }

    fn members(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
        proptest::collection::btree_set("[a-z0-9.:-]{1,12}", count)
            .prop_map(|set: BTreeSet<String>| set.into_iter().collect())
    }

    #[test]
    fn three_members_own_keys_in_the_golden_order() {
        let ring = Ring::build(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
        for (key, order) in [
            ("a", [0, 1, 2]),
            ("foo", [2, 1, 0]),
            ("user-id:0000000000000001", [2, 0, 1]),
            ("user-id:0000000000000002", [0, 2, 1]),
            ("user-id:0000000000000003", [0, 1, 2]),
            ("user-id:0000000000000004", [0, 2, 1]),
        ] {
            assert_eq!(distinct(&ring, key), order, "{key}");
        }
        let key = HashKey::of(b"user-id:0000000000000001").position();
        assert_eq!(
            ring.positions[ring.first_at_or_after(key)],
            0x644b_8d97_1948_dc63
        );
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        let ring = Ring::build::<&str>(&[]);
        assert!(ring.is_empty());
        assert_eq!(ring.walk(Position(7)).next(), None);
    }

    #[test]
    fn past_the_last_virtual_node_the_circle_begins_anew() {
        let ring = Ring::build(&["one", "two"]);
        assert_eq!(ring.first_at_or_after(Position(u64::MAX)), 0);
        assert_eq!(ring.first_at_or_after(Position(0)), 0);
        let last = ring.len() - 1;
        assert_eq!(ring.first_at_or_after(Position(ring.positions[last])), last);
    }

    #[test]
    fn a_hundred_members_share_within_a_quarter_of_the_mean() {
        let members: Vec<_> = (100..200).map(|i| format!("pod-{i}")).collect();
        let shares = Ring::build(&members).shares(members.len());
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(shares.iter().all(|share| *share < 0.0125), "{shares:?}");
    }

    proptest! {
        /// Taking a member away moves the keys that it held, and no others.
        #[test]
        fn removal_moves_only_its_own_keys(set in members(2..20), gone: prop::sample::Index, key: u64) {
            let gone = gone.get(&set).clone();
            let without: Vec<_> = set.iter().filter(|m| **m != gone).cloned().collect();
            let before = owner(&set, key);
            prop_assert!(before == Some(&gone) || before == owner(&without, key));
        }

        /// The lookup by index finds what a search of the whole ring finds.
        #[test]
        fn the_index_agrees_with_a_binary_search(set in members(1..20), key: u64) {
            let ring = Ring::build(&set);
            let searched = ring.positions.partition_point(|&p| p < key) % ring.len();
            prop_assert_eq!(ring.first_at_or_after(Position(key)), searched);
        }

        /// Merging a change gives the ring that sorting gives.
        #[test]
        fn a_rebuild_equals_a_build(before in members(0..12), after in members(0..12)) {
            prop_assert_eq!(Ring::build(&before).rebuild(&before, &after), Ring::build(&after));
        }

        /// The crate `hashring`, fed with the same positions, names the same owner.
        #[test]
        fn the_oracle_agrees(set in members(1..12), keys in proptest::collection::vec(any::<u64>(), 32)) {
            let ring = Ring::build(&set);
            let oracle = oracle::ring(&set);
            for key in keys {
                let ours = ring.walk(Position(key)).next();
                prop_assert_eq!(ours, oracle.get(&oracle::At(key)).map(|vnode| vnode.member));
            }
        }
    }

    /// The crate `hashring` with a hasher that passes positions through.
    mod oracle {
        use super::*;
        use hashring::HashRing;
        use std::hash::{BuildHasher, Hash, Hasher};

        #[derive(Clone, Debug)]
        pub(super) struct VNode {
            position: u64,
            pub(super) member: usize,
        }

        impl Hash for VNode {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u64(self.position);
            }
        }

        pub(super) struct At(pub(super) u64);

        impl Hash for At {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u64(self.0);
            }
        }

        #[derive(Clone, Default)]
        pub(super) struct PassThrough(u64);

        impl Hasher for PassThrough {
            fn finish(&self) -> u64 {
                self.0
            }

            fn write(&mut self, _: &[u8]) {
                unreachable!("positions are written as one u64");
            }

            fn write_u64(&mut self, position: u64) {
                self.0 = position;
            }
        }

        impl BuildHasher for PassThrough {
            type Hasher = Self;

            fn build_hasher(&self) -> Self {
                Self::default()
            }
        }

        pub(super) fn ring(members: &[String]) -> HashRing<VNode, PassThrough> {
            let mut ring = HashRing::with_hasher(PassThrough::default());
            let vnodes = members.iter().enumerate().flat_map(|(member, identity)| {
                vnode_positions(identity.as_bytes())
                    .take(VNODES_PER_WEIGHT)
                    .map(move |Position(position)| VNode { position, member })
            });
            ring.batch_add(vnodes.collect());
            ring
        }
    }
}
