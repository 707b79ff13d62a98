// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of which it is known how long they mostly are: one element, or as many as the controller puts into a slice.

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

/// Mostly one element, which then costs no allocation.
#[derive(Debug, PartialEq)]
pub(super) struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
        }
    }
}

impl<T> Few<T> {
    pub(super) fn push(&mut self, element: T) {
        match self.first {
            None => self.first = Some(element),
            Some(_) => self.rest.push(element),
        }
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.first.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

impl<T> Push<T> for Few<T> {
    fn push(&mut self, element: T) {
        Self::push(self, element);
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Few elements or about a hundred: past a few the room for all is made at once.
#[derive(Debug)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Push<T> for Many<T> {
    fn push(&mut self, element: T) {
        if self.0.len() == FEW && self.0.capacity() <= FEW {
            self.0.reserve_exact(MANY - FEW);
        }
        self.0.push(element);
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// What elements of a list are added to.
trait Push<T>: Default {
    fn push(&mut self, element: T);
}

struct List<L, T>(PhantomData<(L, T)>);

impl<'de, T: Deserialize<'de>, L: Push<T>> Visitor<'de> for List<L, T> {
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<L, A::Error> {
        let mut list = L::default();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}

/// The room that a vector makes first.
const FEW: usize = 4;
/// The endpoints of a full slice.
const MANY: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order() {
        for list in [vec![], vec![1], vec![1, 2, 3]] {
            let text = serde_json::to_string(&list).unwrap();
            let few: Few<i32> = serde_json::from_str(&text).unwrap();
            assert_eq!(few.iter().copied().collect::<Vec<_>>(), list);
            assert_eq!((few.len(), few.first()), (list.len(), list.first()));
        }
        assert!(serde_json::from_str::<Few<i32>>("{}").is_err());
        for length in [0, 1, 4, 5, 100, 1_000] {
            let list: Vec<usize> = (0..length).collect();
            let text = serde_json::to_string(&list).unwrap();
            let many: Many<usize> = serde_json::from_str(&text).unwrap();
            assert_eq!(many.0, list);
        }
    }
}
