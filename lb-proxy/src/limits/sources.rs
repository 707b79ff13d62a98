// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections each source address has, and how fast it makes new ones.
//!
//! In: comings and goings with their time. Out: whether one more may come. Pure. The table is bounded: a source without a
//! connection that was not seen for longest goes first. An IPv6 source is its /64, since a host has all of that.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

/// What a source may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceLimits {
    pub(crate) connections_max: u32,
    /// New connections a second, in the long run.
    pub(crate) rate: u32,
    /// New connections at once.
    pub(crate) burst: u32,
    pub(crate) sources_max: usize,
}

/// The sources that are known.
#[derive(Debug)]
pub(crate) struct Sources {
    limits: SourceLimits,
    known: HashMap<IpAddr, Source>,
    /// Those without a connection, the one that was not seen for longest first.
    idle: BTreeMap<u64, IpAddr>,
    next: u64,
}

#[derive(Debug)]
struct Source {
    connections: u32,
    tokens: f64,
    counted_at: Instant,
    /// Its place among the idle ones.
    idle_at: Option<u64>,
}

impl Sources {
    pub(crate) fn new(limits: SourceLimits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            idle: BTreeMap::new(),
            next: 0,
        }
    }

    /// Counts a connection of the source, when it may have one more.
    pub(crate) fn enter(&mut self, now: Instant, source: IpAddr) -> bool {
        let limits = self.limits;
        if !self.make_room(network(source)) {
            return false;
        }
        let source = match self.known.entry(network(source)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Source {
                connections: 0,
                tokens: f64::from(limits.burst),
                counted_at: now,
                idle_at: None,
            }),
        };
        let passed = now
            .saturating_duration_since(source.counted_at)
            .as_secs_f64();
        source.tokens =
            (source.tokens + passed * f64::from(limits.rate)).min(f64::from(limits.burst));
        source.counted_at = now;
        if source.connections >= limits.connections_max || source.tokens < 1.0 {
            return false;
        }
        source.tokens -= 1.0;
        source.connections += 1;
        if let Some(at) = source.idle_at.take() {
            self.idle.remove(&at);
        }
        true
    }

    /// Counts the end of a connection of the source.
    pub(crate) fn leave(&mut self, source: IpAddr) {
        let address = network(source);
        let Some(source) = self.known.get_mut(&address) else {
            return;
        };
        source.connections = source.connections.saturating_sub(1);
        if source.connections == 0 && source.idle_at.is_none() {
            source.idle_at = Some(self.next);
            self.idle.insert(self.next, address);
            self.next += 1;
        }
    }

    /// Makes room for the source, when it is new and the table full; whether there is room.
    fn make_room(&mut self, source: IpAddr) -> bool {
        if self.known.len() < self.limits.sources_max || self.known.contains_key(&source) {
            return true;
        }
        match self.idle.pop_first() {
            Some((_, oldest)) => {
                self.known.remove(&oldest);
                true
            }
            None => false,
        }
    }
}

/// What counts as one source: an IPv4 address, also mapped into IPv6, or an IPv6 network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{net::Ipv4Addr, time::Duration};

    const LIMITS: SourceLimits = SourceLimits {
        connections_max: 3,
        rate: 2,
        burst: 4,
        sources_max: 2,
    };

    fn source(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn a_source_has_a_cap_of_its_own() {
        let (mut sources, now) = (Sources::new(LIMITS), Instant::now());
        let entered: Vec<_> = (0..4).map(|_| sources.enter(now, source(1))).collect();
        assert_eq!(entered, [true, true, true, false]);
        assert!(sources.enter(now, source(2)), "others are not affected");
        sources.leave(source(1));
        assert!(sources.enter(now, source(1)));
    }

    #[test]
    fn a_source_that_comes_and_goes_is_held_to_its_rate() {
        let (mut sources, start) = (Sources::new(LIMITS), Instant::now());
        let visit = |sources: &mut Sources, millis| {
            let entered = sources.enter(start + Duration::from_millis(millis), source(1));
            if entered {
                sources.leave(source(1));
            }
            entered
        };
        let burst: Vec<_> = (0..5).map(|_| visit(&mut sources, 0)).collect();
        assert_eq!(burst, [true, true, true, true, false]);
        assert!(visit(&mut sources, 500) && !visit(&mut sources, 600));
        let later = (0..10).filter(|_| visit(&mut sources, 60_000)).count();
        assert_eq!(later, 4, "a pause is worth one burst");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_only_who_has_no_connection() {
        let (mut sources, now) = (Sources::new(LIMITS), Instant::now());
        assert!(sources.enter(now, source(1)) && sources.enter(now, source(2)));
        assert!(!sources.enter(now, source(3)), "both places are in use");
        sources.leave(source(2));
        assert!(sources.enter(now, source(3)));
        assert_eq!(sources.known.len(), 2);
        sources.leave(source(2));
        assert!(sources.known.contains_key(&source(1)));
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            network(parse("fd00::1:2:3:4")),
            network(parse("fd00::ffff:2:3:4"))
        );
        assert_ne!(network(parse("fd00::1")), network(parse("fd00:0:0:1::1")));
        assert_eq!(network(parse("::ffff:10.0.0.1")), source(1));
    }

    proptest! {
        /// Whatever comes and goes: no source has more than its cap, and the table no more than its places.
        #[test]
        fn limits_hold(steps in proptest::collection::vec((any::<bool>(), 0_u8..6, 0_u64..2_000), 0..300)) {
            let (mut sources, start) = (Sources::new(LIMITS), Instant::now());
            let mut open: HashMap<u8, u32> = HashMap::new();
            let mut passed = 0;
            for (comes, last, millis) in steps {
                passed += millis;
                let now = start + Duration::from_millis(passed);
                if comes {
                    if sources.enter(now, source(last)) {
                        *open.entry(last).or_default() += 1;
                    }
                } else if open.get(&last).is_some_and(|count| *count > 0) {
                    sources.leave(source(last));
                    open.entry(last).and_modify(|count| *count -= 1);
                }
                prop_assert!(open.values().all(|count| *count <= LIMITS.connections_max));
                prop_assert!(sources.known.len() <= LIMITS.sources_max);
                let idle = sources.known.values().filter(|source| source.idle_at.is_some()).count();
                prop_assert_eq!(idle, sources.idle.len());
            }
        }
    }
}
