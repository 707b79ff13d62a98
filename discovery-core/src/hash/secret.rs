// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hashing for tables that are asked for every endpoint of every event: a name of thirty bytes costs a few nanoseconds.
//!
//! Never for placement: every table draws a secret of its own, so that who writes names cannot choose their places. That
//! is also why std's hasher is the default, and this one stands where a profile has shown it.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// XXH3 with a secret seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableHashing {
    secret: u64,
}

impl Default for TableHashing {
    fn default() -> Self {
        let secret = RandomState::new().hash_one(0);
        Self { secret }
    }
}

impl BuildHasher for TableHashing {
    type Hasher = TableHasher;

    fn build_hasher(&self) -> TableHasher {
        TableHasher(self.secret)
    }
}

/// The hash of what was written so far, which seeds that of what follows.
pub(crate) struct TableHasher(u64);

impl Hasher for TableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        // The end of a text, which comes after its hash.
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    fn write_usize(&mut self, number: usize) {
        // The length of an array, or the number of a variant.
        self.0 = self.0.rotate_left(8) ^ number as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_table_has_its_own_places_and_equal_keys_share_one() {
        let tables = [TableHashing::default(), TableHashing::default()];
        let [one, other] = tables.map(|table| table.hash_one("edge-a"));
        assert_ne!(one, other);
        assert_eq!(tables[0].hash_one("edge-a".to_owned()), one);
    }

    #[test]
    fn parts_of_a_key_are_told_apart() {
        let table = TableHashing::default();
        let keys = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc")];
        let hashes: HashSet<_> = keys.iter().map(|key| table.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
        let arrays: HashSet<_> = (0..=255).map(|last| table.hash_one([0, 0, last])).collect();
        assert_eq!(arrays.len(), 256);
    }
}
