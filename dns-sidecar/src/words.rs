// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fast hash without a key, for what comes from the catalogue: who asks cannot build collisions.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes hashers for the tables of the standard library.
pub(crate) type WordHash = BuildHasherDefault<WordHasher>;

/// The step of `FxHash` over words of eight bytes, mixed once at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WordHasher(u64);

impl WordHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }
}

impl Hasher for WordHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(MULTIPLIER);
        mixed ^ (mixed >> 29)
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
