// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told, and what is not.

use crate::{
    client::{get, request},
    mall::{HTTP, Mall},
    site::Site,
};
use discovery_core::{
    model::Conditions,
    store::SourceId,
    telemetry::{ConsulApiEndpoint, ConsulApiOutcome, DnsTransport},
};
use dns_sidecar::client::ask;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

const LISTS: [&str; 8] = [
    "/v1/catalog/services",
    "/v1/catalog/service/web",
    "/v1/catalog/nodes",
    "/v1/catalog/datacenters",
    "/v1/health/service/web",
    "/v1/health/checks/web",
    "/v1/health/state/any",
    "/v1/agent/self",
];

#[tokio::test]
async fn before_everything_was_read_there_is_an_error_and_never_an_empty_list() {
    let mut site = Site::start(Mall::unread());
    for path in LISTS {
        let reply = site.get(path).await;
        assert_eq!(reply.status, 500, "{path}");
        assert!(
            reply.body.contains("No cluster leader"),
            "{path}: {}",
            reply.body
        );
        let waiting = format!("{path}?index=1&wait=10m");
        assert_eq!(site.get(&waiting).await.status, 500, "nobody waits for it");
    }
    let leader = site.get("/v1/status/leader").await;
    assert_eq!((leader.status, &*leader.body), (200, "\"\""));
    let requests = site.metrics.consul_api();
    let unknown = requests.requests(ConsulApiEndpoint::Services, ConsulApiOutcome::Unknown);
    assert_eq!(unknown, 2);
    // Once all is read, what is not there is said not to be there.
    let ready = Mall::open();
    site = Site::start(ready);
    let reply = site.get("/v1/health/service/nosuch").await;
    assert_eq!((reply.status, &*reply.body), (200, "[]"));
    let leader = site.get("/v1/status/leader").await.json();
    assert_eq!(leader, json!(site.http.to_string()));
}

#[tokio::test]
async fn what_passes_over_http_is_what_dns_answers() {
    let site = Site::start(Mall::open());
    let services = site.get("/v1/catalog/services").await.json();
    let names: Vec<&String> = services.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "headless-shop",
            "host-shop",
            "many-shop",
            "names-infra",
            "web",
            "web-default"
        ]
    );
    assert_eq!(services["web"], json!(["admin", "http"]));
    for name in names {
        let path = format!("/v1/health/service/{name}?passing");
        let told = site.get(&path).await.json();
        let told: BTreeSet<(String, u64)> = entries(&told)
            .map(|entry| {
                let service = &entry["Service"];
                (
                    text(&service["Address"]),
                    service["Port"].as_u64().unwrap_or(0),
                )
            })
            .collect();
        let question = format!("{name}.service.consul");
        let mut answered = BTreeSet::new();
        for qtype in ["A", "AAAA"] {
            let patience = Duration::from_secs(10);
            let reply = ask(site.dns, &question, qtype, DnsTransport::Tcp, patience);
            let records = reply.await.unwrap().answers;
            answered.extend(records.iter().map(|record| record.data.clone()));
        }
        let addresses: BTreeSet<String> = told.iter().map(|(address, _)| address.clone()).collect();
        assert_eq!(addresses, answered, "{name}");
        assert_eq!(
            told.len(),
            addresses.len(),
            "each address once, with its port"
        );
    }
}

#[tokio::test]
async fn an_instance_that_does_not_serve_is_told_as_critical_and_never_as_passing() {
    let mut mall = Mall::open();
    let ready = Conditions::from_api(None, None, None);
    let unready = Conditions::from_api(Some(false), Some(false), None);
    let leaving = Conditions::from_api(Some(false), Some(true), Some(true));
    mall.service("shop/mixed", &[HTTP]);
    for (slice, pod, address, conditions) in [
        ("1", "well", "10.1.7.1", ready),
        ("2", "ill", "10.1.7.2", unready),
        ("3", "leaving", "10.1.7.3", leaving),
    ] {
        let endpoint = [(pod, "edge-a", address)];
        mall.endpoints_as("shop/mixed", slice, &[HTTP], &endpoint, conditions);
    }
    mall.synced(SourceId::Kube);
    let site = Site::start(mall);
    let statuses = |list: Value| -> Vec<(String, String)> {
        let of = |entry: &Value| {
            (
                text(&entry["Service"]["Address"]),
                text(&entry["Checks"][0]["Status"]),
            )
        };
        entries(&list).map(of).collect()
    };
    let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        pairs.iter().map(own).collect()
    };
    let all = statuses(site.get("/v1/health/service/mixed-shop").await.json());
    let expected = [
        ("10.1.7.1", "passing"),
        ("10.1.7.2", "critical"),
        ("10.1.7.3", "warning"),
    ];
    assert_eq!(all, own(&expected));
    let passing = statuses(
        site.get("/v1/health/service/mixed-shop?passing=1")
            .await
            .json(),
    );
    assert_eq!(passing, own(&expected[..1]));
    // Who lays both lists side by side finds the same instance in each line.
    let flat = site.get("/v1/catalog/service/mixed-shop").await.json();
    let flat: Vec<_> = entries(&flat)
        .map(|entry| text(&entry["ServiceAddress"]))
        .collect();
    assert_eq!(flat, ["10.1.7.1", "10.1.7.2", "10.1.7.3"]);
    let critical = site.get("/v1/health/state/critical").await.json();
    let critical: Vec<_> = entries(&critical)
        .map(|check| text(&check["ServiceID"]))
        .collect();
    assert_eq!(critical, ["mixed-shop:10.1.7.2:8080"]);
}

#[tokio::test]
async fn nothing_of_another_zone_is_told_and_no_word_says_that_it_exists() {
    let site = Site::start(Mall::open());
    for path in LISTS {
        for suffix in ["", "?dc=mall-1", "?dc=MALL-1"] {
            let reply = site.get(&format!("{path}{suffix}")).await;
            assert_eq!(reply.status, 200, "{path}{suffix}");
            assert!(
                !reply.body.contains("10.9."),
                "{path}{suffix}: {}",
                reply.body
            );
        }
        for dc in ["mall-2", "nosuch"] {
            let reply = site.get(&format!("{path}?dc={dc}")).await;
            assert_eq!((reply.status, &*reply.body), (500, "No path to datacenter"));
        }
    }
    assert_eq!(
        site.get("/v1/catalog/datacenters").await.json(),
        json!(["mall-1"])
    );
    let away = site.get("/v1/health/service/away-shop").await;
    assert_eq!((away.status, &*away.body), (200, "[]"));
}

#[tokio::test]
async fn nothing_is_written_and_nothing_unknown_is_ignored() {
    let site = Site::start(Mall::open());
    for (method, path) in [
        ("PUT", "/v1/agent/service/register"),
        ("PUT", "/v1/catalog/deregister"),
        ("POST", "/v1/health/service/web"),
        ("DELETE", "/v1/kv/x"),
    ] {
        let reply = request(site.http, method, path, "{\"ID\":\"x\"}").await;
        assert_eq!(reply.status, 405, "{method} {path}");
        assert_eq!(reply.headers["allow"], "GET");
    }
    for (path, status) in [
        ("/v1/kv/x", 404),
        ("/v1/health/service/web?filter=Service.Nosuch==1", 400),
        ("/v1/health/service/web?index=x", 400),
    ] {
        assert_eq!(site.get(path).await.status, status, "{path}");
    }
    let long = format!("/v1/health/service/{}", "x".repeat(70_000));
    let status = get(site.http, &long).await.status;
    assert!((400..500).contains(&status), "{status}");
}

#[tokio::test]
async fn a_list_is_narrowed_and_ordered_as_asked() {
    let site = Site::start(Mall::open());
    let addresses = async |path: &str| -> Vec<String> {
        let told = site.get(path).await.json();
        entries(&told)
            .map(|entry| text(&entry["Service"]["Address"]))
            .collect()
    };
    let host = "/v1/health/service/host-shop";
    assert_eq!(addresses(host).await, ["10.0.0.1", "10.0.0.2"]);
    let near = addresses(&format!("{host}?near=edge-b.rack.lan")).await;
    assert_eq!(near, ["10.0.0.2", "10.0.0.1"]);
    let near = addresses(&format!("{host}?near=_agent")).await;
    assert_eq!(near, ["10.0.0.1", "10.0.0.2"]);
    let meta = addresses(&format!("{host}?node-meta=site:north")).await;
    assert_eq!(meta, ["10.0.0.1"]);
    assert!(
        addresses(&format!("{host}?node-meta=site:south"))
            .await
            .is_empty()
    );
    assert_eq!(
        addresses("/v1/health/service/WEB?tag=HTTP&tag=admin")
            .await
            .len(),
        4
    );
    assert!(
        addresses("/v1/health/service/web?tag=http&tag=nosuch")
            .await
            .is_empty()
    );
    let services = site
        .get("/v1/catalog/services?node-meta=site:north")
        .await
        .json();
    assert!(services.get("web").is_some() && services.get("nosuch").is_none());
    let nodes = site
        .get("/v1/catalog/nodes?near=edge-b.rack.lan")
        .await
        .json();
    let nodes: Vec<_> = entries(&nodes).map(|node| text(&node["Node"])).collect();
    assert_eq!(nodes, ["edge-b.rack.lan", "edge-a"]);
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap().iter()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
