// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes in any pieces through the whole way of an answer: inflate, cut into lines, decode, translate. No panic, the
//! same result however they arrive, bounded work.

use super::{
    framing::{LINE_BYTES_MAX, Lines},
    targets::{gzip, resources, watch},
};
use crate::{model::ZoneKeys, source::object::Names};
use proptest::prelude::*;

/// Lines that mean something, for mutations to begin with.
const SEEDS: [&str; 7] = [
    r#"{"type":"ADDED","object":{"metadata":{"namespace":"shop","name":"web-1","resourceVersion":"7","labels":{"kubernetes.io/service-name":"web"}},"endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n1","conditions":{"ready":true}}],"ports":[{"name":"http","port":80}]}}"#,
    r#"{"type":"MODIFIED","object":{"metadata":{"namespace":"shop","name":"web","resourceVersion":"8"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]},{}]}}"#,
    r#"{"type":"DELETED","object":{"metadata":{"namespace":"shop","name":"web-1","resourceVersion":"9"}}}"#,
    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"10"}}}"#,
    r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#,
    r#"{"type":"ADDED","object":{"metadata":{"name":"n1","resourceVersion":"1","labels":{"topology.kubernetes.io/zone":"mall-1"}},"status":{"addresses":[{"type":"InternalIP","address":"10.1.0.1"}]}}}"#,
    r#"{"type":"ADDED","object":{"metadata":{"namespace":"shop","name":"web","resourceVersion":"3","annotations":{"zonal.dev/zone-policy":"any"}},"spec":{"ports":[{"port":80,"nodePort":30080}]}}}"#,
];

/// Seeds in a row, some of their bytes changed, some cut out.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seeds = prop::collection::vec(0..SEEDS.len(), 1..4);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let cut = (any::<prop::sample::Index>(), 0..20usize);
    (seeds, changes, cut).prop_map(|(seeds, changes, (at, length))| {
        let mut bytes = Vec::new();
        for seed in seeds {
            bytes.extend(SEEDS[seed].bytes());
            bytes.push(b'\n');
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = at.index(bytes.len());
        bytes.drain(at..(at + length).min(bytes.len()));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// However a watch's bytes arrive, they say the same.
    #[test]
    fn a_broken_watch_says_the_same_however_it_arrives(bytes in mutated(), size in 1..300usize) {
        for resource in resources() {
            let whole = watch(&resource, &bytes, bytes.len().max(1));
            prop_assert_eq!(watch(&resource, &bytes, size), whole);
        }
    }

    /// Any bytes are a watch or a list that says nothing, at worst.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1..200usize) {
        for resource in resources() {
            watch(&resource, &bytes, size);
            let (keys, mut names) = (ZoneKeys::default(), Names::default());
            let mut page = resource.page_reader(&keys);
            let _ = bytes.chunks(size).try_for_each(|piece| page.push(piece, &mut names).map(drop));
            let _ = page.finish();
        }
    }

    /// What does not end grows no further than the limit and one piece.
    #[test]
    fn a_line_without_end_is_given_up(byte in any::<u8>().prop_filter("no line end", |b| *b != b'\n'), size in 1_000..200_000usize) {
        let (mut lines, piece, mut pushed) = (Lines::default(), vec![byte; size], 0);
        while lines.next() == Ok(None) {
            lines.push(&piece);
            pushed += size;
            prop_assert!(pushed <= LINE_BYTES_MAX + 2 * size);
        }
    }

    /// Any bytes are inflated in pieces of a bounded size, or refused.
    #[test]
    fn any_bytes_are_inflated_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), is_begun in any::<bool>()) {
        let mut input = if is_begun { vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0] } else { Vec::new() };
        input.extend(bytes);
        gzip(&input);
    }
}
