// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts the items out of a list while its body arrives, so that a list of any length costs the memory of one item.
//!
//! In: the bytes of `{"metadata": {…}, "items": [a, b, …]}` in any pieces. Out: the text of each item as soon as it is
//! whole, and at the end the list without its items. Only strings and brackets are followed here; whether what stands
//! between them is JSON, the decoder says. Strings are skipped by their ends, and an item that arrived in one piece is not
//! copied. Pure: no I/O, no clock.

/// The list under way.
#[derive(Debug, Default)]
pub(super) struct Items {
    place: Place,
    /// How many objects and arrays are open.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The last string that ended directly inside the list: the key of what follows.
    key: Vec<u8>,
    /// The item under way, as far as it came in earlier pieces.
    item: Vec<u8>,
    /// The list without its items.
    frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    /// Outside of the array of items.
    #[default]
    Frame,
    /// In the array, before an item or behind the last.
    Between,
    Item,
}

/// An item, or the list without its items, is larger than anything that an API server stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLarge;

impl Items {
    /// Takes in the next bytes, and gives the items that are whole now to `found`.
    pub(super) fn push<E: From<TooLarge>>(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(first) = bytes.first() {
            match self.place {
                Place::Frame => {
                    self.in_frame(*first);
                    bytes = &bytes[1..];
                }
                Place::Between => bytes = self.between(bytes),
                Place::Item => {
                    let (item, rest) = bytes.split_at(self.item_end(bytes));
                    bytes = rest;
                    if self.place == Place::Item {
                        self.item.extend_from_slice(item);
                    } else if self.item.is_empty() {
                        found(item)?;
                    } else {
                        self.item.extend_from_slice(item);
                        let found = found(&self.item);
                        self.item.clear();
                        found?;
                    }
                }
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

    fn in_frame(&mut self, byte: u8) {
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
                self.place = Place::Between;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            // A value that is no string must not be taken for a key's.
            b',' if self.depth == 1 => self.key.clear(),
            _ => {}
        }
    }

    /// Passes over what separates items; what follows begins with an item, or with what comes after the last.
    fn between<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let is_separator = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        let start = bytes.iter().position(|byte| !is_separator(byte));
        let rest = &bytes[start.unwrap_or(bytes.len())..];
        match rest.first() {
            Some(b']') => {
                self.frame.push(b']');
                self.depth -= 1;
                self.place = Place::Frame;
                &rest[1..]
            }
            Some(_) => {
                self.place = Place::Item;
                rest
            }
            None => rest,
        }
    }

    /// Where the item ends in these bytes, or where they end.
    fn item_end(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.string_end(&bytes[at..]);
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // A null or another value without brackets ends before what follows it.
                b',' | b']' if self.depth == DEPTH_OF_ITEMS => {
                    self.place = Place::Between;
                    return at;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth <= DEPTH_OF_ITEMS {
                        // Below it when a bracket too many stands there, which the decoder refuses.
                        self.depth = DEPTH_OF_ITEMS;
                        self.place = Place::Between;
                        return at + 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// How many of the bytes belong to the string under way.
    fn string_end(&mut self, bytes: &[u8]) -> usize {
        if self.is_escaped {
            self.is_escaped = false;
            return 1;
        }
        let Some(at) = memchr::memchr2(b'"', b'\\', bytes) else {
            return bytes.len();
        };
        self.follow_string(bytes[at]);
        at + 1
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
                found.push(serde_json::from_slice(item).unwrap_or(Value::Null));
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
