// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to hold however the threads come to run, each a call of [`loom::model`].

use crate::{
    clock::Tick,
    pick::{EjectRule, InFlight, Outcome, Verdict, claims_trial, report},
    store::{Endpoint, Flag, Generation, ServiceLoad, StateConfig, Writer, channel, publish},
    sync::give_back_stripe,
};
use loom::{future::block_on, thread};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A reader waits to be told while two generations are published.
pub fn told() {
    loom::model(|| {
        let (mut writer, mut told) = channel(StateConfig);
        let waiting = thread::spawn(move || {
            let mut last = Generation(0);
            while last < Generation(2) {
                let snapshot = block_on(told.changed()).expect("the writer publishes two");
                assert!(
                    snapshot.generation() > last,
                    "told of a new one, and given it"
                );
                last = snapshot.generation();
                assert!(told.snapshot().generation() >= last, "generations grow");
            }
        });
        publish_two(&mut writer);
        waiting.join().unwrap();
    });
}

/// A reader looks again and again while two generations are published.
pub fn looked() {
    loom::model(|| {
        let (mut writer, mut reading) = channel(StateConfig);
        let looking = thread::spawn(move || {
            let mut last = Generation(0);
            for _ in 0..3 {
                let now = reading.snapshot().generation();
                assert!(now >= last, "generations grow");
                last = now;
            }
        });
        publish_two(&mut writer);
        looking.join().unwrap();
    });
}

fn publish_two(writer: &mut Writer) {
    for number in 1..=2 {
        let published = writer.publish().map(|snapshot| snapshot.generation());
        assert_eq!(published, Some(Generation(number)));
    }
}

/// Two callers pick, each sees its own at least, and the later may be given the stripe of the earlier.
pub fn guards() {
    loom::model(|| {
        let endpoint = Arc::new(Endpoint::default());
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let endpoint = endpoint.clone();
                thread::spawn(move || {
                    let pick = InFlight::new(&endpoint);
                    let in_flight = endpoint.load().in_flight();
                    assert!((1..=2).contains(&in_flight), "its own at least");
                    drop(pick);
                    // Whoever counts first from now on may be given its stripe.
                    give_back_stripe();
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        let load = endpoint.load();
        assert_eq!((load.in_flight(), load.picks()), (0, 2));
    });
}

/// One caller ends what another began, each on a stripe of its own, while a third looks on.
pub fn handed_over() {
    loom::model(|| {
        let endpoint = Arc::new(Endpoint::default());
        let begun = InFlight::new(&endpoint);
        let ending = thread::spawn(move || drop(begun));
        let own = InFlight::new(&endpoint);
        assert!(
            (1..=2).contains(&endpoint.load().in_flight()),
            "its own at least"
        );
        drop(own);
        ending.join().unwrap();
        let load = endpoint.load();
        assert_eq!((load.in_flight(), load.picks()), (0, 2));
    });
}

/// Two of three endpoints fail at once, where one may be ejected.
pub fn ejection() {
    loom::model(|| {
        let endpoints = service(3);
        let reports: Vec<_> = endpoints[..2]
            .iter()
            .map(|endpoint| {
                let endpoint = endpoint.clone();
                thread::spawn(move || fail(&endpoint))
            })
            .collect();
        let verdicts = reports.into_iter().map(|thread| thread.join().unwrap());
        let ejected = verdicts.filter(|verdict| *verdict == Some(Verdict::Ejected));
        assert_eq!((ejected.count(), ejected_now(&endpoints)), (1, 1));
        let service = endpoints[0].service_load();
        assert_eq!((service.ejected(), service.ejections()), (1, 1));
    });
}

/// One endpoint fails at two callers at once: it is ejected once, and counted once.
pub fn double_report() {
    loom::model(|| {
        let endpoints = service(4);
        let reports: Vec<_> = (0..2)
            .map(|_| {
                let endpoint = endpoints[0].clone();
                thread::spawn(move || fail(&endpoint))
            })
            .collect();
        let verdicts = reports.into_iter().map(|thread| thread.join().unwrap());
        let ejected = verdicts.filter(|verdict| *verdict == Some(Verdict::Ejected));
        assert_eq!(ejected.count(), 1);
        let service = endpoints[0].service_load();
        assert_eq!((service.ejected(), service.ejections()), (1, 1));
    });
}

/// An endpoint fails while a generation with the same endpoints is published: nobody is ejected who is not counted, so that
/// the other is not ejected too.
pub fn ejection_under_publication() {
    loom::model(|| {
        let endpoints = service(2);
        let failing = endpoints[0].clone();
        let report = thread::spawn(move || fail(&failing));
        publish(&endpoints);
        report.join().unwrap();
        fail(&endpoints[1]);
        assert_eq!(ejected_now(&endpoints), 1, "never the last");
    });
}

/// The trial of an ejected endpoint ends well at two callers that both think theirs was it.
pub fn trial() {
    loom::model(|| {
        let endpoints = service(2);
        fail(&endpoints[0]);
        let later = Instant::now() + Duration::from_secs(3_600);
        let trials: Vec<_> = (0..2)
            .map(|_| {
                let endpoint = endpoints[0].clone();
                thread::spawn(move || {
                    let is_mine = claims_trial(endpoint.load(), Tick::at(later));
                    let verdict = is_mine.then(|| report(&endpoint, GOOD, later, Some(&rule())));
                    (is_mine, verdict.flatten())
                })
            })
            .collect();
        let trials: Vec<_> = trials
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(trials.iter().filter(|(is_mine, _)| *is_mine).count(), 1);
        let restored = trials
            .iter()
            .filter(|(_, verdict)| *verdict == Some(Verdict::Restored));
        assert_eq!(restored.count(), 1);
        assert_eq!(
            (
                ejected_now(&endpoints),
                endpoints[0].service_load().ejected()
            ),
            (0, 0)
        );
    });
}

fn service(count: usize) -> Vec<Arc<Endpoint>> {
    let service = Arc::new(ServiceLoad::default());
    let endpoint = |_| {
        Arc::new(Endpoint {
            service: service.clone(),
            ..Endpoint::default()
        })
    };
    let endpoints: Vec<_> = (0..count).map(endpoint).collect();
    publish(&endpoints);
    endpoints
}

fn fail(endpoint: &Endpoint) -> Option<Verdict> {
    report(endpoint, BAD, Instant::now(), Some(&rule()))
}

fn ejected_now(endpoints: &[Arc<Endpoint>]) -> usize {
    let loads = endpoints.iter().map(|endpoint| endpoint.load());
    loads.filter(|load| load.has(Flag::Ejected)).count()
}

/// The first error ejects, at most one.
fn rule() -> EjectRule {
    EjectRule {
        errors_in_row: 1,
        ejected_percent_max: 34,
        ..EjectRule::default()
    }
}

const BAD: Outcome = Outcome {
    is_error: true,
    latency: Duration::from_millis(1),
};
const GOOD: Outcome = Outcome {
    is_error: false,
    latency: Duration::from_millis(1),
};
