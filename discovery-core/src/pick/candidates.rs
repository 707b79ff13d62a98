// SPDX-License-Identifier: MIT OR Apache-2.0
//! The usable endpoints of a service in the order in which to try them for a key.
//!
//! In: a view and a key. Out: each usable endpoint of the tier that serves the key once, the owner of the key first. The
//! order is total and the same at every caller that sees the same set, so that it also serves as replica order.

use super::skip::{Leniency, Now, ShareOf};
use crate::{
    hash::{HashKey, Walk},
    store::{Endpoint, Hop, ServiceView, Tier},
};
use std::{sync::Arc, time::Instant};

/// The endpoints to try for the key, the owner first.
///
/// `next` costs about one step of the ring, more where many members are unusable. Nothing is allocated for a service of
/// up to 128 endpoints; above that the ninth candidate allocates a bit per member, once. Endpoints that this process
/// has ejected, whose check failed or that do not take the key yet are left out, unless nobody else is there.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{hash::HashKey, pick::{Picker, candidates}};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
/// if let Ok(view) = picker.view() {
///     let mut replicas = candidates(view, HashKey::of(b"object-17"));
///     let (leader, followers) = (replicas.next(), replicas.take(2));
///     println!("{leader:?}, then {:?}", followers.collect::<Vec<_>>());
/// }
/// ```
#[inline]
pub fn candidates(view: &ServiceView, key: HashKey) -> Candidates<'_> {
    Candidates::new(view, key, Now::UNREAD)
}

/// The same at a given time, for tests and simulations; otherwise the clock is read when an endpoint is new or ejected.
pub fn candidates_at(view: &ServiceView, key: HashKey, now: Instant) -> Candidates<'_> {
    Candidates::new(view, key, Now::at(now))
}

/// The first `N` of [`candidates`], none in the places for which there is nobody.
///
/// For who knows how many it will need: a retry on a second, the replicas of an object. There is no iterator to be moved: two
/// take two thirds of the instructions that the iterator's take. O(N²) comparisons of a number, no allocation.
#[inline]
pub fn first<const N: usize>(view: &ServiceView, key: HashKey) -> [Option<&Arc<Endpoint>>; N] {
    match unflagged(view, key) {
        Some(found) => found,
        None => first_of_many(view, key),
    }
}

/// The same while nothing speaks against any of them: nearly always.
#[inline]
fn unflagged<const N: usize>(
    view: &ServiceView,
    key: HashKey,
) -> Option<[Option<&Arc<Endpoint>>; N]> {
    let tier = view.tier_of(key)?;
    let (mut slot, mut walk) = tier.begin(key)?;
    let (mut found, mut slots) = ([None; N], [0; N]);
    for at in 0..N.min(tier.usable()) {
        let hop = loop {
            if !slots[..at].contains(&slot)
                && let Some(hop) = tier.at_slot(slot)
            {
                break hop;
            }
            slot = walk.next()?;
        };
        if hop.load().is_flagged() {
            return None;
        }
        slots[at] = slot;
        found[at] = Some(hop.endpoint());
    }
    Some(found)
}

#[cold]
fn first_of_many<const N: usize>(view: &ServiceView, key: HashKey) -> [Option<&Arc<Endpoint>>; N] {
    let mut candidates = candidates(view, key);
    std::array::from_fn(|_| candidates.next())
}

/// Iterator over the endpoints to try; see [`candidates`].
#[derive(Debug)]
pub struct Candidates<'v> {
    view: &'v ServiceView,
    tier: Option<&'v Tier>,
    walk: Walk<'v>,
    left: u32,
    begun: Begun,
    tried: Tried,
    now: Now,
    leniency: Leniency,
    /// Whether any came, and whether any was left out for a soft reason.
    found: bool,
    skipped: bool,
}

impl<'v> Candidates<'v> {
    #[inline]
    fn new(view: &'v ServiceView, key: HashKey, now: Now) -> Self {
        let tier = view.tier_of(key);
        Self {
            view,
            tier,
            walk: tier.map_or_else(|| Walk::of_nobody(key), |tier| tier.walk(key)),
            left: tier.map_or(0, usable),
            begun: Begun::None,
            tried: Tried::default(),
            now,
            leniency: Leniency::None,
            found: false,
            skipped: false,
        }
    }

    /// Whether the key belongs nowhere: no member is usable, none has a weight, or the placement is unknown.
    #[inline]
    pub(super) fn has_none(&self) -> bool {
        self.left == 0 || self.walk.is_at_end()
    }

    /// The next one, with its counters.
    ///
    /// The first two are found without the list of who was tried, while nothing speaks against them: nearly always.
    #[inline]
    pub(super) fn next_hop(&mut self) -> Option<&'v Hop> {
        let tier = self.tier?;
        let mut doubted = None;
        while self.left > 0 && matches!(self.begun, Begun::None | Begun::One(_)) {
            let Some(slot) = self.walk.next() else { break };
            let Some(hop) = tier.at_slot(slot) else {
                continue;
            };
            let begun = match self.begun {
                Begun::One(first) if slot == first => continue,
                Begun::One(first) => Begun::Two(first, slot),
                _ => Begun::One(slot),
            };
            if hop.load().is_flagged() {
                doubted = Some(slot);
                break;
            }
            self.begun = begun;
            self.left -= 1;
            return Some(hop);
        }
        self.next_of_many(tier, doubted)
    }

    /// The next one of those that are not tried yet, `doubted` first.
    #[inline(never)]
    fn next_of_many(&mut self, tier: &'v Tier, mut doubted: Option<u16>) -> Option<&'v Hop> {
        self.list_begun(tier);
        loop {
            let slot = doubted.take().or_else(|| {
                let is_left = self.left > 0;
                is_left.then(|| self.walk.next()).flatten()
            });
            let Some(slot) = slot else {
                self.forgive(tier)?;
                continue;
            };
            // A slot is a member: to know the one is to know the other.
            let Some(hop) = tier
                .at_slot(slot)
                .filter(|_| !self.tried.contains(slot, tier.slots()))
            else {
                continue;
            };
            self.tried.insert(slot, tier.slots());
            self.left -= 1;
            if hop.load().is_flagged() && self.skips(hop) {
                continue;
            }
            self.found = true;
            return Some(hop);
        }
    }

    /// Those that came without the list are on it from now on.
    fn list_begun(&mut self, tier: &Tier) {
        let (first, second) = match std::mem::replace(&mut self.begun, Begun::Listed) {
            Begun::None | Begun::Listed => return,
            Begun::One(first) => (first, None),
            Begun::Two(first, second) => (first, Some(second)),
        };
        self.found = true;
        self.tried.insert(first, tier.slots());
        if let Some(second) = second {
            self.tried.insert(second, tier.slots());
        }
    }

    #[cold]
    fn skips(&mut self, hop: &Hop) -> bool {
        let share_of = ShareOf::Key(self.walk.key());
        let skips = self
            .leniency
            .skips(self.view, hop.endpoint(), share_of, &mut self.now);
        self.skipped |= skips;
        skips
    }

    /// Begins anew with more forgiven, when nobody was found.
    #[cold]
    fn forgive(&mut self, tier: &'v Tier) -> Option<()> {
        if self.found || !self.skipped {
            return None;
        }
        self.leniency = self.leniency.more()?;
        if self.leniency == Leniency::All {
            self.view.load().panicked();
        }
        self.walk = tier.walk(self.walk.key());
        self.left = usable(tier);
        self.tried = Tried::default();
        Some(())
    }
}

#[inline]
fn usable(tier: &Tier) -> u32 {
    u32::try_from(tier.usable()).unwrap_or(u32::MAX)
}

impl<'v> Iterator for Candidates<'v> {
    type Item = &'v Arc<Endpoint>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_hop().map(Hop::endpoint)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.tier.map(Tier::usable))
    }
}

/// Who came so far without the list of who was tried, by slot.
#[derive(Clone, Copy, Debug)]
enum Begun {
    None,
    One(u16),
    Two(u16, u16),
    /// They are on the list.
    Listed,
}

/// The slots that the walk has passed on: a bit for each while there are at most 128, else a list of the first 8, and then
/// a bit for each in memory of its own. Small, since it is moved with the iterator.
#[derive(Debug, Default)]
struct Tried {
    words: [u64; WORDS],
    listed: u8,
    many: Option<Box<[u64]>>,
}

impl Tried {
    #[inline]
    fn contains(&self, slot: u16, slots: usize) -> bool {
        if slots <= BITS {
            return is_set(&self.words, slot);
        }
        match &self.many {
            None => (0..usize::from(self.listed)).any(|at| self.list(at) == slot),
            Some(words) => is_set(words, slot),
        }
    }

    #[inline]
    fn insert(&mut self, slot: u16, slots: usize) {
        if slots <= BITS {
            set(&mut self.words, slot);
        } else if usize::from(self.listed) < LIST {
            let at = usize::from(self.listed);
            self.words[at / LANES] |= u64::from(slot) << (at % LANES * 16);
            self.listed += 1;
        } else {
            self.insert_many(slot, slots);
        }
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower 16 bits are one of four"
    )]
    fn list(&self, at: usize) -> u16 {
        (self.words[at / LANES] >> (at % LANES * 16)) as u16
    }

    #[cold]
    fn insert_many(&mut self, slot: u16, slots: usize) {
        let mut many = self.many.take().unwrap_or_else(|| {
            let mut words = vec![0; slots.div_ceil(64)];
            for at in 0..LIST {
                set(&mut words, self.list(at));
            }
            words.into()
        });
        set(&mut many, slot);
        self.many = Some(many);
    }
}

#[inline]
fn is_set(words: &[u64], slot: u16) -> bool {
    words[usize::from(slot / 64)] & 1 << (slot % 64) != 0
}

#[inline]
fn set(words: &mut [u64], slot: u16) {
    words[usize::from(slot / 64)] |= 1 << (slot % 64);
}

const WORDS: usize = 2;
/// Slots with a bit of their own from the beginning.
const BITS: usize = WORDS * 64;
/// Slots of 16 bits in a word.
const LANES: usize = 4;
/// Slots in the list: more than callers try.
const LIST: usize = WORDS * LANES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::view;

    fn order(view: &ServiceView, key: &str) -> Vec<String> {
        candidates(view, HashKey::of(key.as_bytes()))
            .map(|e| e.identity().to_string())
            .collect()
    }

    #[test]
    fn every_usable_endpoint_comes_once() {
        for count in [1, 2, 3, 70, 1_024, 1_500] {
            let view = view(count, &[]);
            let mut order = order(&view, "some key");
            order.sort_unstable();
            order.dedup();
            assert_eq!(order.len(), count);
        }
    }

    #[test]
    fn an_unusable_endpoint_is_skipped_and_moves_no_other_key() {
        let (all, without) = (view(10, &[]), view(10, &[3]));
        for key in 0..1_000 {
            let key = format!("key-{key}");
            let mut expected = order(&all, &key);
            expected.retain(|identity| identity != "pod-0003");
            assert_eq!(order(&without, &key), expected);
        }
    }

    #[test]
    fn a_service_without_usable_endpoints_has_no_candidates() {
        assert_eq!(order(&view(3, &[0, 1, 2]), "key"), Vec::<String>::new());
        assert_eq!(order(&view(0, &[]), "key"), Vec::<String>::new());
    }

    #[test]
    fn a_failed_check_is_a_skip_until_nobody_else_is_left() {
        let view = view(3, &[]);
        let all = order(&view, "key");
        let members = view.tiers()[0].members();
        let named = |name: &str| members.iter().find(|e| e.identity().as_str() == name);
        named(&all[0]).unwrap().load().set_check_failed(true);
        assert_eq!(order(&view, "key"), all[1..]);
        for endpoint in members {
            endpoint.load().set_check_failed(true);
        }
        assert_eq!(order(&view, "key"), all, "panic keeps the order");
        assert_eq!(view.load().panic_picks(), 1);
    }
}
