// SPDX-License-Identifier: MIT OR Apache-2.0
//! The holes that list/watch clients have (w1 to w19, k1 to k11), each closed: what users of a cluster see when its API
//! server lies, stalls or breaks.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece, list_body},
};
use discovery_core::{
    source::{FailureReason, WatchState},
    store::{Kind, Update},
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_and_a_watch_with_a_bookmark_arrive_and_resume() {
    let first = list_body("10", "next page", &[slice("a", 1, "10.0.0.1")]);
    let second = Answer::list("10", &[slice("b", 2, "10.0.0.2")]);
    let watch = Answer::ok([
        Piece::Text(format!("{}\n", event("ADDED", &slice("c", 11, "10.0.0.3")))),
        Piece::Text(format!(
            "{}\n{}",
            event("MODIFIED", &slice("a", 12, "10.0.0.9")),
            &event("DELETED", &slice("b", 13, "10.0.0.2"))[..20]
        )),
        Piece::Wait(Duration::from_secs(2)),
        Piece::Text(format!(
            "{}\n",
            &event("DELETED", &slice("b", 13, "10.0.0.2"))[20..]
        )),
        Piece::Text(format!("{}\n", bookmark(99))),
        Piece::Wait(Duration::from_secs(30)),
    ]);
    let mut scene = Scene::new(slices(
        vec![Answer::ok([Piece::Text(first)]), second],
        vec![watch, hang()],
    ))
    .await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        ["reset", "shop/a = 10.0.0.1", "shop/b = 10.0.0.2", "synced"]
    );
    let changes = scene
        .until(Kind::Slices, |update| matches!(update, Update::Remove(..)))
        .await;
    assert_eq!(
        all(&changes),
        [
            "shop/c = 10.0.0.3",
            "shop/a = 10.0.0.9",
            "remove EndpointSlice shop/b"
        ]
    );
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[0].query("resourceVersion"), Some("10"));
    assert_eq!(watches[0].query("allowWatchBookmarks"), Some("true"));
    let seconds = watches[0].query("timeoutSeconds").unwrap();
    assert!(
        (8..=10).contains(&seconds.parse().unwrap()),
        "in the first minute"
    );
    assert_eq!(watches[1].query("resourceVersion"), Some("99"));
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[0].query("limit"), Some("100"));
    assert_eq!(lists[1].query("continue"), Some("next%20page"));
    assert_eq!(lists.len(), 2);
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Live);
    assert!(scene.status.is_kind_connected(Kind::Slices));
    assert!(scene.status.age().is_some() && scene.status.bytes(Kind::Slices) > 500);
}

#[tokio::test(start_paused = true)]
async fn every_list_has_its_own_user_agent_and_everything_may_be_compressed() {
    let mut scene = Scene::new(|asked: &Asked| {
        (asked.what == "own-node" && !asked.is_watch)
            .then(|| Answer::list("1", &[node("n1", 1, Some("mall-1"))]))
    })
    .await;
    let mut agents = Vec::new();
    for what in ["own-node", "nodes", "services", "endpointslices"] {
        let list = scene.asked(what, false, 1).await.remove(0);
        let watch = scene.asked(what, true, 1).await.remove(0);
        assert_eq!(list.headers["accept-encoding"], "gzip", "{what}");
        assert_eq!(watch.headers["accept-encoding"], "gzip", "{what}");
        assert_eq!(list.headers["user-agent"], watch.headers["user-agent"]);
        agents.push(list.headers["user-agent"].clone());
    }
    agents.sort_by_key(|agent| agent.as_bytes().to_owned());
    agents.dedup();
    assert_eq!(agents.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn w1_k1_f6_a_410_at_the_start_of_a_watch_leads_to_a_list() {
    let again = Answer::list("20", &[slice("a", 20, "10.0.0.7")]);
    let gone = Answer::status(410, "too old resource version");
    let mut scene = Scene::new(slices(vec![abc(10), again], vec![gone, hang()])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        ["reset", "shop/a = 10.0.0.7", "synced"]
    );
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("20"));
    assert_eq!(
        scene.status.relists(Kind::Slices, FailureReason::Expired),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn k10_f5_a_410_inside_a_watch_leads_to_a_list() {
    let mut scene = Scene::new(slices(
        vec![abc(10), abc(20)],
        vec![Answer::events(&[error(410)]), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    scene.synced(Kind::Slices).await;
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("20"));
}

#[tokio::test(start_paused = true)]
async fn w9_k11_another_error_inside_a_watch_closes_it_and_the_next_resumes() {
    let events = [event("MODIFIED", &slice("a", 12, "10.0.0.8")), error(500)];
    let mut scene = Scene::new(slices(vec![abc(10)], vec![Answer::events(&events), hang()])).await;
    let start = scene.asked("endpointslices", true, 1).await[0].at;
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("12"));
    assert!(watches[1].at - start < Duration::from_secs(5));
    assert_eq!(scene.server.asked("endpointslices", false).len(), 1);
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::InStream),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn w2_k2_an_undecodable_change_is_told_and_the_list_is_read_again() {
    let events = [
        event("MODIFIED", &slice("a", 11, "10.0.0.8")),
        event("MODIFIED", &bad_slice("b", 12)),
        event("MODIFIED", &slice("c", 13, "10.0.0.9")),
    ];
    let mut scene = Scene::new(slices(
        vec![abc(10), abc(20)],
        vec![Answer::events(&events), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        [
            "shop/a = 10.0.0.8",
            "reject EndpointSlice shop/b at endpoints",
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
            .relists(Kind::Slices, FailureReason::Undecodable),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn w3_k3_a_deletion_with_a_wrong_field_deletes() {
    let events = [
        event("DELETED", &bad_slice("b", 12)),
        event("MODIFIED", &slice("c", 13, "10.0.0.9")),
    ];
    let mut scene = Scene::new(slices(vec![abc(10)], vec![Answer::events(&events)])).await;
    scene.synced(Kind::Slices).await;
    let changes = scene
        .until(Kind::Slices, |update| matches!(update, Update::Upsert(..)))
        .await;
    assert_eq!(
        all(&changes),
        ["remove EndpointSlice shop/b", "shop/c = 10.0.0.9"]
    );
    assert_eq!(scene.server.asked("endpointslices", false).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn w4_k4_w12_one_bad_item_of_a_list_costs_only_itself_and_keeps_its_last_version() {
    let items = [
        slice("a", 1, "10.0.0.1"),
        bad_slice("b", 2),
        slice("c", 3, "10.0.0.3"),
    ];
    let mut scene = Scene::new(slices(vec![Answer::list("10", &items)], vec![hang()])).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        [
            "reset",
            "shop/a = 10.0.0.1",
            "kept EndpointSlice shop/b",
            "reject EndpointSlice shop/b at endpoints",
            "shop/c = 10.0.0.3",
            "synced"
        ]
    );
    scene.asked("endpointslices", true, 3).await;
    assert_eq!(
        scene.server.asked("endpointslices", false).len(),
        1,
        "a bad item is no reason to list again"
    );
}

#[tokio::test(start_paused = true)]
async fn w5_k5_a_failing_list_backs_off_to_the_cap_and_holds_no_other() {
    let mut scene = Scene::new(|asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpointslices", _) => Some(Answer::status(500, "sick")),
        (_, true) => Some(Answer::ok([Piece::Wait(Duration::from_secs(28))])),
        _ => None,
    })
    .await;
    let lists = scene.asked("endpointslices", false, 30).await;
    let took = lists[29].at - lists[10].at;
    assert!(took > Duration::from_secs(400), "19 lists in {took:?}");
    assert_eq!(
        scene
            .status
            .errors(Kind::Slices, FailureReason::ServerError),
        30
    );
    assert!(!scene.status.is_kind_connected(Kind::Slices));
    assert_eq!(scene.status.kind_age(Kind::Slices), None);
    assert_eq!(scene.status.state(Kind::Services), WatchState::Live);
    assert_eq!(scene.status.lists(Kind::Services), 1);
}

#[tokio::test(start_paused = true)]
async fn w6_k6_a_list_that_is_never_answered_meets_its_deadline() {
    let mut scene = Scene::new(slices(vec![Answer::never(), abc(10)], vec![hang()])).await;
    scene.synced(Kind::Slices).await;
    let lists = scene.server.asked("endpointslices", false);
    let waited = (lists[1].at - lists[0].at).as_secs();
    assert!((30..32).contains(&waited), "{waited} s");
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Deadline),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn f10_a_list_that_trickles_is_given_up() {
    let trickle = std::iter::repeat_n(
        [Piece::Text(" ".into()), Piece::Wait(Duration::from_secs(1))],
        600,
    )
    .flatten();
    let mut scene = Scene::new(slices(vec![Answer::ok(trickle), abc(10)], vec![hang()])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(scene.status.errors(Kind::Slices, FailureReason::TooSlow), 1);
    let lists = scene.server.asked("endpointslices", false);
    let waited = lists[1].at - lists[0].at;
    assert!(waited <= Duration::from_secs(60), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn w7_k7_a_silent_watch_is_given_up_after_its_time() {
    let watches = vec![hang(), Answer::never()];
    let mut scene = Scene::new(slices(vec![abc(10)], watches)).await;
    let first = scene.asked("endpointslices", true, 1).await[0].at;
    let is_given_up = |scene: &Scene| scene.status.errors(Kind::Slices, FailureReason::Silent) == 1;
    scene.wait_for("given up", is_given_up).await;
    let waited = first.elapsed().as_secs();
    assert!((33..=42).contains(&waited), "{waited} s");
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stands_and_is_quiet_is_a_sign_of_life_and_one_of_a_cache_is_none() {
    for (watch, is_heard) in [(hang(), true), (Answer::ok([]), false)] {
        let mut scene = Scene::new(slices(vec![abc(10)], vec![watch])).await;
        scene.asked("endpointslices", true, 1).await;
        scene.pass(Duration::from_secs(12)).await;
        let age = scene.status.kind_age(Kind::Slices).unwrap();
        assert_eq!(age < Duration::from_secs(11), is_heard, "{age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn w8_k8_f14_an_endless_line_is_dropped_at_the_limit() {
    let mut scene = Scene::new(slices(
        vec![abc(10)],
        vec![Answer::ok([Piece::Endless(64 * 1024)]), hang()],
    ))
    .await;
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("10"));
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::TooLarge),
        1
    );
    let read = scene.status.bytes(Kind::Slices);
    assert!(read < 9 * 1024 * 1024, "{read} bytes");
}

#[tokio::test(start_paused = true)]
async fn w10_f12_a_line_whose_json_ends_early_leads_to_a_list() {
    let cut = &event("MODIFIED", &slice("b", 12, "10.0.0.8"))[..60];
    let events = [
        cut.to_owned(),
        event("MODIFIED", &slice("c", 13, "10.0.0.9")),
    ];
    let mut scene = Scene::new(slices(
        vec![abc(10), abc(20)],
        vec![Answer::events(&events), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await)[0],
        "reset",
        "the list comes before any later line"
    );
    assert_eq!(
        scene.status.relists(Kind::Slices, FailureReason::Truncated),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_inside_a_line_resumes_from_the_last_whole_one() {
    let pieces = [
        Piece::Text(format!(
            "{}\n",
            event("MODIFIED", &slice("a", 11, "10.0.0.8"))
        )),
        Piece::Text(event("MODIFIED", &slice("b", 12, "10.0.0.9"))[..60].to_owned()),
        Piece::Wait(Duration::from_secs(1)),
        Piece::Cut,
    ];
    let mut scene = Scene::new(slices(vec![abc(10)], vec![Answer::ok(pieces), hang()])).await;
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("11"));
    assert_eq!(scene.server.asked("endpointslices", false).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn k9_a_list_body_that_is_cut_in_half_is_asked_again() {
    let body = list_body(
        "10",
        "",
        &[slice("a", 1, "10.0.0.1"), slice("b", 2, "10.0.0.2")],
    );
    let (half, _) = body.split_at(body.len() / 2);
    let cut = Answer::ok([
        Piece::Text(half.to_owned()),
        Piece::Wait(Duration::from_secs(1)),
        Piece::Cut,
    ]);
    // Ended in good order, and still not whole.
    let short = Answer::ok([Piece::Text(half.to_owned())]);
    let mut scene = Scene::new(slices(vec![cut, short, abc(10)], vec![hang()])).await;
    assert_eq!(scene.synced(Kind::Slices).await.len(), 5);
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Connection),
        1
    );
    assert_eq!(
        scene
            .status
            .errors(Kind::Slices, FailureReason::Undecodable),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn f17_a_list_whose_token_expired_begins_again_and_takes_nothing_back() {
    let first = Answer::ok([Piece::Text(list_body(
        "10",
        "t",
        &[slice("a", 1, "10.0.0.1")],
    ))]);
    let lists = vec![first, Answer::status(410, "token expired"), abc(20)];
    let mut scene = Scene::new(slices(lists, vec![hang()])).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        [
            "reset",
            "shop/a = 10.0.0.1",
            "reset",
            "shop/a = 10.0.0.1",
            "shop/b = 10.0.0.2",
            "shop/c = 10.0.0.3",
            "synced"
        ],
        "nothing is gone before a list is complete"
    );
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[2].query("continue"), None, "the list begins anew");
}

#[tokio::test(start_paused = true)]
async fn w13_empty_watches_of_a_cache_are_paced() {
    let mut scene = Scene::new(slices(vec![abc(10)], vec![Answer::ok([])])).await;
    let watches = scene.asked("endpointslices", true, 20).await;
    let took = watches[19].at - watches[0].at;
    assert!(took > Duration::from_secs(60), "20 watches in {took:?}");
    assert!(
        watches
            .windows(2)
            .all(|pair| pair[1].at - pair[0].at >= Duration::from_secs(1))
    );
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
}

#[tokio::test(start_paused = true)]
async fn w14_f7_retry_after_is_honoured_and_nothing_is_retried_below() {
    let busy = Answer::status(429, "busy").header("retry-after", "20");
    let mut scene = Scene::new(slices(
        vec![busy, Answer::status(503, "down"), abc(10)],
        vec![hang()],
    ))
    .await;
    let lists = scene.asked("endpointslices", false, 3).await;
    let waited = (lists[1].at - lists[0].at).as_secs_f64();
    assert!((20.0..=24.5).contains(&waited), "{waited} s");
    assert!(lists[2].at - lists[1].at < Duration::from_secs(10));
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Throttled),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn w16_a_bookmark_without_a_version_leads_to_a_list() {
    let events = [event("BOOKMARK", r#"{"metadata":{"resourceVersion":""}}"#)];
    let mut scene = Scene::new(slices(
        vec![abc(10), abc(20)],
        vec![Answer::events(&events), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    scene.synced(Kind::Slices).await;
    let watches = scene.asked("endpointslices", true, 2).await;
    assert_eq!(watches[1].query("resourceVersion"), Some("20"));
    assert_eq!(
        scene.status.relists(Kind::Slices, FailureReason::NoVersion),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn w15_a_version_ahead_of_the_server_is_found_out() {
    let lists = vec![
        abc(1000),
        Answer::list("7", &[]),
        Answer::list("7", &[slice("a", 7, "10.0.0.7")]),
    ];
    let quiet = Answer::ok([Piece::Wait(Duration::from_secs(30))]);
    let mut scene = Scene::new(slices(lists, vec![quiet])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        ["reset", "shop/a = 10.0.0.7", "went back", "synced"]
    );
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[1].query("limit"), Some("1"));
    assert!((180..260).contains(&(lists[1].at - lists[0].at).as_secs()));
    assert_eq!(
        scene
            .status
            .relists(Kind::Slices, FailureReason::VersionAhead),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn w11_no_watch_asks_for_a_stream_of_initial_events() {
    let mut scene = Scene::new(|_: &Asked| None).await;
    for what in ["own-node", "services", "endpointslices"] {
        let watches = scene.asked(what, true, 3).await;
        let lists = scene.server.asked(what, false);
        for asked in watches.iter().chain(&lists) {
            assert!(!asked.uri.contains("sendInitialEvents"), "{}", asked.uri);
            assert!(!asked.uri.contains("resourceVersionMatch"), "{}", asked.uri);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn w17_an_empty_list_after_a_410_is_told_as_a_list_for_a_guard_to_see() {
    let wiped = Answer::list("20", &[]);
    let mut scene = Scene::new(slices(
        vec![abc(10), wiped],
        vec![Answer::events(&[error(410)]), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    assert_eq!(all(&scene.synced(Kind::Slices).await), ["reset", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn w18_a_list_is_told_page_by_page_as_it_is_read() {
    let first = Answer::ok([Piece::Text(list_body(
        "10",
        "next",
        &[slice("a", 1, "10.0.0.1")],
    ))]);
    let mut scene = Scene::new(slices(vec![first, Answer::never(), abc(20)], vec![hang()])).await;
    scene
        .until(Kind::Slices, |update| words(update) == "shop/a = 10.0.0.1")
        .await;
    assert_eq!(scene.status.sync_age(Kind::Slices), None);
    scene.synced(Kind::Slices).await;
}

#[tokio::test(start_paused = true)]
async fn w19_four_lists_and_their_watches_share_few_connections() {
    let mut scene = Scene::new(|asked: &Asked| match (asked.what, asked.is_watch) {
        ("own-node", false) => Some(Answer::list("1", &[node("n1", 1, Some("mall-1"))])),
        (_, true) => Some(quiet(asked)),
        _ => None,
    })
    .await;
    for what in ["own-node", "nodes", "services", "endpointslices"] {
        scene.asked(what, true, 10).await;
    }
    let connections = scene.server.connections();
    assert!(connections <= 6, "{connections} connections for four lists");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_past_is_not_believed() {
    let events = [
        event("MODIFIED", &slice("a", 15, "10.0.0.8")),
        event("MODIFIED", &slice("a", 11, "10.9.9.9")),
    ];
    let mut scene = Scene::new(slices(
        vec![abc(10), abc(20)],
        vec![Answer::events(&events), hang()],
    ))
    .await;
    scene.synced(Kind::Slices).await;
    let told = all(&scene.synced(Kind::Slices).await);
    assert_eq!(told[..2], ["shop/a = 10.0.0.8", "reset"]);
}
