// SPDX-License-Identifier: MIT OR Apache-2.0
//! What keeps a source from reading all that it should: one clear error for a person, however many watches meet it. Pure.

use super::{failure::Failure, select::problem};
use crate::{source::FailureReason, store::Problem};
use std::collections::BTreeMap;

/// What stands in the way of watches, by what they watch.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    refused: BTreeMap<String, Failure>,
    /// Watches whose answers lack what our token may not see.
    hidden: BTreeMap<String, String>,
    warned: Option<FailureReason>,
}

impl Troubles {
    /// Notes a failure; whether it is the first of its reason since things went well.
    pub(super) fn failed(&mut self, watch: &str, failure: &Failure) -> bool {
        if failure.reason.needs_person() || TOLD.contains(&failure.reason) {
            self.refused.insert(watch.to_owned(), failure.clone());
        }
        self.warned.replace(failure.reason) != Some(failure.reason)
    }

    /// Notes an answer.
    pub(super) fn answered(&mut self, watch: &str) {
        self.refused.remove(watch);
        self.warned = None;
    }

    /// Notes whether an answer lacks something, and which rule a token needs to see it.
    pub(super) fn set_hidden(&mut self, watch: &str, rule: Option<&str>) {
        match rule {
            None => drop(self.hidden.remove(watch)),
            Some(rule) => {
                let text =
                    format!("Consul hides some of it from our token; add to its policy: {rule}");
                self.hidden.insert(watch.to_owned(), text);
            }
        }
    }

    /// The watch is no more.
    pub(super) fn forget(&mut self, watch: &str) {
        self.refused.remove(watch);
        self.hidden.remove(watch);
    }

    /// Whether our token may not read what the watch asks for, so that waiting for it is in vain.
    pub(super) fn is_forbidden(&self, watch: &str) -> bool {
        let refused = self.refused.get(watch);
        refused.is_some_and(|failure| failure.reason == FailureReason::Forbidden)
            || self.hidden.contains_key(watch)
    }

    /// The same for a person: one problem for refusals, one for what is hidden.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let refused = self
            .refused
            .iter()
            .map(|(watch, failure)| (watch, failure.text.as_str()));
        let hidden = self
            .hidden
            .iter()
            .map(|(watch, text)| (watch, text.as_str()));
        one(refused).into_iter().chain(one(hidden))
    }
}

fn one<'t>(mut troubles: impl ExactSizeIterator<Item = (&'t String, &'t str)>) -> Option<Problem> {
    let (watch, text) = troubles.next()?;
    let place = match troubles.len() {
        0 => watch.clone(),
        others => format!("{watch}, and {others} more"),
    };
    Some(problem("Consul", &place, text.to_owned()))
}

/// Reasons beyond those that only a person mends of which a person should know: what was known before stays in force.
const TOLD: [FailureReason; 3] = [
    FailureReason::Unreadable,
    FailureReason::Undecodable,
    FailureReason::TooLarge,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f29_many_refusals_are_one_clear_error() {
        let mut troubles = Troubles::default();
        let failure = Failure::of_answer(403, b"Permission denied", "RULE");
        assert!(troubles.failed("api", &failure), "the first is logged");
        assert!(!troubles.failed("web", &failure), "the next is not");
        let told: Vec<_> = troubles.problems().collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].place, "api, and 1 more");
        assert!(told[0].reason.contains("RULE"));
        assert!(troubles.is_forbidden("web"));
        troubles.answered("api");
        troubles.answered("web");
        assert_eq!(troubles.problems().count(), 0);
    }

    #[test]
    fn what_passes_by_itself_is_no_problem() {
        let mut troubles = Troubles::default();
        troubles.failed("web", &Failure::of_answer(500, b"No cluster leader", ""));
        assert_eq!(troubles.problems().count(), 0);
        assert!(!troubles.is_forbidden("web"));
    }

    #[test]
    fn what_is_hidden_stays_hidden_until_an_answer_is_whole() {
        let mut troubles = Troubles::default();
        troubles.set_hidden("web", Some("RULE"));
        troubles.answered("web");
        assert!(troubles.is_forbidden("web"));
        troubles.set_hidden("web", None);
        assert!(!troubles.is_forbidden("web"));
    }
}
