// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints not to dial for a while, from how connects to them went, or what became of connections.
//!
//! In: outcomes with their time. Out: whether an endpoint may be tried. It moves nobody else's keys: an ejected
//! endpoint is passed over during the walk. After its time one connection tries it again, and only one, so that a dead
//! endpoint makes nobody else wait.

use discovery_core::telemetry::ConnectFailure;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Ejections that many connections share: by connects those of a process, by answers those of a listener. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct SharedEjections(Arc<Shared>);

/// When failures count, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The weight of failures in a row that ejects.
    pub(crate) weight_max: u32,
    /// How long one connection may try, after the time is over, before another does.
    pub(crate) trial: Duration,
}

#[derive(Debug)]
struct Shared {
    /// How many endpoints have failed last; mostly none, and then the lock is not taken.
    failing: AtomicUsize,
    /// Guards the table; held for one look-up, never across an await.
    table: Mutex<Ejections>,
}

impl SharedEjections {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(Arc::new(Shared {
            failing: AtomicUsize::new(0),
            table: Mutex::new(Ejections::new(rules)),
        }))
    }

    /// Whether the endpoint is ejected; changes nothing.
    pub(crate) fn is_ejected(&self, address: SocketAddr) -> bool {
        self.look(|table| table.is_ejected(Instant::now(), address))
            .unwrap_or(false)
    }

    /// Whether the endpoint may be dialled; of those that ask after its time is over, one may.
    pub(crate) fn may_try(&self, address: SocketAddr) -> bool {
        self.look(|table| table.may_try(Instant::now(), address))
            .unwrap_or(true)
    }

    /// Takes in that the endpoint did well.
    pub(crate) fn succeeded(&self, address: SocketAddr) {
        self.look(|table| table.succeeded(address));
    }

    /// Takes in a connect that failed; whether the endpoint is ejected now.
    pub(crate) fn failed(&self, address: SocketAddr, failure: ConnectFailure) -> bool {
        let weight = weight(failure);
        weight > 0 && self.failed_by(address, weight, |_, _| true)
    }

    /// Takes in a failure of that weight; whether the endpoint is ejected now. Of one that would be, `may` is told when it
    /// failed first and how many others are ejected.
    pub(crate) fn failed_by(
        &self,
        address: SocketAddr,
        weight: u32,
        may: impl FnOnce(Instant, usize) -> bool,
    ) -> bool {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ejected = table.failed(Instant::now(), address, weight, may);
        self.0.failing.store(table.records.len(), Relaxed);
        is_ejected
    }

    fn look<T>(&self, act: impl FnOnce(&mut Ejections) -> T) -> Option<T> {
        if self.0.failing.load(Relaxed) == 0 {
            return None;
        }
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        let told = act(&mut table);
        self.0.failing.store(table.records.len(), Relaxed);
        Some(told)
    }
}

/// What a failed connect weighs. Our own shortage, or our own listener, says nothing of the endpoint.
fn weight(failure: ConnectFailure) -> u32 {
    match failure {
        ConnectFailure::Refused | ConnectFailure::Unreachable => 1,
        ConnectFailure::Timeout => 2,
        _ => 0,
    }
}

/// Endpoints that failed last.
#[derive(Debug)]
struct Ejections {
    rules: Rules,
    records: HashMap<SocketAddr, Record>,
}

#[derive(Debug)]
struct Record {
    /// Of the failures in a row.
    weight: u32,
    /// Ejections in a row.
    times: u32,
    until: Option<Instant>,
    /// Whether the time is over, and one connection tries.
    on_trial: bool,
    /// The first failure of the row.
    first: Instant,
    seen: Instant,
}

impl Ejections {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            records: HashMap::new(),
        }
    }

    fn is_ejected(&self, now: Instant, address: SocketAddr) -> bool {
        self.records
            .get(&address)
            .and_then(|record| record.until)
            .is_some_and(|until| now < until)
    }

    fn may_try(&mut self, now: Instant, address: SocketAddr) -> bool {
        if self.is_ejected(now, address) {
            return false;
        }
        if let Some(record) = self.records.get_mut(&address)
            && record.until.is_some()
        {
            // The others wait for how this one fares.
            record.until = Some(now + self.rules.trial);
            record.on_trial = true;
        }
        true
    }

    fn succeeded(&mut self, address: SocketAddr) {
        self.records.remove(&address);
    }

    fn failed(
        &mut self,
        now: Instant,
        address: SocketAddr,
        weight: u32,
        may: impl FnOnce(Instant, usize) -> bool,
    ) -> bool {
        self.make_room(address);
        let record = self.records.entry(address).or_insert(Record {
            weight: 0,
            times: 0,
            until: None,
            on_trial: false,
            first: now,
            seen: now,
        });
        record.seen = now;
        record.weight = record.weight.saturating_add(weight);
        let (weight, first) = (record.weight, record.first);
        if weight < self.rules.weight_max || !may(first, self.others(now, address)) {
            return false;
        }
        let Some(record) = self.records.get_mut(&address) else {
            return false;
        };
        // Connections that were under way when it was ejected do not make it longer.
        if record.on_trial || record.until.is_none_or(|until| now >= until) {
            let time = TIME_MIN * 2_u32.saturating_pow(record.times.min(10));
            record.times = record.times.saturating_add(1);
            record.until = Some(now + time.min(TIME_MAX));
            record.on_trial = false;
        }
        true
    }

    /// How many other endpoints are ejected.
    fn others(&self, now: Instant, address: SocketAddr) -> usize {
        let is_ejected = |record: &Record| record.until.is_some_and(|until| now < until);
        let others = self.records.iter().filter(|(other, _)| **other != address);
        others.filter(|(_, record)| is_ejected(record)).count()
    }

    fn make_room(&mut self, address: SocketAddr) {
        if self.records.len() < RECORDS_MAX || self.records.contains_key(&address) {
            return;
        }
        let oldest = self.records.iter().min_by_key(|(_, record)| record.seen);
        if let Some(oldest) = oldest.map(|(address, _)| *address) {
            self.records.remove(&oldest);
        }
    }
}

/// Of connects: four refusals, or two that were not answered, since one lost SYN must not move a client; a trial has its result
/// within the timeout of a connect.
pub(crate) const CONNECTS: Rules = Rules {
    weight_max: 4,
    trial: Duration::from_secs(2),
};

/// How long an endpoint is passed over the first time; twice as long each further time.
const TIME_MIN: Duration = Duration::from_secs(10);
const TIME_MAX: Duration = Duration::from_secs(300);

/// More failing endpoints than a site has.
const RECORDS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn ejected(now: Instant) -> Ejections {
        let mut ejections = Ejections::new(CONNECTS);
        let failed = |_| ejections.failed(now, address(1), 2, |_, _| true);
        assert_eq!([0; 2].map(failed), [false, true]);
        ejections
    }

    #[test]
    fn two_timeouts_or_four_refusals_in_a_row_eject() {
        let now = Instant::now();
        let ejections = ejected(now);
        assert!(ejections.is_ejected(now, address(1)));
        assert!(!ejections.is_ejected(now, address(2)));
        let mut ejections = Ejections::new(CONNECTS);
        let refused = |ejections: &mut Ejections| ejections.failed(now, address(1), 1, |_, _| true);
        assert!(![0; 3].iter().any(|_| refused(&mut ejections)));
        ejections.succeeded(address(1));
        assert!(![0; 3].iter().any(|_| refused(&mut ejections)));
        assert!(refused(&mut ejections));
    }

    #[test]
    fn after_its_time_one_may_try_and_a_success_restores() {
        let now = Instant::now();
        let mut ejections = ejected(now);
        assert!(!ejections.may_try(now + TIME_MIN / 2, address(1)));
        let later = now + TIME_MIN;
        assert!(ejections.may_try(later, address(1)));
        assert!(
            !ejections.may_try(later, address(1)),
            "the others pass it over"
        );
        ejections.succeeded(address(1));
        assert!(ejections.may_try(later, address(1)) && ejections.may_try(later, address(1)));
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_a_limit() {
        let mut now = Instant::now();
        let mut ejections = ejected(now);
        let mut times = Vec::new();
        for _ in 0..7 {
            let until = ejections.records[&address(1)].until.unwrap();
            times.push((until - now).as_secs());
            now = until;
            assert!(ejections.may_try(now, address(1)));
            ejections.failed(now, address(1), 1, |_, _| true);
        }
        assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn our_own_shortage_ejects_nobody_and_the_table_is_bounded() {
        let ejections = SharedEjections::new(CONNECTS);
        for _ in 0..10 {
            assert!(!ejections.failed(address(1), ConnectFailure::FdLimit));
            assert!(!ejections.failed(address(1), ConnectFailure::PortsExhausted));
        }
        assert_eq!(ejections.0.failing.load(Relaxed), 0);
        for port in 0..u16::try_from(RECORDS_MAX + 10).unwrap() {
            ejections.failed(address(port), ConnectFailure::Refused);
        }
        assert_eq!(ejections.0.failing.load(Relaxed), RECORDS_MAX);
    }

    #[test]
    fn f48_no_more_than_so_many_are_ejected_and_a_place_that_is_free_is_taken() {
        let now = Instant::now();
        let mut ejections = Ejections::new(CONNECTS);
        assert!(ejections.failed(now, address(1), 4, |_, others| others < 1));
        assert!(
            !ejections.failed(now, address(2), 4, |_, others| others < 1),
            "the place is taken"
        );
        assert!(!ejections.is_ejected(now, address(2)));
        ejections.succeeded(address(1));
        assert!(ejections.failed(now, address(2), 4, |_, others| others < 1));
    }

    #[test]
    fn what_was_under_way_makes_an_ejection_no_longer_and_a_failed_trial_does() {
        let now = Instant::now();
        let mut ejections = ejected(now);
        let until = ejections.records[&address(1)].until;
        assert!(ejections.failed(now + TIME_MIN / 2, address(1), 2, |_, _| true));
        assert_eq!(ejections.records[&address(1)].until, until);
        let over = now + TIME_MIN;
        assert!(ejections.may_try(over, address(1)));
        assert!(ejections.failed(over, address(1), 1, |_, _| true));
        assert_eq!(
            ejections.records[&address(1)].until,
            Some(over + 2 * TIME_MIN)
        );
    }
}
