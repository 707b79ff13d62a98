// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told to Consul, step by step.

use super::*;

const WAIT: Duration = Duration::from_secs(10);

fn standing(worth: Worth) -> Standing {
    Standing {
        instance: ConsulInstance {
            id: "web".into(),
            name: "web".into(),
            address: "10.0.0.1".parse().unwrap(),
            port: 30_080,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weight: 1,
            ttl: Duration::from_secs(10),
            forget_after: FORGET_AFTER,
        },
        worth,
        note: String::new(),
    }
}

fn words(steps: &[Step]) -> Vec<&'static str> {
    let word = |step: &Step| match step {
        Step::Register(_) => "register",
        Step::Deregister(_) => "deregister",
        Step::Report {
            health: ConsulHealth::Passing,
            ..
        } => "pass",
        Step::Report { .. } => "fail",
    };
    steps.iter().map(word).collect()
}

/// Gives the steps and carries them out.
fn told(ledger: &mut Ledger, now: Instant, worth: Worth, is_beat: bool) -> Vec<&'static str> {
    let steps = ledger.steps(now, vec![standing(worth)], is_beat);
    let told = words(&steps);
    for step in steps {
        ledger.done(now, step, Ok(()));
    }
    told
}

#[test]
fn an_instance_enters_when_it_serves_first_registered_then_passing() {
    let (mut ledger, now) = (Ledger::new(WAIT), Instant::now());
    for worth in [Worth::Pauses, Worth::Out] {
        assert!(told(&mut ledger, now, worth, true).is_empty());
    }
    assert_eq!(told(&mut ledger, now, Worth::Serves, false), ["register"]);
    assert_eq!(told(&mut ledger, now, Worth::Serves, false), ["pass"]);
    assert!(told(&mut ledger, now, Worth::Serves, false).is_empty());
    assert_eq!(
        told(&mut ledger, now, Worth::Serves, true),
        ["pass"],
        "a heartbeat"
    );
    let later = now + ANEW_AFTER;
    assert_eq!(
        told(&mut ledger, later, Worth::Serves, true),
        ["register", "pass"]
    );
}

#[test]
fn a_pause_is_critical_and_a_port_of_somebody_else_is_taken_away() {
    let (mut ledger, now) = (Ledger::new(WAIT), Instant::now());
    for _ in 0..2 {
        told(&mut ledger, now, Worth::Serves, false);
    }
    assert_eq!(told(&mut ledger, now, Worth::Pauses, false), ["fail"]);
    assert_eq!(told(&mut ledger, now, Worth::Serves, false), ["pass"]);
    assert_eq!(
        told(&mut ledger, now, Worth::Out, false),
        ["fail", "deregister"]
    );
    assert!(told(&mut ledger, now, Worth::Out, true).is_empty());
}

#[test]
fn a_listener_that_is_gone_takes_its_instance_along_critical_first() {
    let (mut ledger, now) = (Ledger::new(WAIT), Instant::now());
    for _ in 0..2 {
        told(&mut ledger, now, Worth::Serves, false);
    }
    let gone = |ledger: &mut Ledger, now| {
        let steps = ledger.steps(now, Vec::new(), true);
        let words = words(&steps);
        for step in steps {
            ledger.done(now, step, Ok(()));
        }
        words
    };
    assert_eq!(ledger.due(&[]), None);
    assert_eq!(gone(&mut ledger, now), ["fail"]);
    assert_eq!(ledger.due(&[]), Some(now + WAIT));
    assert_eq!(ledger.due(&[standing(Worth::Pauses)]), None, "it stays");
    assert!(gone(&mut ledger, now + WAIT / 2).is_empty());
    assert_eq!(
        told(&mut ledger, now + WAIT / 2, Worth::Serves, false),
        ["pass"],
        "it came back"
    );
    assert_eq!(
        gone(&mut ledger, now + WAIT),
        ["fail"],
        "the wait begins anew"
    );
    assert_eq!(gone(&mut ledger, now + 2 * WAIT), ["deregister"]);
    assert!(gone(&mut ledger, now + 3 * WAIT).is_empty());
}

/// An error as the agent's answers give it.
fn error(word: &str) -> ConsulCallError {
    match word {
        "forgotten" => ConsulCallError::new(500, "Unknown check ID"),
        _ => ConsulCallError::new(0, "connection refused"),
    }
}

fn failed(ledger: &mut Ledger, now: Instant, reason: &str, is_beat: bool) -> Vec<&'static str> {
    let steps = ledger.steps(now, vec![standing(Worth::Serves)], is_beat);
    let told = words(&steps);
    for step in steps {
        ledger.done(now, step, Err(error(reason)));
    }
    told
}

#[test]
fn a_forgotten_instance_is_registered_at_once_and_an_absent_agent_is_asked_once_a_beat() {
    let (mut ledger, now) = (Ledger::new(WAIT), Instant::now());
    for _ in 0..2 {
        told(&mut ledger, now, Worth::Serves, false);
    }
    assert_eq!(failed(&mut ledger, now, "forgotten", true), ["pass"]);
    assert_eq!(failed(&mut ledger, now, "absent", false), ["register"]);
    assert!(failed(&mut ledger, now, "absent", false).is_empty());
    assert_eq!(told(&mut ledger, now, Worth::Serves, true), ["register"]);
    assert_eq!(told(&mut ledger, now, Worth::Serves, false), ["pass"]);
}
