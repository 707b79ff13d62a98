// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a real Consul says of this host while it comes, pauses, is caught and leaves.

mod cable;
mod registry;
mod site;

use cable::Cable;
use discovery_core::model::Protocol;
use lb_proxy::{ListenerState, Proof};
use registry::{HEARTBEAT, LEAVE_WAIT, becomes, check, in_namespace, is_child, nft, site, site_at};
use site::{Endpoint, FRONT, carried, exchange, free_port, greeted, until, within};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};
use testbed::Consul;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x14_without_an_endpoint_the_check_is_critical_then_the_port_closes_and_the_first_endpoint_opens_both()
 {
    let test = "x14_without_an_endpoint_the_check_is_critical_then_the_port_closes_and_the_first_endpoint_opens_both";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let mut site = site(&consul, front);
    site.service("web", front.port());
    site.publish();
    site.state(&ListenerState::NoEndpoint).await;
    assert_eq!(
        check(&consul).await,
        None,
        "nothing is registered before it serves"
    );
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    let service = &instances[0]["Service"];
    assert_eq!(service["Address"], FRONT.to_string());
    assert_eq!(
        (&service["Port"], &service["Weights"]["Passing"]),
        (&front.port().into(), &7.into())
    );
    site.unlist("web", "pod-0");
    site.publish();
    let critical = becomes(&consul, Some("critical")).await;
    assert!(critical <= Duration::from_secs(1), "{critical:?}");
    site.state(&ListenerState::NoEndpoint).await;
    let refused = TcpStream::connect(front).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(check(&consul).await.as_deref(), Some("critical"));
    site.endpoint("web", &endpoint);
    site.publish();
    let passing = becomes(&consul, Some("passing")).await;
    assert!(passing <= Duration::from_secs(1), "{passing:?}");
    assert_eq!(greeted(front).await.unwrap(), "pod-0");
    println!("critical after {critical:?}, passing again after {passing:?}");
    site.stop.cancel();
    within(site.running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_leaves_consul_before_its_listener_closes_and_resets_nobody() {
    let test = "a_host_leaves_consul_before_its_listener_closes_and_resets_nobody";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let mut site = site(&consul, front);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let mut old = carried(front).await;
    let clients = tokio::spawn(async move {
        loop {
            match TcpStream::connect(front).await {
                Ok(mut stream) => {
                    assert_eq!(site::greeting(&mut stream).await.unwrap(), "pod-0");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                    return Instant::now();
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let left = Instant::now();
    site.stop.cancel();
    let critical = becomes(&consul, Some("critical")).await;
    becomes(&consul, None).await;
    let gone_at = Instant::now();
    let closed_at = within(clients).await.unwrap();
    assert!(critical < Duration::from_millis(500), "{critical:?}");
    assert!(gone_at - left >= LEAVE_WAIT, "{:?}", gone_at - left);
    assert!(
        closed_at + Duration::from_millis(20) >= gone_at,
        "the listener closes last"
    );
    exchange(&mut old, b"still here").await.unwrap();
    old.shutdown().await.unwrap();
    assert!(site::read_all(&mut old).await.1.is_ok());
    let counters = site.counters(front);
    let ended = site.end(&counters).await;
    let bad = ended
        .keys()
        .filter(|reason| !["ok", "probe", "client-reset"].contains(*reason));
    assert_eq!(bad.count(), 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f34_a_service_that_is_deleted_leaves_consul_before_its_listener_closes() {
    let test = "f34_a_service_that_is_deleted_leaves_consul_before_its_listener_closes";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let mut site = site(&consul, front);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    site.fronted("web", front.port(), |front| front.is_deleting = true);
    site.publish();
    let told = Instant::now();
    becomes(&consul, Some("critical")).await;
    site.state(&ListenerState::Leaving).await;
    assert_eq!(greeted(front).await.unwrap(), "pod-0", "it still accepts");
    becomes(&consul, None).await;
    assert!(told.elapsed() >= LEAVE_WAIT, "{:?}", told.elapsed());
    let refused = async || TcpStream::connect(front).await.is_err();
    within(async { while !refused().await {} }).await;
    site.stop.cancel();
    within(site.running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f27_an_agent_that_forgot_everything_is_told_again_within_a_heartbeat_and_once() {
    let test = "f27_an_agent_that_forgot_everything_is_told_again_within_a_heartbeat_and_once";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let mut site = site(&consul, front);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let consul = consul.restart().await.unwrap();
    let back = becomes(&consul, Some("passing")).await;
    assert!(back < Duration::from_secs(3), "{back:?}");
    let instances = consul.get("/v1/health/service/web").await.unwrap();
    assert_eq!(instances.as_array().unwrap().len(), 1, "{instances}");
    site.kill.cancel();
    within(site.running).await.unwrap();
    // As after a power cut: nobody leaves, and the check runs out.
    let expired = becomes(&consul, Some("critical")).await;
    assert!(expired < Duration::from_secs(4), "{expired:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f32_after_a_partition_longer_than_the_ttl_the_check_passes_within_a_heartbeat() {
    let test = "f32_after_a_partition_longer_than_the_ttl_the_check_passes_within_a_heartbeat";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let (endpoint, front) = (Endpoint::echo("pod-0").await, free_port());
    let cable = Cable::to(consul.http_addr()).await;
    let mut site = site_at(cable.address, front, |config| config);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    cable.set_whole(false);
    becomes(&consul, Some("critical")).await;
    assert_eq!(greeted(front).await.unwrap(), "pod-0", "it serves on");
    cable.set_whole(true);
    let back = becomes(&consul, Some("passing")).await;
    println!("F32: passing {back:.2?} after the partition");
    assert!(back < HEARTBEAT * 2, "{back:?}");
    site.stop.cancel();
    within(site.running).await.unwrap();
}

#[test]
fn x15_a_host_whose_port_somebody_catches_is_not_registered_and_says_why() {
    let test = "x15_a_host_whose_port_somebody_catches_is_not_registered_and_says_why";
    in_namespace(test, "the_child_whose_port_is_caught");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn the_child_whose_port_is_caught() {
    if !is_child() {
        return;
    }
    let Some(consul) = Consul::start_or_skip("x15").await else {
        return;
    };
    let other = tokio::net::TcpListener::bind("10.9.0.1:9999")
        .await
        .unwrap();
    let other = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = other.accept().await {
            kept.push(stream);
        }
    });
    let endpoint = Endpoint::echo("pod-0").await;
    let front = SocketAddr::from(([10, 9, 0, 1], 30_080));
    let mut site = site(&consul, front);
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let rules = "table ip caught {
        chain pre { type nat hook prerouting priority -100; policy accept;
            tcp dport 30080 dnat to 10.9.0.1:9999
        }
        chain out { type nat hook output priority -100; policy accept;
            tcp dport 30080 dnat to 10.9.0.1:9999
        }
    }";
    assert!(nft(&[rules]));
    let gone = becomes(&consul, None).await;
    assert!(gone <= Duration::from_secs(6), "{gone:?}");
    let status = site.status.listeners().remove(0);
    println!("gone after {gone:?}: {}", status.state);
    assert!(
        matches!(status.state, ListenerState::Hijacked { .. }),
        "{}",
        status.state
    );
    assert!(
        status
            .state
            .to_string()
            .contains("another owner of the port"),
        "{}",
        status.state
    );
    assert!(matches!(status.proof, Proof::Failed { .. }));
    assert!(nft(&["delete table ip caught"]));
    becomes(&consul, Some("passing")).await;
    until(|| site.status.listeners()[0].state == ListenerState::Serving).await;
    assert_eq!(greeted(front).await.unwrap(), "pod-0");
    other.abort();
}

#[test]
fn x15_a_host_whose_datagrams_somebody_catches_is_not_registered_and_says_why() {
    let test = "x15_a_host_whose_datagrams_somebody_catches_is_not_registered_and_says_why";
    in_namespace(test, "the_child_whose_datagrams_are_caught");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn the_child_whose_datagrams_are_caught() {
    if !is_child() {
        return;
    }
    let Some(consul) = Consul::start_or_skip("x15").await else {
        return;
    };
    let other = tokio::net::UdpSocket::bind("10.9.0.1:9999").await.unwrap();
    let front = SocketAddr::from(([10, 9, 0, 1], 30_080));
    let mut site = site(&consul, front);
    site.protocol = Protocol::Udp;
    site.service("web", front.port());
    site.listed("web", "pod-0", other.local_addr().unwrap(), true);
    site.publish();
    becomes(&consul, Some("passing")).await;
    let rules = "table ip caught {
        chain out { type nat hook output priority -100; policy accept;
            udp dport 30080 dnat to 10.9.0.1:9998
        }
    }";
    assert!(nft(&[rules]));
    let gone = becomes(&consul, None).await;
    assert!(gone <= Duration::from_secs(6), "{gone:?}");
    let status = site.status.listeners().remove(0);
    println!("gone after {gone:?}: {}", status.state);
    assert!(matches!(status.state, ListenerState::Hijacked { .. }));
    assert!(nft(&["delete table ip caught"]));
    becomes(&consul, Some("passing")).await;
    let mut heard = [0; 32];
    let said = other.try_recv_from(&mut heard);
    assert!(said.is_err(), "a proof reaches no endpoint: {said:?}");
}
