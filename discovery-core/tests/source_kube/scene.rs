// SPDX-License-Identifier: MIT OR Apache-2.0
//! A source at work on a scripted server, in a time that is moved on as soon as all I/O has settled; and the objects of
//! the scripts.

use crate::server::{Answer, Asked, Piece, Server, Tls};
use discovery_core::{
    clock::Clock,
    model::{NodeName, ZoneKeys},
    source::{FailureReason, KubeConfig, KubeSource, SourceStatus},
    store::{Kind, Object, Problem, SourceId, Update},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// A source at work on a scripted server.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) status: Arc<SourceStatus>,
    pub(crate) updates: mpsc::Receiver<Update>,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Scene {
    pub(crate) async fn new(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::with(script, |config| config).await
    }

    pub(crate) async fn with(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        configure: impl FnOnce(KubeConfig) -> KubeConfig,
    ) -> Self {
        Self::served(script, |config, _| configure(config)).await
    }

    /// As [`Scene::with`], for what needs the server's address.
    pub(crate) async fn served(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        configure: impl FnOnce(KubeConfig, &str) -> KubeConfig,
    ) -> Self {
        Self::over(None, script, configure).await
    }

    /// As [`Scene::served`], over TLS when there is one.
    pub(crate) async fn over(
        tls: Option<Tls>,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        configure: impl FnOnce(KubeConfig, &str) -> KubeConfig,
    ) -> Self {
        let server = Server::over(tls, script).await;
        tokio::spawn(pass_time());
        let status = status();
        let node = NodeName::parse("n1").unwrap();
        let config =
            KubeConfig::new(node, ZoneKeys::default()).server(Some(server.address.clone()));
        let source = KubeSource::new(configure(config, &server.address), status.clone())
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
    pub(crate) async fn until(
        &mut self,
        kind: Kind,
        is_last: impl Fn(&Update) -> bool,
    ) -> Vec<Update> {
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

    pub(crate) async fn synced(&mut self, kind: Kind) -> Vec<Update> {
        self.until(kind, |update| matches!(update, Update::Synced(..)))
            .await
    }

    /// Waits until the condition holds, taking updates off the queue meanwhile; how long that took.
    pub(crate) async fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = tokio::time::Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < Duration::from_secs(3600),
                "{what} in an hour"
            );
            let _ = timeout(Duration::from_millis(100), self.updates.recv()).await;
        }
        start.elapsed()
    }

    /// As [`Scene::wait_for`], with the updates that came meanwhile.
    pub(crate) async fn told_until(
        &mut self,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> (Duration, Vec<Update>) {
        let (start, mut told) = (tokio::time::Instant::now(), Vec::new());
        while !holds(self) {
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(3600), "{what} in an hour");
            if let Ok(update) = timeout(Duration::from_millis(100), self.updates.recv()).await {
                told.extend(update);
            }
        }
        (start.elapsed(), told)
    }

    /// Lets time pass, taking updates off the queue meanwhile.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            let _ = timeout(Duration::from_millis(100), self.updates.recv()).await;
        }
    }

    /// Waits until this was asked so often, taking updates off the queue meanwhile.
    pub(crate) async fn asked(&mut self, what: &str, is_watch: bool, times: usize) -> Vec<Asked> {
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

/// The status of a source that lives in the test's time.
pub(crate) fn status() -> Arc<SourceStatus> {
    Arc::new(SourceStatus::new(SourceId::Kube, Arc::new(PausedClock)))
}

/// The paused time, for the ages of the status.
struct PausedClock;

impl Clock for PausedClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Moves the paused time. Tokio alone would move it whenever tasks wait, also while an answer is on its way through a
/// socket; here every yield polls the sockets once.
pub(crate) async fn pass_time() {
    loop {
        for _ in 0..SETTLE_POLLS {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

const SETTLE_POLLS: usize = 100;

/// What failed how often.
pub(crate) fn failures(status: &SourceStatus, kind: Kind) -> Vec<(FailureReason, u64)> {
    FailureReason::ALL
        .map(|reason| (reason, status.errors(kind, reason)))
        .into_iter()
        .filter(|(_, times)| *times > 0)
        .collect()
}

pub(crate) fn kind_of(update: &Update) -> Kind {
    match update {
        Update::Reset(_, kind)
        | Update::WentBack(_, kind)
        | Update::Denied(_, kind)
        | Update::Synced(_, kind) => *kind,
        Update::Upsert(_, object) => object.key().kind(),
        Update::Remove(_, key) | Update::Absent(_, key) | Update::Kept(_, key) => key.kind(),
        Update::Reject(_, problem) => problem.kind,
        // It is found out from services.
        Update::Foreign(_) | Update::Another(_) | Update::Ours(_) => Kind::Services,
    }
}

/// An update in a few words.
pub(crate) fn words(update: &Update) -> String {
    match update {
        Update::Reset(..) => "reset".into(),
        Update::WentBack(..) => "went back".into(),
        Update::Denied(..) => "denied".into(),
        Update::Foreign(_) => "foreign".into(),
        Update::Another(_) => "another cluster".into(),
        Update::Ours(_) => "our cluster".into(),
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
        Update::Kept(_, key) => format!("kept {key}"),
        Update::Remove(_, key) => format!("remove {key}"),
        Update::Absent(_, key) => format!("absent {key}"),
        Update::Reject(_, Problem { object, place, .. }) => format!("reject {object} at {place}"),
    }
}

pub(crate) fn all(updates: &[Update]) -> Vec<String> {
    updates.iter().map(words).collect()
}

pub(crate) fn slice(name: &str, version: u32, address: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"{name}","resourceVersion":"{version}",
        "labels":{{"kubernetes.io/service-name":"web"}}}},"endpoints":[{{"addresses":["{address}"]}}]}}"#
    )
    .replace('\n', " ")
}

/// A slice with a field of a wrong type.
pub(crate) fn bad_slice(name: &str, version: u32) -> String {
    slice(name, version, "10.9.9.9")
        .replace(r#"["10.9.9.9"]"#, "7")
        .replace(r#""endpoints":[{"addresses":7}]"#, r#""endpoints":"bad""#)
}

pub(crate) fn node(name: &str, version: u32, zone: Option<&str>) -> String {
    let labels = zone.map_or(String::new(), |zone| {
        format!(r#""topology.kubernetes.io/zone":"{zone}""#)
    });
    format!(
        r#"{{"metadata":{{"name":"{name}","resourceVersion":"{version}","labels":{{{labels}}}}}}}"#
    )
}

pub(crate) fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

pub(crate) fn bookmark(version: u32) -> String {
    event(
        "BOOKMARK",
        &format!(r#"{{"metadata":{{"resourceVersion":"{version}"}}}}"#),
    )
}

pub(crate) fn error(code: u16) -> String {
    event(
        "ERROR",
        &format!(r#"{{"kind":"Status","code":{code},"message":"said so"}}"#),
    )
}

/// A script for the slices alone: the answers to its lists and watches, the last of each again and again.
pub(crate) fn slices(
    lists: Vec<Answer>,
    watches: Vec<Answer>,
) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync {
    move |asked| {
        let answers = if asked.is_watch { &watches } else { &lists };
        (asked.what == "endpointslices")
            .then(|| answers[asked.before.min(answers.len() - 1)].clone())
    }
}

pub(crate) fn abc(version: u32) -> Answer {
    let items = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];
    Answer::list(
        &version.to_string(),
        &items.map(|(name, address)| slice(name, version, address)),
    )
}

/// A watch without events that ends as asked for.
pub(crate) fn quiet(asked: &Asked) -> Answer {
    let seconds = asked.query("timeoutSeconds").unwrap().parse().unwrap();
    Answer::ok([Piece::Wait(Duration::from_secs(seconds))])
}

pub(crate) fn hang() -> Answer {
    Answer::events(&[])
}
