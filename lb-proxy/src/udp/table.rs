// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sessions of one listener, and which of them makes room when there are too many.
//!
//! In: keys and sessions. Out: the session of a key; the oldest that was never answered. Pure. Sources of datagrams can be
//! forged, so a flood of new ones may push out only sessions that no endpoint has answered yet.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// What the table must know of a session.
pub(super) trait IsAnswered {
    /// Whether its endpoint has replied.
    fn is_answered(&self) -> bool;
}

/// Sessions by key.
#[derive(Debug)]
pub(super) struct Table<K, S> {
    sessions: HashMap<K, (u64, S)>,
    /// Sessions in the order in which they began, with some that are gone or were answered since.
    unanswered: VecDeque<(K, u64)>,
    next: u64,
}

impl<K: Copy + Eq + Hash, S: IsAnswered> Table<K, S> {
    pub(super) fn new() -> Self {
        Self {
            sessions: HashMap::new(),
            unanswered: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&S> {
        self.sessions.get(key).map(|(_, session)| session)
    }

    pub(super) fn insert(&mut self, key: K, session: S) {
        if self.unanswered.len() > 2 * self.sessions.len() + SLACK {
            self.forget_the_gone();
        }
        self.sessions.insert(key, (self.next, session));
        self.unanswered.push_back((key, self.next));
        self.next += 1;
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<S> {
        self.sessions.remove(key).map(|(_, session)| session)
    }

    /// Takes out all.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, S)> {
        self.unanswered.clear();
        self.sessions
            .drain()
            .map(|(key, (_, session))| (key, session))
    }

    /// Takes out the oldest session that was never answered, when there is one.
    pub(super) fn evict(&mut self) -> Option<S> {
        while let Some((key, number)) = self.unanswered.pop_front() {
            let is_it = self
                .sessions
                .get(&key)
                .is_some_and(|(at, session)| *at == number && !session.is_answered());
            if is_it {
                return self.remove(&key);
            }
        }
        None
    }

    /// Takes out the sessions for which `end` gives a reason, and tells each with it.
    pub(super) fn end<R>(&mut self, end: impl Fn(&S) -> Option<R>, mut told: impl FnMut(S, R)) {
        let ended: Vec<(K, R)> = self
            .sessions
            .iter()
            .filter_map(|(key, (_, session))| Some((*key, end(session)?)))
            .collect();
        for (key, reason) in ended {
            if let Some(session) = self.remove(&key) {
                told(session, reason);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.len()
    }

    fn forget_the_gone(&mut self) {
        let sessions = &self.sessions;
        self.unanswered.retain(|(key, number)| {
            sessions
                .get(key)
                .is_some_and(|(at, session)| at == number && !session.is_answered())
        });
    }
}

/// Entries of sessions that are gone, before the order is cleared of them.
const SLACK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    #[derive(Debug, Default)]
    struct Session(Cell<bool>);

    impl IsAnswered for Session {
        fn is_answered(&self) -> bool {
            self.0.get()
        }
    }

    #[test]
    fn the_oldest_without_an_answer_makes_room_and_never_one_that_was_answered() {
        let mut table = Table::new();
        for key in 0..4 {
            table.insert(key, Session::default());
        }
        table.get(&0).unwrap().0.set(true);
        table.remove(&1);
        table.insert(1, Session::default());
        assert!(table.evict().is_some());
        assert!(table.get(&2).is_none(), "0 was answered, and 1 began anew");
        assert!(table.evict().is_some() && table.evict().is_some());
        assert!(table.evict().is_none());
        assert_eq!(table.len(), 1);
    }

    proptest! {
        /// Whatever comes and goes, the order of eviction stays in proportion to the table.
        #[test]
        fn the_order_is_bounded(keys in proptest::collection::vec((0_u16..50, any::<bool>()), 0..6_000)) {
            let mut table = Table::new();
            for (key, comes) in keys {
                if comes {
                    table.insert(key, Session::default());
                } else {
                    table.remove(&key);
                }
                prop_assert!(table.unanswered.len() <= 2 * 50 + SLACK + 2);
            }
        }
    }
}
