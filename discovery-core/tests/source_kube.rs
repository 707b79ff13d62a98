// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Kubernetes source against a scripted API server: what users of a cluster see when it lies, stalls or breaks.
//!
//! Time is paused and moved on by a task that lets all I/O settle before each step, so that minutes of backoff take
//! milliseconds and no test sleeps.

#[path = "source_kube/server.rs"]
mod server;

use discovery_core::{
    clock::{Clock, SystemClock, TestClock},
    model::{NodeName, Zone, ZoneKeys},
    source::{FailureReason, KubeConfig, KubeSource, SourceStatus, WatchState},
    store::{Kind, Object, Problem, SourceId, Update},
};
use server::{Answer, Asked, Piece, Server, list_body};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// A source at work on a scripted server.
struct Scene {
    server: Server,
    status: Arc<SourceStatus>,
    updates: mpsc::Receiver<Update>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Scene {
    async fn new(script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::with(script, |config| config).await
    }

    async fn clocked(
        clock: TestClock,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(clock, script, |config| config).await
    }

    async fn with(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        configure: impl FnOnce(KubeConfig) -> KubeConfig,
    ) -> Self {
        Self::start(SystemClock, script, configure).await
    }

    async fn start(
        clock: impl Clock,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        configure: impl FnOnce(KubeConfig) -> KubeConfig,
    ) -> Self {
        let server = Server::start(script).await;
        tokio::spawn(pass_time());
        let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(clock)));
        let node = NodeName::parse("n1").unwrap();
        let config =
            KubeConfig::new(node, ZoneKeys::default()).server(Some(server.address.clone()));
        let source = KubeSource::new(configure(config), status.clone())
            .await
            .unwrap();
        let (sender, updates) = mpsc::channel(4096);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(source.run(sender, cancel.clone()));
        Self {
            server,
            status,
            updates,
            cancel,
            task,
        }
    }

    /// The updates of a kind up to and with the first that `is_last` accepts.
    async fn until(&mut self, kind: Kind, is_last: impl Fn(&Update) -> bool) -> Vec<Update> {
        let mut seen = Vec::new();
        let wait = async {
            while let Some(update) = self.updates.recv().await {
                if kind_of(&update) == kind {
                    let last = is_last(&update);
                    seen.push(update);
                    if last {
                        return;
                    }
                }
            }
            panic!("the source ended");
        };
        let waited = timeout(Duration::from_secs(3600), wait).await;
        let seen_words = all(&seen);
        assert!(
            waited.is_ok(),
            "no such update in an hour; seen: {seen_words:#?}, failures: {:?}",
            failures(&self.status, kind)
        );
        seen
    }

    async fn synced(&mut self, kind: Kind) -> Vec<Update> {
        self.until(kind, |update| matches!(update, Update::Synced(..)))
            .await
    }

    /// Waits until this was asked so often, taking updates off the queue meanwhile.
    async fn asked(&mut self, what: &str, is_watch: bool, times: usize) -> Vec<Asked> {
        let wait = async {
            loop {
                let asked = self.server.asked(what, is_watch);
                if asked.len() >= times {
                    return asked;
                }
                let _ = timeout(Duration::from_millis(100), self.updates.recv()).await;
            }
        };
        timeout(Duration::from_secs(3600), wait)
            .await
            .expect("asked in an hour")
    }
}

/// Moves the paused time. Tokio alone would move it whenever tasks wait, also while an answer is on its way through a
/// socket; here every yield polls the sockets once.
async fn pass_time() {
    loop {
        for _ in 0..SETTLE_POLLS {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

const SETTLE_POLLS: usize = 50;

/// What failed how often.
fn failures(status: &SourceStatus, kind: Kind) -> Vec<(FailureReason, u64)> {
    FailureReason::ALL
        .map(|reason| (reason, status.errors(kind, reason)))
        .into_iter()
        .filter(|(_, times)| *times > 0)
        .collect()
}

fn kind_of(update: &Update) -> Kind {
    match update {
        Update::Reset(_, kind)
        | Update::WentBack(_, kind)
        | Update::Denied(_, kind)
        | Update::Synced(_, kind) => *kind,
        Update::Upsert(_, object) => object.key().kind(),
        Update::Remove(_, key) | Update::Absent(_, key) => key.kind(),
        Update::Reject(_, problem) => problem.kind,
    }
}

/// An update in a few words.
fn words(update: &Update) -> String {
    match update {
        Update::Reset(..) => "reset".into(),
        Update::WentBack(..) => "went back".into(),
        Update::Denied(..) => "denied".into(),
        Update::Synced(..) => "synced".into(),
        Update::Upsert(_, Object::Slice(slice)) => {
            let addresses: Vec<_> = slice
                .endpoints
                .iter()
                .map(|e| e.address.to_string())
                .collect();
            format!("{} = {}", slice.key, addresses.join(" "))
        }
        Update::Upsert(_, object) => format!("upsert {}", object.key()),
        Update::Remove(_, key) => format!("remove {key}"),
        Update::Absent(_, key) => format!("absent {key}"),
        Update::Reject(_, Problem { object, place, .. }) => format!("reject {object} at {place}"),
    }
}

fn all(updates: &[Update]) -> Vec<String> {
    updates.iter().map(words).collect()
}

fn slice(name: &str, version: u32, address: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"{name}","resourceVersion":"{version}",
        "labels":{{"kubernetes.io/service-name":"web"}}}},"endpoints":[{{"addresses":["{address}"]}}]}}"#
    )
    .replace('\n', " ")
}

/// A slice with a field of a wrong type.
fn bad_slice(name: &str, version: u32) -> String {
    slice(name, version, "10.9.9.9")
        .replace(r#"["10.9.9.9"]"#, "7")
        .replace(r#""endpoints":[{"addresses":7}]"#, r#""endpoints":"bad""#)
}

fn node(name: &str, version: u32, zone: Option<&str>) -> String {
    let labels = zone.map_or(String::new(), |zone| {
        format!(r#""topology.kubernetes.io/zone":"{zone}""#)
    });
    format!(
        r#"{{"metadata":{{"name":"{name}","resourceVersion":"{version}","labels":{{{labels}}}}}}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

fn bookmark(version: u32) -> String {
    event(
        "BOOKMARK",
        &format!(r#"{{"metadata":{{"resourceVersion":"{version}"}}}}"#),
    )
}

fn error(code: u16) -> String {
    event(
        "ERROR",
        &format!(r#"{{"kind":"Status","code":{code},"message":"said so"}}"#),
    )
}

/// A script for the slices alone: the answers to its lists and watches, the last of each again and again.
fn slices(
    lists: Vec<Answer>,
    watches: Vec<Answer>,
) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync {
    move |asked| {
        let answers = if asked.is_watch { &watches } else { &lists };
        (asked.what == "endpointslices")
            .then(|| answers[asked.before.min(answers.len() - 1)].clone())
    }
}

fn abc(version: u32) -> Answer {
    let items = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];
    Answer::list(
        &version.to_string(),
        &items.map(|(name, address)| slice(name, version, address)),
    )
}

fn hang() -> Answer {
    Answer::events(&[])
}

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
    assert!((40..=50).contains(&watches[0].query("timeoutSeconds").unwrap().parse().unwrap()));
    assert_eq!(watches[1].query("resourceVersion"), Some("99"));
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[0].query("limit"), Some("500"));
    assert_eq!(lists[1].query("continue"), Some("next%20page"));
    assert_eq!(lists.len(), 2);
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Live);
    assert!(scene.status.is_kind_connected(Kind::Slices));
    assert!(scene.status.age().is_some() && scene.status.bytes(Kind::Slices) > 500);
}

#[tokio::test(start_paused = true)]
async fn every_list_has_its_own_user_agent_and_watches_are_not_compressed() {
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
        assert_eq!(watch.headers["accept-encoding"], "identity", "{what}");
        assert_eq!(list.headers["user-agent"], watch.headers["user-agent"]);
        agents.push(list.headers["user-agent"].clone());
    }
    agents.sort_by_key(|agent| agent.as_bytes().to_owned());
    agents.dedup();
    assert_eq!(agents.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_410_at_the_start_of_a_watch_leads_to_a_list() {
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
async fn a_410_inside_a_watch_leads_to_a_list() {
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
async fn another_error_inside_a_watch_closes_it_and_the_next_resumes() {
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
async fn an_undecodable_change_is_told_and_the_list_is_read_again() {
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
async fn a_deletion_with_a_wrong_field_deletes() {
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
async fn one_bad_item_of_a_list_costs_only_itself() {
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
async fn a_list_that_fails_is_asked_ever_more_rarely() {
    let mut scene = Scene::new(slices(vec![Answer::status(500, "sick")], vec![hang()])).await;
    let lists = scene.asked("endpointslices", false, 30).await;
    let took = lists[29].at - lists[0].at;
    assert!(took > Duration::from_secs(180), "30 lists in {took:?}");
    assert_eq!(
        scene
            .status
            .errors(Kind::Slices, FailureReason::ServerError),
        30
    );
    assert!(!scene.status.is_kind_connected(Kind::Slices));
    assert_eq!(scene.status.kind_age(Kind::Slices), None);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_meets_its_deadline() {
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
async fn a_list_that_trickles_meets_its_deadline_too() {
    let trickle = std::iter::repeat_n(
        [Piece::Text(" ".into()), Piece::Wait(Duration::from_secs(1))],
        600,
    )
    .flatten();
    let mut scene = Scene::new(slices(vec![Answer::ok(trickle), abc(10)], vec![hang()])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Deadline),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_given_up_after_its_time() {
    let mut scene = Scene::new(slices(vec![abc(10)], vec![hang()])).await;
    let watches = scene.asked("endpointslices", true, 2).await;
    let waited = (watches[1].at - watches[0].at).as_secs();
    assert!((45..=57).contains(&waited), "{waited} s");
    assert_eq!(scene.status.errors(Kind::Slices, FailureReason::Silent), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stands_and_is_quiet_is_a_sign_of_life_and_one_of_a_cache_is_none() {
    for (watch, is_heard) in [(hang(), true), (Answer::ok([]), false)] {
        let clock = TestClock::default();
        let mut scene = Scene::clocked(clock.clone(), slices(vec![abc(10)], vec![watch])).await;
        scene.asked("endpointslices", true, 1).await;
        clock.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let age = scene.status.kind_age(Kind::Slices).unwrap();
        assert_eq!(age < Duration::from_secs(30), is_heard, "{age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_line_is_dropped_at_the_limit() {
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
async fn a_line_whose_json_ends_early_leads_to_a_list() {
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
async fn a_list_body_that_is_cut_in_half_is_asked_again() {
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
async fn half_a_list_states_nothing() {
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
            "shop/b = 10.0.0.2",
            "shop/c = 10.0.0.3",
            "synced"
        ]
    );
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[2].query("continue"), None, "the list begins anew");
}

#[tokio::test(start_paused = true)]
async fn empty_watches_of_a_cache_are_paced() {
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
async fn retry_after_is_honoured_and_nothing_is_retried_below() {
    let busy = Answer::status(429, "busy").header("retry-after", "20");
    let mut scene = Scene::new(slices(
        vec![busy, Answer::status(503, "down"), abc(10)],
        vec![hang()],
    ))
    .await;
    let lists = scene.asked("endpointslices", false, 3).await;
    assert!(lists[1].at - lists[0].at >= Duration::from_secs(20));
    assert!(lists[2].at - lists[1].at < Duration::from_secs(10));
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::Throttled),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_without_a_version_leads_to_a_list() {
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
async fn a_version_ahead_of_the_server_is_found_out() {
    let lists = vec![
        abc(1000),
        Answer::list("7", &[]),
        Answer::list("7", &[slice("a", 7, "10.0.0.7")]),
    ];
    let quiet = Answer::ok([Piece::Wait(Duration::from_secs(40))]);
    let mut scene = Scene::new(slices(lists, vec![quiet])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        all(&scene.synced(Kind::Slices).await),
        ["reset", "shop/a = 10.0.0.7", "synced"]
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
async fn a_missing_right_is_told_once_with_the_rule_and_withdrawn_when_it_is_given() {
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
            .contains(r#"resources: ["endpointslices"], verbs: ["get", "list", "watch"]"#),
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
async fn a_server_without_endpoint_slices_is_told() {
    let mut scene = Scene::new(slices(vec![Answer::status(404, "")], vec![hang()])).await;
    let told = scene
        .until(Kind::Slices, |update| matches!(update, Update::Reject(..)))
        .await;
    let Some(Update::Reject(_, problem)) = told.last() else {
        panic!("not told")
    };
    assert!(
        problem
            .reason
            .contains("does not serve endpointslices in discovery.k8s.io/v1"),
        "{}",
        problem.reason
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
    let status = Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(SystemClock)));
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
