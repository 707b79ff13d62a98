// SPDX-License-Identifier: MIT OR Apache-2.0
//! Old and new clusters: which API endpoints are read from, and that the choice holds.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece, group},
};
use discovery_core::{
    source::{FailureReason, SliceApi, WatchState},
    store::{Kind, Object, Update},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

const NO_SLICES: &str = r#"{"kind":"APIGroupList","groups":[{"name":"apps","versions":[]}]}"#;

fn text(text: &str) -> Answer {
    Answer::ok([Piece::Text(text.to_owned())])
}

fn not_found() -> Answer {
    Answer::status(404, "the server could not find the requested resource")
}

/// A server of before 1.21.
fn v1beta1(asked: &Asked) -> Option<Answer> {
    if asked.what == "group" {
        return Some(text(&group(&["v1beta1"])));
    }
    asked.uri.contains("/discovery.k8s.io/v1/").then(not_found)
}

/// A server without EndpointSlices.
fn endpoints(asked: &Asked) -> Option<Answer> {
    match asked.what {
        "group" | "endpointslices" => Some(not_found()),
        "groups" => Some(text(NO_SLICES)),
        _ => None,
    }
}

fn subsets(version: u32, addresses: &[&str]) -> String {
    let subsets: Vec<_> = addresses
        .iter()
        .map(|ip| {
            format!(r#"{{"addresses":[{{"ip":"{ip}","nodeName":"n1"}}],"ports":[{{"port":80}}]}}"#)
        })
        .collect();
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"web","resourceVersion":"{version}"}},"subsets":[{}]}}"#,
        subsets.join(",")
    )
}

#[tokio::test(start_paused = true)]
async fn a_server_of_before_1_21_is_read_by_v1beta1() {
    let item = r#"{"metadata":{"namespace":"shop","name":"a","resourceVersion":"3",
        "labels":{"kubernetes.io/service-name":"web"}},"endpoints":[{"addresses":["10.0.0.1"],
        "topology":{"kubernetes.io/hostname":"n7"}}]}"#;
    let list = Answer::list("10", &[item.to_owned()]);
    let mut scene = Scene::new(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpointslices", false) if asked.uri.contains("/v1beta1/") => Some(list.clone()),
        _ => v1beta1(asked),
    })
    .await;
    let told = scene.synced(Kind::Slices).await;
    let Update::Upsert(_, Object::Slice(slice)) = &told[1] else {
        panic!("{told:?}")
    };
    assert_eq!(slice.endpoints[0].node.as_ref().unwrap().as_str(), "n7");
    assert_eq!(scene.status.slice_api(), Some(SliceApi::V1Beta1));
    let watch = scene.asked("endpointslices", true, 1).await.remove(0);
    assert!(
        watch
            .uri
            .starts_with("/apis/discovery.k8s.io/v1beta1/endpointslices?")
    );
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_read_only_where_no_slices_are_served() {
    let mut scene = Scene::new(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpoints", false) => {
            let list = Answer::list("10", &[subsets(3, &["10.0.0.1", "10.0.0.2", "10.0.0.3"])]);
            Some(list.header("warning", "299 - \"v1 Endpoints is deprecated in v1.33+\""))
        }
        ("endpoints", true) if asked.before == 0 => Some(Answer::events(&[
            event("MODIFIED", &subsets(11, &["10.0.0.9"])),
            event("DELETED", &subsets(12, &[])),
        ])),
        _ => endpoints(asked),
    })
    .await;
    let slices = ["0 = 10.0.0.1", "1 = 10.0.0.2", "2 = 10.0.0.3"];
    let mut expected = vec!["reset".to_owned()];
    expected.extend(slices.map(|text| format!("shop/web-endpoints-{text}")));
    expected.push("synced".into());
    assert_eq!(all(&scene.synced(Kind::Slices).await), expected);
    assert_eq!(scene.status.slice_api(), Some(SliceApi::Endpoints));
    let mut told = Vec::new();
    for _ in 0..4 {
        told.extend(all(&scene.until(Kind::Slices, |_| true).await));
    }
    assert_eq!(
        told,
        [
            "remove EndpointSlice shop/web-endpoints-1",
            "remove EndpointSlice shop/web-endpoints-2",
            "shop/web-endpoints-0 = 10.0.0.9",
            "remove EndpointSlice shop/web-endpoints-0"
        ],
        "what shrinks loses the rest, what is deleted loses all"
    );
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_were_cut_at_their_limit_are_told() {
    let cut = subsets(3, &["10.0.0.1"]).replace(
        r#""name":"web""#,
        r#""name":"web","annotations":{"endpoints.kubernetes.io/over-capacity":"truncated"}"#,
    );
    let mut scene = Scene::new(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpoints", false) => Some(Answer::list("10", std::slice::from_ref(&cut))),
        _ => endpoints(asked),
    })
    .await;
    let told = scene
        .until(Kind::Slices, |u| matches!(u, Update::Reject(..)))
        .await;
    let Some(Update::Reject(_, problem)) = told.last() else {
        panic!("not told")
    };
    assert!(problem.place.contains("over-capacity"), "{problem:?}");
    assert!(problem.reason.contains("1,000"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_of_slices_is_no_reason_to_read_endpoints() {
    let mut scene = Scene::new(|_: &Asked| None).await;
    assert_eq!(all(&scene.synced(Kind::Slices).await), ["reset", "synced"]);
    scene.pass(Duration::from_secs(1200)).await;
    assert!(scene.server.asked("endpoints", false).is_empty());
    assert_eq!(scene.status.slice_api(), Some(SliceApi::V1));
}

#[tokio::test(start_paused = true)]
async fn a_known_api_needs_no_document_and_a_404_of_a_cut_off_cache_changes_nothing() {
    // A cache that was cut off: lists of what it knows, watches that end at once, 404 for the rest.
    let mut scene = Scene::with(
        |asked: &Asked| match (asked.what, asked.is_watch) {
            ("endpointslices" | "group" | "groups", _) => Some(not_found()),
            (_, true) => Some(Answer::ok([])),
            _ => None,
        },
        |config| config.known_api(Some(SliceApi::V1Beta1)),
    )
    .await;
    scene.pass(Duration::from_secs(1200)).await;
    let lists = scene.server.asked("endpointslices", false);
    assert!(lists.len() > 10 && lists.iter().all(|asked| asked.uri.contains("/v1beta1/")));
    assert_eq!(scene.status.slice_api(), Some(SliceApi::V1Beta1));
    assert!(scene.server.asked("group", false).is_empty());
    assert!(scene.status.errors(Kind::Slices, FailureReason::NotFound) > 10);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_documents_chooses_nothing() {
    let is_whole = Arc::new(AtomicBool::new(false));
    let whole = is_whole.clone();
    let mut scene = Scene::new(move |asked: &Asked| match asked.what {
        "group" if whole.load(Relaxed) => None,
        "group" => Some(not_found()),
        "groups" => Some(text("<html>captive portal</html>")),
        _ => None,
    })
    .await;
    scene.pass(Duration::from_secs(300)).await;
    assert_eq!(scene.status.slice_api(), None);
    assert!(scene.server.asked("endpoints", false).is_empty());
    let asked = scene.server.asked("group", false).len();
    assert!((8..25).contains(&asked), "asked {asked} times in 5 minutes");
    is_whole.store(true, Relaxed);
    scene.synced(Kind::Slices).await;
    assert_eq!(scene.status.slice_api(), Some(SliceApi::V1));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_upgraded_is_read_by_its_new_api() {
    let is_new = Arc::new(AtomicBool::new(false));
    let new = is_new.clone();
    let mut scene = Scene::with(
        move |asked: &Asked| {
            if asked.is_watch && asked.what != "endpointslices" {
                return Some(Answer::ok([Piece::Wait(Duration::from_secs(30))]));
            }
            match (new.load(Relaxed), asked.uri.contains("/v1beta1/")) {
                (true, true) => Some(not_found()),
                (true, false) => None,
                (false, _) => v1beta1(asked),
            }
        },
        |config| config.known_api(Some(SliceApi::V1Beta1)),
    )
    .await;
    scene.synced(Kind::Slices).await;
    assert!(scene.server.asked("group", false).is_empty());
    is_new.store(true, Relaxed);
    let is_v1 = |scene: &Scene| scene.status.slice_api() == Some(SliceApi::V1);
    let took = scene.wait_for("the new API", is_v1).await;
    assert!(took < Duration::from_secs(120), "{took:?}");
    scene.synced(Kind::Slices).await;
    let is_live = |scene: &Scene| scene.status.state(Kind::Slices) == WatchState::Live;
    scene.wait_for("live", is_live).await;
}

#[tokio::test(start_paused = true)]
async fn a_better_api_is_found_although_the_old_one_still_works() {
    let mut scene = Scene::with(
        |asked: &Asked| {
            asked
                .is_watch
                .then(|| Answer::ok([Piece::Wait(Duration::from_secs(30))]))
        },
        |config| config.known_api(Some(SliceApi::Endpoints)),
    )
    .await;
    scene.asked("endpoints", true, 1).await;
    let is_v1 = |scene: &Scene| scene.status.slice_api() == Some(SliceApi::V1);
    let took = scene.wait_for("the better API", is_v1).await;
    assert!(took <= Duration::from_secs(660), "{took:?}");
    scene.asked("endpointslices", true, 1).await;
}
