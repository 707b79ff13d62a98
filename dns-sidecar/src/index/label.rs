// SPDX-License-Identifier: MIT OR Apache-2.0
//! A label in lower case, most of them where they stand: a lookup that compares one follows no pointer, and a table is copied
//! without an allocation for each of its keys.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// The bytes of a label; it is compared, ordered and hashed as they are.
#[derive(Clone, Debug)]
pub(crate) enum Label {
    /// As most are.
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    /// Shared.
    Long(Arc<[u8]>),
}

impl From<&[u8]> for Label {
    fn from(label: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..label.len()), u8::try_from(label.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(label);
                Self::Short { length, bytes }
            }
            _ => Self::Long(label.into()),
        }
    }
}

impl Deref for Label {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Label {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Label {}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Label {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// As long as a pointer and a length with it, and eight bytes more.
const SHORT_MAX: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_length_are_their_bytes() {
        for length in 0..80 {
            let (bytes, more) = (vec![b'a'; length], vec![b'a'; length + 1]);
            let label = Label::from(&*bytes);
            assert_eq!(&*label, &*bytes);
            assert_eq!(label, Label::from(&*bytes).clone());
            assert!(label < Label::from(&*more));
        }
        assert_eq!(size_of::<Label>(), 24);
    }
}
