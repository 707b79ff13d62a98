// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a real Consul says of a host that reaches no endpoint, and of one that has hardly any room left.

mod registry;
mod site;

use lb_proxy::{ListenerState, Reason};
use registry::{becomes, check, in_namespace, is_child, nft, site_with};
use site::{Endpoint, Site, carried, free_port, greeted, until, within};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use testbed::Consul;
use tokio::{net::TcpStream, time::sleep};

#[test]
fn a_host_that_reaches_no_endpoint_says_isolated_fails_its_check_and_closes_after_the_hold() {
    let test =
        "a_host_that_reaches_no_endpoint_says_isolated_fails_its_check_and_closes_after_the_hold";
    in_namespace(test, "the_child_that_is_isolated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn the_child_that_is_isolated() {
    if !is_child() {
        return;
    }
    let Some(consul) = Consul::start_or_skip("isolated").await else {
        return;
    };
    assert!(
        std::process::Command::new("ip")
            .args("addr add 10.9.0.2/32 dev lo".split(' '))
            .status()
            .unwrap()
            .success()
    );
    let pod = SocketAddr::from(([10, 9, 0, 2], 8_080));
    let endpoint = Endpoint::at("pod-0", pod, async |_| Ok(())).await;
    let front = SocketAddr::from(([10, 9, 0, 1], 30_080));
    let mut site = site_with(&consul, front, |config| config.try_endpoints(true));
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let counters = site.counters(front);
    let cut = "table ip cut { chain out { type filter hook output priority 0; policy accept;
        ip daddr 10.9.0.2 tcp dport 8080 ct state new reject
    }
    }";
    assert!(nft(&[cut]));
    let since = Instant::now();
    // Clients come all the time: the port is open only for the hold.
    let clients = tokio::spawn(async move {
        loop {
            assert!(greeted(front).await.is_err());
            sleep(Duration::from_millis(10)).await;
        }
    });
    becomes(&consul, Some("critical")).await;
    let critical = since.elapsed();
    let state = site.status.listeners().remove(0).state;
    println!("critical after {critical:?}: {state}");
    assert!(matches!(state, ListenerState::Isolated { .. }), "{state}");
    assert!(
        state
            .to_string()
            .contains("no endpoint can be reached from this host")
    );
    assert!(critical <= Duration::from_secs(8), "{critical:?}");
    until(|| counters.ended(Reason::Isolated) > 0).await;
    assert!(!clients.is_finished(), "nobody got through");
    clients.abort();
    assert!(
        note(&consul).await.contains("isolated"),
        "Consul is told why"
    );
    let closed = async || TcpStream::connect(front).await.is_err();
    within(async { while !closed().await {} }).await;
    assert_eq!(
        check(&consul).await.as_deref(),
        Some("critical"),
        "it stays known"
    );
    assert!(nft(&["delete table ip cut"]));
    let back = becomes(&consul, Some("passing")).await;
    println!("passing again after {back:?}");
    assert!(back <= Duration::from_secs(8), "{back:?}");
    assert_eq!(greeted(front).await.unwrap(), "pod-0");
    site.kill.cancel();
    within(site.running).await.unwrap();
}

/// What our check says.
async fn note(consul: &Consul) -> String {
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    let checks = instances[0]["Checks"].as_array().unwrap().clone();
    let ours = checks.iter().find(|check| check["ServiceName"] == "web");
    ours.unwrap()["Output"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_weight_in_consul_falls_while_a_host_has_hardly_any_room_left_and_comes_back() {
    let test = "the_weight_in_consul_falls_while_a_host_has_hardly_any_room_left_and_comes_back";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let mut site = site_with(&consul, front, |config| config.connections_max(40));
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    assert_eq!(weight(&consul).await, 7);
    let mut open = Vec::new();
    for (connections, expected) in [(36, 7), (37, 5), (40, 1)] {
        while open.len() < connections {
            open.push(carried(front).await);
        }
        weighs(&consul, expected).await;
    }
    assert_eq!(
        check(&consul).await.as_deref(),
        Some("passing"),
        "it serves all the time"
    );
    drop(open);
    weighs(&consul, 7).await;
    end(site).await;
}

async fn weight(consul: &Consul) -> u64 {
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    instances[0]["Service"]["Weights"]["Passing"]
        .as_u64()
        .unwrap()
}

async fn weighs(consul: &Consul, expected: u64) {
    let since = Instant::now();
    while weight(consul).await != expected {
        assert!(since.elapsed() < Duration::from_secs(10), "{expected}");
        sleep(Duration::from_millis(20)).await;
    }
    println!("weight {expected} after {:?}", since.elapsed());
}

async fn end(site: Site) {
    site.kill.cancel();
    within(site.running).await.unwrap();
}
