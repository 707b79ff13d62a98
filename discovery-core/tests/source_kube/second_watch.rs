// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second watch beside one that is overdue: who is followed, what is asked for, and what it costs a server that is sick.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece},
};
use discovery_core::{
    source::{FailureReason, SecondWatch, WatchState},
    store::Kind,
};
use std::time::Duration;

/// How long the server is asked to keep the watch.
fn asked_time(asked: &Asked) -> Duration {
    let seconds = asked.query("timeoutSeconds").unwrap().parse().unwrap();
    Duration::from_secs(seconds)
}

/// Slices whose first watch ends as asked, so that the server is known to end them; `then` answers the later ones by number.
fn watches(
    then: impl Fn(usize, &Asked) -> Answer + Send + Sync,
) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync {
    move |asked| match (asked.what, asked.is_watch, asked.before) {
        ("endpointslices", false, _) => Some(abc(10)),
        ("endpointslices", true, 0) => Some(Answer::ok([Piece::Wait(asked_time(asked))])),
        ("endpointslices", true, before) => Some(then(before, asked)),
        _ => None,
    }
}

/// Hangs until long after its end, tells the event, and hangs on.
fn late(asked: &Asked, by: Duration, event: &str) -> Answer {
    let told = Piece::Text(format!("{event}\n"));
    Answer::ok([Piece::Wait(asked_time(asked) + by), told, Piece::Hang])
}

fn second(scene: &Scene, outcome: SecondWatch) -> u64 {
    scene.status.second_watches(Kind::Slices, outcome)
}

#[tokio::test(start_paused = true)]
async fn f24_beside_an_overdue_watch_a_second_one_tells_what_the_first_holds_back() {
    let event = event("MODIFIED", &slice("b", 12, "10.0.0.8"));
    let script = watches(move |nth, _| match nth {
        2 => Answer::events(std::slice::from_ref(&event)),
        _ => hang(),
    });
    let mut scene = Scene::new(script).await;
    scene.synced(Kind::Slices).await;
    let told = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&told), ["shop/b = 10.0.0.8"]);
    let asked = scene.server.asked("endpointslices", true);
    let (late, second_one) = (&asked[1], &asked[2]);
    let waited = second_one.at - late.at;
    let expected = asked_time(late) + Duration::from_secs(2);
    assert!(
        waited.abs_diff(expected) <= Duration::from_millis(1500),
        "{waited:?}"
    );
    assert_eq!(second_one.query("resourceVersion"), Some("10"));
    assert!(
        asked_time(second_one) <= Duration::from_secs(10),
        "a try is short"
    );
    assert_eq!(second(&scene, SecondWatch::TookOver), 1);
    assert_eq!(failures(&scene.status, Kind::Slices), []);
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Live);
}

#[tokio::test(start_paused = true)]
async fn f24_once_the_link_is_known_to_be_late_no_change_is_held_back_for_15_seconds() {
    let mut scene = Scene::new(watches(|_, _| hang())).await;
    let asked = scene.asked("endpointslices", true, 20).await;
    let known = asked[3..].windows(2).map(|pair| pair[1].at - pair[0].at);
    for between in known {
        let within = Duration::from_secs(9)..Duration::from_secs(15);
        assert!(within.contains(&between), "{between:?}");
    }
    assert_eq!(
        scene.status.lists(Kind::Slices),
        1,
        "no list was read for it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_watch_is_closed_when_the_first_speaks_after_all() {
    let event = event("MODIFIED", &slice("b", 12, "10.0.0.8"));
    let script = watches(move |nth, asked| match nth {
        1 => late(asked, Duration::from_secs(3), &event),
        _ => Answer::never(),
    });
    let mut scene = Scene::new(script).await;
    scene.synced(Kind::Slices).await;
    let told = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&told), ["shop/b = 10.0.0.8"]);
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(second(&scene, SecondWatch::NotNeeded), 1);
    assert_eq!(failures(&scene.status, Kind::Slices), []);
}

#[tokio::test(start_paused = true)]
async fn a_second_watch_is_the_next_one_when_the_first_ends_late() {
    let event = event("MODIFIED", &slice("b", 12, "10.0.0.8"));
    let script = watches(move |nth, asked| match nth {
        1 => Answer::ok([Piece::Wait(asked_time(asked) + Duration::from_secs(3))]),
        2 => late_head(&event),
        _ => hang(),
    });
    let mut scene = Scene::new(script).await;
    scene.synced(Kind::Slices).await;
    let told = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&told), ["shop/b = 10.0.0.8"]);
    let asked = scene.server.asked("endpointslices", true).len();
    assert_eq!(asked, 3, "nothing was asked twice");
    assert_eq!(failures(&scene.status, Kind::Slices), []);
}

/// An answer whose first bytes are those of the event, some seconds after the request.
fn late_head(event: &str) -> Answer {
    let told = Piece::Text(format!("{event}\n"));
    Answer::ok([Piece::Wait(Duration::from_secs(1)), told, Piece::Hang])
}

#[tokio::test(start_paused = true)]
async fn a_server_that_freezes_is_asked_no_more_than_without_second_watches() {
    let script = |asked: &Asked| match (asked.is_watch, asked.before) {
        (true, 0) => Some(Answer::ok([Piece::Wait(asked_time(asked))])),
        (true, 1) => Some(hang()),
        (true, _) => Some(Answer::never()),
        _ => None,
    };
    let mut scene = Scene::new(script).await;
    let kinds = ["own-node", "services", "endpointslices"];
    for what in kinds {
        scene.asked(what, true, 3).await;
    }
    let frozen = tokio::time::Instant::now();
    scene.pass(Duration::from_secs(120)).await;
    let asked = kinds.map(|what| scene.server.asked(what, true));
    let asked = asked.iter().flatten().filter(|asked| asked.at > frozen);
    // A request that is not answered is given up after 15 s, and the gate lets one of the lists ask at a time.
    let asked = asked.count();
    assert!(asked <= 10, "{asked} requests in two minutes");
    let silent = scene.status.errors(Kind::Slices, FailureReason::Silent);
    assert_eq!(silent, 1, "it is flagged as ever");
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_second_watch_that_is_refused_is_begun_once_and_the_next_hears_it_itself() {
    let script = watches(|nth, _| match nth {
        2 => Answer::status(429, "later"),
        _ => hang(),
    });
    let mut scene = Scene::new(script).await;
    scene.asked("endpointslices", true, 4).await;
    assert_eq!(second(&scene, SecondWatch::Failed), 1);
    assert_eq!(scene.status.errors(Kind::Slices, FailureReason::Silent), 1);
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Throttled),
        0
    );
}
