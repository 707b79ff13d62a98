// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service account of a pod: its authority and its token in a folder that the kubelet replaces as a whole.

use crate::{
    certificates::Authority,
    scene::*,
    server::{Answer, Asked, Piece, Tls},
};
use discovery_core::{
    model::{NodeName, ZoneKeys},
    source::{FailureReason, KubeConfig, KubeSource, WatchState},
    store::{Kind, Update},
};
use std::{error::Error as _, fs, os::unix::fs::symlink, path::Path, time::Duration};
use tempfile::TempDir;

/// The volume of a service account, as the kubelet writes it: files that are links into a folder, which is a link itself and
/// is replaced in one step.
struct Volume {
    folder: TempDir,
    written: u32,
}

impl Volume {
    fn new(authority: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "token", "namespace"] {
            symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
        }
        let mut volume = Self { folder, written: 0 };
        volume.replace(authority, token);
        volume
    }

    fn replace(&mut self, authority: &str, token: &str) {
        let (root, before) = (self.folder.path(), self.written);
        self.written += 1;
        let name = |number: u32| format!("..2026_11_29_{number}");
        let new = root.join(name(self.written));
        fs::create_dir(&new).unwrap();
        for (file, text) in [
            ("ca.crt", authority),
            ("token", token),
            ("namespace", "zonal-system"),
        ] {
            fs::write(new.join(file), text).unwrap();
        }
        symlink(name(self.written), root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if before > 0 {
            fs::remove_dir_all(root.join(name(before))).unwrap();
        }
    }
}

fn bearer(asked: &Asked) -> &str {
    let header = asked.headers.get("authorization");
    header.map_or("", |header| header.to_str().unwrap())
}

/// A source in a pod of the cluster, whose watches end as servers end them.
async fn scene(tls: &Tls, volume: &Volume) -> Scene {
    let script = |asked: &Asked| match (asked.what, asked.is_watch) {
        ("endpointslices", false) => Some(abc(10)),
        (_, true) => Some(Answer::ok([Piece::Wait(Duration::from_secs(28))])),
        _ => None,
    };
    let configure = |config: KubeConfig, server: &str| {
        let server = server.trim_start_matches("https://").to_owned();
        let folder = volume.folder.path().to_owned();
        config.server(None).service_account(folder, server)
    };
    Scene::over(Some(tls.clone()), script, configure).await
}

#[tokio::test(start_paused = true)]
async fn f20_the_authority_and_token_of_a_pod_are_used_within_60_seconds_of_their_rotation() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = Tls::new(old.server(None));
    let mut volume = Volume::new(&old.pem(), "first\n");
    let mut scene = scene(&tls, &volume).await;
    scene.synced(Kind::Slices).await;
    let asked = scene.server.asked("endpointslices", false);
    assert!(asked.iter().all(|asked| bearer(asked) == "Bearer first"));
    volume.replace(&(old.pem() + &new.pem()), "second\n");
    let is_used = |scene: &Scene| {
        let asked = ["services", "endpointslices"].map(|what| scene.server.asked(what, true));
        let mut last = asked.iter().map(|asked| asked.last());
        last.all(|asked| asked.is_some_and(|asked| bearer(asked) == "Bearer second"))
    };
    let (took, mut told) = scene.told_until("the new token", is_used).await;
    assert!(took <= Duration::from_secs(60), "{took:?}");
    // The servers change over.
    tls.replace(new.server(None));
    scene.server.cut_all();
    let start = tokio::time::Instant::now();
    let is_live_again = |scene: &Scene| {
        let kinds = [Kind::Services, Kind::Slices];
        let mut states = kinds.iter().map(|kind| scene.status.state(*kind));
        start.elapsed() > Duration::from_secs(40) && states.all(|state| state == WatchState::Live)
    };
    told.extend(scene.told_until("live again", is_live_again).await.1);
    let refused = |kind| scene.status.errors(kind, FailureReason::Certificate);
    assert!(Kind::ALL.into_iter().all(|kind| refused(kind) == 0));
    let taken = told
        .iter()
        .filter(|update| !matches!(update, Update::Upsert(..)));
    assert_eq!(taken.count(), 0, "{:?}", all(&told));
    assert_eq!(
        scene.status.lists(Kind::Slices),
        1,
        "no list was read again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_authority_is_no_longer_that_of_the_server_trusts_nobody_until_it_is_told() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = Tls::new(new.server(None));
    let mut volume = Volume::new(&old.pem(), "token");
    let mut scene = scene(&tls, &volume).await;
    scene.pass(Duration::from_secs(60)).await;
    assert!(
        scene.server.asked("services", false).is_empty(),
        "no token was shown"
    );
    assert_eq!(
        scene.status.last_failure(Kind::Services),
        Some(FailureReason::Certificate)
    );
    volume.replace(&new.pem(), "token");
    scene.synced(Kind::Slices).await;
}

#[tokio::test]
async fn a_folder_without_an_authority_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = NodeName::parse("n1").unwrap();
    let config = || KubeConfig::new(node.clone(), ZoneKeys::default());
    for text in [None, Some("no certificate")] {
        if let Some(text) = text {
            fs::write(folder.path().join("ca.crt"), text).unwrap();
        }
        let config = config().service_account(folder.path().to_owned(), "127.0.0.1:1".into());
        let error = KubeSource::new(config, status()).await.unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(source.contains("ca.crt"), "{source}");
    }
}
