// SPDX-License-Identifier: MIT OR Apache-2.0
//! The usable endpoints of a service in the order in which to try them for a key.
//!
//! In: a view and a key. Out: each usable endpoint of the serving tier once, the owner of the key first. The order is
//! total and the same at every caller that sees the same set, so that it also serves as replica order.

use crate::{
    hash::{HashKey, Walk},
    store::{Endpoint, ServiceView},
};
use std::sync::Arc;

/// The endpoints to try for the key, the owner first.
///
/// `next` costs about one step of the ring, more where many members are unusable. Nothing is allocated for a service of
/// up to 1,024 endpoints; above that the second candidate allocates a bit per member, once.
#[inline]
pub fn candidates(view: &ServiceView, key: HashKey) -> Candidates<'_> {
    let (members, walk, left) = match view.serving_tier() {
        Some(tier) => (
            tier.members(),
            Some(tier.ring().walk(key.position())),
            tier.usable(),
        ),
        None => (&[][..], None, 0),
    };
    Candidates {
        members,
        walk,
        left,
        tried: Tried::None,
    }
}

/// Iterator over the endpoints to try; see [`candidates`].
#[derive(Debug)]
pub struct Candidates<'v> {
    members: &'v [Arc<Endpoint>],
    walk: Option<Walk<'v>>,
    left: usize,
    tried: Tried,
}

impl<'v> Iterator for Candidates<'v> {
    type Item = &'v Arc<Endpoint>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (members, tried) = (self.members, &mut self.tried);
        let next = self
            .walk
            .as_mut()?
            .find(|&at| members[at].is_usable() && !tried.contains(at))?;
        tried.insert(next, members.len());
        Some(&members[next])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The members that the walk has passed on. The first, mostly the only one, costs no set.
#[derive(Debug)]
enum Tried {
    None,
    One(usize),
    Few([u64; WORDS]),
    Many(Box<[u64]>),
}

impl Tried {
    #[inline]
    fn contains(&self, at: usize) -> bool {
        let bit = |words: &[u64]| words[at / 64] & (1 << (at % 64)) != 0;
        match self {
            Self::None => false,
            Self::One(only) => *only == at,
            Self::Few(words) => bit(words),
            Self::Many(words) => bit(words),
        }
    }

    #[inline]
    fn insert(&mut self, at: usize, members: usize) {
        if let Self::None = self {
            *self = Self::One(at);
            return;
        }
        if let Self::One(first) = *self {
            *self = if members <= WORDS * 64 {
                Self::Few([0; WORDS])
            } else {
                Self::Many(vec![0; members.div_ceil(64)].into())
            };
            self.set(first);
        }
        self.set(at);
    }

    fn set(&mut self, at: usize) {
        match self {
            Self::Few(words) => words[at / 64] |= 1 << (at % 64),
            Self::Many(words) => words[at / 64] |= 1 << (at % 64),
            Self::None | Self::One(_) => {}
        }
    }
}

/// Words of the inline set: 1,024 members in 128 bytes.
const WORDS: usize = 16;

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
}
