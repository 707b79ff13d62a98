// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credentials that change while we run: real files, as the kubelet rotates them.

use crate::{
    scene::*,
    server::{Answer, Asked},
};
use discovery_core::{source::FailureReason, store::Kind};
use std::{fs, path::Path, time::Duration};

fn kubeconfig(folder: &Path, server: &str) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let token = folder.join("token").display().to_string();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: {server:?}}}}}]\n\
         users: [{{name: u, user: {{tokenFile: {token:?}}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Writes a token as the kubelet does: a new file that takes the old one's place.
fn rotate(folder: &Path, token: &str) {
    let new = folder.join("token.new");
    fs::write(&new, token).unwrap();
    fs::rename(new, folder.join("token")).unwrap();
}

fn bearer(asked: &Asked) -> &str {
    let header = asked.headers.get("authorization");
    header.map_or("", |header| header.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_is_used_within_60_seconds_without_restart() {
    let folder = tempfile::tempdir().unwrap();
    rotate(folder.path(), "first");
    let mut scene = Scene::served(
        |asked: &Asked| {
            asked
                .is_watch
                .then(|| Answer::ok([crate::server::Piece::Wait(Duration::from_secs(28))]))
        },
        |config, server| {
            config
                .server(None)
                .kubeconfig(Some(kubeconfig(folder.path(), server)))
        },
    )
    .await;
    let watches = scene.asked("services", true, 2).await;
    assert!(watches.iter().all(|asked| bearer(asked) == "Bearer first"));
    rotate(folder.path(), "second");
    let uses_new = |scene: &Scene| {
        let asked = scene.server.asked("services", true);
        asked
            .last()
            .is_some_and(|asked| bearer(asked) == "Bearer second")
    };
    let took = scene.wait_for("the new token", uses_new).await;
    assert!(took <= Duration::from_secs(60), "{took:?}");
    assert_eq!(
        scene.status.lists(Kind::Services),
        1,
        "no list was read again for it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_read_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    rotate(folder.path(), "old");
    let path = folder.path().to_owned();
    let mut scene = Scene::served(
        move |asked: &Asked| {
            if bearer(asked) == "Bearer new" {
                return None;
            }
            // It is replaced in the moment in which it is refused.
            rotate(&path, "new");
            Some(Answer::status(401, "Unauthorized"))
        },
        |config, server| {
            config
                .server(None)
                .kubeconfig(Some(kubeconfig(folder.path(), server)))
        },
    )
    .await;
    let start = tokio::time::Instant::now();
    scene.synced(Kind::Services).await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        scene
            .status
            .errors(Kind::Services, FailureReason::Unauthorized),
        1
    );
}
