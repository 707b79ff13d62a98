// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole play: three hosts of a zone front one service, on a real kube-apiserver with a real kube-proxy beside them, and in
//! a real Consul.
//!
//! The test starts itself again inside `unshare --net`; that namespace is the zone's router, and has the pods and the clients. Each
//! host is a namespace of its own behind a cable. Control plane and Consul are reached by relays, so that the WAN can be cut.

mod host;
mod stage;

use anyhow::{Context as _, ensure};
use host::run;
use rustix::process::Signal;
use stage::{FAR, NODE_PORT, Stage, answers, ask_from, clients};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};
use testbed::{Binary, Process};
use tokio::{net::TcpStream, time::sleep};

#[test]
fn three_hosts_of_a_zone_front_one_service_end_to_end() {
    let name = "three_hosts_of_a_zone_front_one_service_end_to_end";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        return runtime.unwrap().block_on(play()).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(name, "network namespaces need root");
    }
    for binary in [
        Binary::Etcd,
        Binary::KubeApiserver,
        Binary::KubeControllerManager,
        Binary::KubeProxy,
        Binary::Consul,
    ] {
        match binary.find_blocking() {
            Ok(_) => {}
            Err(error) if error.is_unavailable() => return testbed::skip(name, &error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    let addresses: Vec<_> = stage::addresses().map(|ip| ip.to_string()).collect();
    let script = format!(
        "ip link set lo up; for ip in {}; do ip addr add $ip/32 dev lo; done; \
         echo 1 > /proc/sys/net/ipv4/ip_forward; exec \"$0\" --exact {name} --nocapture",
        addresses.join(" ")
    );
    let status = std::process::Command::new("unshare")
        .args(["--net", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "the play failed: see above");
}

async fn play() -> anyhow::Result<()> {
    let began = Instant::now();
    let told = |what: &str| println!("{:>5.1} s  {what}", began.elapsed().as_secs_f64());
    let mut stage = Stage::open().await?;
    told("three hosts are ready; the service is nobody's but kube-proxy's");
    let mut kube_proxy = stage.kube_proxy(&stage.hosts[0]).await?;
    kube_proxy_owns_the_port_until_the_label_is_set(&stage, &mut kube_proxy).await?;
    told("kube-proxy has stood aside");
    the_hosts_agree_on_every_owner(&stage).await?;
    told("the hosts agree");
    a_port_that_a_rule_catches_is_not_listed_and_says_why(&stage).await?;
    told("a caught port came and went");
    a_port_that_a_firewall_keeps_from_others_is_not_listed_and_says_who_found_out(&stage).await?;
    told("a firewall came and went, which only peers see");
    kube_proxy_has_the_port_back_while_the_label_is_away(&stage).await?;
    told("kube-proxy had the port back");
    without_control_plane_and_wan_everything_goes_on(&mut stage).await?;
    told("control plane and WAN are gone, and everything goes on");
    a_killed_host_is_gone_within_its_ttl_and_comes_back_without_a_control_plane(&mut stage).await?;
    told("a killed host went and came back");
    a_host_that_is_told_to_end_leaves_before_its_listener_closes(&mut stage).await?;
    told("a host left, and no client failed");
    Ok(())
}

/// kube-proxy has the port before; stopped, its rules still catch what comes, which the self-proof sees; going on it withdraws.
async fn kube_proxy_owns_the_port_until_the_label_is_set(
    stage: &Stage,
    kube_proxy: &mut Process,
) -> anyhow::Result<()> {
    let [a, b, c] = &stage.hosts[..] else {
        anyhow::bail!("there are three hosts");
    };
    let serves = async || answers(a, 1).await.ok();
    let log = || std::fs::read_to_string(kube_proxy.log()).unwrap_or_default();
    let waited = testbed::wait_for("kube-proxy serves the port", SECOND * 20, serves).await;
    waited.with_context(log)?;
    ensure!(
        answers(a, 60).await?.contains(FAR),
        "kube-proxy knows no zones"
    );
    ensure!(a.state().await.is_none() && stage.listed().await?.is_empty());
    kube_proxy.stop()?;
    stage.label(true).await?;
    let why = a.becomes("hijacked").await?;
    ensure!(why.contains("another owner of the port"), "{why}");
    b.becomes("serving").await?;
    c.becomes("serving").await?;
    stage.lists(&["host-b", "host-c"]).await?;
    ensure!(
        answers(a, 60).await?.contains(FAR),
        "its rules still catch the port"
    );
    ensure!(
        a.accepted().await? == 0,
        "nothing has come out at our listener"
    );
    kube_proxy.signal(Signal::CONT)?;
    a.becomes("serving").await?;
    let after = stage.lists(&["host-a", "host-b", "host-c"]).await?;
    let before = a.accepted().await?;
    ensure!(
        !answers(a, 60).await?.contains(FAR),
        "strangers are not dialled"
    );
    let taken = a.accepted().await? - before;
    ensure!(
        taken == 60,
        "{taken} of 60 connections came out at our listener"
    );
    println!("         listed {after:?} after kube-proxy went on");
    Ok(())
}

async fn the_hosts_agree_on_every_owner(stage: &Stage) -> anyhow::Result<()> {
    let owners = stage
        .owners(&stage.hosts.iter().collect::<Vec<_>>())
        .await?;
    let pods: BTreeSet<_> = owners.values().collect();
    ensure!(pods.len() == 3, "all pods of the zone are used: {pods:?}");
    Ok(())
}

async fn a_port_that_a_rule_catches_is_not_listed_and_says_why(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (host, router) = (&stage.hosts[1], stage.hosts[1].netns.host_ip());
    let rule = format!("tcp dport {NODE_PORT} dnat to {router}:9");
    let table = format!(
        "table ip caught {{\n\
         chain pre {{ type nat hook prerouting priority -110; {rule}\n }}\n\
         chain out {{ type nat hook output priority -110; {rule}\n }}\n}}"
    );
    run(host, "nft", &[&table])?;
    let gone = stage.lists(&["host-a", "host-c"]).await?;
    let why = host.becomes("hijacked").await?;
    println!("         not listed after {gone:?}: {why}");
    ensure!(gone <= SECOND * 8, "{gone:?}");
    run(host, "nft", &["delete", "table", "ip", "caught"])?;
    stage.lists(&ALL).await?;
    Ok(())
}

/// What a host sends to itself does not pass there: its own proof holds.
async fn a_port_that_a_firewall_keeps_from_others_is_not_listed_and_says_who_found_out(
    stage: &Stage,
) -> anyhow::Result<()> {
    let [a, host, c] = &stage.hosts[..] else {
        anyhow::bail!("there are three hosts");
    };
    let rule = format!("iifname != \"lo\" tcp dport {NODE_PORT} drop");
    let table =
        format!("table ip kept {{ chain in {{ type filter hook input priority 0; {rule}\n }}\n}}");
    run(host, "nft", &[&table])?;
    let gone = stage.lists(&["host-a", "host-c"]).await?;
    let why = host.becomes("hijacked").await?;
    println!("         not listed after {gone:?}: {why}");
    ensure!(why.contains("although what we send does"), "{why}");
    for peer in [a, c] {
        ensure!(why.contains(&peer.ip().to_string()), "{why}");
    }
    ensure!(gone <= SECOND * 15, "{gone:?}");
    run(host, "nft", &["delete", "table", "ip", "kept"])?;
    let back = stage.lists(&ALL).await?;
    println!("         listed again after {back:?}");
    Ok(())
}

/// For longer than the TTL of a check: Consul lists all, and every client is served as before.
async fn without_control_plane_and_wan_everything_goes_on(stage: &mut Stage) -> anyhow::Result<()> {
    let before = stage
        .owners(&stage.hosts.iter().collect::<Vec<_>>())
        .await?;
    for host in &stage.hosts {
        host.saved().await?;
    }
    stage.kube.kill_apiserver();
    stage.wan(false)?;
    let cut = Instant::now();
    let mut rounds = 0;
    while cut.elapsed() < TTL + SECOND {
        let hosts: Vec<_> = stage.hosts.iter().collect();
        ensure!(stage.owners(&hosts).await? == before, "nobody moves");
        ensure!(
            stage.listed().await? == BTreeSet::from(ALL),
            "all stay listed"
        );
        rounds += 1;
    }
    println!("         {rounds} rounds of 90 connections");
    Ok(())
}

async fn a_killed_host_is_gone_within_its_ttl_and_comes_back_without_a_control_plane(
    stage: &mut Stage,
) -> anyhow::Result<()> {
    let owners = stage.owners(&[&stage.hosts[0]]).await?;
    stage.hosts[2].signal(Signal::KILL)?;
    let gone = stage.lists(&["host-a", "host-b"]).await?;
    println!("         killed, not listed after {gone:?}");
    ensure!(gone <= TTL + SECOND, "{gone:?}");
    ensure!(stage.owners(&[&stage.hosts[0], &stage.hosts[1]]).await? == owners);
    stage.hosts[2].start_again()?;
    let back = stage.lists(&ALL).await?;
    println!("         started again from disk, listed after {back:?}");
    ensure!(
        stage.owners(&[&stage.hosts[2]]).await? == owners,
        "it agrees as before"
    );
    Ok(())
}

/// Clients that ask Consul and connect at once never fail; those that connect without asking are served until the end.
async fn a_host_that_is_told_to_end_leaves_before_its_listener_closes(
    stage: &mut Stage,
) -> anyhow::Result<()> {
    stage.hosts[1].signal(Signal::TERM)?;
    let told = Instant::now();
    let (has_left, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let host = &stage.hosts[1];
    let by_dns = async {
        while stage.listed().await?.contains(host.name) {
            for client in clients().take(5) {
                ask_from(client, host.front()).await?;
                served.fetch_add(1, Relaxed);
            }
        }
        has_left.store(true, Relaxed);
        anyhow::Ok(told.elapsed())
    };
    let at_all_times = async {
        while TcpStream::connect(host.front()).await.is_ok() {
            ask_from(clients().last().context("a client")?, host.front())
                .await
                .or_else(|error| {
                    if has_left.load(Relaxed) {
                        Ok(String::new())
                    } else {
                        Err(error)
                    }
                })?;
            served.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(5)).await;
        }
        ensure!(
            has_left.load(Relaxed),
            "the listener closes after it has left"
        );
        anyhow::Ok(told.elapsed())
    };
    let (left, closed) = tokio::try_join!(by_dns, at_all_times)?;
    let served = served.load(Relaxed);
    println!(
        "         not listed after {left:?}, closed after {closed:?}, {served} clients served meanwhile"
    );
    ensure!(
        closed >= left + Duration::from_millis(900),
        "it waits for those who know it still"
    );
    let ended = || std::future::ready(stage.hosts[1].has_ended_well());
    let well = testbed::wait_for("the agent ends", SECOND * 10, ended).await?;
    ensure!(well && stage.listed().await? == BTreeSet::from(["host-a", "host-c"]));
    Ok(())
}

async fn kube_proxy_has_the_port_back_while_the_label_is_away(stage: &Stage) -> anyhow::Result<()> {
    let host = &stage.hosts[0];
    stage.label(false).await?;
    stage.lists(&[]).await?;
    let back = async || {
        let answers = answers(host, 60).await.ok()?;
        (host.state().await.is_none() && answers.contains(FAR)).then_some(())
    };
    testbed::wait_for("kube-proxy serves the port again", SECOND * 20, back).await?;
    stage.label(true).await?;
    let again = stage.lists(&ALL).await?;
    println!("         listed {again:?} after the label was set again");
    let before = host.accepted().await?;
    ensure!(
        !answers(host, 60).await?.contains(FAR),
        "strangers are not dialled"
    );
    let taken = host.accepted().await? - before;
    ensure!(
        taken == 60,
        "{taken} of 60 connections came out at our listener"
    );
    Ok(())
}

const INSIDE: &str = "ZONAL_TEST_THREE_HOSTS";
const ALL: [&str; 3] = ["host-a", "host-b", "host-c"];
const SECOND: Duration = Duration::from_secs(1);
/// Of a check.
const TTL: Duration = Duration::from_secs(3);
