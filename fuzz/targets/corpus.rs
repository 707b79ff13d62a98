// SPDX-License-Identifier: MIT OR Apache-2.0
//! A target's corpus on every run of the tests: each file as it is, and damaged in a hundred ways that are the same on every
//! run; in 5,000 with `ZONAL_LONG=1`. Shared by the tests of all members; libFuzzer's targets do not need it.

use std::{env, fs, path::Path, thread};

/// Runs a target over its files and over damaged copies of them; there are some.
pub(crate) fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let mut files: Vec<_> = entries.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(
        files.len() >= FILES_MIN,
        "{} files in {}",
        files.len(),
        folder.display()
    );
    let seeds: Vec<_> = files
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    let is_long = env::var_os("ZONAL_LONG").is_some();
    let copies = if is_long { DAMAGED_LONG } else { DAMAGED };
    for (path, seed) in files.iter().zip(&seeds) {
        println!("{}", path.display());
        shown(seed, check);
        let mut chance = Chance(seed.len() as u64);
        for _ in 0..copies {
            let other = &seeds[chance.below(seeds.len())];
            shown(&damaged(seed, other, &mut chance), check);
        }
    }
}

/// Runs the target; what it could not stand is printed.
fn shown(bytes: &[u8], check: fn(&[u8])) {
    struct Input<'b>(&'b [u8]);
    impl Drop for Input<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                println!("input: b\"{}\"", self.0.escape_ascii());
            }
        }
    }
    let _input = Input(bytes);
    check(bytes);
}

/// A copy with one to four faults of the kinds that files, cables and people make.
fn damaged(seed: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let (at, end) = chance.range(bytes.len());
        match chance.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => {
                let (from, to) = chance.range(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 => bytes.insert(at, WORDS[chance.below(WORDS.len())]),
            _ if at == bytes.len() => {}
            5 => bytes[at] = WORDS[chance.below(WORDS.len())],
            _ => bytes[at] ^= 1 << chance.below(8),
        }
    }
    bytes
}

/// SplitMix64: the same on every machine, and no dependency.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits") % end.max(1)
    }

    /// A place, and one behind it, mostly near.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let at = self.below(length + 1);
        (at, (at + self.below(17)).min(length))
    }
}

/// Bytes that mean something to one parser or another.
const WORDS: &[u8] = b"\0\x01\x7f\x80\xc0\xff\"\\{}[],:.-/%&=* \r\n09";
const FILES_MIN: usize = 10;
const DAMAGED: usize = 100;
const DAMAGED_LONG: usize = 5_000;
