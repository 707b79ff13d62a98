// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole mall on a real kube-apiserver and controller manager, in a network namespace of its own.
//!
//! The test starts itself again inside `unshare --net`, so that pods have addresses that are not loopback and every port
//! is free; the servers are found or built before, while there is a network.

mod site;

use anyhow::{Context as _, ensure};
use discovery_core::{
    client::Discovery, hash::HashKey, model::Zone, pick::candidates, store::ServiceView,
};
use site::{Agent, Site, dns_addresses, exchange, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn the_mall_serves_each_zone_its_own_and_outlives_its_control_plane() {
    let name = "the_mall_serves_each_zone_its_own_and_outlives_its_control_plane";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        return runtime.unwrap().block_on(mall()).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(name, "a network namespace needs root");
    }
    for binary in [
        testbed::Binary::Etcd,
        testbed::Binary::KubeApiserver,
        testbed::Binary::KubeControllerManager,
    ] {
        match binary.find_blocking() {
            Ok(_) => {}
            Err(error) if error.is_unavailable() => return testbed::skip(name, &error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    let addresses = site::ADDRESSES.join(" ");
    let script = format!(
        "ip link set lo up; for ip in {addresses}; do ip addr add $ip/32 dev lo; done; exec \"$0\" --exact {name} --nocapture"
    );
    let status = Command::new("unshare")
        .args(["--net", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "the mall inside the namespace failed: see above"
    );
}

async fn mall() -> anyhow::Result<()> {
    let mut site = Site::open().await?;
    let kubeconfig = site.agent_kubeconfig().await?;
    let mut one = Agent::start(&site, "mall-1-a", &kubeconfig, true).await?;
    one.ready().await?;
    dns_answers_the_own_zone_alone(&one).await?;
    let by_source = the_front_keeps_each_source_on_one_backend(&one).await?;
    the_library_agrees_with_the_front(&site, &one, &kubeconfig, &by_source).await?;
    a_pod_not_ready_leaves_all_faces(&site, &one).await?;
    a_third_zone_joins_untouched(&site, &one, &kubeconfig).await?;
    a_node_without_a_label_serves_nothing(&site, &kubeconfig).await?;
    a_role_without_nodes_serves_by_the_zones_that_slices_state(&site).await?;
    the_control_plane_dies_and_everything_goes_on(&mut site, &mut one).await
}

async fn dns_answers_the_own_zone_alone(agent: &Agent) -> anyhow::Result<()> {
    let expected: BTreeSet<IpAddr> = site::pods("mall-1").map(|pod| pod.ip).collect();
    // The controllers may make the slices after the agent is ready.
    let answered = async || {
        let answered = dns_addresses(agent.dns).await.ok()?;
        (answered.len() >= expected.len()).then_some(answered)
    };
    let answered = testbed::wait_for("DNS has the zone", SECOND * 10, answered).await?;
    ensure!(
        answered == expected,
        "DNS answered {answered:?}, not {expected:?}"
    );
    Ok(())
}

/// 300 connections from 30 sources reach mall-1 only, each source one backend.
async fn the_front_keeps_each_source_on_one_backend(
    agent: &Agent,
) -> anyhow::Result<BTreeMap<IpAddr, String>> {
    let own: BTreeSet<_> = site::pods("mall-1").map(|pod| pod.name).collect();
    let mut by_source = BTreeMap::new();
    for round in 0..10 {
        for source in sources() {
            let answer = exchange(source, agent.front)
                .await
                .with_context(|| format!("round {round}"))?;
            ensure!(own.contains(&answer.as_str()), "{source} reached {answer}");
            let before = by_source.insert(source, answer.clone());
            ensure!(
                before.is_none_or(|before| before == answer),
                "{source} moved to {answer}"
            );
        }
    }
    ensure!(
        by_source.values().collect::<BTreeSet<_>>().len() == 3,
        "all three backends are used"
    );
    println!("300 connections from 30 sources: 3 backends of mall-1, each source on one");
    Ok(by_source)
}

/// The embedded client of one host and the front of another give each key and each source the same backends.
async fn the_library_agrees_with_the_front(
    site: &Site,
    agent: &Agent,
    kubeconfig: &std::path::Path,
    by_source: &BTreeMap<IpAddr, String>,
) -> anyhow::Result<()> {
    let discovery = Discovery::builder()
        .node("mall-1-b")
        .kubeconfig(kubeconfig)
        .start()
        .await?;
    discovery.ready().await;
    let mut picker = discovery.picker("web".parse()?);
    for (source, backend) in by_source {
        let pick = picker.keyed(HashKey::of_source(*source))?;
        ensure!(
            pick.identity().as_str() == backend,
            "{source}: library {}, front {backend}",
            pick.identity()
        );
    }
    one_order_of_trial_for_1000_keys(agent, picker.view()?).await?;
    let owners = |picker: &mut discovery_core::pick::Picker| -> anyhow::Result<Vec<String>> {
        let owner = |key: u32| -> anyhow::Result<String> {
            Ok(picker
                .keyed(HashKey::of(&key.to_be_bytes()))?
                .identity()
                .to_string())
        };
        (0..1_000).map(owner).collect()
    };
    let before = owners(&mut picker)?;
    let joined = site::pod("mall-1", 9);
    site.add_pod(&joined).await?;
    testbed::wait_for("the new pod joins the library", SECOND * 10, async || {
        let view = discovery.picker("web".parse().ok()?).view().ok()?.clone();
        (view.usable().count() == 4).then_some(())
    })
    .await?;
    let after = owners(&mut picker)?;
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    ensure!(
        moved.clone().all(|(_, after)| *after == joined.name),
        "only to the pod that joined"
    );
    let moved = moved.count();
    ensure!((150..=350).contains(&moved), "{moved} of 1,000 keys moved");
    println!("a pod joined: {moved} of 1,000 keys moved, all of them to it");
    site.driver.delete_pod(joined.name, "default").await?;
    testbed::wait_for("the pod leaves the library", SECOND * 10, async || {
        let view = discovery.picker("web".parse().ok()?).view().ok()?.clone();
        (view.usable().count() == 3).then_some(())
    })
    .await?;
    ensure!(
        owners(&mut picker)? == before,
        "the keys that moved came back"
    );
    let view = picker.view()?.clone();
    ensure!(candidates(&view, HashKey::of(b"any")).count() == 3);
    discovery.stop().await;
    Ok(())
}

/// The whole order of trial, not the owner alone: what the agent explains is what the library walks.
async fn one_order_of_trial_for_1000_keys(agent: &Agent, view: &ServiceView) -> anyhow::Result<()> {
    for number in 0..1_000 {
        let key = format!("key-{number}");
        let order: Vec<_> = candidates(view, HashKey::of(key.as_bytes()))
            .map(|endpoint| endpoint.identity().to_string())
            .collect();
        let front = agent.order("web", &key).await?;
        ensure!(order == front, "{key}: library {order:?}, front {front:?}");
        ensure!(order.len() == 3, "{key}: {order:?}");
    }
    println!("1,000 keys: library and front walk the same three backends in the same order");
    Ok(())
}

async fn a_pod_not_ready_leaves_all_faces(site: &Site, agent: &Agent) -> anyhow::Result<()> {
    let pod = site::pods("mall-1").next().context("the zone has pods")?;
    site.driver
        .pod_status(pod.name, "default", pod.ip, false)
        .await?;
    let begin = Instant::now();
    testbed::wait_for("the pod leaves DNS", SECOND * 5, async || {
        (!dns_addresses(agent.dns).await.ok()?.contains(&pod.ip)).then_some(())
    })
    .await?;
    let took = begin.elapsed();
    ensure!(
        took < SECOND,
        "a pod made not ready left DNS after {took:?}"
    );
    for source in sources() {
        ensure!(
            exchange(source, agent.front).await? != pod.name,
            "the front still sends to {}",
            pod.name
        );
    }
    println!("a pod made not ready left DNS and the front after {took:?}");
    site.driver
        .pod_status(pod.name, "default", pod.ip, true)
        .await?;
    testbed::wait_for("the pod is back", SECOND * 5, async || {
        dns_addresses(agent.dns)
            .await
            .ok()?
            .contains(&pod.ip)
            .then_some(())
    })
    .await?;
    Ok(())
}

async fn a_third_zone_joins_untouched(
    site: &Site,
    one: &Agent,
    kubeconfig: &std::path::Path,
) -> anyhow::Result<()> {
    let before = dns_addresses(one.dns).await?;
    site.add_zone("mall-3").await?;
    let three = Agent::start(site, "mall-3-a", kubeconfig, false).await?;
    three.ready().await?;
    let expected: BTreeSet<IpAddr> = site::pods("mall-3").map(|pod| pod.ip).collect();
    testbed::wait_for("the new zone serves", SECOND * 10, async || {
        (dns_addresses(three.dns).await.ok()? == expected).then_some(())
    })
    .await?;
    ensure!(
        dns_addresses(one.dns).await? == before,
        "mall-1 noticed the new zone"
    );
    three.stop().await
}

async fn a_node_without_a_label_serves_nothing(
    site: &Site,
    kubeconfig: &std::path::Path,
) -> anyhow::Result<()> {
    site.driver.node("nowhere", &[], [10, 77, 0, 9]).await?;
    let lost = Agent::start(site, "nowhere", kubeconfig, false).await?;
    let missing = testbed::wait_for(
        "the agent says what it looked for",
        SECOND * 10,
        async || {
            let (ready, missing) = lost.readiness().await.ok()?;
            (!ready && missing.contains("topology.kubernetes.io/zone")).then_some(missing)
        },
    )
    .await?;
    ensure!(
        dns_addresses(lost.dns).await?.is_empty(),
        "it serves nothing"
    );
    println!("a node without a label: {}", missing.trim());
    lost.stop().await
}

/// As an application may run that is given its zone and no right on nodes.
async fn a_role_without_nodes_serves_by_the_zones_that_slices_state(
    site: &Site,
) -> anyhow::Result<()> {
    let kubeconfig = site.kubeconfig_without_nodes().await?;
    let discovery = Discovery::builder()
        .node("mall-2-a")
        .kubeconfig(kubeconfig)
        .zone(Zone::parse("mall-2")?)
        .start()
        .await?;
    discovery.ready().await;
    let view = discovery.picker("web".parse()?).view()?.clone();
    let usable: BTreeMap<_, _> = view
        .usable()
        .map(|e| (e.identity().to_string(), e.reason().to_string()))
        .collect();
    let expected =
        site::pods("mall-2").map(|pod| (pod.name.to_owned(), "own-zone-as-stated".to_owned()));
    ensure!(usable == expected.collect(), "{usable:?}");
    let snapshot = discovery.runtime().reader().load();
    ensure!(snapshot.is_degraded(), "it says so");
    println!(
        "without a right on nodes: {} pods as slices state their zone",
        usable.len()
    );
    discovery.stop().await;
    Ok(())
}

async fn the_control_plane_dies_and_everything_goes_on(
    site: &mut Site,
    one: &mut Agent,
) -> anyhow::Result<()> {
    let before = dns_addresses(one.dns).await?;
    one.saved().await?;
    site.kube.kill_apiserver();
    let young = one.age_seconds().await?;
    testbed::wait_for("the age grows", SECOND * 10, async || {
        (one.age_seconds().await.ok()? > young + 1.0).then_some(())
    })
    .await?;
    ensure!(
        dns_addresses(one.dns).await? == before,
        "DNS changed with the control plane gone"
    );
    for source in sources() {
        exchange(source, one.front).await?;
    }
    let begin = Instant::now();
    one.restart(site).await?;
    let serves = async || (dns_addresses(one.dns).await.ok()? == before).then_some(());
    let waited =
        testbed::wait_for("the restarted agent serves from disk", SECOND * 5, serves).await;
    waited.with_context(|| one.log())?;
    let took = begin.elapsed();
    ensure!(took < SECOND, "serving from disk took {took:?}");
    println!("with the control plane gone the restarted agent served from disk after {took:?}");
    exchange(sources().next().context("there are sources")?, one.front).await?;
    Ok(())
}

const INSIDE: &str = "ZONAL_MALL_INSIDE";
const SECOND: Duration = Duration::from_secs(1);
