// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients of a node's agent over its real socket: the same picks, changes, strangers, slow ones, and an agent that is away.

use discovery_core::{
    client::{Discovery, DiscoveryBuilder},
    hash::HashKey,
    model::{AddressRules, NodeName},
    pick::candidates,
    runtime::{AgentSocketConfig, AgentSocketError, Runtime, RuntimeConfig, SourceConfig},
    source::{AgentConfig, PeerUids},
    store::{Coverage, Reader},
    telemetry::ClientEnd,
};
use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// An agent on a manifest file, in a folder of its own that anybody may enter.
struct Site {
    folder: TempDir,
    agent: Option<Runtime>,
}

impl Site {
    fn new(pods: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let site = Self {
            folder,
            agent: None,
        };
        site.write(pods, "strict");
        site
    }

    async fn start(&mut self, config: impl FnOnce(AgentSocketConfig) -> AgentSocketConfig) {
        let source = SourceConfig::Manifest {
            path: self.manifest(),
        };
        let node = NodeName::parse("edge-a").unwrap();
        let rules = AddressRules::new(true, []);
        let agent = RuntimeConfig::new(node, source).state(|state| state.addresses(rules));
        let agent = Runtime::start(agent).await.unwrap();
        let socket = AgentSocketConfig::new(self.socket());
        agent.serve_agent_socket(config(socket)).unwrap();
        agent.ready().await;
        self.agent = Some(agent);
    }

    async fn started(pods: usize) -> Self {
        let mut site = Self::new(pods);
        site.start(|config| config).await;
        site
    }

    async fn stop(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    fn agent(&self) -> &Runtime {
        self.agent.as_ref().unwrap()
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("mall.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/agent.sock")
    }

    /// The manifest of a service with so many pods, written whole beside and moved into place.
    fn write(&self, pods: usize, policy: &str) {
        let mut text = format!(
            "{{apiVersion: v1, kind: List, items: [
  {{apiVersion: v1, kind: Node, metadata: {{name: edge-a, labels: {{topology.kubernetes.io/zone: mall-1}}}}}},
  {{apiVersion: v1, kind: Node, metadata: {{name: edge-b, labels: {{topology.kubernetes.io/zone: mall-2}}}}}},
  {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop, annotations: {{zonal.dev/zone-policy: {policy}}}}},
   spec: {{ports: [{{name: http, port: 80}}]}}}},
  {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
   metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}},
   ports: [{{name: http, port: 8080}}], endpoints: [\n"
        );
        for pod in 0..pods {
            let node = if pod % 5 == 4 { "edge-b" } else { "edge-a" };
            let (high, low) = (pod / 250, pod % 250 + 1);
            writeln!(
                text,
                "{{addresses: [10.1.{high}.{low}], nodeName: {node}, targetRef: {{kind: Pod, name: web-{pod}, uid: u{pod}}}}},"
            )
            .unwrap();
        }
        text.push_str("]}]}\n");
        let beside = self.folder.path().join("mall.new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.manifest()).unwrap();
    }

    fn client(&self) -> DiscoveryBuilder {
        Discovery::builder().agent(self.socket())
    }
}

/// For keys of all kinds the whole order of candidates, with addresses.
fn orders(reader: &Reader) -> Vec<String> {
    let snapshot = reader.load();
    let view = snapshot.service(&"shop/web".parse().unwrap()).unwrap();
    let order = |key: u32| {
        let order = candidates(view, HashKey::of(&key.to_le_bytes()));
        let order = order.map(|e| format!("{}@{:?}", e.identity(), e.socket(Some("http"))));
        order.collect::<Vec<_>>().join(" ")
    };
    (0..500).map(order).collect()
}

/// Waits until the service has so many usable endpoints here.
async fn usable(mut reader: Reader, count: usize) {
    let waiting = async {
        while reader
            .load()
            .service(&"shop/web".parse().unwrap())
            .is_none_or(|view| view.usable().count() != count)
        {
            reader.changed().await.expect("the writer lives");
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    waited.unwrap_or_else(|_| panic!("{count} endpoints are usable"));
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} in 15 s");
}

#[tokio::test]
async fn a_client_picks_what_the_agent_picks_bit_for_bit() {
    let site = Site::started(60).await;
    let client = site.client().start().await.unwrap();
    client.ready().await;
    let ours = || orders(&client.runtime().reader());
    assert_eq!(ours(), orders(&site.agent().reader()));
    // Two more of our zone, then those of the other zone too.
    for (pods, policy, count) in [(62, "strict", 50), (40, "any", 40)] {
        site.write(pods, policy);
        usable(client.runtime().reader(), count).await;
        usable(site.agent().reader(), count).await;
        assert_eq!(ours(), orders(&site.agent().reader()));
    }
    let agent = site.agent().metrics().agent();
    assert_eq!((agent.views_told(), agent.clients()), (1, 1));
    assert!(agent.changes_told() >= 2);
    client.stop().await;
}

#[tokio::test]
async fn a_client_goes_on_while_the_agent_is_away_and_follows_when_it_is_back() {
    let mut site = Site::started(10).await;
    let client = site.client().start().await.unwrap();
    client.ready().await;
    let before = orders(&client.runtime().reader());
    site.stop().await;
    let lost = || !client.runtime().status().sources[0].connected;
    eventually("the client has noticed", lost).await;
    assert_eq!(orders(&client.runtime().reader()), before);
    assert!(
        !site.socket().exists(),
        "an agent that ends takes its socket away"
    );
    site.write(20, "strict");
    site.start(|config| config).await;
    usable(client.runtime().reader(), 16).await;
    assert_eq!(
        orders(&client.runtime().reader()),
        orders(&site.agent().reader())
    );
    client.stop().await;
}

#[tokio::test]
async fn a_client_that_begins_without_an_agent_serves_the_view_on_disk() {
    let mut site = Site::started(10).await;
    let kept = site.folder.path().join("kept");
    let client = site.client().snapshot_folder(&kept).start().await.unwrap();
    client.ready().await;
    let before = orders(&client.runtime().reader());
    eventually("the view is kept", || kept.join("agent-view").exists()).await;
    client.stop().await;
    site.stop().await;
    let begun = site.client().snapshot_folder(&kept).start().await.unwrap();
    begun.ready().await;
    assert_eq!(orders(&begun.runtime().reader()), before);
    assert_eq!(begun.runtime().reader().load().coverage(), Coverage::Disk);
    begun.stop().await;
    // A damaged one is refused, and nothing is served in its place.
    let file = kept.join("agent-view");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = site.client().snapshot_folder(&kept).start().await.unwrap();
    eventually("the socket was tried", || {
        refused.runtime().status().sources[0]
            .kinds
            .iter()
            .any(|kind| kind.last_failure.is_some())
    })
    .await;
    assert!(!refused.runtime().readiness().ready);
    refused.stop().await;
}

#[tokio::test]
async fn an_own_watch_stands_in_for_an_agent_that_is_away_for_too_long() {
    let mut site = Site::new(10);
    let own = SourceConfig::Manifest {
        path: site.manifest(),
    };
    let patience = AgentConfig::new(site.socket()).patience(Duration::from_millis(200));
    let client = Discovery::builder()
        .node("edge-a")
        .agent_with(patience)
        .or_own_watch(own)
        .start()
        .await
        .unwrap();
    usable(client.runtime().reader(), 8).await;
    let before = orders(&client.runtime().reader());
    let own = || client.runtime().status().sources[1].connected;
    assert!(own());
    site.start(|config| config).await;
    let followed = || client.runtime().status().sources[0].connected;
    eventually("the agent is followed again", followed).await;
    assert_eq!(orders(&client.runtime().reader()), before);
    // From now on the agent alone tells.
    site.write(15, "strict");
    usable(client.runtime().reader(), 12).await;
    assert_eq!(
        orders(&client.runtime().reader()),
        orders(&site.agent().reader())
    );
    client.stop().await;
}

#[tokio::test]
async fn a_client_over_the_limit_is_refused_and_counted() {
    let mut site = Site::new(5);
    site.start(|config| config.clients_max(1)).await;
    let first = site.client().start().await.unwrap();
    first.ready().await;
    let second = site.client().start().await.unwrap();
    let metrics = site.agent().metrics().agent().clone();
    eventually("the second is refused", || {
        metrics.ended(ClientEnd::Limit) > 0
    })
    .await;
    assert!(!second.runtime().readiness().ready);
    first.stop().await;
    second.ready().await;
    assert_eq!(metrics.clients(), 1);
    second.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_told_everything_anew() {
    let mut site = Site::new(3_000);
    site.start(|config| config.write_timeout(Duration::from_millis(300)))
        .await;
    let good = site.client().start().await.unwrap();
    good.ready().await;
    let mut slow = UnixStream::connect(site.socket()).unwrap();
    slow.write_all(&open()).unwrap();
    let metrics = site.agent().metrics().agent().clone();
    eventually("the slow one is dropped", || {
        metrics.ended(ClientEnd::Slow) == 1
    })
    .await;
    site.write(2_000, "strict");
    usable(good.runtime().reader(), 1_600).await;
    let again = site.client().start().await.unwrap();
    usable(again.runtime().reader(), 1_600).await;
    assert_eq!(
        metrics.views_told(),
        2,
        "the good one's, and the one's that came back"
    );
    good.stop().await;
    again.stop().await;
}

/// The first word of a client, as its bytes stand on the wire.
fn open() -> Vec<u8> {
    let payload = br#"{"versions":[1],"client":"test"}"#;
    let mut frame = b"ZA\x01\x01".to_vec();
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(crc32fast::hash(payload).to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn words_that_are_none_end_a_connection_and_nothing_else() {
    let site = Site::started(5).await;
    let client = site.client().start().await.unwrap();
    client.ready().await;
    let metrics = site.agent().metrics().agent().clone();
    let hostile: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"ZA\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00",
        b"ZA\x01\x01\xff\xff\xff\xff\x00\x00\x00\x00",
        b"ZA\x01\x07\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    for (number, words) in hostile.into_iter().enumerate() {
        let path = site.socket();
        let answer = tokio::task::spawn_blocking(move || talk(&path, words));
        assert_eq!(answer.await.unwrap(), b"", "{number}");
    }
    let talkative = [open(), b"more".to_vec()].concat();
    let path = site.socket();
    let told = tokio::task::spawn_blocking(move || talk(&path, &talkative));
    assert_eq!(told.await.unwrap(), b"");
    assert_eq!(metrics.ended(ClientEnd::Protocol), 5);
    assert_eq!(metrics.clients(), 1);
    client.stop().await;
}

/// Says the words and reads until the other end closes.
fn talk(path: &Path, words: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // Refused early, the other end is closed already.
    let _ = stream.write_all(words);
    let mut answer = Vec::new();
    // A reset is an end too: the agent closed with bytes unread.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// What a stranger does: run by [`a_strangers_uid_is_refused`] as another user.
const STRANGER: &str = "ZONAL_TEST_STRANGER_AT";

#[tokio::test]
async fn a_strangers_uid_is_refused() {
    if let Some(path) = std::env::var_os(STRANGER) {
        assert_eq!(talk(Path::new(&path), &open()), b"", "nothing is told");
        return;
    }
    let mut site = Site::new(5);
    // The mode lets everybody in, so that the check of the uid is what refuses.
    site.start(|config| config.mode(0o666)).await;
    let metrics = site.agent().metrics().agent().clone();
    if rustix::process::geteuid().is_root() {
        let program = site.folder.path().join("stranger");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new(program);
        command
            .args(["--exact", "a_strangers_uid_is_refused"])
            .env(STRANGER, site.socket())
            .current_dir("/")
            .uid(65_534)
            .gid(65_534);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert_eq!(metrics.ended(ClientEnd::Stranger), 1);
    } else {
        assert!(std::env::var_os("CI").is_none(), "run as root in CI");
        println!("SKIPPED a_strangers_uid_is_refused: only root can be somebody else");
    }
    // The other way round: an agent of a user who is not believed.
    let distrust = AgentConfig::new(site.socket()).uids(PeerUids::only([4_711]));
    let client = Discovery::builder()
        .agent_with(distrust)
        .start()
        .await
        .unwrap();
    eventually("the agent is refused", || {
        let status = client.runtime().status();
        let refused = status.sources[0]
            .kinds
            .iter()
            .find_map(|kind| kind.last_failure.clone());
        refused.is_some_and(|reason| reason == "forbidden")
    })
    .await;
    assert!(!client.runtime().readiness().ready);
    client.stop().await;
}

/// Where a process in a pid namespace of its own finds the agent: run by [`a_client_in_another_pod_does_not_see_the_agents_process`].
const ANOTHER_POD: &str = "ZONAL_TEST_AGENT_AT";

/// The kernel names process 0 to whoever cannot see it, as in a pod with processes of its own.
#[tokio::test]
async fn a_client_in_another_pod_does_not_see_the_agents_process() {
    if let Some(path) = std::env::var_os(ANOTHER_POD) {
        let client = Discovery::builder().agent(path);
        let client = client.start().await.unwrap();
        let ready = tokio::time::timeout(Duration::from_secs(30), client.ready()).await;
        ready.expect("it follows the agent");
        client.stop().await;
        return;
    }
    let name = "a_client_in_another_pod_does_not_see_the_agents_process";
    let mut site = Site::started(5).await;
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(ANOTHER_POD, site.socket());
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    } else {
        assert!(std::env::var_os("CI").is_none(), "run as root in CI");
        println!("SKIPPED {name}: only root has namespaces");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_socket_has_its_mode_from_the_first_moment_and_replaces_only_sockets() {
    let mut site = Site::started(5).await;
    let mode = fs::metadata(site.socket()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o660);
    site.stop().await;
    fs::write(site.socket(), "something of somebody").unwrap();
    let source = SourceConfig::Manifest {
        path: site.manifest(),
    };
    let config = RuntimeConfig::new(NodeName::parse("edge-a").unwrap(), source);
    let other = Runtime::start(config).await.unwrap();
    let refused = other.serve_agent_socket(AgentSocketConfig::new(site.socket()));
    assert!(matches!(refused, Err(AgentSocketError::Taken { .. })));
    other.stop().await;
    // One that an agent left behind when it was killed is replaced.
    fs::remove_file(site.socket()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(site.socket()).unwrap());
    site.start(|config| config).await;
    let client = site.client().start().await.unwrap();
    client.ready().await;
    client.stop().await;
}
