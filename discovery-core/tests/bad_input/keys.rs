// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys: of nothing, of a mebibyte, of bytes that are no text.

use super::{mall, service, slice, web};
use discovery_core::hash::HashKey;

const PODS: [(&str, u32); 3] = [("web-0", 0), ("web-1", 1), ("web-2", 2)];

#[test]
fn keys_of_no_byte_of_a_mebibyte_and_of_no_text_each_have_one_owner_at_every_caller() {
    let (_writer, reader) = mall(service(), [slice("web-1", PODS)]);
    let (_other, elsewhere) = mall(service(), [slice("web-1", PODS.into_iter().rev())]);
    let long = vec![0xff; 1 << 20];
    let mut longer = long.clone();
    longer.push(0);
    for key in [
        &b""[..],
        b"\0",
        &long,
        &longer,
        b"\xc3\x28",
        "🛒\u{0}\n".as_bytes(),
    ] {
        let key = HashKey::of(key);
        let names = |reader| -> Vec<String> {
            let order = web(reader).pick_n(key, usize::MAX).unwrap();
            order.iter().map(|e| e.identity().to_string()).collect()
        };
        assert_eq!(names(&reader), names(&elsewhere));
        assert_eq!(names(&reader).len(), 3);
        let owner = web(&reader).pick(key).unwrap().identity().to_string();
        assert_eq!(owner, names(&reader)[0]);
    }
    assert_ne!(
        HashKey::of(&long),
        HashKey::of(&longer),
        "the last byte counts"
    );
}

#[test]
fn no_replicas_are_none_and_cost_nobody_a_place() {
    let (_writer, reader) = mall(service(), [slice("web-1", PODS)]);
    let mut web = web(&reader);
    assert!(web.pick_n(HashKey::of(b"ann"), 0).unwrap().is_empty());
    let pick = web.pick(HashKey::of(b"ann")).unwrap();
    assert_eq!(pick.load().in_flight(), 1);
}
