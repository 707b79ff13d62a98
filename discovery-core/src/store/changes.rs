// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which services a snapshot has another view of than an older one: what the last publications changed, by name.
//!
//! Who keeps something for each service then pays for what changed and not for what there is. A mark is found by its place
//! in memory, not by its number, so that the marks of another writer are known to none. Pure.

use crate::model::ServiceName;
use std::sync::Arc;

/// A snapshot that a later one can be compared with: see [`Snapshot::changed_since`](super::Snapshot::changed_since).
///
/// Keeps no snapshot in memory, and at most 1,024 names.
#[derive(Clone, Debug)]
pub struct Mark(Arc<Step>);

/// What one publication changed.
#[derive(Debug)]
struct Step {
    services: Box<[ServiceName]>,
}

/// What the last publications changed, the oldest first; never empty. Of the first only the mark counts.
#[derive(Debug)]
pub(super) struct Changes(Box<[Arc<Step>]>);

impl Changes {
    /// Nothing before it can be compared with.
    pub(super) fn anew() -> Self {
        Self::of(&[], Vec::new())
    }

    /// After one more publication, which changed these services.
    pub(super) fn then(&self, services: Vec<ServiceName>) -> Self {
        if services.len() > NAMES_MAX {
            return Self::anew();
        }
        let kept = self.0.len().min(STEPS_MAX - 1);
        Self::of(&self.0[self.0.len() - kept..], services)
    }

    fn of(before: &[Arc<Step>], services: Vec<ServiceName>) -> Self {
        let step = Arc::new(Step {
            services: services.into(),
        });
        Self(before.iter().cloned().chain([step]).collect())
    }

    pub(super) fn mark(&self) -> Mark {
        let newest = self.0.last().expect("there is the last publication");
        Mark(newest.clone())
    }

    pub(super) fn since(
        &self,
        mark: &Mark,
    ) -> Option<impl Iterator<Item = &ServiceName> + use<'_>> {
        let at = self.0.iter().position(|step| Arc::ptr_eq(step, &mark.0))?;
        let later = self.0[at + 1..].iter();
        Some(later.flat_map(|step| step.services.iter()))
    }
}

/// Publications that a reader may be behind before it has to compare everything: one that builds for longer than a few of
/// them take is busy anyway.
const STEPS_MAX: usize = 8;
/// Names of one publication: of more, all are compared, which then costs little beside their work.
const NAMES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(numbers: impl Iterator<Item = usize>) -> Vec<ServiceName> {
        numbers
            .map(|number| format!("s-{number}").parse().unwrap())
            .collect()
    }

    fn since(changes: &Changes, mark: &Mark) -> Option<Vec<ServiceName>> {
        Some(changes.since(mark)?.cloned().collect())
    }

    #[test]
    fn names_of_the_last_publications_are_told() {
        let first = Changes::anew();
        let second = first.then(names(0..2));
        let third = second.then(names(2..3));
        assert_eq!(since(&third, &first.mark()), Some(names(0..3)));
        assert_eq!(since(&third, &second.mark()), Some(names(2..3)));
        assert_eq!(since(&third, &third.mark()), Some(Vec::new()));
        assert_eq!(
            since(&second, &third.mark()),
            None,
            "nobody knows the future"
        );
    }

    #[test]
    fn too_many_publications_or_names_are_compared_in_full() {
        let first = Changes::anew();
        let publish = |before: Changes, number| before.then(names(number..=number));
        let last = (1..STEPS_MAX).fold(first.then(Vec::new()), publish);
        assert_eq!(since(&last, &first.mark()), None);
        assert_eq!(last.0.len(), STEPS_MAX);
        let most = first.then(names(0..NAMES_MAX));
        assert!(since(&most, &first.mark()).is_some());
        let more = first.then(names(0..=NAMES_MAX));
        assert_eq!(since(&more, &first.mark()), None);
    }

    #[test]
    fn marks_of_another_writer_are_unknown() {
        assert_eq!(since(&Changes::anew(), &Changes::anew().mark()), None);
    }
}
