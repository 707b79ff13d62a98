// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine against a scripted past, without a server and without waiting.

use super::*;

/// An engine and a time that goes on as the engine's waits do.
struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            engine: Engine::new(7, 500),
            now: Instant::now(),
        }
    }

    /// One that has listed and is to watch from version 10.
    fn listed() -> Self {
        let mut bench = Self::new();
        bench.action();
        bench.list("10");
        bench
    }

    /// The next action that is not a wait.
    fn action(&mut self) -> Action {
        loop {
            match self.engine.next(self.now) {
                Action::Wait(until) => self.now = until,
                action => return action,
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn list(&mut self, version: &str) {
        let listed = self.engine.listed(self.now, None, version.into());
        assert!(matches!(listed, Ok(Listed::Complete(_))), "{listed:?}");
    }

    fn watch_fails(&mut self, reason: FailureReason) -> bool {
        self.engine
            .watch_failed(self.now, &Failure::new(reason, ""))
    }

    fn list_fails(&mut self, reason: FailureReason) {
        self.engine.list_failed(self.now, &Failure::new(reason, ""));
    }

    fn watch_for(&mut self, seconds: u64) -> Result<Option<FailureReason>, Failure> {
        assert!(matches!(self.action(), Action::Watch { .. }));
        assert_eq!(self.engine.watching(self.now), None);
        self.pass(seconds);
        self.engine.watch_closed(self.now)
    }
}

fn version_of(action: &Action) -> &str {
    match action {
        Action::Watch { version, .. } => version,
        _ => "not a watch",
    }
}

#[test]
fn it_lists_page_by_page_and_then_watches() {
    let mut bench = Bench::new();
    let first = bench.action();
    assert!(matches!(
        first,
        Action::List {
            token: None,
            page_size: 500,
            is_first: true,
            ..
        }
    ));
    assert_eq!(
        bench
            .engine
            .listed(bench.now, Some("t".into()), "10".into()),
        Ok(Listed::More)
    );
    let second = bench.action();
    assert!(
        matches!(&second, Action::List { token: Some(token), is_first: false, .. } if token == "t")
    );
    bench.list("10");
    assert_eq!(version_of(&bench.action()), "10");
}

#[test]
fn all_pages_share_one_deadline() {
    let mut bench = Bench::new();
    let start = bench.now;
    bench.action();
    bench.pass(20);
    let _ = bench
        .engine
        .listed(bench.now, Some("t".into()), String::new());
    assert!(
        matches!(bench.action(), Action::List { deadline, .. } if deadline == start + LIST_TIME_MAX)
    );
}

#[test]
fn w6_k6_a_list_that_is_not_answered_gets_more_time_up_to_a_limit() {
    let mut bench = Bench::new();
    let mut times = Vec::new();
    for _ in 0..4 {
        let Action::List { answer_within, .. } = bench.action() else {
            panic!("no list")
        };
        times.push(answer_within.as_secs());
        bench.list_fails(FailureReason::Deadline);
    }
    assert_eq!(times, [30, 60, 120, 120]);
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let mut bench = Bench::new();
    for expected in [500, 250, 125] {
        assert!(matches!(bench.action(), Action::List { page_size, .. } if page_size == expected));
        bench.list_fails(FailureReason::TooLarge);
    }
    for _ in 0..10 * GOOD_PAGES {
        bench.action();
        let _ = bench
            .engine
            .listed(bench.now, Some("t".into()), String::new());
    }
    assert!(matches!(
        bench.action(),
        Action::List { page_size: 500, .. }
    ));
}

#[test]
fn a_list_that_is_no_newer_is_no_news() {
    let mut bench = Bench::listed();
    for (version, standing) in [
        ("10", Standing::Same),
        ("9", Standing::Older),
        ("11", Standing::Newer),
        ("opaque", Standing::Newer),
    ] {
        bench.action();
        bench.watch_fails(FailureReason::Expired);
        bench.action();
        let listed = bench.engine.listed(bench.now, None, version.into());
        assert_eq!(listed, Ok(Listed::Complete(standing)), "{version}");
    }
}

#[test]
fn an_event_of_the_past_leads_to_a_list() {
    let mut bench = Bench::listed();
    bench.action();
    assert_eq!(bench.engine.progressed(bench.now, "12"), Ok(()));
    let failure = bench.engine.progressed(bench.now, "11").unwrap_err();
    assert_eq!(failure.reason, FailureReason::VersionAhead);
    assert!(bench.watch_fails(failure.reason));
}

#[test]
fn what_the_gate_governs_waits_for_the_gate_alone() {
    let mut bench = Bench::listed();
    bench.action();
    let failure = Failure {
        is_governed: true,
        ..Failure::new(FailureReason::ServerError, "").of_server()
    };
    bench.engine.watch_failed(bench.now, &failure);
    assert_eq!(bench.engine.waits(bench.now), None);
    assert_eq!(bench.engine.failures(), 0);
}

#[test]
fn a_list_without_a_version_is_none() {
    let mut bench = Bench::new();
    bench.action();
    let failure = bench
        .engine
        .listed(bench.now, None, String::new())
        .unwrap_err();
    assert_eq!(failure.reason, FailureReason::NoVersion);
    bench.engine.list_failed(bench.now, &failure);
    assert!(matches!(
        bench.action(),
        Action::List { is_first: true, .. }
    ));
}

#[test]
fn w5_k5_a_failing_list_backs_off_to_the_cap() {
    let mut bench = Bench::new();
    let start = bench.now;
    let mut lists = 0;
    while bench.now < start + Duration::from_secs(600) {
        bench.action();
        bench.list_fails(FailureReason::ServerError);
        lists += 1;
    }
    assert!((20..32).contains(&lists), "{lists} lists in ten minutes");
}

#[test]
fn w1_k1_k10_a_version_that_is_too_old_leads_to_a_list_whichever_way_it_is_told() {
    for reason in [
        FailureReason::Expired,
        FailureReason::NoVersion,
        FailureReason::Refused,
    ] {
        let mut bench = Bench::listed();
        bench.action();
        assert!(bench.watch_fails(reason), "{reason}");
        assert!(
            matches!(bench.action(), Action::List { is_first: true, .. }),
            "{reason}"
        );
    }
}

#[test]
fn other_failures_of_a_watch_resume_it_where_it_was() {
    for reason in [
        FailureReason::Connection,
        FailureReason::InStream,
        FailureReason::Silent,
        FailureReason::TooLarge,
    ] {
        let mut bench = Bench::listed();
        bench.action();
        assert_eq!(bench.engine.progressed(bench.now, "12"), Ok(()));
        assert!(!bench.watch_fails(reason), "{reason}");
        assert_eq!(version_of(&bench.action()), "12", "{reason}");
    }
}

#[test]
fn w16_an_event_without_a_version_is_a_failure() {
    let mut bench = Bench::listed();
    bench.action();
    let failure = bench.engine.progressed(bench.now, "").unwrap_err();
    assert_eq!(failure.reason, FailureReason::NoVersion);
}

#[test]
fn w13_watches_that_end_at_once_are_begun_ever_more_rarely() {
    let mut bench = Bench::listed();
    let start = bench.now;
    let mut watches = 0;
    while bench.now < start + Duration::from_secs(600) {
        let failure = if bench.action() == Action::Probe {
            Failure::new(FailureReason::Connection, "")
        } else {
            watches += 1;
            bench.engine.watching(bench.now);
            bench.engine.watch_closed(bench.now).unwrap_err()
        };
        bench.engine.watch_failed(bench.now, &failure);
    }
    assert!(watches < 70, "{watches} watches in ten minutes");
}

#[test]
fn a_watch_that_lived_is_renewed_without_a_wait() {
    let mut bench = Bench::listed();
    assert_eq!(bench.watch_for(45), Ok(None));
    assert!(matches!(bench.engine.next(bench.now), Action::Watch { .. }));
}

#[test]
fn failures_are_forgotten_after_two_good_minutes() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        bench.action();
        bench.list_fails(FailureReason::ServerError);
    }
    bench.action();
    bench.list("10");
    for _ in 0..3 {
        assert_eq!(bench.watch_for(45), Ok(None));
    }
    bench.watch_fails(FailureReason::Connection);
    assert_eq!(bench.engine.failures(), 1);
}

#[test]
fn w2_k2_what_does_not_decode_leads_to_a_list_at_first_and_then_to_a_spaced_one() {
    let mut bench = Bench::listed();
    bench.action();
    bench.engine.watching(bench.now);
    assert!(
        bench
            .engine
            .undecodable(bench.now, FailureReason::Undecodable)
    );
    assert!(matches!(bench.action(), Action::List { .. }));
    bench.list("20");
    bench.action();
    bench.engine.watching(bench.now);
    assert!(
        !bench
            .engine
            .undecodable(bench.now, FailureReason::Truncated)
    );
    bench.pass(20);
    assert_eq!(bench.engine.watch_closed(bench.now), Ok(None));
    let owed = (0..10).find_map(|_| bench.watch_for(45).unwrap());
    assert_eq!(owed, Some(FailureReason::Truncated));
    assert!(matches!(bench.action(), Action::List { .. }));
}

#[test]
fn an_object_that_never_decodes_costs_few_lists() {
    let mut bench = Bench::listed();
    let start = bench.now;
    let mut lists = 0;
    while bench.now < start + Duration::from_secs(3600) {
        if matches!(bench.action(), Action::List { .. }) {
            lists += 1;
            bench.list("10");
        } else {
            bench.engine.watching(bench.now);
            bench.pass(1);
            if !bench
                .engine
                .undecodable(bench.now, FailureReason::Undecodable)
            {
                bench.pass(44);
                let _ = bench.engine.watch_closed(bench.now);
            }
        }
    }
    assert!(lists < 25, "{lists} lists in an hour");
}

#[test]
fn f7_a_server_that_asks_for_time_gets_it() {
    let mut bench = Bench::listed();
    let start = bench.now;
    bench.action();
    let mut failure = Failure::new(FailureReason::Throttled, "");
    failure.retry_after = Some(Duration::from_secs(17));
    bench.engine.watch_failed(bench.now, &failure);
    bench.action();
    assert!(bench.now >= start + Duration::from_secs(17));
    failure.retry_after = Some(Duration::from_secs(86_400));
    bench.engine.list_failed(bench.now, &failure);
    bench.action();
    assert!(bench.now < start + Duration::from_secs(17 + 4 + 145));
}

#[test]
fn w15_a_quiet_watch_is_probed_for_a_version_of_the_future() {
    let mut bench = Bench::listed();
    for _ in 0..4 {
        assert_eq!(bench.watch_for(45), Ok(None));
    }
    assert_eq!(bench.action(), Action::Probe);
    assert_eq!(bench.engine.probed(bench.now, "11"), Ok(()));
    assert!(matches!(bench.action(), Action::Watch { .. }));
    let failure = bench.engine.probed(bench.now, "9").unwrap_err();
    assert_eq!(failure.reason, FailureReason::VersionAhead);
    assert!(bench.engine.watch_failed(bench.now, &failure));
}

#[test]
fn a_refusal_that_is_lifted_leads_to_a_list() {
    let mut bench = Bench::listed();
    bench.action();
    assert!(!bench.watch_fails(FailureReason::Forbidden));
    bench.action();
    assert_eq!(
        bench.engine.watching(bench.now),
        Some(FailureReason::Recovered)
    );
    assert!(matches!(bench.action(), Action::List { .. }));
}

#[test]
fn engines_of_different_seeds_do_not_march_in_step() {
    let waits = |seed| {
        let (mut engine, now) = (Engine::new(seed, 500), Instant::now());
        engine.next(now);
        engine.list_failed(now, &Failure::new(FailureReason::Connection, ""));
        match engine.next(now) {
            Action::Wait(until) => until - now,
            _ => Duration::ZERO,
        }
    };
    assert_ne!(waits(1), waits(2));
    assert_eq!(waits(3), waits(3));
}
