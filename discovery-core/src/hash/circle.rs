// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual nodes of a ring in order, packed so that a lookup reads one cache line of the index and one of the circle.
//!
//! An entry is one word: the upper 48 bits of the position, and below them the slot of the owner. The lower 16 bits of
//! positions lie apart and are read only when the upper 48 bits of a key and a virtual node are equal, which 512,000
//! virtual nodes see once in 5 × 10⁸ lookups. A change is edited into a copy by runs, without looking at what stays.

/// A virtual node before it is packed: its position, and the slot of its owner.
pub(super) type VNode = (u64, u16);

/// Sorted virtual nodes with an index by their upper bits.
#[derive(Debug)]
pub(super) struct Circle {
    /// All virtual nodes, then [`STEPS`] that repeat the first owner past the end of the circle.
    entries: Box<[u64]>,
    low: Box<[u16]>,
    /// `index[i]` is the first virtual node at or after `i << shift`.
    index: Box<[u32]>,
    shift: u32,
}

/// One change of a circle: a virtual node that goes, or one that comes before the one that is at its place now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    pub(super) at: usize,
    pub(super) vnode: VNode,
    pub(super) is_gone: bool,
}

impl Circle {
    /// The circle of virtual nodes in their order.
    pub(super) fn from_sorted(vnodes: &[VNode]) -> Self {
        let mut entries = Vec::with_capacity(vnodes.len() + STEPS);
        entries.extend(vnodes.iter().map(|&vnode| pack(vnode)));
        let low = vnodes.iter().map(|&(position, _)| low_bits(position));
        Self::with_index(entries, low.collect())
    }

    fn with_index(mut entries: Vec<u64>, low: Vec<u16>) -> Self {
        pad(&mut entries);
        let bits = usize::BITS - low.len().saturating_sub(1).leading_zeros();
        let mut circle = Self {
            entries: entries.into(),
            low: low.into(),
            index: [].into(),
            shift: u64::BITS - bits.max(1),
        };
        circle.index = circle.new_index();
        circle
    }

    /// A copy with the changes, which come in the order of their places.
    pub(super) fn edited(&self, edits: &[Edit]) -> Self {
        let gone = edits.iter().filter(|edit| edit.is_gone).count();
        let len = self.len() + edits.len() - 2 * gone;
        let mut entries = Vec::with_capacity(len + STEPS);
        let mut low = Vec::with_capacity(len);
        let mut from = 0;
        for edit in edits {
            entries.extend_from_slice(&self.entries[from..edit.at]);
            low.extend_from_slice(&self.low[from..edit.at]);
            from = edit.at + usize::from(edit.is_gone);
            if !edit.is_gone {
                entries.push(pack(edit.vnode));
                low.push(low_bits(edit.vnode.0));
            }
        }
        entries.extend_from_slice(&self.entries[from..self.len()]);
        low.extend_from_slice(&self.low[from..]);
        // Outside these limits a slot of the index would stand for too many virtual nodes, or for hardly any.
        if len > self.index.len() || len < self.index.len() / 4 {
            return Self::with_index(entries, low);
        }
        pad(&mut entries);
        Self {
            entries: entries.into(),
            low: low.into(),
            index: self.edited_index(edits),
            shift: self.shift,
        }
    }

    /// The place of the first virtual node at or after the position; past the last one, the first.
    #[inline]
    pub(super) fn first_at_or_after(&self, position: u64) -> usize {
        let slot = usize::try_from(position >> self.shift).unwrap_or(usize::MAX);
        let Some(&hint) = self.index.get(slot) else {
            return 0;
        };
        let hint = hint as usize;
        let Some(window) = self.entries.get(hint..hint + STEPS) else {
            return 0;
        };
        let upper = position >> LOW_BITS;
        // Counted without a branch: which of them is the first cannot be predicted, and is one of these all but always.
        let steps = window
            .iter()
            .filter(|entry| **entry >> LOW_BITS < upper)
            .count();
        let at = hint + steps;
        match window.get(steps) {
            Some(entry) if entry >> LOW_BITS != upper => self.around(at),
            _ => self.search_from(hint, position),
        }
    }

    /// The owner of that virtual node; none on an empty circle. It costs a read less than to ask for the place first.
    #[inline]
    pub(super) fn first_owner(&self, position: u64) -> Option<u16> {
        let slot = usize::try_from(position >> self.shift).unwrap_or(usize::MAX);
        let hint = *self.index.get(slot)? as usize;
        let window = self.entries.get(hint..hint + STEPS)?;
        let upper = position >> LOW_BITS;
        // From the last to the first, so that the first at or after the position remains; without a branch, as above.
        let mut found = upper << LOW_BITS;
        for entry in window.iter().rev() {
            found = if *entry >> LOW_BITS < upper {
                found
            } else {
                *entry
            };
        }
        if found >> LOW_BITS == upper {
            return self.searched_owner(hint, position);
        }
        Some(owner(found))
    }

    /// The same with its place, of which the owner does not have to wait.
    #[inline]
    pub(super) fn first_with_place(&self, position: u64) -> Option<(u16, usize)> {
        let slot = usize::try_from(position >> self.shift).unwrap_or(usize::MAX);
        let hint = *self.index.get(slot)? as usize;
        let window = self.entries.get(hint..hint + STEPS)?;
        let upper = position >> LOW_BITS;
        let (mut found, mut at) = (upper << LOW_BITS, hint);
        for entry in window.iter().rev() {
            let is_before = *entry >> LOW_BITS < upper;
            found = if is_before { found } else { *entry };
            at += usize::from(is_before);
        }
        if found >> LOW_BITS == upper {
            let at = self.search_from(hint, position);
            return Some((owner(*self.entries().get(at)?), at));
        }
        Some((owner(found), self.around(at)))
    }

    #[cold]
    fn searched_owner(&self, hint: usize, position: u64) -> Option<u16> {
        let at = self.search_from(hint, position);
        self.entries().get(at).map(|entry| owner(*entry))
    }

    #[cold]
    fn search_from(&self, hint: usize, position: u64) -> usize {
        let rest = hint..self.len();
        let at = rest.into_iter().find(|&at| self.position(at) >= position);
        at.unwrap_or(0)
    }

    /// Past the last virtual node comes the first.
    #[inline]
    pub(super) fn around(&self, at: usize) -> usize {
        if at < self.len() { at } else { 0 }
    }

    /// The slot of the owner of each virtual node, from `at` on to the end.
    #[inline]
    pub(super) fn entries(&self) -> &[u64] {
        &self.entries[..self.low.len()]
    }

    /// The virtual node at a place.
    pub(super) fn vnode(&self, at: usize) -> VNode {
        (self.position(at), owner(self.entries[at]))
    }

    fn position(&self, at: usize) -> u64 {
        self.entries[at] & !LOW_MASK | u64::from(self.low[at])
    }

    pub(super) fn len(&self) -> usize {
        self.low.len()
    }

    fn new_index(&self) -> Box<[u32]> {
        let slots = 1_u64 << (u64::BITS - self.shift);
        let mut at = 0;
        (0..slots)
            .map(|slot| {
                while at < self.len() && self.position(at) < slot << self.shift {
                    at += 1;
                }
                narrow(at)
            })
            .collect()
    }

    /// The index after the changes: each moves the slots that begin after it by one.
    fn edited_index(&self, edits: &[Edit]) -> Box<[u32]> {
        let mut index = Vec::with_capacity(self.index.len());
        let mut moved = 0_u32;
        for edit in edits {
            let slot = usize::try_from(edit.vnode.0 >> self.shift).unwrap_or(usize::MAX);
            let unmoved = &self.index[index.len()..slot.saturating_add(1).max(index.len())];
            index.extend(unmoved.iter().map(|at| at.wrapping_add(moved)));
            moved = moved.wrapping_add(if edit.is_gone { u32::MAX } else { 1 });
        }
        let rest = &self.index[index.len()..];
        index.extend(rest.iter().map(|at| at.wrapping_add(moved)));
        index.into()
    }
}

/// The slot of the owner in an entry.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower 16 bits are the owner"
)]
pub(super) fn owner(entry: u64) -> u16 {
    entry as u16
}

fn pack((position, owner): VNode) -> u64 {
    position & !LOW_MASK | u64::from(owner)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower 16 bits are meant"
)]
fn low_bits(position: u64) -> u16 {
    position as u16
}

/// Past the last virtual node the circle begins anew; an empty one has no owner to begin with.
fn pad(entries: &mut Vec<u64>) {
    if let Some(first) = entries.first().map(|entry| u64::from(owner(*entry))) {
        entries.extend([!LOW_MASK | first; STEPS]);
    }
}

fn narrow(at: usize) -> u32 {
    u32::try_from(at).expect("65,535 members of at most 16 × 512 virtual nodes stay below 2^32")
}

/// Entries looked at without a branch. A slot of the index holds one virtual node at most in the mean; that it holds four
/// below the key happens to one lookup in some hundreds.
const STEPS: usize = 4;
const LOW_BITS: u32 = 16;
const LOW_MASK: u64 = (1 << LOW_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut vnodes: Vec<VNode>) -> Vec<VNode> {
        vnodes.sort_unstable();
        vnodes.dedup_by_key(|vnode| vnode.0);
        vnodes
    }

    fn listed(circle: &Circle) -> Vec<VNode> {
        (0..circle.len()).map(|at| circle.vnode(at)).collect()
    }

    /// Positions that meet in their upper bits too.
    fn position() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            0..8_u64,
            (u64::MAX - 8)..=u64::MAX,
            Just(1 << 40),
            (1_u64 << 40)..(1 << 40) + 9
        ]
    }

    proptest! {
        /// The lookup by index finds what a search of the whole circle finds.
        #[test]
        fn the_index_agrees_with_a_search(vnodes in proptest::collection::vec((position(), any::<u16>()), 0..200), key in position()) {
            let vnodes = sorted(vnodes);
            let circle = Circle::from_sorted(&vnodes);
            let at = vnodes.partition_point(|vnode| vnode.0 < key);
            let at = at % vnodes.len().max(1);
            prop_assert_eq!(circle.first_at_or_after(key), at);
            prop_assert_eq!(circle.first_owner(key), vnodes.get(at).map(|vnode| vnode.1));
            prop_assert_eq!(circle.first_with_place(key), vnodes.get(at).map(|vnode| (vnode.1, at)));
            prop_assert_eq!(listed(&circle), vnodes);
        }

        /// Editing a change in gives the circle that sorting gives.
        #[test]
        fn an_edited_circle_equals_a_new_one(
            old in proptest::collection::vec((position(), any::<u16>()), 0..120),
            new in proptest::collection::vec((position(), any::<u16>()), 0..120),
            keys in proptest::collection::vec(position(), 20),
        ) {
            let (old, new) = (sorted(old), sorted(new));
            let at = |vnode: &VNode| old.partition_point(|other| other < vnode);
            let gone = old.iter().filter(|vnode| new.binary_search(vnode).is_err());
            let come = new.iter().filter(|vnode| old.binary_search(vnode).is_err());
            let mut edits: Vec<Edit> = gone
                .map(|&vnode| Edit { at: at(&vnode), vnode, is_gone: true })
                .chain(come.map(|&vnode| Edit { at: at(&vnode), vnode, is_gone: false }))
                .collect();
            edits.sort_by_key(|edit| (edit.at, edit.is_gone, edit.vnode));
            let edited = Circle::from_sorted(&old).edited(&edits);
            let fresh = Circle::from_sorted(&new);
            prop_assert_eq!(listed(&edited), new);
            for key in keys {
                prop_assert_eq!(edited.first_at_or_after(key), fresh.first_at_or_after(key));
            }
        }
    }
}
