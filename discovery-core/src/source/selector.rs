// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which services and slices are asked for: a label selector and namespaces. Pure.

use std::{fmt, sync::Arc};

/// A label selector, as Kubernetes writes it: `team=shop,tier in (front,back)`.
///
/// Labels of a Service are copied to its slices by their controller, so that one selector cuts both lists at the server.
///
/// ```
/// use discovery_core::source::Selector;
///
/// let selector = Selector::parse("zonal.dev/watch=true").unwrap();
/// assert_eq!(selector.as_str(), "zonal.dev/watch=true");
/// assert_eq!(Selector::grid().as_str(), "superedge.io/grid-uniq-key");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selector(Arc<str>);

/// Why a text is no label selector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// It selects nothing in particular.
    #[error("the label selector is empty")]
    Empty,
    /// With it the request would outgrow what servers and proxies take.
    #[error(
        "the label selector has {bytes} bytes, more than {}",
        Selector::BYTES_MAX
    )]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// It holds what no selector does.
    #[error("the label selector holds {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Selector {
    /// The longest selector: with it a request line stays under the 8 KiB of common proxies.
    pub const BYTES_MAX: usize = 4096;

    /// Checks length and characters; the server checks the rest.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(SelectorError::TooLong { bytes: text.len() });
        }
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-_./=!,() ".contains(c);
        match text.chars().find(|c| !is_known(*c)) {
            Some(character) => Err(SelectorError::Character { character }),
            None => Ok(Self(text.into())),
        }
    }

    /// What belongs to a `ServiceGrid` of `SuperEdge`, and nothing else.
    pub fn grid() -> Self {
        Self("superedge.io/grid-uniq-key".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which services and slices are read, whole: a selector and namespaces; everything by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// Only services and slices with these labels; none means all.
    pub selector: Option<Selector>,
    /// Only services and slices of these namespaces, at most 64; empty means all.
    pub namespaces: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_selector_is_refused() {
        assert_eq!(Selector::parse("  "), Err(SelectorError::Empty));
        let long = "a".repeat(5000);
        assert_eq!(
            Selector::parse(&long),
            Err(SelectorError::TooLong { bytes: 5000 })
        );
        for character in ['\n', '&', 'ü', '%', '"'] {
            let text = format!("team=a{character}b");
            assert_eq!(
                Selector::parse(&text),
                Err(SelectorError::Character { character })
            );
        }
        assert!(Selector::parse("a in (b, c),!d,e!=f,g notin (h)").is_ok());
    }
}
