// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parts of a cluster: label selectors and namespaces, several of which are one list to the writer.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece},
};
use discovery_core::{
    source::{KubeConfig, KubeSource, KubeSourceError, Selector, WatchState},
    store::Kind,
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_selector_cuts_services_and_slices_and_leaves_nodes_whole() {
    let selector = Selector::parse("team in (shop,till)").unwrap();
    let mut scene = Scene::with(|_: &Asked| None, |config| config.selector(Some(selector))).await;
    for (what, is_selected) in [
        ("services", true),
        ("endpointslices", true),
        ("own-node", false),
    ] {
        for is_watch in [false, true] {
            let asked = scene.asked(what, is_watch, 1).await.remove(0);
            let expected = is_selected.then_some("team%20in%20%28shop%2Ctill%29");
            assert_eq!(asked.query("labelSelector"), expected, "{}", asked.uri);
            let agent = asked.headers["user-agent"].to_str().unwrap();
            assert_eq!(
                agent.contains("team in (shop,till)"),
                is_selected,
                "{agent}"
            );
        }
    }
}

/// Each namespace has a slice of its own; the watch of `shop` loses its slice.
fn namespaced(asked: &Asked) -> Option<Answer> {
    let namespace = asked.uri.split("/namespaces/").nth(1)?.split('/').next()?;
    let object = |version, address| {
        let text = slice("a", version, address);
        text.replace("\"shop\"", &format!("{namespace:?}"))
    };
    match (asked.what, asked.is_watch, asked.before) {
        ("endpointslices", false, _) => Some(Answer::list("10", &[object(5, "10.0.0.1")])),
        ("endpointslices", true, 0..2) if namespace == "shop" => Some(Answer::ok([
            Piece::Wait(Duration::from_secs(6)),
            Piece::Text(format!("{}\n", event("DELETED", &object(11, "10.0.0.1")))),
            Piece::Hang,
        ])),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_watched_each_and_told_as_one_list() {
    let mut scene = Scene::with(namespaced, |config| {
        config.namespaces(vec!["shop".into(), "till".into()])
    })
    .await;
    let told = all(&scene.synced(Kind::Slices).await);
    assert_eq!(told.last().unwrap(), "synced");
    assert!(told.contains(&"shop/a = 10.0.0.1".into()), "{told:?}");
    assert!(told.contains(&"till/a = 10.0.0.1".into()), "{told:?}");
    let told = all(&scene.until(Kind::Slices, |_| true).await);
    assert_eq!(told, ["remove EndpointSlice shop/a"]);
    let uris: Vec<_> = scene
        .server
        .asked("services", false)
        .into_iter()
        .map(|asked| asked.uri)
        .collect();
    assert!(
        uris.iter()
            .all(|uri| uri.starts_with("/api/v1/namespaces/")),
        "{uris:?}"
    );
    assert_eq!(uris.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_as_stale_as_its_worst_namespace() {
    let mut scene = Scene::with(
        |asked: &Asked| {
            let is_sick = asked.is_watch && asked.uri.contains("/namespaces/till/");
            is_sick.then(|| Answer::status(500, "sick"))
        },
        |config| config.namespaces(vec!["shop".into(), "till".into()]),
    )
    .await;
    scene.synced(Kind::Slices).await;
    let is_stale = |scene: &Scene| scene.status.state(Kind::Slices) == WatchState::Stale;
    scene.wait_for("stale", is_stale).await;
    scene.pass(Duration::from_secs(60)).await;
    assert!(is_stale(&scene));
    assert!(scene.status.kind_age(Kind::Slices).unwrap() > Duration::from_secs(50));
}

#[tokio::test]
async fn what_is_no_namespace_is_refused_at_start() {
    let config = |namespaces: Vec<String>| {
        let node = discovery_core::model::NodeName::parse("n1").unwrap();
        let config = KubeConfig::new(node, discovery_core::model::ZoneKeys::default());
        config
            .server(Some("http://127.0.0.1:1".into()))
            .namespaces(namespaces)
    };
    let error = KubeSource::new(config(vec!["a/b".into()]), status())
        .await
        .unwrap_err();
    assert!(matches!(error, KubeSourceError::Namespace { namespace, .. } if namespace == "a/b"));
    let many = (0..65).map(|n| format!("n{n}")).collect();
    let error = KubeSource::new(config(many), status()).await.unwrap_err();
    assert!(matches!(
        error,
        KubeSourceError::Namespaces { namespaces: 65 }
    ));
}
