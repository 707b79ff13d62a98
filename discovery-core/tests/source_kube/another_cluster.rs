// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another cluster that answers while we run: nothing of it is told, what ours said last stays, and how that ends.

use crate::{
    restart::{start, until, usable},
    scene::*,
    server::{Answer, Asked, Piece, Server},
};
use discovery_core::{
    source::WatchState,
    store::{Coverage, HoldReason, Kind, Snapshot, Update},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// An address that leads to our cluster, or to another one with as many services.
#[derive(Clone, Default)]
struct Address {
    is_other: Arc<AtomicBool>,
    /// Whether the other cluster takes a watch from a version of ours.
    takes_watches: bool,
}

impl Address {
    fn leads_to_other(&self, is_other: bool) {
        self.is_other.store(is_other, Relaxed);
    }

    fn script(&self) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static {
        let address = self.clone();
        move |asked: &Asked| {
            let is_other = address.is_other.load(Relaxed);
            let (uid, version, pod) = if is_other {
                (OTHER, 7, "10.66.0.1")
            } else {
                (OURS, 10, "10.0.0.1")
            };
            let service = format!(
                r#"{{"metadata":{{"namespace":"default","name":"kubernetes","uid":"{uid}","resourceVersion":"2"}},
                "spec":{{"type":"ClusterIP","ports":[{{"port":443}}]}}}}"#
            )
            .replace('\n', " ");
            let item = match asked.what {
                _ if asked.is_watch => {
                    let is_refused = is_other
                        && !address.takes_watches
                        && asked.query("resourceVersion") == Some("10");
                    return Some(if is_refused {
                        Answer::status(410, "too old")
                    } else {
                        hang()
                    });
                }
                "cluster" => return Some(Answer::ok([Piece::Text(service)])),
                "services" => service,
                "own-node" | "nodes" => node("n1", version, Some("mall-1")),
                "endpointslices" => slice("web-1", version, pod).replace(
                    &format!(r#""addresses":["{pod}"]"#),
                    &format!(r#""addresses":["{pod}"],"nodeName":"n1""#),
                ),
                _ => return None,
            };
            Some(Answer::list(&version.to_string(), &[item]))
        }
    }
}

const OURS: &str = "cluster-ours";
const OTHER: &str = "cluster-other";
const KINDS: [(&str, Kind); 4] = [
    ("own-node", Kind::OwnNode),
    ("nodes", Kind::Nodes),
    ("services", Kind::Services),
    ("endpointslices", Kind::Slices),
];

fn is_live(scene: &Scene) -> bool {
    let mut kinds = KINDS.iter();
    kinds.all(|(_, kind)| scene.status.state(*kind) == WatchState::Live)
}

fn is_held(scene: &Scene) -> bool {
    scene.status.other_cluster().is_some()
}

/// A scene in which our cluster was read.
async fn ours(address: &Address) -> Scene {
    let mut scene = Scene::with(address.script(), |config| config).await;
    scene.wait_for("live", is_live).await;
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(scene.status.cluster_uid().as_deref(), Some(OURS));
    scene
}

fn lists_and_watches(scene: &Scene) -> usize {
    let asked = KINDS.iter().map(|(what, _)| {
        scene.server.asked(what, false).len() + scene.server.asked(what, true).len()
    });
    asked.sum()
}

#[tokio::test(start_paused = true)]
async fn no_list_of_another_cluster_is_told_and_ours_is_read_anew_when_it_is_back() {
    let address = Address::default();
    let mut scene = ours(&address).await;
    address.leads_to_other(true);
    scene.server.cut_all();
    let (waited, mut told) = scene.told_until("held", is_held).await;
    assert!(waited <= Duration::from_secs(15), "{waited:?}");
    let asked = lists_and_watches(&scene);
    told.extend(scene.told_until("ten minutes", passed(600)).await.1);
    assert_eq!(all(&told), ["another cluster"], "and nothing of it");
    assert_eq!(
        lists_and_watches(&scene),
        asked,
        "nothing is listed or watched"
    );
    let questions = scene.server.asked("cluster", false).len();
    assert!((14..=32).contains(&questions), "{questions} in ten minutes");
    assert_eq!(scene.status.other_cluster().as_deref(), Some(OTHER));
    assert_eq!(scene.status.cluster_uid().as_deref(), Some(OURS));
    assert!(!scene.status.is_connected());
    address.leads_to_other(false);
    let (back, told) = scene.told_until("live again", is_live).await;
    assert!(back <= Duration::from_secs(50), "{back:?}");
    assert!(matches!(told[0], Update::Ours(_)), "{:?}", all(&told));
    assert!(all(&told).contains(&"shop/web-1 = 10.0.0.1".to_owned()));
    assert_eq!(scene.status.other_cluster(), None);
}

/// A condition that holds after so many seconds.
fn passed(seconds: u64) -> impl Fn(&Scene) -> bool {
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    move |_| tokio::time::Instant::now() >= end
}

#[tokio::test(start_paused = true)]
async fn another_cluster_that_takes_our_watches_is_found_out_after_the_connections_broke() {
    let address = Address {
        takes_watches: true,
        ..Address::default()
    };
    let mut scene = ours(&address).await;
    address.leads_to_other(true);
    scene.server.cut_all();
    let (waited, told) = scene.told_until("held", is_held).await;
    assert!(waited <= Duration::from_secs(10), "{waited:?}");
    let told = all(&told);
    assert!(
        told.iter().all(|told| told == "another cluster"),
        "{told:?}"
    );
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
}

#[tokio::test(start_paused = true)]
async fn another_cluster_behind_connections_that_hold_is_found_out_within_six_minutes() {
    let address = Address {
        takes_watches: true,
        ..Address::default()
    };
    let mut scene = ours(&address).await;
    address.leads_to_other(true);
    let waited = scene.wait_for("held", is_held).await;
    assert!(waited <= Duration::from_secs(360), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn where_the_service_may_not_be_read_by_name_everything_goes_on_as_it_is() {
    let address = Address::default();
    let script = address.script();
    let mut scene = Scene::new(move |asked: &Asked| match asked.what {
        "cluster" => Some(Answer::status(403, "may not get services")),
        _ => script(asked),
    })
    .await;
    scene.wait_for("live", is_live).await;
    scene.server.cut_all();
    scene.pass(Duration::from_secs(5)).await;
    scene.wait_for("live again", is_live).await;
    scene.pass(Duration::from_secs(600)).await;
    assert!(!is_held(&scene));
    assert!(is_live(&scene));
    let asked = scene.server.asked("cluster", false).len();
    assert!(asked <= 8, "{asked} questions in ten minutes");
}

fn serves(pod: &str) -> impl Fn(&Snapshot) -> bool {
    let address: std::net::IpAddr = pod.parse().unwrap();
    move |snapshot| {
        let web = snapshot.service(&"shop/web".parse().unwrap());
        web.is_some_and(|web| {
            web.usable()
                .any(|endpoint| endpoint.addresses().contains(&address))
        })
    }
}

#[tokio::test]
async fn a_runtime_serves_what_ours_said_last_until_a_person_accepts_the_other_cluster() {
    let (folder, address) = (tempfile::tempdir().unwrap(), Address::default());
    let server = Server::start(address.script()).await;
    let runtime = start(folder.path(), &server).await;
    until(&runtime, "synced", |s| s.coverage() == Coverage::Synced).await;
    address.leads_to_other(true);
    server.cut_all();
    let is_told = |snapshot: &Snapshot| {
        let mut held = snapshot.held().iter();
        held.any(|held| held.reason == HoldReason::AnotherCluster)
    };
    let snapshot = until(&runtime, "told", is_told).await;
    assert_eq!(usable(&snapshot), 1);
    assert!(serves("10.0.0.1")(&snapshot));
    let status = runtime.status();
    assert!(status.readiness.ready, "{:?}", status.readiness);
    let expected = "another cluster answers kube; what ours said last, 2 objects, is kept";
    assert_eq!(status.held, [expected]);
    assert_eq!(status.sources[0].other_cluster.as_deref(), Some(OTHER));
    let metrics = runtime.metrics().expose();
    assert!(metrics.contains(r#"zonal_source_other_cluster{source="kube"} 1"#));
    runtime.accept();
    let snapshot = until(&runtime, "the other one is served", serves("10.66.0.1")).await;
    assert_eq!(usable(&snapshot), 1, "no pod of ours is left");
    let snapshot = until(&runtime, "nothing is held", |s| s.held().is_empty()).await;
    assert_eq!(snapshot.zone().zone().unwrap().as_str(), "mall-1");
    let status = runtime.status();
    assert_eq!(status.sources[0].other_cluster, None);
    assert_eq!(status.sources[0].cluster_uid.as_deref(), Some(OTHER));
    runtime.stop().await;
}
