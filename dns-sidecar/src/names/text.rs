// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tags and keys between their labels in a name and their text.

use crate::wire::{LowerName, WireName};

/// The labels before the given one as the tables of tags have them: without the first length octet, so that `_web._v2` finds
/// the same tag as `v2.web`.
pub(super) fn tag_text(name: &LowerName, end: usize) -> &[u8] {
    name.span(0, end).get(1..).unwrap_or_default()
}

/// A tag in the form of [`tag_text`]; none when it cannot stand in a name.
pub(crate) fn tag_key(tag: &str) -> Option<Box<[u8]>> {
    let labels = WireName::parse(tag)?;
    labels.as_bytes().get(1..).map(Into::into)
}

/// Hands over the text of a key's labels, dots between them. A key is in lower case, since names have none.
pub(crate) fn with_key_text<T>(labels: &[u8], take: impl FnOnce(&[u8]) -> T) -> T {
    let mut text = [0; 255];
    let (mut length, mut rest) = (0, labels);
    while let Some((count, after)) = rest.split_first() {
        let (label, next) = after.split_at(after.len().min(usize::from(*count)));
        if length > 0 {
            text[length] = b'.';
            length += 1;
        }
        // The labels of a name and their length octets fit, so the labels and dots do.
        text[length..length + label.len()].copy_from_slice(label);
        length += label.len();
        rest = next;
    }
    take(&text[..length])
}
