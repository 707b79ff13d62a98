// SPDX-License-Identifier: MIT OR Apache-2.0
//! A part of an object that was refused: where, and why.

use std::fmt::{self, Display};

/// Why a part of an object was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::source) struct Flaw {
    /// The field: `endpoints[3].addresses[0]`; empty when the whole object is meant.
    pub(in crate::source) place: String,
    /// Why it was refused.
    pub(in crate::source) reason: String,
}

impl Flaw {
    pub(in crate::source) fn new(
        place: &(impl Display + ?Sized),
        reason: &(impl Display + ?Sized),
    ) -> Self {
        Self {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// An element of a list, as a place.
pub(super) struct Element<'p> {
    pub(super) list: &'p dyn Display,
    pub(super) position: usize,
}

impl Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.position)
    }
}

/// The flaws of one object; a hostile one cannot grow it without end.
#[derive(Debug, Default)]
pub(in crate::source) struct Flaws {
    list: Vec<Flaw>,
    left_out: usize,
}

impl Flaws {
    pub(in crate::source) fn add(&mut self, flaw: Flaw) {
        // An element that could not be decoded is null by now; what was wrong with it is told already.
        if self
            .list
            .iter()
            .any(|known| is_within(&known.place, &flaw.place))
        {
            return;
        }
        if self.list.len() < FLAWS_MAX {
            self.list.push(flaw);
        } else {
            self.left_out += 1;
        }
    }

    /// The value, or nothing and a flaw. The place is written only then.
    pub(super) fn take<T>(
        &mut self,
        place: &(impl Display + ?Sized),
        result: Result<T, impl Display>,
    ) -> Option<T> {
        result
            .map_err(|reason| self.add(Flaw::new(place, &reason)))
            .ok()
    }

    pub(super) fn into_list(mut self) -> Vec<Flaw> {
        if self.left_out > 0 {
            let reason = format!("{} more parts were refused", self.left_out);
            self.list.push(Flaw::new("", &reason));
        }
        self.list
    }
}

/// Whether `inner` names `outer` or something inside it.
fn is_within(inner: &str, outer: &str) -> bool {
    !outer.is_empty()
        && inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Enough to see what is wrong; the rest is counted.
const FLAWS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_says_so() {
        let mut flaws = Flaws::default();
        for number in 0..1000 {
            flaws.add(Flaw::new(&format!("endpoints[{number}]"), "bad"));
        }
        let list = flaws.into_list();
        assert_eq!(list.len(), FLAWS_MAX + 1);
        assert_eq!(list[FLAWS_MAX].reason, "968 more parts were refused");
    }

    #[test]
    fn an_element_is_blamed_once() {
        let mut flaws = Flaws::default();
        flaws.add(Flaw::new("endpoints[1].addresses", "not a list"));
        flaws.add(Flaw::new("endpoints[1]", "it is null"));
        flaws.add(Flaw::new("endpoints[11]", "it is null"));
        assert_eq!(flaws.into_list().len(), 2);
    }
}
