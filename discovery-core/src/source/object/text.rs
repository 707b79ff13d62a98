// SPDX-License-Identifier: MIT OR Apache-2.0
//! A text of an object's JSON, borrowed from it where no escape stands in it: an event of a hundred endpoints has a
//! thousand texts, and most are looked at once.
//!
//! `Option<Cow<str>>` as serde has it is always owned; this type borrows wherever it stands.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
};

/// The text.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::source) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub(super) fn borrowed(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub(super) fn owned(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// For look-ups in maps: texts are ordered as `str` is.
impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text::borrowed(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text::owned(text))
            }
        }

        deserializer.deserialize_str(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_borrowed_unless_an_escape_stands_in_it() {
        let texts: Vec<Option<Text<'_>>> =
            serde_json::from_str(r#"["plain", "with \n escape", null]"#).unwrap();
        assert!(matches!(texts[0], Some(Text(Cow::Borrowed("plain")))));
        assert!(matches!(&texts[1], Some(Text(Cow::Owned(text))) if text == "with \n escape"));
        assert!(texts[2].is_none());
    }
}
