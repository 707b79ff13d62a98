// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of the control plane (f1 to f20): what the source asks for meanwhile, what it says of itself, and how it
//! comes back.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece, list_body},
};
use discovery_core::{
    source::{FailureReason, WatchState},
    store::{Kind, Update},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A cluster whose watches end as asked, until a switch is turned; then everything is answered by `fault`.
fn cluster(
    is_broken: &Arc<AtomicBool>,
    fault: Answer,
) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync + use<> {
    let is_broken = is_broken.clone();
    move |asked| {
        if is_broken.load(Relaxed) {
            return Some(fault.clone());
        }
        match (asked.what, asked.is_watch) {
            ("own-node", false) => Some(Answer::list("1", &[node("n1", 1, Some("mall-1"))])),
            ("endpointslices", false) => Some(abc(10)),
            (_, true) => Some(quiet(asked)),
            _ => None,
        }
    }
}

const KINDS: [(&str, Kind); 4] = [
    ("own-node", Kind::OwnNode),
    ("nodes", Kind::Nodes),
    ("services", Kind::Services),
    ("endpointslices", Kind::Slices),
];

fn is_live(scene: &Scene) -> bool {
    KINDS
        .iter()
        .all(|(_, kind)| scene.status.state(*kind) == WatchState::Live)
}

/// How many requests were sent after the time: lists, and lists and watches together.
fn requests_since(scene: &Scene, since: Instant) -> (usize, usize) {
    let count = |is_watch| {
        let asked = KINDS
            .iter()
            .flat_map(|(what, _)| scene.server.asked(what, is_watch));
        asked.filter(|asked| asked.at >= since).count()
    };
    (count(false), count(false) + count(true))
}

#[tokio::test(start_paused = true)]
async fn f2_f3_a_server_that_goes_silent_is_flagged_within_45_seconds() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let script = cluster(&is_broken, Answer::never());
    // Watches that were open stay so and say nothing.
    let broken = is_broken.clone();
    let mut scene = Scene::new(move |asked: &Asked| {
        let hangs = asked.is_watch && asked.before > 0 && !broken.load(Relaxed);
        if hangs { Some(hang()) } else { script(asked) }
    })
    .await;
    scene.wait_for("live", is_live).await;
    scene.asked("endpointslices", true, 2).await;
    is_broken.store(true, Relaxed);
    for (_, kind) in KINDS {
        let is_flagged = |scene: &Scene| {
            matches!(
                scene.status.state(kind),
                WatchState::Stale | WatchState::Suspect
            )
        };
        let start = Instant::now();
        scene.wait_for("flagged", is_flagged).await;
        assert!(start.elapsed() <= Duration::from_secs(45), "{kind}");
    }
    scene.pass(Duration::from_secs(600)).await;
    for (_, kind) in KINDS {
        assert_eq!(scene.status.state(kind), WatchState::Stale, "{kind}");
        assert!(
            scene.status.kind_age(kind).unwrap() > Duration::from_secs(550),
            "{kind}"
        );
    }
    is_broken.store(false, Relaxed);
    let back = scene.wait_for("live again", is_live).await;
    assert!(back <= Duration::from_secs(60), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn f4_connections_that_are_killed_again_and_again_cost_no_list() {
    let mut scene = Scene::new(cluster(&Arc::default(), Answer::never())).await;
    scene.wait_for("live", is_live).await;
    scene.pass(Duration::from_secs(1)).await;
    let start = Instant::now();
    for _ in 0..24 {
        scene.server.cut_all();
        scene.pass(Duration::from_secs(5)).await;
    }
    let (lists, _) = requests_since(&scene, start);
    let told = KINDS.map(|(_, kind)| failures(&scene.status, kind));
    assert!(lists <= 2, "{lists} lists in two minutes: {told:?}");
    let back = scene.wait_for("live again", is_live).await;
    assert!(back <= Duration::from_secs(12), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn f8_a_server_that_fails_for_ten_minutes_is_asked_rarely_and_found_well_soon() {
    for (status, from_start) in [(500, false), (503, true)] {
        let is_broken = Arc::new(AtomicBool::new(from_start));
        let mut scene = Scene::new(cluster(&is_broken, Answer::status(status, "sick"))).await;
        if !from_start {
            scene.wait_for("live", is_live).await;
        }
        is_broken.store(true, Relaxed);
        scene.pass(Duration::from_secs(60)).await;
        let minute = Instant::now();
        scene.pass(Duration::from_secs(540)).await;
        let (lists, requests) = requests_since(&scene, minute);
        assert!(
            requests <= 27,
            "{requests} requests, {lists} lists in nine minutes"
        );
        assert!(requests >= 8, "it is asked nevertheless: {requests}");
        is_broken.store(false, Relaxed);
        let back = scene.wait_for("live again", is_live).await;
        assert!(back <= Duration::from_secs(60), "{back:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f11_json_truncated_anywhere_takes_nothing_back() {
    let whole = list_body(
        "20",
        "",
        &[slice("a", 1, "10.0.0.1"), slice("b", 2, "10.0.0.2")],
    );
    let mut lists = vec![abc(10)];
    lists.extend(
        (1..10)
            .map(|tenth| Answer::ok([Piece::Text(whole[..whole.len() * tenth / 10].to_owned())])),
    );
    lists.push(abc(30));
    let gone = Answer::events(&[error(410)]);
    let mut scene = Scene::new(slices(lists, vec![gone, hang()])).await;
    scene.synced(Kind::Slices).await;
    let told = all(&scene.synced(Kind::Slices).await);
    assert_eq!(
        told,
        [
            "reset",
            "shop/a = 10.0.0.1",
            "shop/b = 10.0.0.2",
            "shop/c = 10.0.0.3",
            "synced"
        ]
    );
    assert_eq!(
        scene
            .status
            .errors(Kind::Slices, FailureReason::Undecodable),
        9
    );
}

#[tokio::test(start_paused = true)]
async fn f12_a_garbage_line_is_repaired_within_5_seconds() {
    let watch = Answer::events(&[
        "garbage".into(),
        event("MODIFIED", &slice("c", 13, "10.0.0.9")),
    ]);
    let repaired = Answer::list("20", &[slice("b", 12, "10.0.0.8")]);
    let mut scene = Scene::new(slices(vec![abc(10), repaired], vec![watch, hang()])).await;
    scene.synced(Kind::Slices).await;
    let start = Instant::now();
    let told = all(&scene.synced(Kind::Slices).await);
    assert!(start.elapsed() <= Duration::from_secs(5));
    assert_eq!(told, ["reset", "shop/b = 10.0.0.8", "synced"]);
    assert_eq!(
        scene
            .status
            .lines_rejected(Kind::Slices, FailureReason::Undecodable),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn f15_ten_quiet_minutes_raise_no_alarm_while_watches_are_renewed() {
    let mut scene = Scene::new(cluster(&Arc::default(), Answer::never())).await;
    scene.wait_for("live", is_live).await;
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        scene.pass(Duration::from_millis(200)).await;
        assert!(is_live(&scene), "{:?}", scene.status);
        assert!(scene.status.age().unwrap() < Duration::from_secs(45));
    }
    let lists = KINDS
        .iter()
        .map(|(what, _)| scene.server.asked(what, false));
    for asked in lists.flatten().filter(|asked| asked.before > 0) {
        assert_eq!(asked.query("limit"), Some("1"), "a probe, no list");
    }
}

#[tokio::test(start_paused = true)]
async fn f18_what_was_deleted_while_we_were_away_is_not_named_again() {
    let watch = Answer::ok([Piece::Wait(Duration::from_secs(10)), Piece::Cut]);
    let later = Answer::list("90", &[slice("b", 2, "10.0.0.2")]);
    let expired = Answer::status(410, "too old");
    let mut scene = Scene::new(slices(vec![abc(10), later], vec![watch, expired, hang()])).await;
    scene.synced(Kind::Slices).await;
    let told = all(&scene.synced(Kind::Slices).await);
    assert_eq!(told, ["reset", "shop/b = 10.0.0.2", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn f19_a_right_that_is_revoked_for_the_list_too_is_named_and_nothing_is_taken_back() {
    let forbidden = || Answer::status(403, "endpointslices is forbidden");
    let lists = vec![abc(10), forbidden(), forbidden(), abc(20)];
    let watches = vec![Answer::status(410, "gone"), hang()];
    let mut scene = Scene::new(slices(lists, watches)).await;
    scene.synced(Kind::Slices).await;
    let told = scene
        .until(Kind::Slices, |u| matches!(u, Update::Reject(..)))
        .await;
    assert_eq!(told.len(), 1, "{:?}", all(&told));
    let Update::Reject(_, problem) = &told[0] else {
        panic!("not told")
    };
    assert_eq!(problem.place, "list");
    assert!(
        problem.reason.contains("we may not list endpointslices"),
        "{}",
        problem.reason
    );
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
    assert_eq!(all(&scene.synced(Kind::Slices).await)[0], "reset");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_what_it_was_asked_for_a_minute_is_found_within_its_cap() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let cut = Answer::ok([Piece::Cut]);
    let mut scene = Scene::new(cluster(&is_broken, cut)).await;
    scene.wait_for("live", is_live).await;
    // It has the requests, so that asking costs it something; a port that is closed is asked sooner, as the fleets show.
    is_broken.store(true, Relaxed);
    scene.server.cut_all();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        scene.server.cut_all();
        scene.pass(Duration::from_millis(200)).await;
    }
    is_broken.store(false, Relaxed);
    let back = scene.wait_for("live again", is_live).await;
    assert!(back <= Duration::from_secs(35), "{back:?}");
}
