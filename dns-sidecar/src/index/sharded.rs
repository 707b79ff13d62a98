// SPDX-License-Identifier: MIT OR Apache-2.0
//! A map of which a changed copy costs what changed: 1,024 small maps, each shared until it is written to.
//!
//! A generation takes over the map of the one before by counting references.

use crate::words::WordHash;
use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

/// A small map; none while it is empty.
type Place<K, V> = Option<Arc<Shard<K, V>>>;

type Shard<K, V> = HashMap<K, V, WordHash>;

/// A map whose clones share what neither has changed.
#[derive(Clone, Debug)]
pub(crate) struct Sharded<K, V> {
    shards: Box<[Place<K, V>]>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| None).collect(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Sharded<K, V> {
    /// The value of a key.
    #[inline]
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard(key)].as_ref()?.get(key)
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let place = self.shards[shard(&key)].get_or_insert_default();
        let is_new = Arc::make_mut(place).insert(key, value).is_none();
        self.len += usize::from(is_new);
    }

    /// Forgets a key.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.shards[shard(key)].as_mut()?;
        place.get(key)?;
        let gone = Arc::make_mut(place).remove(key);
        self.len -= usize::from(gone.is_some());
        gone
    }

    /// Every key with its value, in no order.
    #[cfg(feature = "http")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten().flat_map(|shard| shard.iter())
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

fn shard<Q: Hash + ?Sized>(key: &Q) -> usize {
    let hash = WordHash::default().hash_one(key);
    // The map below uses the lowest and the topmost bits.
    usize::try_from(hash >> 32).unwrap_or(0) % SHARDS
}

/// 10,000 services of 10 endpoints: 10 names and 100 addresses each.
const SHARDS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_says_what_a_map_says_and_copies_do_not_change(steps in prop::collection::vec((any::<bool>(), 0_u16..300, any::<u8>()), 1..200)) {
            let mut ours = Sharded::<Box<[u8]>, u8>::default();
            let mut model = HashMap::<Box<[u8]>, u8>::new();
            let key = |number: u16| -> Box<[u8]> { format!("service-{number}").into_bytes().into() };
            for (is_insert, number, value) in steps {
                let (before, kept) = (ours.clone(), model.clone());
                if is_insert {
                    ours.insert(key(number), value);
                    model.insert(key(number), value);
                } else {
                    prop_assert_eq!(ours.remove(&*key(number)), model.remove(&key(number)));
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert_eq!(ours.get(&*key(number)), model.get(&key(number)));
                prop_assert_eq!(before.get(&*key(number)), kept.get(&key(number)));
            }
        }
    }

    #[test]
    fn names_spread_over_the_shards() {
        let mut counts = vec![0_u32; SHARDS];
        for number in 0..20_480 {
            counts[shard(format!("svc-{number:04}").as_bytes())] += 1;
        }
        let fullest = counts.iter().max().copied().unwrap();
        assert!(fullest < 60, "20 on average, the fullest has {fullest}");
    }
}
