// SPDX-License-Identifier: MIT OR Apache-2.0
//! When ports open and close, and what becomes of the connections behind them.

mod site;

use lb_proxy::{BusyPort, Config, Holder, ListenerState, Reason};
use site::{
    Endpoint, Site, assert_reset, carried, connect, exchange, free_port, greeted, greeting,
    read_all, until, within,
};
use std::{
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

async fn assert_refused(front: SocketAddr) {
    let error = TcpStream::connect(front).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_drain_lets_old_connections_finish_and_refuses_new_ones() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut old = carried(front).await;
    site.stop.cancel();
    site.state(&ListenerState::Draining).await;
    assert_eq!(site.status.listeners()[0].active, 1);
    assert_refused(front).await;
    exchange(&mut old, b"still here").await.unwrap();
    old.shutdown().await.unwrap();
    assert!(read_all(&mut old).await.1.is_ok());
    let counters = site.counters(front);
    assert_eq!(site.end(&counters).await, [("ok", 1)].into());
}

#[tokio::test]
async fn at_the_drain_deadline_or_a_kill_the_rest_is_reset() {
    for deadline in [Duration::from_millis(50), Duration::from_secs(3_600)] {
        let endpoint = Endpoint::echo("pod-0").await;
        let config = Config::default().drain_timeout(deadline);
        let (site, front) = Site::serving(config, &[&endpoint]).await;
        let mut old = carried(front).await;
        site.stop.cancel();
        if deadline > Duration::from_secs(1) {
            site.kill.cancel();
        }
        assert_reset(read_all(&mut old).await.1);
        let counters = site.counters(front);
        assert_eq!(site.end(&counters).await, [("drain-deadline", 1)].into());
    }
}

#[tokio::test]
async fn clients_in_the_backlog_are_served_before_a_port_closes() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    // Blocking connects on the only thread: the proxy runs again only when all of them wait in the backlog.
    let connects = (0..100).map(|_| std::net::TcpStream::connect(front));
    let clients: Vec<_> = connects.collect::<Result<_, _>>().unwrap();
    site.stop.cancel();
    let greeted = tokio::task::spawn_blocking(move || {
        let greeted = |mut client: std::net::TcpStream| client.read_exact(&mut [0; 6]).is_ok();
        clients
            .into_iter()
            .filter(|client| greeted(client.try_clone().unwrap()))
            .count()
    });
    assert_eq!(within(greeted).await.unwrap(), 100);
    let counters = site.counters(front);
    assert_eq!(site.end(&counters).await, [("ok", 100)].into());
}

#[tokio::test]
async fn a_service_that_goes_takes_its_port_along_and_leaves_its_connections() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (mut site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut old = carried(front).await;
    site.remove_service("web");
    site.publish();
    site.state(&ListenerState::Draining).await;
    assert_refused(front).await;
    exchange(&mut old, b"still here").await.unwrap();
    drop(old);
    within(site.status.wait_for(<[_]>::is_empty)).await.unwrap();
    let counters = site.counters(front);
    site.end(&counters).await;
}

#[tokio::test]
async fn a_port_that_passes_to_another_service_drains_and_serves_at_once() {
    let (one, two) = (
        Endpoint::echo("pod-0").await,
        Endpoint::echo("other-0").await,
    );
    let (mut site, front) = Site::serving(Config::default(), &[&one]).await;
    let mut old = carried(front).await;
    site.remove_service("web");
    site.service("other", front.port());
    site.endpoint("other", &two);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    let mut new = connect(front).await;
    assert_eq!(greeting(&mut new).await.unwrap(), "other-0");
    exchange(&mut old, b"still here").await.unwrap();
    let states: Vec<_> = site
        .status
        .listeners()
        .iter()
        .map(|l| (l.service.to_string(), l.state.clone()))
        .collect();
    assert!(
        states.contains(&("default/web".into(), ListenerState::Draining)),
        "{states:?}"
    );
}

#[tokio::test]
async fn a_busy_port_is_a_conflict_that_names_its_holder_and_ends_with_it() {
    let front = free_port();
    let holder = std::net::TcpListener::bind(front).unwrap();
    let endpoint = Endpoint::echo("pod-0").await;
    let mut site = Site::start(Config::default());
    site.service("web", front.port());
    site.endpoint("web", &endpoint);
    site.publish();
    assert_eq!(within(site.status.serving()).await, None);
    let conflict = site.status.listeners().remove(0).state;
    let ListenerState::Conflict {
        holder: Holder::Process { pid, .. },
    } = conflict
    else {
        panic!("{conflict}");
    };
    assert_eq!(pid, std::process::id());
    drop(holder);
    site.state(&ListenerState::Serving).await;
    exchange(&mut carried(front).await, b"hello").await.unwrap();
}

#[tokio::test]
async fn a_demonstration_moves_on_from_a_busy_port_and_says_so() {
    let busy = free_port();
    let _holder = std::net::TcpListener::bind(busy).unwrap();
    let endpoint = Endpoint::echo("pod-0").await;
    let mut site = Site::start(Config::default().busy_port(BusyPort::MoveOn));
    site.service("web", busy.port());
    site.endpoint("web", &endpoint);
    site.publish();
    let front = within(site.status.serving()).await.unwrap();
    let status = site.status.listeners().remove(0);
    assert_eq!(
        (status.wanted.get(), status.port),
        (busy.port(), front.port())
    );
    assert!(front.port() > busy.port());
    exchange(&mut carried(front).await, b"hello").await.unwrap();
}

#[tokio::test]
async fn without_an_endpoint_clients_are_reset_then_refused_until_one_is_usable() {
    let endpoint = Endpoint::echo("pod-0").await;
    let config = Config::default().hold(Duration::from_millis(400));
    let (mut site, front) = Site::serving(config, &[&endpoint]).await;
    let counters = site.counters(front);
    site.listed("web", "pod-0", endpoint.address, false);
    site.publish();
    site.state(&ListenerState::Holding).await;
    assert_reset(greeted(front).await);
    site.state(&ListenerState::NoEndpoint).await;
    assert_refused(front).await;
    site.endpoint("web", &endpoint);
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    drop(carried(front).await);
    assert_eq!(
        site.end(&counters).await,
        [("no-endpoint", 1), ("ok", 1)].into()
    );
}

#[tokio::test]
async fn a_short_gap_without_endpoints_closes_no_port() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (mut site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    site.unlist("web", "pod-0");
    site.publish();
    site.state(&ListenerState::Holding).await;
    site.endpoint("web", &endpoint);
    site.publish();
    site.state(&ListenerState::Serving).await;
    drop(carried(front).await);
}

#[tokio::test]
async fn one_connection_above_the_cap_is_reset_and_the_others_go_on() {
    let endpoint = Endpoint::echo("pod-0").await;
    let config = Config::default().connections_max(2);
    let (site, front) = Site::serving(config, &[&endpoint]).await;
    let counters = site.counters(front);
    let (mut first, second) = (carried(front).await, carried(front).await);
    assert_reset(greeted(front).await);
    exchange(&mut first, b"undisturbed").await.unwrap();
    drop(second);
    until(|| counters.ended(Reason::Ok) == 1).await;
    drop((carried(front).await, first));
    assert_eq!(
        site.end(&counters).await,
        [("limit-global", 1), ("ok", 3)].into()
    );
}

#[tokio::test]
async fn of_two_services_on_one_port_the_smaller_name_serves_until_it_goes() {
    let (one, two) = (Endpoint::echo("a-0").await, Endpoint::echo("b-0").await);
    let front = free_port();
    let mut site = Site::start(Config::default());
    for (name, endpoint) in [("b", &two), ("a", &one)] {
        site.service(name, front.port());
        site.endpoint(name, endpoint);
    }
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    assert_eq!(greeting(&mut connect(front).await).await.unwrap(), "a-0");
    let [a, b] = &site.status.listeners()[..] else {
        panic!("both are listed")
    };
    let holder = Holder::Service(a.service.clone());
    assert_eq!(b.state, ListenerState::Conflict { holder });
    site.remove_service("a");
    site.publish();
    assert_eq!(within(site.status.serving()).await, Some(front));
    assert_eq!(greeting(&mut connect(front).await).await.unwrap(), "b-0");
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections_and_closes_its_ports() {
    let endpoint = Endpoint::echo("pod-0").await;
    let (site, front) = Site::serving(Config::default(), &[&endpoint]).await;
    let mut old = carried(front).await;
    site.running.abort();
    assert_reset(read_all(&mut old).await.1);
    until(|| std::net::TcpStream::connect(front).is_err()).await;
}
