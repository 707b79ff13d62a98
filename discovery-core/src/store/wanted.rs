// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services for which somebody picks by key: their tables are built before a view of them is published, those of all
//! others when one is first asked for. An agent that only answers DNS builds none.

use crate::{model::ServiceName, sync::Mutex};
use std::{collections::HashSet, sync::PoisonError};

/// The names of those services. The lock is held for one look, by who makes a handle and by the writer; never by a pick.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<HashSet<ServiceName>>);

impl Wanted {
    /// Takes a name up; the tables of more than [`NAMES_MAX`] are built when they are first asked for.
    pub(super) fn add(&self, service: &ServiceName) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX && !names.contains(service) {
            names.insert(service.clone());
        }
    }

    pub(super) fn has(&self, service: &ServiceName) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.contains(service)
    }
}

/// A program that makes handles for whatever name it is given must not fill the memory.
const NAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_names_are_kept_than_may_be() {
        let wanted = Wanted::default();
        let name = |number: usize| format!("s{number}").parse::<ServiceName>().unwrap();
        for number in 0..NAMES_MAX + 10 {
            wanted.add(&name(number));
            wanted.add(&name(number));
        }
        assert!(wanted.has(&name(0)) && wanted.has(&name(NAMES_MAX - 1)));
        assert!(!wanted.has(&name(NAMES_MAX)));
    }
}
