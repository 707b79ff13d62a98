// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a manifest file states while it is written, broken, removed and put back. Waits for updates, never for time.

use discovery_core::{
    clock::SystemClock,
    model::{NodeName, ZoneKeys},
    source::{Manifest, ManifestError, SourceStatus},
    store::{Kind, Object, ObjectKey, SourceId, Update},
};
use std::{collections::BTreeSet, error::Error, fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Far longer than anything takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata:\n  name: host-a\n  labels:\n    topology.kubernetes.io/zone: mall-1\n";

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  ports:\n  - port: 80\n"
    )
}

/// A folder with a manifest, and what is known of it.
struct Site {
    folder: TempDir,
    status: Arc<SourceStatus>,
}

impl Site {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let status = Arc::new(SourceStatus::new(SourceId::Manifest, Arc::new(SystemClock)));
        let site = Self {
            folder: TempDir::new().unwrap(),
            status,
        };
        site.write(text);
        site
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mall.yaml")
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path(), text).unwrap();
    }

    fn open(&self) -> Result<Manifest, ManifestError> {
        let node = NodeName::parse("host-a").unwrap();
        Manifest::open(self.path(), node, ZoneKeys::default(), self.status.clone())
    }

    fn run(&self) -> Feed {
        let (sender, updates) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.open().unwrap().run(sender, stop.clone()));
        Feed {
            updates,
            stop,
            task,
            known: BTreeSet::new(),
            listing: BTreeSet::new(),
            rejected: vec![],
        }
    }
}

/// What a writer would know from the updates so far.
struct Feed {
    updates: mpsc::Receiver<Update>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    known: BTreeSet<ObjectKey>,
    listing: BTreeSet<ObjectKey>,
    rejected: Vec<String>,
}

impl Feed {
    async fn next(&mut self) -> Update {
        let update = timeout(PATIENCE, self.updates.recv())
            .await
            .expect("an update comes")
            .expect("the source runs");
        match &update {
            Update::Reset(_, kind) => self.listing.retain(|key| key.kind() != *kind),
            Update::Upsert(_, object) => {
                self.known.insert(object.key());
                self.listing.insert(object.key());
            }
            Update::Synced(_, kind) => {
                let listing = &self.listing;
                self.known
                    .retain(|key| key.kind() != *kind || listing.contains(key));
            }
            Update::Reject(_, problem) => self
                .rejected
                .push(format!("{}: {}", problem.place, problem.reason)),
            _ => {}
        }
        update
    }

    async fn until(&mut self, wanted: impl Fn(&Update) -> bool) {
        while !wanted(&self.next().await) {}
    }

    async fn synced(&mut self, wanted: Kind) {
        self.until(|update| matches!(update, Update::Synced(_, kind) if *kind == wanted))
            .await;
    }

    async fn rejected(&mut self) {
        self.until(|update| matches!(update, Update::Reject(..)))
            .await;
    }

    fn knows(&self, service: &str) -> bool {
        self.known
            .iter()
            .any(|key| key.to_string() == format!("Service shop/{service}"))
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the source stops")
            .unwrap();
    }
}

#[tokio::test]
async fn everything_is_stated_once_in_the_order_of_the_kinds() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints:\n- addresses: [10.0.0.1]\n";
    let site = Site::new(format!("{NODE}{}{slice}", service("web")));
    let mut feed = site.run();
    let mut kinds = Vec::new();
    while kinds.len() < Kind::ALL.len() {
        match feed.next().await {
            Update::Synced(source, kind) => {
                assert_eq!(source, SourceId::Manifest);
                kinds.push(kind);
            }
            Update::Upsert(_, Object::OwnNode(node)) => {
                assert_eq!(node.zone.unwrap().as_str(), "mall-1");
            }
            Update::Absent(..) | Update::Reject(..) => panic!("nothing is wrong"),
            _ => {}
        }
    }
    assert_eq!(kinds, Kind::ALL);
    let known: Vec<_> = feed.known.iter().map(ToString::to_string).collect();
    assert_eq!(
        known,
        [
            "Node host-a",
            "Node host-a",
            "Service shop/web",
            "EndpointSlice shop/web-1"
        ]
    );
    feed.stop().await;
}

#[tokio::test]
async fn a_file_without_our_node_says_that_it_is_absent() {
    let site = Site::new(service("web"));
    let mut feed = site.run();
    feed.until(|update| matches!(update, Update::Absent(_, ObjectKey::OwnNode(_))))
        .await;
    feed.stop().await;
}

#[tokio::test]
async fn a_change_is_seen_and_only_its_list_is_stated_again() {
    let site = Site::new(format!("{NODE}{}", service("web")));
    let mut feed = site.run();
    feed.synced(Kind::Slices).await;
    site.write(format!("{NODE}{}", service("shop")));
    assert_eq!(
        feed.next().await,
        Update::Reset(SourceId::Manifest, Kind::Services)
    );
    feed.synced(Kind::Services).await;
    assert!(feed.knows("shop") && !feed.knows("web"));
    feed.stop().await;
}

#[tokio::test]
async fn a_file_put_in_the_place_of_the_old_one_is_seen() {
    let site = Site::new(format!("{NODE}{}", service("web")));
    let mut feed = site.run();
    feed.synced(Kind::Slices).await;
    for name in ["one", "two"] {
        let beside = site.folder.path().join("mall.yaml.new");
        fs::write(&beside, format!("{NODE}{}", service(name))).unwrap();
        fs::rename(&beside, site.path()).unwrap();
        feed.synced(Kind::Services).await;
        assert!(feed.knows(name));
    }
    feed.stop().await;
}

#[tokio::test]
async fn a_file_that_is_removed_keeps_what_it_said_and_goes_on_when_it_is_back() {
    let site = Site::new(format!("{NODE}{}", service("web")));
    let mut feed = site.run();
    feed.synced(Kind::Slices).await;
    fs::remove_file(site.path()).unwrap();
    feed.rejected().await;
    assert!(
        feed.knows("web") && feed.rejected[0].contains("cannot be read"),
        "{:?}",
        feed.rejected
    );
    assert!(!site.status.is_connected());
    feed.synced(Kind::Slices).await;

    // The same again: the problem is taken back by a list, and nothing else is said.
    site.write(format!("{NODE}{}", service("web")));
    assert_eq!(
        feed.next().await,
        Update::Reset(SourceId::Manifest, Kind::Slices)
    );
    feed.synced(Kind::Slices).await;
    assert!(site.status.is_connected());

    site.write(format!("{NODE}{}", service("shop")));
    feed.synced(Kind::Services).await;
    assert!(feed.knows("shop"));
    assert_eq!(feed.rejected.len(), 1);
    feed.stop().await;
}

#[tokio::test]
async fn a_file_that_becomes_unusable_keeps_what_it_said() {
    for broken in [b"\xff\xfe".as_slice(), b"", b"# nothing\n"] {
        let site = Site::new(format!("{NODE}{}", service("web")));
        let mut feed = site.run();
        feed.synced(Kind::Slices).await;
        site.write(broken);
        feed.rejected().await;
        assert!(
            feed.knows("web") && !site.status.is_connected(),
            "{broken:?}"
        );
        site.write(format!("{NODE}{}", service("shop")));
        feed.synced(Kind::Services).await;
        assert!(feed.knows("shop") && !feed.knows("web"), "{broken:?}");
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_document_that_breaks_takes_nothing_back() {
    let site = Site::new(format!("{NODE}{}{}", service("one"), service("two")));
    let mut feed = site.run();
    feed.synced(Kind::Slices).await;
    site.write(format!("{NODE}{}---\n{{]\n", service("one")));
    feed.rejected().await;
    feed.synced(Kind::Slices).await;
    assert!(feed.knows("one") && feed.knows("two"));
    assert!(
        feed.rejected[0].contains("mall.yaml:17: "),
        "{:?}",
        feed.rejected
    );
    feed.stop().await;
}

#[tokio::test]
async fn it_ends_when_nobody_receives() {
    let site = Site::new(format!("{NODE}{}", service("web")));
    let Feed { updates, task, .. } = site.run();
    drop(updates);
    timeout(PATIENCE, task).await.expect("it ends").unwrap();
}

#[test]
fn a_file_that_cannot_be_read_as_a_whole_is_an_error() {
    let site = Site::new(b"kind: Service\nmetadata: {name: \xff}\n");
    assert!(matches!(
        site.open(),
        Err(ManifestError::NotUtf8 { line: 2, .. })
    ));

    site.write(vec![b'#'; 16 * 1024 * 1024 + 1]);
    assert!(matches!(site.open(), Err(ManifestError::TooLarge { .. })));

    fs::remove_file(site.path()).unwrap();
    let error = site.open().unwrap_err();
    assert!(matches!(error, ManifestError::Io { .. }) && error.source().is_some());

    fs::create_dir(site.path()).unwrap();
    assert!(
        matches!(site.open(), Err(ManifestError::Io { .. })),
        "a folder is no file"
    );
}

#[test]
fn an_empty_file_is_a_manifest_of_nothing() {
    assert!(Site::new("").open().is_ok());
}

#[test]
fn a_file_of_which_nothing_can_be_used_is_an_error_with_its_place() {
    let error = Site::new("kind: Service\nmetadata: {name: WEB}\n").open();
    let Err(ManifestError::Unusable { place, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(place.ends_with("mall.yaml:2: metadata.name"), "{place}");
}
