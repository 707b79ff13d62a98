// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which endpoints not to dial for a while, from how connects to them went.
//!
//! In: outcomes of connects with their time. Out: whether an endpoint may be tried. It moves nobody else's keys: an ejected
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

/// The ejections of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedEjections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many endpoints have failed last; mostly none, and then the lock is not taken.
    failing: AtomicUsize,
    /// Guards the table; held for one look-up, never across an await.
    table: Mutex<Ejections>,
}

impl SharedEjections {
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

    /// Takes in a connect that succeeded.
    pub(crate) fn succeeded(&self, address: SocketAddr) {
        self.look(|table| table.succeeded(address));
    }

    /// Takes in a connect that failed; whether the endpoint is ejected now.
    pub(crate) fn failed(&self, address: SocketAddr, failure: ConnectFailure) -> bool {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ejected = table.failed(Instant::now(), address, failure);
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

/// Endpoints whose last connects failed.
#[derive(Debug, Default)]
struct Ejections {
    records: HashMap<SocketAddr, Record>,
}

#[derive(Debug)]
struct Record {
    /// Failures in a row, a timeout counting more than a refusal.
    weight: u32,
    /// Ejections in a row.
    times: u32,
    until: Option<Instant>,
    seen: Instant,
}

impl Ejections {
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
            record.until = Some(now + TRIAL);
        }
        true
    }

    fn succeeded(&mut self, address: SocketAddr) {
        self.records.remove(&address);
    }

    fn failed(&mut self, now: Instant, address: SocketAddr, failure: ConnectFailure) -> bool {
        let weight = match failure {
            ConnectFailure::Refused | ConnectFailure::Unreachable => 1,
            ConnectFailure::Timeout => 2,
            // Our own shortage, or our own listener, says nothing of the endpoint.
            _ => return false,
        };
        self.make_room(address);
        let record = self.records.entry(address).or_insert(Record {
            weight: 0,
            times: 0,
            until: None,
            seen: now,
        });
        record.seen = now;
        record.weight = record.weight.saturating_add(weight);
        if record.weight < WEIGHT_MAX {
            return false;
        }
        // Connections that were under way when it was ejected do not make it longer.
        if record
            .until
            .is_none_or(|until| now >= until || until <= now + TRIAL)
        {
            let time = TIME_MIN * 2_u32.saturating_pow(record.times.min(10));
            record.times = record.times.saturating_add(1);
            record.until = Some(now + time.min(TIME_MAX));
        }
        true
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

/// Four refusals, or two connects that were not answered: one lost SYN must not move a client.
const WEIGHT_MAX: u32 = 4;

/// How long an endpoint is passed over the first time; twice as long each further time.
const TIME_MIN: Duration = Duration::from_secs(10);
const TIME_MAX: Duration = Duration::from_secs(300);

/// How long one connection may try before another does.
const TRIAL: Duration = Duration::from_secs(2);

/// More failing endpoints than a site has.
const RECORDS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn ejected(now: Instant) -> Ejections {
        let mut ejections = Ejections::default();
        let failed = |_| ejections.failed(now, address(1), ConnectFailure::Timeout);
        assert_eq!([0; 2].map(failed), [false, true]);
        ejections
    }

    #[test]
    fn two_timeouts_or_four_refusals_in_a_row_eject() {
        let now = Instant::now();
        let ejections = ejected(now);
        assert!(ejections.is_ejected(now, address(1)));
        assert!(!ejections.is_ejected(now, address(2)));
        let mut ejections = Ejections::default();
        let refused =
            |ejections: &mut Ejections| ejections.failed(now, address(1), ConnectFailure::Refused);
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
            ejections.failed(now, address(1), ConnectFailure::Refused);
        }
        assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn our_own_shortage_ejects_nobody_and_the_table_is_bounded() {
        let now = Instant::now();
        let mut ejections = Ejections::default();
        for _ in 0..10 {
            ejections.failed(now, address(1), ConnectFailure::FdLimit);
            ejections.failed(now, address(1), ConnectFailure::PortsExhausted);
        }
        assert!(ejections.records.is_empty());
        for port in 0..u16::try_from(RECORDS_MAX + 10).unwrap() {
            ejections.failed(now, address(port), ConnectFailure::Refused);
        }
        assert_eq!(ejections.records.len(), RECORDS_MAX);
    }
}
