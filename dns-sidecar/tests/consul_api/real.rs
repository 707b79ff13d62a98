// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same catalogue in a real Consul and in ours, and the same requests to both: every value that differs stands in a
//! table with its reason, and every reason is needed.

use crate::{client::get, fixture, site};
use dns_sidecar::DnsServer;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use testbed::{Consul, Error, wait_for};
use tokio_util::sync::CancellationToken;

const TEST: &str = "a_real_consul_tells_the_same_but_where_a_reason_says_why_not";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_consul_tells_the_same_but_where_a_reason_says_why_not() {
    let Some(consul) = loaded().await else { return };
    let theirs = consul.http_addr();
    let ours = serve(&consul).await;
    let paths = questions(theirs).await;
    let (mut same, mut used, mut unexplained) = (0_u32, BTreeMap::new(), Vec::new());
    for path in &paths {
        let (a, b) = (get(ours, path).await, get(theirs, path).await);
        assert_eq!(a.status, b.status, "{path}: ours {a:?}, Consul {b:?}");
        if a.status != 200 {
            assert_eq!(a.body.trim(), b.body.trim(), "{path}");
            same += 1;
            continue;
        }
        let has_index = |reply: &crate::client::Reply| reply.headers.contains_key("x-consul-index");
        assert_eq!(has_index(&a), has_index(&b), "{path}");
        let differences = differences(&a.json(), &b.json());
        same += u32::from(differences.is_empty());
        for (at, ours, theirs) in differences {
            match reason(&at, &ours, &theirs) {
                Some(reason) => *used.entry(reason).or_insert(0_u32) += 1,
                None => unexplained.push(format!("{path} {at}: ours {ours}, Consul {theirs}")),
            }
        }
    }
    println!(
        "{} requests, {same} answered alike to the letter; {used:#?}",
        paths.len()
    );
    let shown: Vec<_> = unexplained.iter().take(30).cloned().collect();
    assert!(
        unexplained.is_empty(),
        "{}:\n{}",
        unexplained.len(),
        shown.join("\n")
    );
    let known: BTreeSet<_> = REASONS.iter().map(|(why, _)| *why).collect();
    assert_eq!(
        used.keys().copied().collect::<BTreeSet<_>>(),
        known,
        "every reason is needed"
    );
}

/// What is asked of both: everything about each service and node that Consul has, and what is not there.
async fn questions(theirs: SocketAddr) -> Vec<String> {
    let services = get(theirs, "/v1/catalog/services").await.json();
    let mut paths: Vec<String> = [
        "/v1/catalog/services",
        "/v1/catalog/nodes",
        "/v1/catalog/datacenters",
    ]
    .map(str::to_owned)
    .to_vec();
    for name in services
        .as_object()
        .unwrap()
        .keys()
        .chain([&"nosuch".to_owned()])
    {
        let flat = format!("/v1/catalog/service/{name}");
        let health = format!("/v1/health/service/{name}");
        for query in [
            "",
            "?tag=v2",
            "?tag=V2&tag=edge.mall-a",
            "?node-meta=zone:mall-a",
            "?dc=dc1",
        ] {
            paths.push(format!("{flat}{query}"));
            paths.push(format!("{health}{query}"));
        }
        for query in [
            "?passing",
            "?passing=1",
            "?passing=false",
            "?stale",
            "?passing&tag=v2",
        ] {
            paths.push(format!("{health}{query}"));
        }
    }
    let nodes = get(theirs, "/v1/catalog/nodes").await.json();
    let nodes = nodes.as_array().unwrap().iter();
    // Of its own node an agent tells itself.
    for node in nodes
        .filter_map(|node| node["Node"].as_str())
        .filter(|node| *node != "testbed")
    {
        paths.push(format!("/v1/catalog/node/{node}"));
        paths.push(format!(
            "/v1/catalog/node/{node}?filter={}",
            encoded("v2 in Tags")
        ));
    }
    for path in [
        "/v1/catalog/node/nosuch",
        "/v1/catalog/node-services/nosuch",
        "/v1/catalog/node/",
        "/v1/health/node/",
        "/v1/health/node/nosuch",
        "/v1/health/service/WEB",
        "/v1/catalog/services?node-meta=zone:mall-a",
        "/v1/health/service/web?dc=nosuch",
        "/v1/health/service/web?index=x",
        "/v1/health/service/web?wait=x",
        "/v1/health/service/web?passing=maybe",
        "/v1/health/service/",
        "/v1/nosuch",
    ] {
        paths.push(path.to_owned());
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_consul_chooses_the_same_by_an_expression() {
    let Some(consul) = loaded().await else { return };
    let (theirs, ours) = (consul.http_addr(), serve(&consul).await);
    let services = get(theirs, "/v1/catalog/services").await.json();
    let mut told = 0;
    // Of its own servers Consul keeps what no other service has: versions in the metadata, a check by serf.
    let names = services.as_object().unwrap().keys();
    for name in names.filter(|name| *name != "consul") {
        for filter in FLAT {
            let path = format!("/v1/catalog/service/{name}?filter={}", encoded(filter));
            told += same_entries(ours, theirs, &path, filter).await;
        }
        for filter in HEALTH {
            let path = format!("/v1/health/service/{name}?filter={}", encoded(filter));
            told += same_entries(ours, theirs, &path, filter).await;
        }
    }
    assert!(told > 100, "{told}");
    for filter in WRONG {
        let path = format!("/v1/catalog/service/web?filter={}", encoded(filter));
        let (a, b) = (get(ours, &path).await, get(theirs, &path).await);
        // Consul says that it failed, though nothing helps but another expression.
        assert_eq!((a.status, b.status), (400, 500), "{filter}: {a:?}, {b:?}");
        let begin = |body: &str| body.split(", expected").next().unwrap().to_owned();
        let (a, b) = (begin(&a.body), begin(&b.body));
        assert!(
            a == b || a.starts_with("Failed to create boolean") && is_in_our_words(&a),
            "{filter}: {a}, {b}"
        );
    }
}

/// A value of another type and a pattern are refused in the words of what reads them here.
fn is_in_our_words(text: &str) -> bool {
    [
        "Failed to coerce value",
        "Failed to compile regular expression",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// How many entries are told, by both the same.
async fn same_entries(ours: SocketAddr, theirs: SocketAddr, path: &str, filter: &str) -> usize {
    let (a, b) = (get(ours, path).await, get(theirs, path).await);
    assert_eq!((a.status, b.status), (200, 200), "{filter}: {a:?}, {b:?}");
    let names = |reply: &crate::client::Reply| -> BTreeSet<String> {
        let list = reply.json();
        let entries = list.as_array().unwrap().iter();
        entries
            .map(|entry| name(entry.as_object().unwrap()))
            .collect()
    };
    let (a, b) = (names(&a), names(&b));
    assert_eq!(a, b, "{path}: {filter}");
    a.len()
}

fn encoded(text: &str) -> String {
    let escaped = text.bytes().map(|byte| format!("%{byte:02x}"));
    escaped.collect::<Vec<_>>().concat()
}

const FLAT: [&str; 16] = [
    "v2 in ServiceTags",
    "ServiceTags is empty",
    "ServiceTags not contains `v1`",
    "ServiceName matches \"^w.b$\"",
    "ServiceName contains e and not ServicePort == 80",
    "ServicePort == \"0x50\" or ServicePort != 8080",
    "NodeMeta.zone == `mall-a`",
    "NodeMeta.none != x",
    "NodeMeta.none matches `x`",
    "NodeMeta[\"zone\"] matches `mall-[ab]`",
    "zone not in NodeMeta",
    "ServiceMeta is empty",
    "not in ServiceName",
    "(Node == `n1` or Datacenter == dc1) and ServiceAddress != ``",
    "not not ServiceWeights.Passing == 1",
    "ServiceEnableTagOverride == F and ServiceConnect.Native == false",
];
const HEALTH: [&str; 6] = [
    "Service.Tags contains v2",
    "Node.Meta.zone == `mall-a`",
    "Checks.Status == critical",
    "not Checks.Status == critical and Service.Port != 80",
    "Service.Weights.Warning == 1 or Service.Meta is not empty",
    "Service.Service matches `(?i)^WEB`",
];
/// Refused, with the place where there is one.
const WRONG: [&str; 26] = [
    " ",
    "ServiceName == 'web'",
    "ServiceName == web-1",
    "ServiceName == web)",
    "(ServiceName == web",
    "()",
    "not(ServiceName == web)",
    "ServiceName == \"web",
    "ServiceName == \"w\\q\"",
    "ServicePort == 080",
    "ServiceName == 10x",
    "ServicePort in 80",
    "ServiceMeta[x] == z",
    "ServiceMeta[\"x-y\" == z",
    "ServiceMeta.1 == z",
    "ServiceName ! = web",
    "a in b in c",
    "Nosuch == 1",
    "ServiceMeta.k.x == 1",
    "ServiceTags.v1 == x",
    "CreateIndex == 1",
    "ServiceTags == v1",
    "ServicePort is not empty",
    "ServicePort == x",
    "ServiceEnableTagOverride == no",
    "ServiceName matches \"(\"",
];

/// Why a value may differ, by its place and both values.
type Reason = (&'static str, fn(&str, &Value, &Value) -> bool);

const REASONS: [Reason; 7] = [
    ("indices are ours", |at, _, _| {
        at.ends_with("CreateIndex") || at.ends_with("ModifyIndex")
    }),
    ("nodes have no UUID", |at, ours, _| {
        at.rsplit('.').next() == Some("ID") && *ours == json!("")
    }),
    (
        "no meta data is an empty table, as agents register it",
        |_, ours, theirs| *ours == json!({}) && theirs.is_null(),
    ),
    ("addresses of other networks are not told", |at, _, _| {
        let at = at.to_ascii_lowercase();
        at.contains("taggedaddresses")
    }),
    (
        "proxies and gateways are told as plain services",
        |at, _, _| {
            ["Kind", "Proxy", "Gateway"]
                .iter()
                .any(|word| at.contains(word))
        },
    ),
    ("what an agent says of itself, ours does not", |at, _, _| {
        at.contains("testbed")
    }),
    (
        "the tags of all instances of a service are sorted",
        |_, ours, theirs| {
            let set = |list: &Value| {
                let list = list.as_array().into_iter().flatten();
                list.map(ToString::to_string).collect::<BTreeSet<_>>()
            };
            ours.is_array() && set(ours) == set(theirs)
        },
    ),
];

fn reason(at: &str, ours: &Value, theirs: &Value) -> Option<&'static str> {
    let found = REASONS.iter().find(|(_, is_so)| is_so(at, ours, theirs));
    found.map(|(why, _)| *why)
}

/// Every value that differs, with its place; entries of lists are told apart by what they are called.
fn differences(ours: &Value, theirs: &Value) -> Vec<(String, Value, Value)> {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", ours, &mut a);
    flatten("", theirs, &mut b);
    let places: BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
    let value = |of: &BTreeMap<String, Value>, at: &str| of.get(at).cloned().unwrap_or(Value::Null);
    let pairs = places.into_iter().map(|at| {
        let (ours, theirs) = (value(&a, &at), value(&b, &at));
        (at, ours, theirs)
    });
    pairs.filter(|(_, ours, theirs)| ours != theirs).collect()
}

fn flatten(at: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                if key == "Checks" {
                    // How many checks there are is each one's own; what they amount to is not.
                    into.insert(format!("{at}.Status"), json!(worst(value)));
                } else {
                    flatten(&format!("{at}.{key}"), value, into);
                }
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for entry in list {
                let name = name(entry.as_object().unwrap());
                let is_new = !into
                    .keys()
                    .any(|known| known.starts_with(&format!("{at}[{name}].")));
                assert!(is_new, "{name} is told once");
                flatten(&format!("{at}[{name}]"), entry, into);
            }
        }
        plain => drop(into.insert(at.to_owned(), plain.clone())),
    }
}

fn name(entry: &Map<String, Value>) -> String {
    let node = match &entry["Node"] {
        Value::Object(node) => node["Node"].clone(),
        node => node.clone(),
    };
    let service = entry.get("ServiceID").cloned();
    let service = service.or_else(|| Some(entry.get("Service")?["ID"].clone()));
    format!("{node} {service:?}")
}

fn worst(checks: &Value) -> &'static str {
    let mut statuses: Vec<&str> = Vec::new();
    for check in checks.as_array().unwrap() {
        statuses.push(check["Status"].as_str().unwrap());
    }
    ["critical", "warning"]
        .into_iter()
        .find(|status| statuses.contains(status))
        .unwrap_or("passing")
}

/// A Consul with the recorded catalogue; none where there is no Consul.
async fn loaded() -> Option<Consul> {
    let consul = match Consul::start_with(&json!({ "datacenter": "dc1" })).await {
        Ok(consul) => consul,
        Err(error @ Error::Unavailable { .. }) => {
            testbed::skip(TEST, &error.to_string());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    for call in fixture::fixture()["calls"].as_array().unwrap() {
        let (path, body) = (call["path"].as_str().unwrap(), &call["body"]);
        match call["method"].as_str().unwrap() {
            "POST" => consul.post(path, body).await.unwrap(),
            _ => consul.put(path, body).await.unwrap(),
        };
    }
    // What is registered at the agent reaches the catalogue on its own.
    let within = Duration::from_secs(20);
    let synced = wait_for(
        "the agent's services are in the catalogue",
        within,
        async || {
            let local = consul.get("/v1/catalog/service/local").await.unwrap();
            (local != json!([])).then_some(())
        },
    );
    synced.await.unwrap();
    Some(consul)
}

/// Ours with the same catalogue.
async fn serve(consul: &Consul) -> SocketAddr {
    let node: Value = consul.get("/v1/catalog/node/testbed").await.unwrap();
    let (catalog, _) = fixture::catalog_of("testbed", &node);
    let server = DnsServer::bind_catalog(site::config(), &catalog, Arc::default()).unwrap();
    let address = server.http_addrs()[0];
    tokio::spawn(server.run(CancellationToken::new()));
    address
}
