// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ring hash `ring/v1`: each member owns the arcs that end at its virtual nodes.
//!
//! In: members with their weights, in the order of their identity bytes, and positions. Out: the member that owns a
//! position, and those that follow on the circle. Pure; a lookup takes no lock and allocates nothing.
//!
//! A member's virtual nodes depend on its own identity and weight alone, so that a member that leaves moves only its own
//! keys and one that joins takes only what it will own (Karger et al., 1997; excess movement measured: none). A change of
//! weight adds or takes a tail of the member's own sequence. What changes is edited into a copy of the circle; a member
//! that leaves costs not even that (see `slots`).

use super::{
    circle::{Circle, Edit, VNode, owner},
    key::Position,
    slots::{Match, Slot, Slots, number},
    table::{MEMBERS_MAX, Member, NOBODY},
};
use crate::model::Weight;
use std::sync::Arc;

/// Virtual nodes of an ordinary weight.
///
/// The fullest of 10 members then carries about 1.06 times the mean, of 100 about 1.12; a member costs 10 bytes per
/// virtual node and about 4 of the index: 7 KiB.
pub const VNODES_PER_WEIGHT: usize = 512;

/// The virtual nodes of a weight: ⌊(2·512·w + w₀) / (2·w₀)⌋ with the ordinary weight w₀, at least one above the weight 0.
pub(super) fn vnodes_of(weight: Weight) -> usize {
    let (weight, ordinary) = (
        weight.hundredths() as usize,
        Weight::ORDINARY.hundredths() as usize,
    );
    let vnodes = (2 * VNODES_PER_WEIGHT * weight + ordinary) / (2 * ordinary);
    vnodes.max(usize::from(weight > 0))
}

/// An immutable ring over members numbered from 0.
///
/// Memory: 14 bytes per virtual node at most. Lookup: one index read and about one step, 5 to 10 ns while it fits the
/// cache. Build: O(n log n) from nothing; from a previous ring O(members) for a member that leaves or comes back, a copy of
/// the circle for one that is new.
///
/// ```
/// use discovery_core::hash::{HashKey, Ring};
///
/// let ring = Ring::build(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
/// let owner = ring.walk(HashKey::of(b"foo").position()).next();
/// assert_eq!(owner, Some(2));
/// ```
#[derive(Clone, Debug)]
pub struct Ring {
    circle: Arc<Circle>,
    slots: Arc<Slots>,
    /// The member of each slot, or nobody.
    members: Box<[u16]>,
}

impl Ring {
    /// Builds the ring of members of ordinary weight given by their identities, in ascending order of the identity bytes
    /// and distinct.
    ///
    /// # Panics
    /// If there are more than [`MEMBERS_MAX`] members.
    pub fn build<I: AsRef<str>>(members: &[I]) -> Self {
        let identities = members.iter().map(AsRef::as_ref);
        Self::weighted(&identities.map(Member::ordinary).collect::<Vec<_>>())
    }

    /// Builds the ring of members in ascending order of the identity bytes, distinct.
    ///
    /// # Panics
    /// If there are more than [`MEMBERS_MAX`] members.
    pub fn weighted(members: &[Member<'_>]) -> Self {
        let slots = Slots::new(members);
        Self {
            circle: Arc::new(Circle::from_sorted(&sorted_run(&slots))),
            members: slots.order.clone().into(),
            slots: Arc::new(slots),
        }
    }

    /// Builds the ring of `members`, in ascending order of the identity bytes, from this one.
    ///
    /// It places every key as [`Ring::weighted`] of `members` does.
    ///
    /// # Panics
    /// If there are more than [`MEMBERS_MAX`] members.
    #[must_use]
    pub fn rebuild(&self, members: &[Member<'_>]) -> Self {
        let matched = self.slots.matched(members);
        let is_placed = matched.new.is_empty() && matched.changed.is_empty();
        if is_placed && matched.gone.len() <= members.len() / 4 + GONE_MIN {
            return Self {
                circle: self.circle.clone(),
                slots: self.slots.clone(),
                members: matched.members.into(),
            };
        }
        let changes = matched.new.len() + matched.gone.len() + matched.changed.len();
        if changes > members.len() / 2 {
            return Self::weighted(members);
        }
        self.edited(members, matched)
    }

    /// The ring with the changes edited in; slots of those that have left are used again.
    fn edited(&self, members: &[Member<'_>], mut matched: Match) -> Self {
        let old = &self.slots;
        let mut edits = Vec::new();
        let mut list = old.list.clone();
        for &(slot, at) in &matched.changed {
            let (before, after) = (
                list[usize::from(slot)].vnodes,
                vnodes_of(members[at].weight),
            );
            let lost = old.positions(slot, after.min(before)..before);
            edits.extend(lost.filter_map(|position| self.removal((position, slot))));
            let won = old.positions(slot, before..after.max(before));
            edits.extend(won.map(|position| self.addition((position, slot), members[at].identity)));
            list[usize::from(slot)].vnodes = after;
        }
        for &slot in &matched.gone {
            let all = old.positions(slot, 0..list[usize::from(slot)].vnodes);
            edits.extend(all.filter_map(|position| self.removal((position, slot))));
            list[usize::from(slot)].vnodes = 0;
        }
        let mut free = std::mem::take(&mut matched.gone);
        for &at in &matched.new {
            let (identity, vnodes) = (members[at].identity, vnodes_of(members[at].weight));
            let slot = free.pop().unwrap_or_else(|| number(list.len()));
            let taken = Slot {
                identity: identity.into(),
                vnodes,
            };
            if let Some(place) = list.get_mut(usize::from(slot)) {
                *place = taken;
            } else {
                list.push(taken);
                matched.members.push(NOBODY);
            }
            matched.members[usize::from(slot)] = number(at);
            let positions = super::key::vnode_positions(identity.as_bytes()).take(vnodes);
            edits.extend(positions.map(|Position(p)| self.addition((p, slot), identity)));
        }
        let mut slots = Slots {
            list,
            order: Vec::new(),
        };
        slots.reorder();
        let identity = |edit: &Edit| slots.identity(edit.vnode.1);
        edits.sort_unstable_by(|a, b| {
            let order = (a.at, a.is_gone, a.vnode.0).cmp(&(b.at, b.is_gone, b.vnode.0));
            order.then_with(|| identity(a).cmp(identity(b)))
        });
        Self {
            circle: Arc::new(self.circle.edited(&edits)),
            members: matched.members.into(),
            slots: Arc::new(slots),
        }
    }

    fn removal(&self, vnode: VNode) -> Option<Edit> {
        let first = self.circle.first_at_or_after(vnode.0);
        let at = (first..self.circle.len()).find(|at| self.circle.vnode(*at) == vnode)?;
        Some(Edit {
            at,
            vnode,
            is_gone: true,
        })
    }

    /// Where a new virtual node belongs: after those before it, and of those at its position after smaller identities.
    fn addition(&self, vnode: VNode, identity: &str) -> Edit {
        let circle = &self.circle;
        let mut at = circle.first_at_or_after(vnode.0);
        if at == 0 && circle.len() > 0 && circle.vnode(0).0 < vnode.0 {
            at = circle.len();
        }
        let is_before =
            |(position, slot): VNode| position == vnode.0 && self.slots.identity(slot) < identity;
        while at < circle.len() && is_before(circle.vnode(at)) {
            at += 1;
        }
        Edit {
            at,
            vnode,
            is_gone: false,
        }
    }

    /// The members from the owner of the position on, along the circle, with repeats; one full turn.
    pub fn walk(&self, from: Position) -> impl Iterator<Item = usize> + Clone + '_ {
        let at = self.circle.first_at_or_after(from.0);
        let (before, after) = self.circle.entries().split_at(at);
        let member = |entry: &u64| self.members[usize::from(owner(*entry))];
        let members = after.iter().chain(before).map(member);
        members.filter(|member| *member != NOBODY).map(usize::from)
    }

    /// The share of the circle that each of `members` members owns; the shares add up to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share is shown to people")]
    pub fn shares(&self, members: usize) -> Vec<f64> {
        let mut shares = vec![0.0; members];
        let placed: Vec<_> = self.placed().collect();
        let mut previous = placed.last().map_or(0, |(position, _)| *position);
        for (position, member) in placed {
            shares[member] += position.wrapping_sub(previous) as f64 / 2_f64.powi(64);
            previous = position;
        }
        shares
    }

    /// Every virtual node of the members, in order.
    fn placed(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        (0..self.circle.len()).filter_map(|at| {
            let (position, slot) = self.circle.vnode(at);
            let member = self.members[usize::from(slot)];
            (member != NOBODY).then(|| (position, usize::from(member)))
        })
    }

    /// The number of virtual nodes of the members.
    pub fn len(&self) -> usize {
        let slots = self.slots.list.iter().zip(&self.members);
        let placed = slots.filter(|(_, member)| **member != NOBODY);
        placed.map(|(slot, _)| slot.vnodes).sum()
    }

    /// Whether no member has a virtual node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member of each slot, or nobody.
    pub(super) fn members(&self) -> &[u16] {
        &self.members
    }

    #[inline]
    pub(super) fn circle(&self) -> &Circle {
        &self.circle
    }

    /// Whether both use one circle and one table of members: nothing was built for the later one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.circle, &other.circle) && self.members == other.members
    }
}

/// Equal when every key has the same members in the same order.
impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.placed().eq(other.placed())
    }
}

impl Eq for Ring {}

/// The virtual nodes in the order of the ring: position, then identity, which is the order of the slots of a new ring.
fn sorted_run(slots: &Slots) -> Vec<VNode> {
    let vnodes = slots.list.iter().map(|slot| slot.vnodes).sum();
    let mut run: Vec<VNode> = Vec::with_capacity(vnodes);
    for &slot in &slots.order {
        let positions = slots.positions(slot, 0..slots.list[usize::from(slot)].vnodes);
        run.extend(positions.map(|position| (position, slot)));
    }
    run.sort_unstable();
    run
}

/// How many that have left a ring may keep whatever its size.
const GONE_MIN: usize = 4;

const _: () = assert!(MEMBERS_MAX < NOBODY as usize + 1);

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
            ring.circle.vnode(ring.circle.first_at_or_after(key.0)).0,
            0x644b_8d97_1948_dc63
        );
    }

    fn weighted(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(String, u32)>> {
        let weight = prop_oneof![Just(100_u32), 0..300_u32];
        proptest::collection::btree_map("[a-d]{1,2}", weight, count)
            .prop_map(|set| set.into_iter().collect())
    }

    fn as_members(set: &[(String, u32)]) -> Vec<Member<'_>> {
        set.iter()
            .map(|(identity, weight)| Member {
                identity,
                weight: Weight::new(*weight).unwrap(),
            })
            .collect()
    }

    #[test]
    fn weights_round_to_virtual_nodes_and_never_to_none() {
        for (weight, vnodes) in [
            (0, 0),
            (1, 5),
            (50, 256),
            (100, 512),
            (101, 517),
            (1_600, 8_192),
        ] {
            assert_eq!(vnodes_of(Weight::new(weight).unwrap()), vnodes, "{weight}");
        }
    }

    #[test]
    fn who_leaves_and_comes_back_costs_no_new_circle() {
        let all = ["a", "b", "c", "d", "e", "f"].map(Member::ordinary);
        let ring = Ring::weighted(&all);
        let without = ring.rebuild(&all[1..]);
        assert!(Arc::ptr_eq(&ring.circle, &without.circle));
        assert_eq!(without.len(), 5 * VNODES_PER_WEIGHT);
        assert!(without.rebuild(&all).is_same(&ring));
    }

    #[test]
    fn those_that_have_left_do_not_stay_for_ever() {
        let names: Vec<_> = (100..140).map(|i| format!("pod-{i}")).collect();
        let mut ring = Ring::build(&names);
        for first in 1..names.len() {
            let left: Vec<_> = names[first..]
                .iter()
                .map(|name| Member::ordinary(name))
                .collect();
            ring = ring.rebuild(&left);
            assert!(
                ring.circle.len() <= (left.len() + left.len() / 4 + GONE_MIN) * VNODES_PER_WEIGHT
            );
        }
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
        assert_eq!(ring.circle.first_at_or_after(u64::MAX), 0);
        assert_eq!(ring.circle.first_at_or_after(0), 0);
        let last = ring.len() - 1;
        assert_eq!(
            ring.circle.first_at_or_after(ring.circle.vnode(last).0),
            last
        );
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

        /// However many changes were edited in, the ring places as a new one does.
        #[test]
        fn a_rebuilt_ring_equals_a_new_one(steps in proptest::collection::vec(weighted(0..12), 1..6)) {
            let mut ring = Ring::weighted(&[]);
            for members in &steps {
                let members = as_members(members);
                ring = ring.rebuild(&members);
                prop_assert_eq!(&ring, &Ring::weighted(&members));
            }
        }

        /// A change of weight moves keys only from or to the member that changed.
        #[test]
        fn a_weight_step_moves_only_its_own_keys(mut set in weighted(2..12), at: prop::sample::Index, weight in 0..300_u32, key: u64) {
            let owner = |set: &[(String, u32)]| {
                let ring = Ring::weighted(&as_members(set));
                ring.walk(Position(key)).next()
            };
            let before = owner(&set);
            let at = at.index(set.len());
            set[at].1 = weight;
            let after = owner(&set);
            prop_assert!(before == after || before == Some(at) || after == Some(at));
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
                crate::hash::key::vnode_positions(identity.as_bytes())
                    .take(VNODES_PER_WEIGHT)
                    .map(move |Position(position)| VNode { position, member })
            });
            ring.batch_add(vnodes.collect());
            ring
        }
    }
}
