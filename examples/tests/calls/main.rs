// SPDX-License-Identifier: MIT OR Apache-2.0
//! 100,000 keys called through the HTTP and the gRPC adapter while pods come and go in a real control plane.
//!
//! One half of the keys goes over each adapter, 64 calls at once. Meanwhile a pod drains, another joins, and the host of a
//! third loses its power. No call fails, over neither; each is answered by an owner of its key; only the keys of whoever came
//! or went move. The dead host is met by the calls under way and then left out, though it stays listed.
//! In a network namespace of its own, so that pods have addresses that are not loopback.

mod caller;

use anyhow::{Context as _, ensure};
use caller::Caller;
use discovery_core::{
    client::{Discovery, ServiceClient},
    hash::HashKey,
    pick::walk,
    store::{Endpoint, ServiceView},
};
use examples::Backend;
use serde_json::json;
use std::{
    net::IpAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use testbed::{Driver, Kube};

const NAME: &str = "no_call_fails_while_pods_drain_come_and_die_and_only_their_keys_move";
const INSIDE: &str = "ZONAL_CALLS_INSIDE";
const KEYS: u64 = 100_000;
const PORTS: [u16; 2] = [8080, 9090];
const WITHIN: Duration = Duration::from_secs(15);

#[test]
fn no_call_fails_while_pods_drain_come_and_die_and_only_their_keys_move() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        return runtime.unwrap().block_on(calls()).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(NAME, "a network namespace needs root");
    }
    for binary in [
        testbed::Binary::Etcd,
        testbed::Binary::KubeApiserver,
        testbed::Binary::KubeControllerManager,
    ] {
        match binary.find_blocking() {
            Ok(_) => {}
            Err(error) if error.is_unavailable() => return testbed::skip(NAME, &error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    let addresses: Vec<_> = (0..=PODS).map(|pod| address(pod).to_string()).collect();
    let script = format!(
        "ip link set lo up; for ip in {}; do ip addr add $ip/32 dev lo; done; exec \"$0\" --exact {NAME} --nocapture",
        addresses.join(" ")
    );
    let status = Command::new("unshare")
        .args(["--net", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}

/// Pods that the service begins with; one more joins.
const PODS: u8 = 5;

/// Calls that may meet the dead host: those under way when it died, five more, and one after each back-off; without ejection
/// a fifth of all that were left.
const MET_MAX: u64 = 300;

fn address(pod: u8) -> IpAddr {
    [10, 78, 1, pod + 1].into()
}

fn name(pod: u8) -> String {
    format!("web-{pod}")
}

async fn calls() -> anyhow::Result<()> {
    let kube = Kube::start().await?;
    let driver = kube.driver();
    let mut backends = stage(&driver).await?;
    let discovery = Discovery::builder()
        .node("edge-a")
        .kubeconfig(kube.admin_kubeconfig())
        .start()
        .await?;
    let mut web = discovery.service("default/web".parse()?);
    usable(&web, PODS.into()).await?;
    let at_first = owners(&mut web)?;

    let caller = Caller::start(&discovery, KEYS)?;
    // A pod drains: it is told to end, its callers see that, and it ends when they have gone.
    caller.reached(KEYS / 5).await?;
    driver.terminate_pod(&name(1), "default").await?;
    usable(&web, 4).await?;
    let gone = take(&mut backends, 1)?;
    gone.drain().await;
    driver.delete_pod(&name(1), "default").await?;
    let after_drain = owners(&mut web)?;

    // Another one joins.
    caller.reached(KEYS / 2).await?;
    backends.push(Backend::start(&name(PODS), address(PODS), PORTS).await?);
    pod(&driver, PODS).await?;
    usable(&web, 5).await?;
    let after_join = owners(&mut web)?;

    // The host of a third loses its power, and nobody tells.
    caller.reached(KEYS * 7 / 10).await?;
    let dead = take(&mut backends, 2)?;
    let answered_at_death = dead.answered();
    drop(dead);
    let outcome = caller.finish().await?;

    println!(
        "{KEYS} calls, {} failed; {} retried; {:.1} s",
        outcome.failures.len(),
        discovery.outcomes().1,
        outcome.took.as_secs_f64()
    );
    ensure!(
        outcome.failures.is_empty(),
        "{} calls failed, the first: {}",
        outcome.failures.len(),
        outcome.failures[0]
    );
    let met = discovery.outcomes().1;
    ensure!(
        (1..MET_MAX).contains(&met),
        "calls met the dead host and moved on, and then it was left out: {met}"
    );
    let snapshot = discovery.runtime().reader().load();
    let view = snapshot.service(web.name()).context("it is listed")?;
    ensure!(view.load().ejections() > 0, "the dead host was ejected");
    ensure!(answered_at_death > 0, "the dead host had answered before");

    moved_only(&at_first, &after_drain, |before, _| before == "web-1")?;
    moved_only(&after_drain, &after_join, |_, after| after == "web-5")?;
    let mut inherited = [0; 2];
    for (key, answered) in outcome.answers.iter().enumerate() {
        let may = [&at_first[key], &after_drain[key], &after_join[key]];
        let is_inherited =
            after_join[key] == "web-2" && *answered == successor(view, u64::try_from(key)?)?;
        ensure!(
            may.contains(&answered) || is_inherited,
            "key {key} was answered by {answered}, owned by {may:?}"
        );
        inherited[key % 2] += usize::from(is_inherited && !may.contains(&answered));
    }
    ensure!(
        inherited.iter().all(|keys| *keys > 0),
        "over HTTP and over gRPC keys of the dead host were answered by the next: {inherited:?}"
    );
    ensure!(
        discovery.clone().close(WITHIN).await.unfinished() == 0,
        "every call is over"
    );
    Ok(())
}

/// Makes node, service and pods, and starts what the pods run.
async fn stage(driver: &Driver) -> anyhow::Result<Vec<Backend>> {
    let zone = [("topology.kubernetes.io/zone", "mall-1")];
    driver.node("edge-a", &zone, [10, 78, 1, 200]).await?;
    let ports = json!([
        { "name": "http", "port": 80, "targetPort": PORTS[0] },
        { "name": "grpc", "port": 81, "targetPort": PORTS[1] },
    ]);
    let service = json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "app": "web" }, "ports": ports },
    });
    driver.service(service).await?;
    let mut backends = Vec::new();
    for number in 0..PODS {
        backends.push(Backend::start(&name(number), address(number), PORTS).await?);
        pod(driver, number).await?;
    }
    Ok(backends)
}

async fn pod(driver: &Driver, number: u8) -> anyhow::Result<()> {
    let (name, labels) = (name(number), [("app", "web")]);
    let made = driver.pod(&name, "default", &labels, "edge-a", address(number));
    Ok(made.await?)
}

fn take(backends: &mut Vec<Backend>, pod: u8) -> anyhow::Result<Backend> {
    let is_it = |backend: &Backend| backend.name() == name(pod);
    let at = backends.iter().position(is_it).context("it runs")?;
    Ok(backends.swap_remove(at))
}

/// Waits until so many endpoints may be picked.
async fn usable(web: &ServiceClient, count: usize) -> anyhow::Result<()> {
    let mut watch = web.watch();
    let waiting = async {
        loop {
            let change = watch.changed().await.context("discovery runs")?;
            let usable = change.view().map(|view| view.usable().count());
            if usable == Some(count) {
                return anyhow::Ok(());
            }
        }
    };
    let waited = tokio::time::timeout(WITHIN, waiting).await;
    waited.with_context(|| format!("{count} endpoints are usable"))?
}

/// The key of a call.
fn key(number: u64) -> HashKey {
    HashKey::of(format!("user-{number}").as_bytes())
}

fn text(endpoint: &Arc<Endpoint>) -> String {
    endpoint.identity().to_string()
}

/// The owner of each key.
fn owners(web: &mut ServiceClient) -> anyhow::Result<Vec<String>> {
    let owner = |number| Ok(text(&web.pick_n(key(number), 1)?[0]));
    (0..KEYS).map(owner).collect()
}

/// Who comes after the owner of the key by membership, whomever this process leaves out.
fn successor(view: &ServiceView, number: u64) -> anyhow::Result<String> {
    let walk = walk(view, key(number), None, Instant::now());
    let mut usable = walk.steps.iter().filter(|step| step.endpoint.is_usable());
    Ok(text(&usable.nth(1).context("two are usable")?.endpoint))
}

/// Each key whose owner is another one is one of those that had to move, and some had to.
fn moved_only(
    before: &[String],
    after: &[String],
    has_to: impl Fn(&str, &str) -> bool,
) -> anyhow::Result<()> {
    let pairs = || before.iter().zip(after);
    let moved = pairs().filter(|(before, after)| before != after).count();
    let wrong = pairs().find(|(before, after)| before != after && !has_to(before, after));
    ensure!(
        wrong.is_none(),
        "a key moved that had no reason to: {wrong:?}"
    );
    ensure!(moved > 0, "keys moved");
    println!(
        "{moved} of {} keys moved, all of them its own",
        before.len()
    );
    Ok(())
}
