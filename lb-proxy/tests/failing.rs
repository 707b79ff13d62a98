// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients see while endpoints fail, leave or are not enough.

mod site;

use lb_proxy::{Config, Holder, ListenerState, Reason};
use site::{
    Endpoint, Site, assert_reset, black_hole, carried, connect, connect_from, exchange, free_port,
    greeted, greeted_from, greeting, in_one_of, read_all, source, until, within,
};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A site whose limits do not hold up a test's own addresses.
fn config() -> Config {
    Config::default().source_rate(1_000_000, 1_000_000)
}

/// Connects 800 times from 200 addresses, one after the other; how long each took to be greeted, ascending.
async fn latencies(front: SocketAddr) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(800);
    for number in 0..800 {
        let started = Instant::now();
        let last = u8::try_from(2 + number % 200).unwrap();
        greeted_from(source(last), front).await.unwrap();
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

fn p99(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_f46_f47_one_of_eight_endpoints_that_refuses_or_is_silent_fails_no_client() {
    let mut endpoints = Endpoint::echoes(8).await;
    let (mut site, front) = Site::serving(config(), &Vec::from_iter(&endpoints)).await;
    let whole = p99(&latencies(front).await);
    endpoints.pop().unwrap().die().await;
    in_one_of(5, async || {
        let refusing = p99(&latencies(front).await);
        println!("p99: {whole:?} with all, {refusing:?} with one that refuses");
        refusing <= whole + Duration::from_millis(5)
    })
    .await;
    let hole = black_hole();
    site.unlist("web", "pod-7");
    site.listed("web", "pod-7", hole.address, true);
    site.publish();
    let before = latencies(front).await;
    let worst = *before.last().unwrap();
    println!("worst with one that is silent: {worst:?}");
    assert!(worst <= Duration::from_millis(1_100) && worst >= Duration::from_secs(1));
    in_one_of(5, async || {
        let ejected = *latencies(front).await.last().unwrap();
        println!("worst once it is ejected: {ejected:?}");
        ejected <= whole + Duration::from_millis(5)
    })
    .await;
    let counters = site.counters(front);
    let ended = site.end(&counters).await;
    let failed = ended
        .iter()
        .filter(|(reason, _)| !["ok", "probe", "client-reset"].contains(*reason));
    assert_eq!(failed.count(), 0, "{ended:?}");
}

#[tokio::test]
async fn x5_f51_with_every_endpoint_refusing_clients_are_reset_at_once_and_never_see_an_end() {
    let endpoints = Endpoint::echoes(4).await;
    let (site, front) = Site::serving(config(), &Vec::from_iter(&endpoints)).await;
    for endpoint in endpoints {
        endpoint.die().await;
    }
    in_one_of(5, async || {
        let mut worst = Duration::ZERO;
        for last in 2..102 {
            let started = Instant::now();
            assert_reset(greeted_from(source(last), front).await);
            worst = worst.max(started.elapsed());
        }
        worst <= Duration::from_millis(50)
    })
    .await;
    let counters = site.counters(front);
    let ended = site.end(&counters).await;
    assert!(ended.keys().eq([&"connect-refused"]));
}

#[tokio::test]
async fn x6_two_hosts_agree_on_owner_and_second_choice_and_no_byte_reaches_two_endpoints() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut endpoints = Vec::new();
    for number in 0..6 {
        let heard = heard.clone();
        let name = format!("pod-{number}");
        let endpoint = Endpoint::new(&name, move |mut stream: TcpStream| {
            let heard = heard.clone();
            async move {
                let mut id = String::new();
                stream.read_to_string(&mut id).await?;
                heard.lock().unwrap().push(id);
                Ok(())
            }
        });
        endpoints.push(endpoint.await);
    }
    let (one, front_one) = Site::serving(config(), &Vec::from_iter(&endpoints)).await;
    let (two, front_two) = Site::serving(config(), &Vec::from_iter(&endpoints)).await;
    // The client speaks before an endpoint is met, and its words must reach one endpoint only.
    let ask = async |front: SocketAddr, last: u8, id: String| {
        let mut stream = connect_from(source(last), front).await.unwrap();
        stream.write_all(id.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        greeting(&mut stream).await.unwrap()
    };
    let mut sent = Vec::new();
    let mut dead = Vec::new();
    for round in 0..3 {
        for last in 2..102 {
            let order = one.order(source(last));
            assert_eq!(order, two.order(source(last)));
            let expected = order.iter().find(|name| !dead.contains(*name)).unwrap();
            for (host, front) in [("one", front_one), ("two", front_two)] {
                let id = format!("{host}-{round}-{last}");
                assert_eq!(ask(front, last, id.clone()).await, *expected);
                sent.push(id);
            }
        }
        let gone = endpoints.pop().unwrap();
        dead.push(gone.name.clone());
        gone.die().await;
    }
    until(|| heard.lock().unwrap().len() >= sent.len()).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    sent.sort_unstable();
    assert_eq!(heard, sent, "each word once");
}

#[tokio::test]
async fn x16_a_second_instance_on_one_host_reports_a_conflict_and_takes_no_connection() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (first, front) = Site::serving(config(), &[&endpoint]).await;
    let other = Endpoint::echo("pod-of-the-second").await;
    let mut second = Site::start(config());
    second.service("web", front.port());
    second.endpoint("web", &other);
    second.publish();
    let conflict = |state: &ListenerState| matches!(state, ListenerState::Conflict { .. });
    let all = within(
        second
            .status
            .wait_for(|all| all.len() == 1 && conflict(&all[0].state)),
    );
    let all = all.await.unwrap();
    let ListenerState::Conflict { holder } = &all[0].state else {
        panic!("conflict was waited for")
    };
    assert!(matches!(holder, Holder::Process { pid, .. } if *pid == std::process::id()));
    for _ in 0..100 {
        assert_eq!(greeted(front).await.unwrap(), "pod-0");
    }
    assert_eq!(second.counters(front).accepted(), 0);
    let counters = first.counters(front);
    first.end(&counters).await;
}

#[tokio::test]
async fn x17_a_removed_endpoint_keeps_its_connections_to_the_deadline_and_a_dead_one_loses_them_at_once()
 {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let removed = Endpoint::echo("pod-0").await;
    let dead = Endpoint::new("pod-1", move |mut stream| {
        let told = told.clone();
        async move {
            let end = read_all(&mut stream).await.1;
            told.send(end).await.map_err(std::io::Error::other)
        }
    })
    .await;
    let stays = Endpoint::echo("pod-2").await;
    let drain = Duration::from_millis(1_500);
    let config = config().endpoint_drain_timeout(drain);
    let (mut site, front) = Site::serving(config, &[&removed, &dead, &stays]).await;
    let owned = |site: &Site, name: &str| {
        (2..250)
            .find(|last| site.order(source(*last))[0] == name)
            .unwrap()
    };
    let (of_removed, of_dead) = (owned(&site, "pod-0"), owned(&site, "pod-1"));
    let mut on_removed = connect_from(source(of_removed), front).await.unwrap();
    assert_eq!(greeting(&mut on_removed).await.unwrap(), "pod-0");
    let mut on_dead = connect_from(source(of_dead), front).await.unwrap();
    assert_eq!(greeting(&mut on_dead).await.unwrap(), "pod-1");
    let counters = site.counters(front);
    // Its listener goes; the connection is still there, as after a power cut.
    dead.die().await;
    site.unlist("web", "pod-0");
    site.unlist("web", "pod-1");
    site.publish();
    let verdict = Instant::now();
    assert_reset(read_all(&mut on_dead).await.1);
    assert_reset(within(heard.recv()).await.unwrap());
    assert!(
        verdict.elapsed() < Duration::from_secs(1),
        "{:?}",
        verdict.elapsed()
    );
    until(|| counters.ended(Reason::EndpointGone) == 1).await;
    for _ in 0..100 {
        assert_eq!(
            greeted_from(source(of_removed), front).await.unwrap(),
            "pod-2"
        );
    }
    exchange(&mut on_removed, b"still here").await.unwrap();
    assert_reset(read_all(&mut on_removed).await.1);
    let lived = verdict.elapsed();
    assert!(
        lived >= drain && lived < drain + Duration::from_secs(1),
        "{lived:?}"
    );
    until(|| counters.ended(Reason::DrainDeadline) == 1).await;
    site.end(&counters).await;
}

#[tokio::test]
async fn an_endpoint_that_comes_back_keeps_its_connections() {
    let endpoints = Endpoint::echoes(2).await;
    let config = config().endpoint_drain_timeout(Duration::from_millis(300));
    let (mut site, front) = Site::serving(config, &Vec::from_iter(&endpoints)).await;
    let mut stream = carried(front).await;
    for endpoint in &endpoints {
        site.unlist("web", &endpoint.name);
        site.publish();
        site.endpoint("web", endpoint);
        site.publish();
    }
    let quiet = Duration::from_millis(600);
    assert!(tokio::time::timeout(quiet, stream.read_u8()).await.is_err());
    exchange(&mut stream, b"still here").await.unwrap();
    let counters = site.counters(front);
    drop(stream);
    site.end(&counters).await;
}

/// What the health port says: status and number of endpoints.
async fn health(port: SocketAddr) -> (String, String) {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream
        .write_all(b"GET /anything HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().to_owned();
    let (_, rest) = text.split_once("\"localEndpoints\":").unwrap();
    (status, rest.split(',').next().unwrap().to_owned())
}

#[tokio::test]
async fn x18_only_terminating_endpoints_serve_while_they_say_so_with_a_failing_health_check_and_else_never()
 {
    let endpoints = Endpoint::echoes(2).await;
    let config = config().node("edge-a".to_owned().try_into().unwrap());
    let (mut site, front) = Site::serving(config, &Vec::from_iter(&endpoints)).await;
    let health_port = free_port();
    site.fronted("web", front.port(), |front| {
        front.health_port = std::num::NonZeroU16::new(health_port.port());
    });
    site.publish();
    until(|| std::net::TcpStream::connect(health_port).is_ok()).await;
    assert_eq!(health(health_port).await, ("200".into(), "2".into()));
    for (name, serving) in [("pod-0", true), ("pod-1", false)] {
        site.terminating("web", name, serving);
    }
    site.publish();
    assert_eq!(health(health_port).await, ("503".into(), "0".into()));
    for last in 2..42 {
        assert_eq!(greeted_from(source(last), front).await.unwrap(), "pod-0");
    }
    site.terminating("web", "pod-0", false);
    site.publish();
    site.state(&ListenerState::Holding).await;
    assert_reset(greeted(front).await);
    assert_eq!(health(health_port).await, ("503".into(), "0".into()));
    let counters = site.counters(front);
    site.end(&counters).await;
}

#[tokio::test]
async fn a_host_that_leaves_is_unhealthy_at_once() {
    let endpoint = Endpoint::echo("pod-0").await;
    let config = config().node("edge-a".to_owned().try_into().unwrap());
    let (mut site, front) = Site::serving(config, &[&endpoint]).await;
    let health_port = free_port();
    site.fronted("web", front.port(), |front| {
        front.health_port = std::num::NonZeroU16::new(health_port.port());
    });
    site.publish();
    until(|| std::net::TcpStream::connect(health_port).is_ok()).await;
    let old = carried(front).await;
    site.stop.cancel();
    site.state(&ListenerState::Draining).await;
    assert_eq!(health(health_port).await, ("503".into(), "1".into()));
    drop(old);
    within(site.running).await.unwrap();
}

#[tokio::test]
async fn a_local_service_has_the_endpoints_of_its_own_node_and_without_any_is_refused() {
    let (here, there) = (Endpoint::echo("pod-0").await, Endpoint::echo("pod-1").await);
    let config = config()
        .hold(Duration::from_millis(100))
        .node("edge-a".to_owned().try_into().unwrap());
    let (mut site, front) = Site::serving(config, &[&here]).await;
    site.on_node("web", &there, "edge-b");
    site.fronted("web", front.port(), |front| {
        front.traffic_policy = discovery_core::model::TrafficPolicy::Local;
    });
    site.publish();
    for last in 2..22 {
        assert_eq!(greeted_from(source(last), front).await.unwrap(), "pod-0");
    }
    site.unlist("web", "pod-0");
    site.publish();
    site.state(&ListenerState::NoEndpoint).await;
    let refused = TcpStream::connect(front).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let counters = site.counters(front);
    site.end(&counters).await;
}

#[tokio::test]
async fn affinity_is_what_the_service_says() {
    let endpoints = Endpoint::echoes(6).await;
    let (mut site, front) = Site::serving(config(), &Vec::from_iter(&endpoints)).await;
    let met = async |count: usize| {
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..count {
            met.insert(greeted(front).await.unwrap());
        }
        met.len()
    };
    assert_eq!(met(20).await, 1, "one address, one endpoint");
    for affinity in [
        discovery_core::model::Affinity::SourcePort,
        discovery_core::model::Affinity::None,
    ] {
        site.fronted("web", front.port(), |front| front.affinity = affinity);
        site.publish();
        assert!(met(60).await > 3, "{affinity:?}");
    }
    let counters = site.counters(front);
    site.end(&counters).await;
}

#[tokio::test]
async fn a_source_and_a_listener_have_caps_of_their_own() {
    let endpoint = Endpoint::echo("pod-0").await;
    let config = Config::default()
        .source_connections_max(2)
        .listener_connections_max(3);
    let (site, front) = Site::serving(config, &[&endpoint]).await;
    let counters = site.counters(front);
    let from = async |last: u8| {
        let mut stream = connect_from(source(last), front).await?;
        greeting(&mut stream).await.map(|_| stream)
    };
    let (one, two) = (from(2).await.unwrap(), from(2).await.unwrap());
    assert_reset(from(2).await);
    until(|| counters.ended(Reason::LimitSource) == 1).await;
    let three = from(3).await.unwrap();
    assert_reset(from(4).await);
    until(|| counters.ended(Reason::LimitListener) == 1).await;
    drop((one, two, three));
    until(|| counters.ended(Reason::Ok) == 3).await;
    drop(from(2).await.unwrap());
    let ended = site.end(&counters).await;
    assert_eq!(
        ended,
        [("limit-listener", 1), ("limit-source", 1), ("ok", 4)].into()
    );
}

#[tokio::test]
async fn a_source_that_comes_too_fast_is_reset() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (site, front) = Site::serving(Config::default().source_rate(1, 5), &[&endpoint]).await;
    let mut served = 0;
    for _ in 0..20 {
        served += u32::from(greeted(front).await.is_ok());
    }
    assert!((5..9).contains(&served), "{served}");
    assert!(
        greeted_from(source(9), front).await.is_ok(),
        "others are not affected"
    );
    let counters = site.counters(front);
    assert!(site.end(&counters).await["limit-source"] > 10);
}

#[tokio::test]
async fn a_service_that_is_being_deleted_drains() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (mut site, front) = Site::serving(config(), &[&endpoint]).await;
    let mut old = carried(front).await;
    site.fronted("web", front.port(), |front| front.is_deleting = true);
    site.publish();
    site.state(&ListenerState::Draining).await;
    assert_eq!(connect_fails(front).await, ErrorKind::ConnectionRefused);
    exchange(&mut old, b"still here").await.unwrap();
    drop(old);
    within(site.status.wait_for(<[_]>::is_empty)).await.unwrap();
}

async fn connect_fails(front: SocketAddr) -> ErrorKind {
    TcpStream::connect(front).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_port_is_proved_by_a_connection_that_is_counted_nowhere() {
    let endpoint = Endpoint::echo("pod-0").await;
    let mut site = Site::start(config().self_proof(true));
    let front = free_port();
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    let status = site.status.listeners().remove(0);
    assert_eq!(status.proof, lb_proxy::Proof::Passed);
    drop(connect(front).await);
    let counters = site.counters(front);
    until(|| counters.accepted() == 1).await;
    site.end(&counters).await;
}
