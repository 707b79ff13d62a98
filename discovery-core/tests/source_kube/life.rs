// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of a source: which lists it asks for and when, what a person is told, how it ends.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece},
};
use discovery_core::{
    model::{NodeName, Zone, ZoneKeys},
    source::{FailureReason, KubeConfig, KubeSource, WatchState},
    store::{Kind, Object, Update},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_for_once_the_zone_is_known_and_again_when_it_changes() {
    let mut scene = Scene::new(|asked: &Asked| match (asked.what, asked.is_watch) {
        ("own-node", false) => Some(Answer::list("1", &[node("n1", 1, Some("mall-1"))])),
        ("own-node", true) if asked.before == 0 => Some(Answer::ok([
            Piece::Wait(Duration::from_secs(10)),
            Piece::Text(format!(
                "{}\n",
                event("MODIFIED", &node("n1", 2, Some("mall-2")))
            )),
            Piece::Hang,
        ])),
        ("nodes", false) if asked.before == 0 => {
            Some(Answer::list("1", &[node("n2", 1, Some("mall-1"))]))
        }
        ("nodes", false) => Some(Answer::list("2", &[node("n3", 2, Some("mall-2"))])),
        _ => None,
    })
    .await;
    assert_eq!(
        all(&scene.synced(Kind::Nodes).await),
        ["reset", "upsert Node n2", "synced"]
    );
    assert_eq!(
        all(&scene.synced(Kind::Nodes).await),
        ["reset", "upsert Node n3", "synced"]
    );
    let selectors: Vec<_> = scene.server.asked("nodes", false);
    let selectors: Vec<_> = selectors
        .iter()
        .map(|asked| asked.query("labelSelector").unwrap())
        .collect();
    assert_eq!(
        selectors,
        [
            "topology.kubernetes.io%2Fzone%3Dmall-1",
            "topology.kubernetes.io%2Fzone%3Dmall-2"
        ]
    );
    let own = scene.server.asked("own-node", false);
    assert_eq!(own[0].query("fieldSelector"), Some("metadata.name%3Dn1"));
}

#[tokio::test(start_paused = true)]
async fn without_a_zone_no_nodes_are_asked_for() {
    let mut scene = Scene::new(
        |asked: &Asked| match (asked.what, asked.is_watch, asked.before) {
            ("own-node", false, 0) => Some(Answer::list("1", &[])),
            ("own-node", true, 0) => Some(Answer::ok([
                Piece::Text(format!("{}\n", event("ADDED", &node("n1", 2, None)))),
                Piece::Wait(Duration::from_secs(10)),
                Piece::Text(format!("{}\n", event("DELETED", &node("n1", 3, None)))),
                Piece::Hang,
            ])),
            _ => None,
        },
    )
    .await;
    assert_eq!(
        all(&scene.synced(Kind::OwnNode).await),
        ["reset", "absent Node n1", "synced"]
    );
    let changes = scene
        .until(Kind::OwnNode, |update| matches!(update, Update::Remove(..)))
        .await;
    assert_eq!(all(&changes), ["upsert Node n1", "remove Node n1"]);
    assert!(matches!(&changes[0], Update::Upsert(_, Object::OwnNode(node)) if node.zone.is_none()));
    assert!(scene.server.asked("nodes", false).is_empty());
    assert_eq!(scene.status.state(Kind::Nodes), WatchState::Cold);
}

#[tokio::test(start_paused = true)]
async fn a_configured_zone_needs_no_label() {
    let zone = Zone::parse("mall-9").unwrap();
    let mut scene = Scene::with(|_: &Asked| None, |config| config.zone(Some(zone))).await;
    let nodes = scene.asked("nodes", false, 1).await;
    assert_eq!(
        nodes[0].query("labelSelector"),
        Some("topology.kubernetes.io%2Fzone%3Dmall-9")
    );
}

#[tokio::test(start_paused = true)]
async fn f19_a_missing_right_is_told_once_with_the_rule_and_withdrawn_when_it_is_given() {
    let forbidden = Answer::status(403, "endpointslices is forbidden");
    let watches = vec![forbidden.clone(), forbidden, hang()];
    let mut scene = Scene::new(slices(vec![abc(10)], watches)).await;
    scene.synced(Kind::Slices).await;
    let told = scene
        .until(Kind::Slices, |update| matches!(update, Update::Reject(..)))
        .await;
    let Some(Update::Reject(_, problem)) = told.last() else {
        panic!("not told")
    };
    assert!(
        problem
            .reason
            .contains(r#"resources: ["endpointslices"], verbs: ["list", "watch"]"#),
        "{}",
        problem.reason
    );
    assert_eq!(
        all(&scene.synced(Kind::Slices).await)[0],
        "reset",
        "told once, then withdrawn by a new list"
    );
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Forbidden),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_loses_its_label_is_gone() {
    let foreign = slice("a", 11, "10.0.0.1").replace("kubernetes.io/service-name", "other");
    let events = [event("MODIFIED", &foreign)];
    let mut scene = Scene::new(slices(vec![abc(10)], vec![Answer::events(&events)])).await;
    scene.synced(Kind::Slices).await;
    let changes = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&changes), ["remove EndpointSlice shop/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_no_error_and_is_found_when_it_comes() {
    let status = status();
    let config = KubeConfig::new(NodeName::parse("n1").unwrap(), ZoneKeys::default());
    let config = config.server(Some("http://127.0.0.1:1".into()));
    let source = KubeSource::new(config, status.clone()).await.unwrap();
    tokio::spawn(pass_time());
    let (sender, _updates) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    let task = tokio::spawn(source.run(sender, cancel.clone()));
    while status.errors(Kind::Slices, FailureReason::Connection) < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!status.is_connected());
    assert_eq!(status.age(), None);
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to_and_when_nobody_listens() {
    let mut scene = Scene::new(slices(vec![abc(10)], vec![hang()])).await;
    scene.synced(Kind::Slices).await;
    scene.cancel.cancel();
    timeout(Duration::from_secs(1), scene.task)
        .await
        .unwrap()
        .unwrap();
    assert!(!scene.status.is_connected());
}

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_for_by_every_label_that_a_service_names() {
    let labels = r#""topology.kubernetes.io/zone":"mall-1","floor":"2""#;
    let own = node("n1", 1, None).replace(r#""labels":{}"#, &format!(r#""labels":{{{labels}}}"#));
    let service = |version: u32, annotations: &str| {
        format!(
            r#"{{"metadata":{{"namespace":"shop","name":"web","resourceVersion":"{version}",
            "annotations":{{{annotations}}}}},"spec":{{"ports":[{{"port":80}}]}}}}"#
        )
        .replace('\n', " ")
    };
    let wish = service(5, r#""zonal.dev/zone-key":"floor""#);
    let withdrawn = event("MODIFIED", &service(11, ""));
    let mut scene = Scene::new(move |asked: &Asked| match (asked.what, asked.is_watch) {
        ("own-node", false) => Some(Answer::list("1", std::slice::from_ref(&own))),
        ("services", false) => Some(Answer::list("10", std::slice::from_ref(&wish))),
        ("services", true) if asked.before == 0 => Some(Answer::ok([
            Piece::Wait(Duration::from_secs(6)),
            Piece::Text(format!("{withdrawn}\n")),
            Piece::Hang,
        ])),
        ("nodes", false) if asked.uri.contains("floor") => {
            Some(Answer::list("3", &[node("n7", 3, None)]))
        }
        ("nodes", false) => Some(Answer::list("2", &[node("n2", 2, Some("mall-1"))])),
        _ => None,
    })
    .await;
    let is_last = |update: &Update| words(update) == "synced";
    // The zone's nodes may be listed once before the first service is known.
    let mut told = Vec::new();
    while !told.contains(&"upsert Node n7".to_owned()) {
        told.extend(all(&scene.until(Kind::Nodes, is_last).await));
    }
    assert!(told.contains(&"upsert Node n2".to_owned()), "{told:?}");
    assert_eq!(
        all(&scene.until(Kind::Nodes, is_last).await),
        ["reset", "upsert Node n2", "synced"],
        "a wish that is withdrawn is forgotten"
    );
}
