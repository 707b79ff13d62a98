// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Consul source against a scripted agent: what callers see when it refuses, hangs, resets or lies.
//!
//! Time is paused and moved on by a task that lets all I/O settle before each step, so that minutes take milliseconds and no
//! test sleeps.

#[path = "source_consul/server.rs"]
mod server;

use discovery_core::{
    clock::SystemClock,
    model::NodeName,
    source::{ConsulConfig, ConsulSource, FailureReason, Secret, SourceStatus, Token, WatchState},
    store::{Coverage, Kind, Reader, SourceId, StateConfig, Tier, channel},
};
use serde_json::json;
use server::{Answer, Asked, Server};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// A source at work on a scripted agent, and a store that takes in what it says.
struct Scene {
    server: Server,
    status: Arc<SourceStatus>,
    reader: Reader,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Scene {
    async fn new(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(script, |config| config).await
    }

    async fn with(
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        configure: impl FnOnce(ConsulConfig) -> ConsulConfig,
    ) -> Self {
        let server = Server::start(script).await;
        tokio::spawn(pass_time());
        let status = Arc::new(SourceStatus::new(SourceId::Consul, Arc::new(SystemClock)));
        let node = NodeName::parse("edge-a").unwrap();
        let config = ConsulConfig::new(server.address.parse().unwrap());
        let config = configure(config.own_node(Some(node.clone())));
        let source = ConsulSource::new(config, status.clone()).unwrap();
        let (sender, mut updates) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(source.run(sender, cancel.clone()));
        let (mut writer, reader) = channel(StateConfig::new(node));
        tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                writer.apply(update);
                writer.publish();
            }
        });
        Self {
            server,
            status,
            reader,
            cancel,
            task,
        }
    }

    /// The usable endpoints of a service; none when it does not exist.
    fn addresses(&self, service: &str) -> Option<Vec<String>> {
        let snapshot = self.reader.load();
        let view = snapshot.service(&service.parse().unwrap())?;
        let members = view.tiers().iter().flat_map(Tier::members);
        let usable = members.filter(|endpoint| endpoint.is_usable());
        Some(
            usable
                .map(|endpoint| endpoint.addresses()[0].to_string())
                .collect(),
        )
    }

    fn problems(&self) -> Vec<String> {
        let snapshot = self.reader.load();
        let problems = snapshot.problems().iter();
        problems
            .map(|p| format!("{} at {}: {}", p.object, p.place, p.reason))
            .collect()
    }

    /// Waits for a condition, for a day of the test's time at most.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(86_400);
        while !holds(self) {
            assert!(
                Instant::now() < end,
                "never {what}: {:?} {:?} asked {:?}",
                self.reader.load(),
                self.status,
                self.server.asked(None).len()
            );
            step().await;
        }
    }

    async fn until_web_is(&self, expected: Option<&[&str]>) {
        let is = |scene: &Self| scene.addresses("web").as_deref() == expected.map(own).as_deref();
        self.until(&format!("web is {expected:?}"), is).await;
    }

    /// Lets time pass.
    async fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        self.until("time passes", |_| Instant::now() >= end).await;
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// Moves the paused time. Tokio alone would move it whenever tasks wait, also while an answer is on its way through a
/// socket; here every yield polls the sockets once.
async fn pass_time() {
    loop {
        step().await;
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

async fn step() {
    for _ in 0..SETTLE_POLLS {
        tokio::task::yield_now().await;
    }
}

const SETTLE_POLLS: usize = 50;

fn instance(id: &str, address: &str, status: &str) -> serde_json::Value {
    json!({
        "Node": { "Node": "edge-a", "Address": "10.0.0.9", "Datacenter": "dc1" },
        "Service": { "ID": id, "Address": address, "Port": 80 },
        "Checks": [{ "CheckID": "c", "Status": status }],
    })
}

fn web() -> String {
    json!([instance("web-1", "10.0.0.1", "passing")]).to_string()
}

/// A query that finds nothing newer waits until its time is over.
fn blocked(asked: &Asked, index: u64, body: impl Into<String>) -> Answer {
    let answer = Answer::ok(index, body);
    match asked.index() {
        Some(known) if known >= index => answer.after(WAIT),
        _ => answer,
    }
}

/// A catalog with `web`, our node, and what the script says of `web`.
fn site(script: impl Fn(&Asked) -> Answer) -> impl Fn(&Asked) -> Answer {
    move |asked| match asked.what.as_str() {
        "catalog/services" => blocked(asked, 5, r#"{"consul":[],"web":[]}"#),
        "catalog/node/edge-a" => blocked(
            asked,
            5,
            r#"{"Node":{"Node":"edge-a","Address":"10.0.0.9","Datacenter":"dc1"}}"#,
        ),
        "health/service/web" => script(asked),
        other => panic!("unexpected question {other}"),
    }
}

const WAIT: Duration = Duration::from_secs(46);

#[tokio::test(start_paused = true)]
async fn a_site_is_read_and_followed() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = up.clone();
    let scene = Scene::new(site(move |asked| {
        let (index, status) = if is_up.load(SeqCst) {
            (7, "warning")
        } else {
            (8, "critical")
        };
        let body = json!([instance("web-1", "10.0.0.1", status)]).to_string();
        blocked(asked, index, body)
    }))
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    let snapshot = scene.reader.load();
    assert_eq!(snapshot.coverage(), Coverage::Synced);
    assert_eq!(snapshot.zone().zone().unwrap().as_str(), "dc1");
    for kind in [Kind::OwnNode, Kind::Services, Kind::Slices] {
        assert_eq!(scene.status.state(kind), WatchState::Live, "{kind}");
    }
    assert!(scene.status.is_connected());
    up.store(false, SeqCst);
    scene.until_web_is(Some(&[])).await;
    scene.cancel.cancel();
    scene.task.await.unwrap();
    assert!(!scene.status.is_connected());
}

#[tokio::test(start_paused = true)]
async fn quiet_queries_are_signs_of_life_and_few() {
    let scene = Scene::new(site(|asked| blocked(asked, 7, web()))).await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    let before = scene.server.asked(None).len();
    scene.pass(Duration::from_secs(3600)).await;
    let asked = scene.server.asked(None).len() - before;
    assert!(
        (200..260).contains(&asked),
        "{asked} questions of three watches in an hour"
    );
    let stale = scene.server.asked(Some("health/service/web"));
    assert!(stale.iter().all(|asked| asked.query("stale").is_some()));
    assert_eq!(stale.last().unwrap().index(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn f29_a_refusal_is_one_clear_error_asked_about_once_a_minute() {
    let scene = Scene::new(|_| Answer::status(403, "Permission denied")).await;
    let start = Instant::now();
    scene
        .until("the refusal is told", |scene| !scene.problems().is_empty())
        .await;
    scene.pass(Duration::from_secs(600)).await;
    let asked = scene.server.asked(None);
    assert!(
        (9..=13).contains(&asked.len()),
        "{} by two watches in ten minutes",
        asked.len()
    );
    let catalog = scene.server.asked(Some("catalog/services"));
    assert!(catalog[1].at - catalog[0].at >= Duration::from_secs(60));
    let problems = scene.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains(r#"node_prefix "" { policy = "read" }"#),
        "{problems:?}"
    );
    let refusals = |kind| scene.status.errors(kind, FailureReason::Forbidden);
    let refusals = refusals(Kind::Services) + refusals(Kind::OwnNode);
    assert_eq!(refusals, asked.len() as u64);
    assert_eq!(scene.reader.load().coverage(), Coverage::Partial);
    assert!(start.elapsed() >= Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn f29_a_token_that_is_revoked_changes_nothing_that_is_served() {
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = revoked.clone();
    let names: Vec<_> = (0..20)
        .map(|n| format!("s{n}"))
        .chain(["web".to_owned()])
        .collect();
    let scene = Scene::with(
        move |asked: &Asked| match asked.what.as_str() {
            _ if is_revoked.load(SeqCst) => Answer::status(403, "ACL not found"),
            "health/service/web" => blocked(asked, 7, web()),
            "catalog/node/edge-a" => site(|_| unreachable!())(asked),
            _ => blocked(asked, 7, "[]"),
        },
        move |config| {
            config
                .services(names)
                .token(Token::Given(Secret::new("t-1")))
        },
    )
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    assert!(
        scene
            .server
            .asked(None)
            .iter()
            .all(|asked| asked.headers["x-consul-token"] == "t-1")
    );
    assert!(
        scene.server.asked(Some("catalog/services")).is_empty(),
        "plain names need no catalog"
    );
    revoked.store(true, SeqCst);
    scene
        .until("the refusal is told", |scene| !scene.problems().is_empty())
        .await;
    // Those that were under way when the first was refused may meet the same refusal once.
    scene.pass(Duration::from_secs(60)).await;
    let before = scene.server.asked(None).len();
    scene.pass(Duration::from_secs(600)).await;
    let asked = scene.server.asked(None).len() - before;
    assert!(
        asked <= 11,
        "{asked} questions of 22 watches in ten minutes"
    );
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    let problems = scene.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("does not know our token"),
        "{problems:?}"
    );
    revoked.store(false, SeqCst);
    scene
        .until("the error is gone", |scene| scene.problems().is_empty())
        .await;
    scene
        .until("all is live", |scene| {
            scene.status.state(Kind::Slices) == WatchState::Live
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_service_that_is_forbidden_holds_nobody_up() {
    let scene = Scene::with(
        |asked: &Asked| match asked.what.as_str() {
            "health/service/secret" => Answer::status(403, "Permission denied"),
            "health/service/hidden" => {
                blocked(asked, 7, "[]").header("x-consul-results-filtered-by-acls", "true")
            }
            _ => site(|asked| blocked(asked, 7, web()))(asked),
        },
        |config| config.services(["secret", "hidden", "web"]),
    )
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    let problems = scene.problems().join("\n");
    assert!(
        problems.contains(r#"service "secret" { policy = "read" }"#),
        "{problems}"
    );
    assert!(
        problems.contains(r#"service "hidden" { policy = "read" }"#),
        "{problems}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_acls_hide_is_not_gone() {
    let hidden = Arc::new(AtomicBool::new(false));
    let is_hidden = hidden.clone();
    let scene = Scene::new(move |asked: &Asked| {
        let filtered = |answer: Answer| answer.header("x-consul-results-filtered-by-acls", "true");
        match asked.what.as_str() {
            "catalog/services" if is_hidden.load(SeqCst) => filtered(blocked(asked, 9, "{}")),
            "health/service/web" if is_hidden.load(SeqCst) => filtered(blocked(asked, 9, "[]")),
            _ => site(|asked| blocked(asked, 7, web()))(asked),
        }
    })
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    hidden.store(true, SeqCst);
    scene
        .until("it is told", |scene| !scene.problems().is_empty())
        .await;
    scene.pass(Duration::from_secs(300)).await;
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    assert!(
        scene.problems()[0].contains("hides some of it"),
        "{:?}",
        scene.problems()
    );
}

#[tokio::test(start_paused = true)]
async fn f30_an_index_that_goes_backward_starts_the_query_anew() {
    let restored = Arc::new(AtomicBool::new(false));
    let is_restored = restored.clone();
    let scene = Scene::new(site(move |asked| {
        if is_restored.load(SeqCst) {
            let body = json!([instance("web-2", "10.0.0.2", "passing")]).to_string();
            // A server that was restored does not know the index: it answers when the time is over.
            match asked.index() {
                Some(known) if known > 12 => Answer::ok(12, body).after(WAIT),
                _ => blocked(asked, 12, body),
            }
        } else {
            blocked(asked, 9_000, web())
        }
    }))
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    restored.store(true, SeqCst);
    scene.until_web_is(Some(&["10.0.0.2"])).await;
    scene.pass(Duration::from_secs(120)).await;
    let asked = scene.server.asked(Some("health/service/web"));
    let indexes: Vec<_> = asked.iter().map(Asked::index).collect();
    let anew = indexes.iter().skip(1).position(Option::is_none);
    let anew = 1 + anew.unwrap_or_else(|| panic!("never asked without an index: {indexes:?}"));
    assert_eq!(indexes[anew - 1], Some(9_000));
    assert_eq!(indexes[anew + 1], Some(12));
}

#[tokio::test(start_paused = true)]
async fn f31_a_query_that_hangs_ends_at_its_time_and_the_view_stays() {
    let hung = Arc::new(AtomicBool::new(false));
    let hangs = hung.clone();
    let scene = Scene::new(site(move |asked| match asked.index() {
        Some(_) if hangs.load(SeqCst) => Answer::never(),
        _ => blocked(asked, 7, web()),
    }))
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    hung.store(true, SeqCst);
    let late = |scene: &Scene| scene.status.errors(Kind::Slices, FailureReason::Deadline);
    scene.until("it is late", |scene| late(scene) == 1).await;
    let first = scene
        .server
        .asked(Some("health/service/web"))
        .last()
        .unwrap()
        .at;
    scene
        .until("it is late again", |scene| late(scene) == 2)
        .await;
    let asked = scene.server.asked(Some("health/service/web"));
    assert!(asked.last().unwrap().at > first);
    let (wait, limit) = (Duration::from_secs(45), Duration::from_millis(54_500));
    assert_eq!(asked.last().unwrap().query("wait"), Some("45000ms"));
    let took = asked.last().unwrap().at.elapsed();
    assert!(
        took >= limit && took < limit + Duration::from_secs(2),
        "{took:?} for {wait:?}"
    );
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Stale);
    hung.store(false, SeqCst);
    scene
        .until("it is live", |scene| {
            scene.status.state(Kind::Slices) == WatchState::Live
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_index_of_0_is_never_waited_on() {
    let scene = Scene::new(site(|_| Answer::ok(0, web()))).await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    scene.pass(Duration::from_secs(60)).await;
    let asked = scene.server.asked(Some("health/service/web"));
    assert!(asked.iter().all(|asked| asked.index().is_none()));
    assert!(
        (5..25).contains(&asked.len()),
        "{} in a minute",
        asked.len()
    );
}

#[tokio::test(start_paused = true)]
async fn early_returns_without_news_are_answered_with_patience() {
    let index = AtomicU64::new(7);
    let scene = Scene::new(site(move |_| Answer::ok(index.fetch_add(1, SeqCst), web()))).await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    let generation = scene.reader.load().generation();
    scene.pass(Duration::from_secs(120)).await;
    let asked = scene.server.asked(Some("health/service/web")).len();
    assert!(asked < 30, "{asked} in two minutes");
    assert_eq!(
        scene.reader.load().generation(),
        generation,
        "the same is no update"
    );
    assert_eq!(scene.status.state(Kind::Slices), WatchState::Live);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_the_past_is_not_believed_and_the_view_stays() {
    let lost = Arc::new(AtomicBool::new(false));
    let is_lost = lost.clone();
    let scene = Scene::new(site(move |asked| {
        match (is_lost.load(SeqCst), asked.query("stale")) {
            (true, Some(_)) => Answer::ok(3, "[]").header("x-consul-knownleader", "false"),
            (true, None) => Answer::status(500, "No cluster leader"),
            (false, _) => blocked(asked, 7, web()),
        }
    }))
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    lost.store(true, SeqCst);
    let failures = |scene: &Scene| scene.status.errors(Kind::Slices, FailureReason::NoLeader);
    scene
        .until("the leader is asked", |scene| failures(scene) > 3)
        .await;
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    assert_eq!(scene.problems(), own(&[]), "it passes by itself");
    scene
        .until("it is stale", |s| {
            s.status.age().is_some_and(|age| age.as_secs_f64() > 0.0)
        })
        .await;
    lost.store(false, SeqCst);
    scene
        .until("it is live", |scene| {
            scene.status.state(Kind::Slices) == WatchState::Live
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_data_empties_nothing_for_a_minute() {
    let emptied = Arc::new(AtomicBool::new(false));
    let is_empty = emptied.clone();
    let scene = Scene::new(move |asked: &Asked| match asked.what.as_str() {
        "catalog/services" if is_empty.load(SeqCst) => Answer::ok(3, r#"{"consul":[]}"#),
        "health/service/web" if is_empty.load(SeqCst) => Answer::ok(3, "[]"),
        "catalog/services" => blocked(asked, 900, r#"{"consul":[],"web":[]}"#),
        _ => site(|asked| blocked(asked, 900, web()))(asked),
    })
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    emptied.store(true, SeqCst);
    let asked = scene.server.asked(None).len();
    scene
        .until("it is asked again", |scene| {
            scene.server.asked(None).len() > asked + 3
        })
        .await;
    let start = Instant::now();
    scene.pass(Duration::from_secs(50)).await;
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    scene.until_web_is(None).await;
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_costs_nothing_that_was_known() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    let scene = Scene::new(site(move |asked| {
        if is_broken.load(SeqCst) {
            Answer::ok(9, "<html>a proxy's page</html>")
        } else {
            blocked(asked, 7, web())
        }
    }))
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    broken.store(true, SeqCst);
    scene
        .until("it is told", |scene| !scene.problems().is_empty())
        .await;
    assert!(scene.problems()[0].contains("health/service/web does not decode"));
    assert_eq!(scene.addresses("web"), Some(own(&["10.0.0.1"])));
    broken.store(false, SeqCst);
    scene
        .until("it is mended", |scene| scene.problems().is_empty())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_deregistered_is_gone_and_no_longer_asked_about() {
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = gone.clone();
    let scene = Scene::new(move |asked: &Asked| match asked.what.as_str() {
        "catalog/services" if is_gone.load(SeqCst) => blocked(asked, 9, r#"{"consul":[]}"#),
        "health/service/web" if is_gone.load(SeqCst) => blocked(asked, 9, "[]"),
        _ => site(|asked| blocked(asked, 7, web()))(asked),
    })
    .await;
    scene.until_web_is(Some(&["10.0.0.1"])).await;
    gone.store(true, SeqCst);
    scene.until_web_is(None).await;
    scene.pass(Duration::from_secs(60)).await;
    let asked = scene.server.asked(Some("health/service/web")).len();
    scene.pass(Duration::from_secs(300)).await;
    assert_eq!(scene.server.asked(Some("health/service/web")).len(), asked);
    assert_eq!(scene.problems(), own(&[]));
}

#[tokio::test(start_paused = true)]
async fn more_services_than_connections_take_turns() {
    let names: Vec<_> = (0..150).map(|n| format!("s{n}")).collect();
    let catalog = json!(
        names
            .iter()
            .map(|n| (n.clone(), json!([])))
            .collect::<serde_json::Map<_, _>>()
    );
    let catalog = catalog.to_string();
    let scene = Scene::with(
        move |asked: &Asked| match asked.what.as_str() {
            "catalog/services" => blocked(asked, 5, catalog.clone()),
            "catalog/node/edge-a" => site(|_| unreachable!())(asked),
            _ => {
                let wait = asked
                    .query("wait")
                    .map_or(0, |wait| wait[..wait.len() - 2].parse().unwrap());
                Answer::ok(7, web()).after(Duration::from_millis(wait))
            }
        },
        |config| config.services_max(200),
    )
    .await;
    scene
        .until("all are read", |scene| {
            scene.reader.load().services().count() == 150
        })
        .await;
    scene.pass(Duration::from_secs(120)).await;
    for name in &names {
        let asked = scene.server.asked(Some(&format!("health/service/{name}")));
        let gaps = asked.windows(2).map(|pair| pair[1].at - pair[0].at);
        let longest = gaps.max().unwrap();
        assert!(
            longest < Duration::from_secs(20),
            "{name} waited {longest:?}"
        );
    }
}
