// SPDX-License-Identifier: MIT OR Apache-2.0
//! A map of which a changed copy costs what changed: 1,024 short lists, each shared until it is written to.
//!
//! A generation takes over the map of the one before by counting references. A lookup reads the list's place and the list: its
//! entries stand side by side, ordered by their hash.

use crate::words::WordHash;
use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

/// A short list in ascending order of the hashes; none before the first entry.
type Shard<K, V> = Option<Arc<Vec<Entry<K, V>>>>;

#[derive(Clone, Debug)]
struct Entry<K, V> {
    hash: u32,
    key: K,
    value: V,
}

/// A map whose clones share what neither has changed.
#[derive(Clone, Debug)]
pub(crate) struct Sharded<K, V> {
    shards: Box<[Shard<K, V>]>,
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
        let (shard, hash) = place(key);
        let entries = self.shards[shard].as_deref()?;
        let at = find(entries, hash, key).ok()?;
        Some(&entries[at].value)
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (shard, hash) = place(&key);
        let entries = Arc::make_mut(self.shards[shard].get_or_insert_default());
        match find(entries, hash, &key) {
            Ok(at) => entries[at].value = value,
            Err(at) => {
                entries.insert(at, Entry { hash, key, value });
                self.len += 1;
            }
        }
    }

    /// Forgets a key.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (shard, hash) = place(key);
        let list = self.shards[shard].as_mut()?;
        let at = find(list, hash, key).ok()?;
        self.len -= 1;
        Some(Arc::make_mut(list).remove(at).value)
    }

    /// Every key with its value, in no order.
    #[cfg(feature = "http")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.shards.iter().flatten().flat_map(|shard| shard.iter());
        entries.map(|entry| (&entry.key, &entry.value))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The list of a key, and the hash by which that is ordered.
#[inline]
fn place<Q: Hash + ?Sized>(key: &Q) -> (usize, u32) {
    let hash = WordHash::default().hash_one(key);
    let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0);
    let (low, high) = (half(hash), half(hash >> 32));
    (high as usize % SHARDS, low)
}

/// Where the key stands, or would.
#[inline]
fn find<K: Borrow<Q>, V, Q: Eq + ?Sized>(
    entries: &[Entry<K, V>],
    hash: u32,
    key: &Q,
) -> Result<usize, usize> {
    let from = entries.partition_point(|entry| entry.hash < hash);
    let alike = entries[from..]
        .iter()
        .take_while(|entry| entry.hash == hash);
    let at = alike.clone().position(|entry| entry.key.borrow() == key);
    at.map_or(Err(from), |at| Ok(from + at))
}

/// 10,000 services of 10 endpoints: 10 names and 100 addresses each.
const SHARDS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

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
            counts[place(format!("svc-{number:04}").as_bytes()).0] += 1;
        }
        let fullest = counts.iter().max().copied().unwrap();
        assert!(fullest < 60, "20 on average, the fullest has {fullest}");
    }
}
