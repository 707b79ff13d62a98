// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests that wait: what wakes them, what does not, and how many there may be.

use crate::{
    client::{PATIENCE, Reply, get, send},
    mall::{HTTP, Mall},
    site::Site,
};
use discovery_core::telemetry::{ConsulApiEndpoint, ConsulApiOutcome};
use std::{num::NonZeroUsize, time::Duration};
use testbed::wait_for;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{self, Instant},
};

const WEB: &str = "/v1/health/service/web-default";
const NAMES: &str = "/v1/health/service/names-infra";

/// A request that waits by now.
async fn wait_on(site: &Site, path: &str, index: u64, wait: &str) -> JoinHandle<Reply> {
    let before = site.metrics.consul_api().waiting();
    let (server, path) = (site.http, format!("{path}?index={index}&wait={wait}"));
    let waiting = tokio::spawn(async move { get(server, &path).await });
    until(site, before + 1).await;
    waiting
}

async fn until(site: &Site, waiting: i64) {
    let is_so = || async { (site.metrics.consul_api().waiting() == waiting).then_some(()) };
    let what = format!("{waiting} wait");
    wait_for(&what, PATIENCE, is_so).await.unwrap();
}

fn add(site: &mut Site, pod: &str, address: &str) {
    let endpoint = [(pod, "edge-a", address)];
    site.mall.endpoints("default/web", pod, &[HTTP], &endpoint);
    site.mall.writer.publish();
}

#[tokio::test]
async fn a_change_wakes_who_waits_for_it_and_nobody_else() {
    let mut site = Site::start(Mall::open());
    let (web, names) = (site.get(WEB).await.index(), site.get(NAMES).await.index());
    let services = site.get("/v1/catalog/services").await.index();
    let on_web = wait_on(&site, WEB, web, "60s").await;
    let on_names = wait_on(&site, NAMES, names, "1s").await;
    let on_services = wait_on(&site, "/v1/catalog/services", services, "1s").await;
    add(&mut site, "web-new", "10.1.0.77");
    let woken = on_web.await.unwrap();
    assert!(woken.index() > web && woken.body.contains("10.1.0.77"));
    let (unmoved, listed) = (on_names.await.unwrap(), on_services.await.unwrap());
    assert_eq!((unmoved.index(), listed.index()), (names, services));
    until(&site, 0).await;
    // What changed before the question is told at once.
    let began = Instant::now();
    assert_eq!(
        site.get(&format!("{WEB}?index={web}&wait=60s"))
            .await
            .index(),
        woken.index()
    );
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_waits_for_longer_than_a_request_may_take_to_come_is_not_given_up() {
    let mut site = Site::start(Mall::open());
    let index = site.get(WEB).await.index();
    let mut waiting = TcpStream::connect(site.http).await.unwrap();
    let path = format!("{WEB}?index={index}&wait=10m");
    send(&mut waiting, "GET", &path, "").await;
    until(&site, 1).await;
    // Without waiting for it.
    time::pause();
    time::advance(Duration::from_secs(300)).await;
    time::resume();
    assert_eq!(site.get(WEB).await.index(), index);
    until(&site, 1).await;
    add(&mut site, "web-new", "10.1.0.77");
    let mut reply = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut waiting, &mut reply);
    time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert!(
        reply.contains("200 OK") && reply.contains("10.1.0.77"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_service_that_comes_or_goes_wakes_who_waits_for_it() {
    let mut site = Site::start(Mall::open());
    let later = "/v1/health/service/later-shop";
    let (absent, services) = (
        site.get(later).await,
        site.get("/v1/catalog/services").await,
    );
    assert_eq!(absent.body, "[]");
    let on_it = wait_on(&site, later, absent.index(), "60s").await;
    let on_all = wait_on(&site, "/v1/catalog/services", services.index(), "60s").await;
    site.mall.service("shop/later", &[HTTP]);
    let endpoint = [("later-0", "edge-a", "10.1.8.1")];
    site.mall.endpoints("shop/later", "4", &[HTTP], &endpoint);
    site.mall.writer.publish();
    let there = on_it.await.unwrap();
    assert!(there.index() > absent.index() && there.body.contains("10.1.8.1"));
    assert!(on_all.await.unwrap().body.contains("later-shop"));
    let on_it = wait_on(&site, later, there.index(), "60s").await;
    site.mall.upsert_gone("shop/later");
    site.mall.writer.publish();
    let gone = on_it.await.unwrap();
    assert!(gone.index() > there.index());
    assert_eq!(gone.body, "[]");
}

#[tokio::test]
async fn numbers_grow_over_a_restart_and_one_from_elsewhere_is_answered_at_once() {
    let site = Site::start(Mall::open());
    let before = site.get(WEB).await.index();
    let mall = site.stop().await;
    let site = Site::start(mall);
    let after = site
        .get(&format!("{WEB}?index={before}&wait=60s"))
        .await
        .index();
    assert!(after > before, "{after} after {before}");
    let began = Instant::now();
    let told = site
        .get(&format!("{WEB}?index={}&wait=60s", after * 2))
        .await;
    assert_eq!(told.index(), after, "the client sees that it went back");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn beyond_the_bound_nobody_waits_and_who_leaves_makes_room() {
    let two = NonZeroUsize::new(2).unwrap();
    let site = Site::start_as(Mall::open(), |config| config.http_waiting_max(two));
    let index = site.get(WEB).await.index();
    let path = format!("{WEB}?index={index}&wait=60s");
    let first = wait_on(&site, WEB, index, "60s").await;
    let mut second = TcpStream::connect(site.http).await.unwrap();
    send(&mut second, "GET", &path, "").await;
    until(&site, 2).await;
    assert_eq!(site.get(&path).await.status, 429);
    let full = (ConsulApiEndpoint::HealthService, ConsulApiOutcome::Full);
    assert_eq!(site.metrics.consul_api().requests(full.0, full.1), 1);
    assert_eq!(
        site.get(WEB).await.status,
        200,
        "who does not wait is answered"
    );
    drop(second);
    until(&site, 1).await;
    let third = wait_on(&site, WEB, index, "60s").await;
    // A server that stops answers who waits.
    let began = Instant::now();
    site.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    for waiting in [first, third] {
        let reply = waiting.await.unwrap();
        assert_eq!((reply.status, reply.index()), (200, index));
    }
}

#[tokio::test]
async fn beyond_the_bound_of_connections_one_waits_until_another_closes() {
    let one = NonZeroUsize::MIN;
    let site = Site::start_as(Mall::open(), |config| config.http_connections_max(one));
    let mut held = TcpStream::connect(site.http).await.unwrap();
    let index = "1".repeat(18);
    send(
        &mut held,
        "GET",
        &format!("{WEB}?index={index}&wait=60s"),
        "",
    )
    .await;
    let mut reply = [0; 15];
    tokio::io::AsyncReadExt::read_exact(&mut held, &mut reply)
        .await
        .unwrap();
    assert_eq!(&reply, b"HTTP/1.1 200 OK");
    drop(held);
    assert_eq!(site.get(WEB).await.status, 200);
}
