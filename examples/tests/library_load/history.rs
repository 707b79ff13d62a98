// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a log of picks and answers fits what the API server said: of each, one state of the service within the time that
//! news may take must explain it. Pure, and naive: each state's ring is built from nothing.
//!
//! A pick is explained by a state in which its endpoint is ready and of our zone (no phantom, no zone leak) and the first
//! ready one on the ring of all that are listed (so that no key moved that did not have to); a failure by a state without a ready
//! endpoint (no false empty). An answer of DNS is explained by a state whose ready endpoints are those that it names, all of
//! them; NXDOMAIN by one without.

use discovery_core::hash::{HashKey, Ring};
use std::{cell::RefCell, collections::BTreeSet, time::Duration};

/// A moment, in microseconds of the epoch.
pub(crate) type Micros = u64;

/// The endpoints of our zone of one service from a moment on, in ascending order of their names.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) since: Micros,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Built when it is first asked for.
    ring: RefCell<Option<Ring>>,
}

/// An endpoint of our zone.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) is_ready: bool,
}

impl State {
    pub(crate) fn new(since: Micros, mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort();
        Self {
            since,
            endpoints,
            ring: RefCell::default(),
        }
    }

    /// Gives its memory back.
    pub(crate) fn forget_ring(&self) {
        self.ring.take();
    }

    /// Who takes the key.
    fn owner(&self, key: u64) -> Option<&str> {
        let names = || self.endpoints.iter().map(|endpoint| &endpoint.name);
        let mut ring = self.ring.borrow_mut();
        let ring = ring.get_or_insert_with(|| Ring::build(&names().collect::<Vec<_>>()));
        let position = HashKey::of(&key.to_le_bytes()).position();
        let mut walk = ring.walk(position);
        let ready = walk.find(|at| self.endpoints[*at].is_ready)?;
        Some(&self.endpoints[ready].name)
    }

    pub(crate) fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.is_ready)
    }
}

/// What was seen of a service, and from when to when that took.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) begun: Micros,
    pub(crate) ended: Micros,
    pub(crate) service: usize,
    pub(crate) what: What,
}

#[derive(Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// Who was picked for a key, if anybody.
    Pick(u64, Option<String>),
    /// The addresses that its name has; none when there is no such name.
    Answer(BTreeSet<String>),
}

/// How old the youngest state is that explains what was seen; none when none does. `states` are those of its service.
pub(crate) fn age(states: &[State], seen: &Seen) -> Option<Duration> {
    let fits = |state: &State| match &seen.what {
        What::Pick(key, picked) => state.owner(*key) == picked.as_deref(),
        What::Answer(told) => {
            let ready = state.ready().map(|endpoint| &endpoint.address);
            ready.collect::<BTreeSet<_>>() == told.iter().collect()
        }
    };
    let at = states
        .iter()
        .rposition(|state| state.since <= seen.ended && fits(state))?;
    let end = states.get(at + 1).map_or(Micros::MAX, |next| next.since);
    Some(Duration::from_micros(seen.begun.saturating_sub(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b`, then `b` unready, then nobody ready.
    fn states() -> [State; 3] {
        let endpoint = |(name, is_ready): (&str, bool)| Endpoint {
            name: name.into(),
            address: format!("10.0.0.{name}"),
            is_ready,
        };
        let of = |since, a, b| State::new(since, [("b", b), ("a", a)].map(endpoint).into());
        [
            of(0, true, true),
            of(100, true, false),
            of(200, false, false),
        ]
    }

    fn seen(at: Micros, what: What) -> Seen {
        Seen {
            begun: at,
            ended: at + 1,
            service: 0,
            what,
        }
    }

    fn pick(at: Micros, key: u64, picked: Option<&str>) -> Seen {
        seen(at, What::Pick(key, picked.map(Into::into)))
    }

    /// A key that is owned by `b` while both are ready.
    fn of_b() -> u64 {
        let whole = &states()[0];
        (0..1_000)
            .find(|key| whole.owner(*key) == Some("b"))
            .unwrap()
    }

    #[test]
    fn a_pick_is_as_old_as_the_youngest_state_that_explains_it() {
        let age = |at, picked| age(&states(), &pick(at, of_b(), picked)).map(|age| age.as_micros());
        assert_eq!(age(50, Some("b")), Some(0));
        assert_eq!(age(150, Some("a")), Some(0));
        assert_eq!(age(150, Some("b")), Some(50), "50 behind");
        assert_eq!(age(250, Some("a")), Some(50));
        assert_eq!(age(250, None), Some(0));
    }

    #[test]
    fn what_no_state_so_far_explains_is_found() {
        let key = (0..1_000)
            .find(|key| states()[0].owner(*key) == Some("a"))
            .unwrap();
        let explained = |at, picked| age(&states(), &pick(at, key, picked)).is_some();
        assert!(!explained(50, Some("c")), "a phantom, or of another zone");
        assert!(!explained(50, Some("b")), "a key that did not have to move");
        assert!(!explained(50, None), "a false empty");
        assert!(!explained(150, None), "not yet");
        assert!(explained(250, None));
    }

    #[test]
    fn an_answer_names_all_that_are_ready_and_nobody_else() {
        let age = |at, told: &[&str]| {
            let told = told.iter().map(|name| format!("10.0.0.{name}")).collect();
            age(&states(), &seen(at, What::Answer(told))).map(|age| age.as_micros())
        };
        assert_eq!(age(50, &["a", "b"]), Some(0));
        assert_eq!(age(130, &["a", "b"]), Some(30));
        assert_eq!(age(150, &["a"]), Some(0));
        assert_eq!(age(250, &[]), Some(0));
        assert_eq!(age(50, &["a"]), None, "one is missing");
        assert_eq!(age(50, &[]), None, "a false no");
        assert_eq!(age(250, &["b"]), None, "no state has only this one");
    }
}
