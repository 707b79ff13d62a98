// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts the items out of a list while its body arrives, so that a list of any length costs the memory of one item.
//!
//! In: the bytes of `{"metadata": {…}, "items": [a, b, …]}` in any pieces. Out: the text of each item as soon as it is
//! whole, and at the end the list without its items. Only strings and brackets are followed here; whether what stands
//! between them is JSON, the decoder says. Pure: no I/O, no clock.

use bytes::{Bytes, BytesMut};

/// The list under way.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// How many objects and arrays are open.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The last string that ended directly inside the list: the key of what follows.
    key: Vec<u8>,
    is_inside: bool,
    item: BytesMut,
    /// The list without its items.
    frame: Vec<u8>,
}

/// An item, or the list without its items, is larger than anything that an API server stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLarge;

impl Items {
    /// Takes in the next bytes, and gives the items that are whole now to `found`.
    pub(super) fn push<E: From<TooLarge>>(
        &mut self,
        bytes: &[u8],
        mut found: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in bytes {
            let is_whole = if self.is_inside {
                self.inside(*byte)
            } else {
                self.outside(*byte);
                false
            };
            if is_whole {
                found(self.item.split().freeze())?;
            }
        }
        if self.item.len() > ITEM_BYTES_MAX || self.frame.len() > FRAME_BYTES_MAX {
            return Err(TooLarge.into());
        }
        Ok(())
    }

    /// The list without its items, for a decoder that says whether it is whole.
    pub(super) fn into_frame(self) -> Vec<u8> {
        self.frame
    }

    fn outside(&mut self, byte: u8) {
        self.frame.push(byte);
        if self.in_string {
            if self.depth == 1
                && (self.is_escaped || byte != b'"')
                && self.key.len() < KEY.len() + 1
            {
                self.key.push(byte);
            }
            self.follow_string(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.key.clear();
                }
            }
            b'[' if self.depth == 1 && self.key == KEY => {
                self.depth += 1;
                self.is_inside = true;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            // A value that is no string must not be taken for a key's.
            b',' if self.depth == 1 => self.key.clear(),
            _ => {}
        }
    }

    /// Whether an item is whole with this byte.
    fn inside(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.item.extend_from_slice(&[byte]);
            self.follow_string(byte);
            return false;
        }
        if self.depth == DEPTH_OF_ITEMS && matches!(byte, b',' | b']') {
            if byte == b']' {
                self.frame.push(byte);
                self.depth -= 1;
                self.is_inside = false;
            }
            // Objects were given when they closed; what is left is a null or another value without brackets.
            return !self.item.trim_ascii().is_empty();
        }
        if self.depth == DEPTH_OF_ITEMS && self.item.is_empty() && byte.is_ascii_whitespace() {
            return false;
        }
        self.item.extend_from_slice(&[byte]);
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                return self.depth == DEPTH_OF_ITEMS;
            }
            _ => {}
        }
        false
    }

    fn follow_string(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }
}

const KEY: &[u8] = b"items";
/// Inside the list and inside the array.
const DEPTH_OF_ITEMS: usize = 2;
/// Five times the largest object that etcd takes (1.5 MiB), as JSON.
const ITEM_BYTES_MAX: usize = 8 * 1024 * 1024;
const FRAME_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn cut(chunks: &[&[u8]]) -> Result<(Vec<Value>, Option<Value>), TooLarge> {
        let (mut items, mut found) = (Items::default(), Vec::new());
        for chunk in chunks {
            items.push(chunk, |item| {
                found.push(serde_json::from_slice(&item).unwrap_or(Value::Null));
                Ok::<_, TooLarge>(())
            })?;
        }
        Ok((found, serde_json::from_slice(&items.into_frame()).ok()))
    }

    #[test]
    fn items_are_the_same_however_they_arrive() {
        let list = json!({
            "kind": "items", "metadata": { "items": [1], "resourceVersion": "7" },
            "items": [{ "a": "]}\\\"," }, null, [1, [2]], "x,]", 5, {}], "after": { "items": ["no"] },
        });
        let text = serde_json::to_string_pretty(&list).unwrap();
        for size in [1, 2, 3, 7, text.len()] {
            let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
            let (items, frame) = cut(&chunks).unwrap();
            assert_eq!(Value::Array(items), list["items"], "in pieces of {size}");
            let mut rest = list.clone();
            rest["items"] = json!([]);
            assert_eq!(frame, Some(rest));
        }
    }

    #[test]
    fn a_list_that_is_cut_short_has_no_frame() {
        let text = r#"{"metadata":{"resourceVersion":"7"},"items":[{"a":1},{"b":2}]}"#;
        for end in 0..text.len() {
            let (items, frame) = cut(&[&text.as_bytes()[..end]]).unwrap();
            assert!(frame.is_none() && items.len() <= 2, "{end}");
        }
    }

    #[test]
    fn an_endless_item_is_refused_at_the_limit() {
        let mut items = Items::default();
        let mut push = |bytes: &[u8]| items.push(bytes, |_| Ok::<_, TooLarge>(()));
        push(b"{\"items\":[{\"a\":\"").unwrap();
        let chunk = vec![b'x'; 64 * 1024];
        let pushed = (0..1_000).find(|_| push(&chunk).is_err()).unwrap();
        assert!(pushed * chunk.len() <= ITEM_BYTES_MAX);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],: ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"]{0,5}|items", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What a decoder of whole bodies finds is what is cut out of the pieces.
        #[test]
        fn the_cutter_agrees_with_a_whole_decoder(
            items in prop::collection::vec(json_value(), 0..6), other in json_value(), size in 1usize..40,
        ) {
            let list = json!({ "a": other.clone(), "items": items.clone(), "z": other });
            let text = serde_json::to_vec(&list).unwrap();
            let (found, frame) = cut(&text.chunks(size).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(found, items);
            prop_assert!(frame.is_some());
        }

        /// Any bytes in any pieces: no panic.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..40) {
            let _ = cut(&bytes.chunks(size).collect::<Vec<_>>());
        }
    }
}
