// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts about a node, in the form of TXT data.

use crate::catalog::CatalogNode;

/// What is said of a node, as TXT data.
pub(crate) fn texts(node: &CatalogNode) -> Vec<Vec<u8>> {
    let text = |(key, value): &(String, String)| {
        let text = if key.to_ascii_lowercase().starts_with("rfc1035-") {
            value.clone()
        } else {
            format!("{}={value}", quoted_key(key))
        };
        text_data(text.as_bytes())
    };
    node.meta.iter().map(text).collect()
}

/// One character string of TXT data, cut at the 255 bytes that it can have.
pub(crate) fn text_data(text: &[u8]) -> Vec<u8> {
    let text = text.get(..usize::from(u8::MAX)).unwrap_or(text);
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], text].concat()
}

/// RFC 1464: what would end or change a key is quoted by a backquote.
fn quoted_key(key: &str) -> String {
    let (first, last) = (
        key.len() - key.trim_start_matches([' ', '\t']).len(),
        key.trim_end_matches([' ', '\t']).len(),
    );
    let mut quoted = String::with_capacity(key.len());
    for (at, c) in key.char_indices() {
        let is_edge_blank = matches!(c, ' ' | '\t') && (at < first || at >= last);
        if is_edge_blank || matches!(c, '`' | '=') {
            quoted.push('`');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_as_rfc_1464_asks() {
        for (key, quoted) in [
            ("zone", "zone"),
            ("k=v", "k`=v"),
            ("a`b", "a``b"),
            (" x ", "` x` "),
        ] {
            assert_eq!(quoted_key(key), quoted);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(text_data(&[b'x'; 300]).len(), 256);
    }
}
