// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate's rules one by one, and a fleet of agents before a server that fails and heals, all in simulated time.

use super::*;
use crate::source::FailureReason;
use crate::source::kube::engine::{Action, Engine};
use crate::source::kube::link::Link;

fn sick() -> Failure {
    Failure::new(FailureReason::ServerError, "").of_server()
}

fn away() -> Failure {
    Failure::new(FailureReason::Connection, "").of_server()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A gate with so many feeds.
fn gate(feeds: usize) -> (Gate, Vec<SeatId>, Instant) {
    let mut gate = Gate::new(7);
    let seats = (0..feeds).map(|_| gate.join()).collect();
    (gate, seats, Instant::now())
}

#[test]
fn one_feed_that_fails_alone_does_not_hold_the_others() {
    let (mut gate, seats, now) = gate(3);
    for seat in &seats {
        assert_eq!(gate.admit(*seat, now), Admission::Go);
        gate.answered(*seat, now);
    }
    assert!(!gate.failed(seats[0], now, &sick()));
    assert_eq!(gate.admit(seats[1], now), Admission::Go);
}

#[test]
fn when_all_fail_one_scout_asks_and_the_others_wait_for_its_answer() {
    let (mut gate, seats, now) = gate(3);
    for seat in &seats {
        gate.admit(*seat, now);
    }
    assert!(gate.failed(seats[0], now, &sick()));
    assert!(gate.failed(seats[1], now, &sick()), "it was on its way");
    assert!(matches!(gate.admit(seats[2], now), Admission::Until(_)));
    let later = now + seconds(2);
    assert_eq!(gate.admit(seats[2], later), Admission::Go);
    assert_eq!(gate.admit(seats[0], later), Admission::UntilNews);
    gate.answered(seats[2], later);
    for seat in &seats[..2] {
        match gate.admit(*seat, later) {
            Admission::Until(until) => assert!(until <= later + SPREAD),
            other => panic!("{other:?}"),
        }
        assert_eq!(gate.admit(*seat, later + SPREAD), Admission::Go);
    }
}

#[test]
fn scouts_take_turns_also_when_all_of_them_wait() {
    let (mut gate, seats, mut now) = gate(4);
    gate.admit(seats[0], now);
    gate.failed(seats[0], now, &sick());
    let mut scouts = Vec::new();
    for _ in 0..8 {
        let next = seats.iter().map(|seat| match gate.admit(*seat, now) {
            Admission::Until(until) => (until, *seat),
            other => panic!("{other:?}"),
        });
        let (until, next) = next.min_by_key(|(until, _)| *until).unwrap();
        now = until;
        assert_eq!(gate.admit(next, now), Admission::Go);
        gate.failed(next, now, &sick());
        scouts.push(seats.iter().position(|seat| *seat == next).unwrap());
    }
    assert_eq!(scouts, [1, 2, 3, 0, 1, 2, 3, 0]);
}

#[test]
fn a_scout_that_ends_makes_room() {
    let (mut gate, seats, now) = gate(2);
    gate.failed(seats[0], now, &sick());
    assert_eq!(gate.admit(seats[1], now + seconds(2)), Admission::Go);
    gate.leave(seats[1]);
    assert_eq!(gate.admit(seats[0], now + seconds(2)), Admission::Go);
}

#[test]
fn f7_retry_after_holds_every_feed() {
    let (mut gate, seats, now) = gate(2);
    let failure = Failure {
        retry_after: Some(seconds(20)),
        ..Failure::new(FailureReason::Throttled, "").of_server()
    };
    gate.failed(seats[0], now, &failure);
    for seat in &seats {
        match gate.admit(*seat, now) {
            Admission::Until(until) => assert!((20..=24).contains(&(until - now).as_secs())),
            other => panic!("{other:?}"),
        }
    }
}

/// One agent: its gate, its lists, and what it does at which time. A request takes 20 ms.
struct Agent {
    gate: Gate,
    link: Link,
    feeds: Vec<(SeatId, Engine)>,
    /// When which feed looks again.
    due: Vec<Instant>,
    lists: Vec<Duration>,
    ready: Option<Duration>,
    listed: Vec<bool>,
}

/// What the simulated server does at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Well,
    Sick,
    Away,
}

impl Agent {
    fn new(seed: u64, start: Instant) -> Self {
        let mut gate = Gate::new(seed);
        let feeds: Vec<_> = (0..4)
            .map(|feed| (gate.join(), Engine::new(seed * 31 + feed, 500)))
            .collect();
        Self {
            gate,
            link: Link::new(seed),
            due: vec![start; feeds.len()],
            listed: vec![false; feeds.len()],
            feeds,
            lists: Vec::new(),
            ready: None,
        }
    }

    /// Runs to the end of a step of 50 ms.
    fn step(&mut self, start: Instant, now: Instant, server: Server) {
        for number in 0..self.feeds.len() {
            if self.due[number] <= now {
                self.due[number] = self.act(number, start, now, server);
            }
        }
    }

    fn act(&mut self, number: usize, start: Instant, now: Instant, server: Server) -> Instant {
        let (seat, engine) = &mut self.feeds[number];
        if let Some(until) = engine.waits(now) {
            return until;
        }
        match self.gate.admit(*seat, now) {
            Admission::Until(until) => return until,
            // Told at once in truth.
            Admission::UntilNews => return now + Duration::from_millis(50),
            Admission::Go => {}
        }
        let action = engine.next(now);
        let is_list = matches!(action, Action::List { .. });
        if is_list {
            self.lists.push(now - start);
        }
        let mut failure = match server {
            Server::Well => {
                self.gate.answered(*seat, now);
                return match action {
                    Action::List { .. } => {
                        engine.listed(now, None, "10".into()).unwrap();
                        self.listed[number] = true;
                        if self.listed.iter().all(|listed| *listed) {
                            self.ready.get_or_insert(now - start);
                        }
                        now
                    }
                    Action::Watch { .. } => {
                        let timeout = self.link.watch_time(now, false).asked;
                        engine.watching(now);
                        engine.watch_closed(now + timeout).unwrap();
                        now + timeout
                    }
                    _ => now + seconds(1),
                };
            }
            Server::Sick => sick(),
            Server::Away => away(),
        };
        failure.is_governed = self.gate.failed(*seat, now, &failure);
        if is_list {
            engine.list_failed(now, &failure);
        } else {
            engine.watch_failed(now, &failure);
        }
        now
    }
}

/// Agents that start together before a server that is as `server` tells.
fn run(agents: u64, length: u64, server: impl Fn(Duration) -> Server) -> Vec<Agent> {
    let start = Instant::now();
    let mut fleet: Vec<_> = (1..=agents).map(|seed| Agent::new(seed, start)).collect();
    for step in 0..length * 20 {
        let passed = Duration::from_millis(step * 50);
        for agent in &mut fleet {
            agent.step(start, start + passed, server(passed));
        }
    }
    fleet
}

fn sick_until(end: Duration, how: Server) -> impl Fn(Duration) -> Server {
    move |passed| if passed < end { how } else { Server::Well }
}

#[test]
fn f8_a_server_that_fails_for_ten_minutes_is_asked_once_in_20_seconds() {
    let fleet = run(50, 600, |_| Server::Sick);
    for agent in &fleet {
        let after: Vec<_> = agent.lists.iter().filter(|at| **at > seconds(60)).collect();
        // 0.05 a second in nine minutes.
        assert!(after.len() <= 27, "{} lists in nine minutes", after.len());
        assert!(after.len() > 10, "it is asked nevertheless");
    }
}

#[test]
fn f8_a_fleet_spreads_its_lists_and_is_ready_within_a_minute_of_the_return() {
    for (sick_for, how) in [
        (30, Server::Sick),
        (60, Server::Sick),
        (600, Server::Sick),
        (60, Server::Away),
    ] {
        let end = seconds(sick_for);
        let fleet = run(500, sick_for + 70, sick_until(end, how));
        let mut lists: Vec<_> = fleet
            .iter()
            .flat_map(|agent| &agent.lists)
            .filter(|at| **at >= end)
            .collect();
        lists.sort();
        let spread = lists[lists.len() - 1].saturating_sub(*lists[0]);
        let busiest = lists
            .iter()
            .map(|at| {
                let second = **at..**at + seconds(1);
                lists
                    .iter()
                    .filter(|other| second.contains(**other))
                    .count()
            })
            .max();
        let ready = fleet
            .iter()
            .map(|agent| agent.ready.expect("ready"))
            .max()
            .unwrap()
            .saturating_sub(end);
        println!(
            "{how:?} for {sick_for} s: spread {spread:?}, ready {ready:?}, busiest second {busiest:?}"
        );
        assert!(spread >= seconds(5), "{how:?} {sick_for}: {spread:?}");
        assert!(ready <= seconds(60), "{how:?} {sick_for}: {ready:?}");
    }
}

#[test]
fn f1_a_server_whose_port_was_closed_is_found_within_10_seconds() {
    let end = seconds(60);
    let fleet = run(200, 80, sick_until(end, Server::Away));
    for agent in &fleet {
        let ready = agent.ready.unwrap().saturating_sub(end);
        assert!(ready <= seconds(10), "{ready:?}");
    }
}
