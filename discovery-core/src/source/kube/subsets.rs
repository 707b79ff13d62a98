// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which slices an Endpoints object was read as, so that they leave with it. Pure.
//!
//! An Endpoints object states a slice for each of its subsets. When it shrinks from three subsets to one the other two
//! are gone, and nothing in the object says so.

use crate::{model::ServiceName, source::object::subset_key, store::ObjectKey};
use std::collections::HashMap;

/// How many subsets the objects of a list have; those with one, which is nearly all, are not kept.
#[derive(Debug, Default)]
pub(super) struct Subsets {
    many: HashMap<ServiceName, usize>,
    /// As it was before the list under way.
    before: HashMap<ServiceName, usize>,
}

impl Subsets {
    /// A new list begins, which names what there is.
    pub(super) fn list_begins(&mut self) {
        // What an unfinished list has named stands for what was known before it.
        let begun = std::mem::take(&mut self.many);
        self.before.extend(begun);
    }

    /// The list is complete: what it did not name is gone.
    pub(super) fn list_ends(&mut self) {
        self.before = HashMap::new();
    }

    /// The object has so many subsets now; what it no longer states.
    pub(super) fn stated(&mut self, service: &ServiceName, now: usize) -> Vec<ObjectKey> {
        let before = self.count(service);
        if now > 1 {
            self.many.insert(service.clone(), now);
        } else {
            self.many.remove(service);
        }
        keys(service, now..before)
    }

    /// The object is gone; what it stated.
    pub(super) fn gone(&mut self, service: &ServiceName) -> Vec<ObjectKey> {
        let before = self.many.remove(service).unwrap_or(1);
        keys(service, 0..before)
    }

    /// What the object stated when it was last readable; more when that is not known, for a name too many is harmless.
    pub(super) fn kept(&mut self, service: &ServiceName) -> Vec<ObjectKey> {
        if let Some(before) = self.before.get(service) {
            self.many.insert(service.clone(), *before);
        }
        keys(service, 0..self.count(service).max(KEPT_MIN))
    }

    fn count(&self, service: &ServiceName) -> usize {
        self.many.get(service).copied().unwrap_or(1)
    }
}

fn keys(service: &ServiceName, range: std::ops::Range<usize>) -> Vec<ObjectKey> {
    range
        .filter_map(|position| subset_key(service, position))
        .map(ObjectKey::Slice)
        .collect()
}

/// Few services have more subsets than that: one for each mix of ready and not, port by port.
const KEPT_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(keys: &[ObjectKey]) -> Vec<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_shrinks_loses_the_rest() {
        let (mut subsets, web) = (Subsets::default(), ServiceName::new("shop", "web").unwrap());
        assert!(subsets.stated(&web, 3).is_empty());
        assert_eq!(
            words(&subsets.stated(&web, 1)),
            [
                "EndpointSlice shop/web-endpoints-1",
                "EndpointSlice shop/web-endpoints-2"
            ]
        );
        assert_eq!(
            words(&subsets.stated(&web, 0)),
            ["EndpointSlice shop/web-endpoints-0"]
        );
        assert!(subsets.stated(&web, 2).is_empty());
        assert_eq!(subsets.gone(&web).len(), 2);
        assert_eq!(
            subsets.gone(&web).len(),
            1,
            "of one not known a subset may be there"
        );
    }

    #[test]
    fn what_a_list_could_not_read_keeps_all_it_had() {
        let (mut subsets, web) = (Subsets::default(), ServiceName::new("shop", "web").unwrap());
        subsets.stated(&web, 9);
        for _ in 0..2 {
            subsets.list_begins();
            assert_eq!(subsets.kept(&web).len(), 9);
            subsets.list_ends();
        }
        subsets.list_begins();
        subsets.list_ends();
        assert_eq!(
            subsets.gone(&web).len(),
            1,
            "a list that does not name it forgets it"
        );
    }
}
