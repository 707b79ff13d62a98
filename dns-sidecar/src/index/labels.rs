// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services that one address is named after: nearly always one, which then stands in the table itself.

use super::Label;
use std::{ops::Deref, slice, sync::Arc};

/// Labels in ascending order, at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Labels {
    One(Label),
    More(Arc<[Label]>),
}

impl Labels {
    /// With one more.
    pub(crate) fn with(&self, label: &Label) -> Self {
        if self.contains(label) {
            return self.clone();
        }
        let mut labels = self.to_vec();
        labels.push(label.clone());
        labels.sort_unstable();
        Self::More(labels.into())
    }

    /// Without this one; none when no other is left.
    pub(crate) fn without(&self, label: &Label) -> Option<Self> {
        let others: Vec<_> = self
            .iter()
            .filter(|known| *known != label)
            .cloned()
            .collect();
        match others.as_slice() {
            [] => None,
            [one] => Some(Self::One(one.clone())),
            _ => Some(Self::More(others.into())),
        }
    }
}

impl Deref for Labels {
    type Target = [Label];

    fn deref(&self) -> &[Label] {
        match self {
            Self::One(label) => slice::from_ref(label),
            Self::More(labels) => labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_and_go_in_order() {
        let label = |text: &str| Label::from(text.as_bytes());
        let [a, b, c] = ["a", "b", "c"].map(label);
        let two = Labels::One(b.clone()).with(&a);
        assert_eq!(*two, [a.clone(), b.clone()]);
        assert_eq!(*two.with(&c).with(&b), [a.clone(), b.clone(), c.clone()]);
        let one = two.without(&a).unwrap();
        assert!(matches!(&one, Labels::One(label) if *label == b));
        assert!(one.without(&b).is_none() && one.without(&c).is_some());
    }
}
