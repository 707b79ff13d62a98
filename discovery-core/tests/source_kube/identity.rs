// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose the snapshot on disk is when a runtime starts again: by the UID of the service `default/kubernetes`. In real time,
//! since a runtime lives in it; every wait is for a condition.

use crate::{
    certificates::Authority,
    restart::{cluster, run_once, start, until, usable},
    server::{Answer, Asked, Server, Tls},
};
use discovery_core::{
    runtime::Runtime,
    store::{Coverage, Snapshot},
};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

fn service(name: &str, uid: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"default","name":"{name}","uid":"{uid}","resourceVersion":"2"}},
        "spec":{{"type":"ClusterIP","ports":[{{"port":443}}]}}}}"#
    )
    .replace('\n', " ")
}

/// A cluster with the service `shop/web` of one endpoint, whose UID may change.
#[derive(Clone, Default)]
struct Site {
    /// Empty while the service is not shown.
    uid: Arc<Mutex<String>>,
    /// Answers nothing but services, one more than before; the other lists are still owed.
    is_slow: Arc<AtomicBool>,
}

impl Site {
    fn new(uid: &str) -> Self {
        let site = Self::default();
        site.becomes(uid);
        site
    }

    fn becomes(&self, uid: &str) {
        uid.clone_into(&mut self.uid.lock().unwrap());
    }

    fn script(&self) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static {
        let (site, rest) = (self.clone(), cluster(10));
        move |asked: &Asked| match (asked.what, asked.is_watch) {
            ("services", false) => {
                let uid = site.uid.lock().unwrap();
                let shown = Some(service("kubernetes", &uid)).filter(|_| !uid.is_empty());
                let news = site.is_slow.load(Relaxed).then(|| service("news", "-"));
                let items: Vec<_> = shown.into_iter().chain(news).collect();
                Some(Answer::list("10", &items))
            }
            ("own-node" | "nodes" | "endpointslices", _) if site.is_slow.load(Relaxed) => {
                Some(Answer::never())
            }
            _ => rest(asked),
        }
    }
}

fn has_news(snapshot: &Snapshot) -> bool {
    snapshot.service(&"default/news".parse().unwrap()).is_some()
}

/// What the status and the metrics say of the snapshot on disk.
fn told(runtime: &Runtime) -> (Option<String>, Option<String>, bool) {
    let kube = &runtime.status().sources[0];
    let gauge = r#"zonal_source_snapshot_foreign{source="kube"} 1"#;
    let is_counted = runtime.metrics().expose().contains(gauge);
    (
        kube.cluster_uid.clone(),
        kube.snapshot_dropped.clone(),
        is_counted,
    )
}

#[tokio::test]
async fn the_same_cluster_keeps_its_snapshot_when_its_authority_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (tls, site) = (Tls::new(old.server(None)), Site::new("cluster-a"));
    let server = Server::over(Some(tls.clone()), site.script()).await;
    fs::write(folder.path().join("ca.crt"), old.pem()).unwrap();
    run_once(folder.path(), &server).await;
    tls.replace(new.server(None));
    fs::write(folder.path().join("ca.crt"), new.pem()).unwrap();
    site.is_slow.store(true, Relaxed);
    let runtime = start(folder.path(), &server).await;
    assert_eq!(
        usable(&runtime.reader().load()),
        1,
        "served before anything is asked"
    );
    let snapshot = until(&runtime, "services", has_news).await;
    assert_eq!(
        usable(&snapshot),
        1,
        "and after the cluster has said who it is"
    );
    assert_eq!(told(&runtime), (Some("cluster-a".into()), None, false));
    runtime.stop().await;
}

#[tokio::test]
async fn another_cluster_at_the_same_address_drops_the_snapshot_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new("cluster-a");
    let server = Server::start(site.script()).await;
    run_once(folder.path(), &server).await;
    site.becomes("cluster-b");
    site.is_slow.store(true, Relaxed);
    let runtime = start(folder.path(), &server).await;
    assert_eq!(
        usable(&runtime.reader().load()),
        1,
        "nobody knows better yet"
    );
    let snapshot = until(&runtime, "dropped", |s| s.coverage() == Coverage::Partial).await;
    assert_eq!(usable(&snapshot), 0);
    assert!(!runtime.readiness().ready, "{:?}", runtime.readiness());
    let another = Some("another-cluster".to_owned());
    assert_eq!(told(&runtime), (Some("cluster-b".into()), another, true));
    runtime.stop().await;
    // The run that has read it keeps it under its own UID.
    site.is_slow.store(false, Relaxed);
    run_once(folder.path(), &server).await;
    site.is_slow.store(true, Relaxed);
    let runtime = start(folder.path(), &server).await;
    until(&runtime, "services", has_news).await;
    assert_eq!(told(&runtime).1, None, "the snapshot is of the new one now");
    runtime.stop().await;
}

#[tokio::test]
async fn where_the_service_is_not_shown_another_authority_is_another_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (tls, site) = (Tls::new(old.server(None)), Site::new("cluster-a"));
    let server = Server::over(Some(tls.clone()), site.script()).await;
    fs::write(folder.path().join("ca.crt"), old.pem()).unwrap();
    run_once(folder.path(), &server).await;
    site.becomes("");
    site.is_slow.store(true, Relaxed);
    // Under the old name it is believed.
    let runtime = start(folder.path(), &server).await;
    until(&runtime, "services", has_news).await;
    assert_eq!(told(&runtime), (None, None, false));
    runtime.stop().await;
    tls.replace(new.server(None));
    fs::write(folder.path().join("ca.crt"), new.pem()).unwrap();
    let runtime = start(folder.path(), &server).await;
    until(&runtime, "dropped", |s| s.coverage() == Coverage::Partial).await;
    assert_eq!(told(&runtime).1.as_deref(), Some("another-cluster"));
    runtime.stop().await;
}
