// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clients of Consul: its own command and consul-template for real, the requests of the others to the letter.

use crate::{
    client::{PATIENCE, get},
    mall::{HTTP, Mall},
    site::Site,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
};
use testbed::{Binary, Error, Process, skip, wait_for};

async fn program(binary: Binary, test: &str) -> Option<PathBuf> {
    match binary.find().await {
        Ok(path) => Some(path),
        Err(error @ Error::Unavailable { .. }) => {
            skip(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What a command says, once it has ended.
async fn said(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(PATIENCE, run)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_of_consul_reads_it() {
    let test = "the_command_of_consul_reads_it";
    let Some(consul) = program(Binary::Consul, test).await else {
        return;
    };
    let mut site = Site::start(Mall::open());
    let address = format!("-http-addr={}", site.http);
    let command = |words: &[&str]| {
        let mut command = Command::new(&consul);
        command.args(words).arg(&address);
        command
    };
    for (words, expected) in [
        (
            &["catalog", "services", "-tags"][..],
            &["web", "admin,http", "names-infra"][..],
        ),
        (&["catalog", "nodes"], &["edge-a", "10.0.0.1", "mall-1"]),
        (
            &["catalog", "nodes", "-service=host-shop"],
            &["edge-b.rack.lan"],
        ),
        (&["catalog", "datacenters"], &["mall-1"]),
    ] {
        let output = said(command(words)).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{words:?}: {:?}",
            String::from_utf8(output.stderr)
        );
        for word in expected {
            assert!(text.contains(word), "{words:?} says {word}: {text}");
        }
    }
    // A watch: its handler is run with the list, at the start and at a change.
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let mut watch = command(&[
        "watch",
        "-type=service",
        "-service=web",
        "-passingonly=true",
    ]);
    watch.args([
        "sh",
        "-c",
        &format!("cat >> {0}; echo >> {0}", seen.display()),
    ]);
    let words: Vec<_> = watch.get_args().map(ToOwned::to_owned).collect();
    let mut ordered = Command::new(&consul);
    ordered.args(&words);
    let mut process = Process::start("consul watch", &ordered, &dir.path().join("log")).unwrap();
    let tells = |word: &'static str| {
        let seen = seen.clone();
        move || {
            let text = fs::read_to_string(&seen).unwrap_or_default();
            async move { text.contains(word).then_some(()) }
        }
    };
    wait_for("the first list", PATIENCE, tells("10.1.0.1"))
        .await
        .unwrap();
    let endpoint = [("web-new", "edge-a", "10.1.0.77")];
    site.mall
        .endpoints("default/web", "new", &[HTTP], &endpoint);
    site.mall.writer.publish();
    wait_for("the change", PATIENCE, tells("10.1.0.77"))
        .await
        .unwrap();
    assert!(process.status().unwrap().is_none(), "it still watches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_template_writes_what_it_tells_and_follows_changes() {
    let test = "consul_template_writes_what_it_tells_and_follows_changes";
    let Some(program) = program(Binary::ConsulTemplate, test).await else {
        return;
    };
    let mut site = Site::start(Mall::open());
    let dir = tempfile::tempdir().unwrap();
    let (template, written) = (dir.path().join("in"), dir.path().join("out"));
    let text = "{{ range services }}{{ .Name }} {{ .Tags }}\n{{ end }}\
        {{ range service \"web\" }}server {{ .Node }} {{ .Address }}:{{ .Port }} {{ .Status }}\n{{ end }}\
        {{ range nodes }}node {{ .Node }} {{ .Address }}\n{{ end }}";
    fs::write(&template, text).unwrap();
    let mut command = Command::new(program);
    command
        .arg(format!("-consul-addr={}", site.http))
        .arg(format!(
            "-template={}:{}",
            template.display(),
            written.display()
        ))
        .arg("-log-level=debug");
    let log = dir.path().join("log");
    let mut process = Process::start("consul-template", &command, &log).unwrap();
    let holds = |words: &'static [&'static str]| {
        let written = written.clone();
        move || {
            let text = fs::read_to_string(&written).unwrap_or_default();
            async move { words.iter().all(|word| text.contains(word)).then_some(()) }
        }
    };
    let first = [
        "web [admin http]",
        "server edge-a 10.1.0.1:8080 passing",
        "server edge-b.rack.lan 10.1.0.3:8080 passing",
        "node edge-a 10.0.0.1",
    ];
    let first: &'static [&'static str] = Box::leak(Box::new(first));
    let told = wait_for("the first file", PATIENCE, holds(first)).await;
    told.unwrap_or_else(|error| panic!("{error}: {}", fs::read_to_string(&log).unwrap()));
    let endpoint = [("web-new", "edge-a", "10.1.0.77")];
    site.mall
        .endpoints("default/web", "new", &[HTTP], &endpoint);
    site.mall.writer.publish();
    let change = holds(&["server edge-a 10.1.0.77:8080 passing"]);
    wait_for("the change", PATIENCE, change).await.unwrap();
    assert!(!fs::read_to_string(&written).unwrap().contains("10.9."));
    assert!(process.status().unwrap().is_none(), "it still follows");
}

/// `discovery/consul/consul.go`: the datacenter from the agent, the list of services, each service with waits of 2 min, stale.
#[tokio::test]
async fn the_requests_of_prometheus_find_every_target() {
    let mut site = Site::start(Mall::open());
    let agent = site.get("/v1/agent/self").await.json();
    assert_eq!(agent["Config"]["Datacenter"], "mall-1");
    let list = "/v1/catalog/services?stale=&wait=120000ms";
    let services = site.get(list).await;
    let mut targets = BTreeSet::new();
    for name in services.json().as_object().unwrap().keys() {
        let path = format!("/v1/health/service/{name}?stale=&wait=120000ms");
        let reply = site.get(&path).await;
        assert!(
            reply.index() > 0,
            "its next request waits for the next change"
        );
        for entry in reply.json().as_array().unwrap() {
            // The labels that it makes of each.
            for (part, key) in [
                ("Node", "Address"),
                ("Node", "Node"),
                ("Node", "Datacenter"),
                ("Service", "ID"),
                ("Service", "Address"),
                ("Service", "Service"),
            ] {
                assert!(entry[part][key].is_string(), "{part}.{key} in {entry}");
            }
            assert!(entry["Service"]["Tags"].is_array() && entry["Node"]["Meta"].is_object());
            assert_eq!(entry["Checks"][0]["Status"], "passing");
            let (address, port) = (&entry["Service"]["Address"], &entry["Service"]["Port"]);
            targets.insert(format!("{}:{port}", address.as_str().unwrap()));
        }
    }
    assert!(targets.contains("10.1.0.1:8080") && targets.contains("10.2.0.39:8080"));
    // The next list waits, and comes with the change.
    let path = format!(
        "/v1/catalog/services?index={}&stale=&wait=120000ms",
        services.index()
    );
    let server = site.http;
    let waiting = tokio::spawn(async move { get(server, &path).await });
    site.mall.service("shop/later", &[HTTP]);
    let endpoint = [("later-0", "edge-a", "10.1.8.1")];
    site.mall.endpoints("shop/later", "4", &[HTTP], &endpoint);
    site.mall.writer.publish();
    assert!(waiting.await.unwrap().json().get("later-shop").is_some());
}

/// `pkg/provider/consulcatalog/consul_catalog.go`: two lists of each service, laid side by side by their places.
#[tokio::test]
async fn the_requests_of_traefik_give_two_lists_of_one_order() {
    let site = Site::start(Mall::open());
    let services = site.get("/v1/catalog/services").await.json();
    for name in services.as_object().unwrap().keys() {
        for query in ["", "?stale=", "?consistent=", "?cached=", "?tag=http"] {
            let flat = site
                .get(&format!("/v1/catalog/service/{name}{query}"))
                .await;
            let health = site.get(&format!("/v1/health/service/{name}{query}")).await;
            assert_eq!(health.headers.contains_key("x-cache"), query == "?cached=");
            let (flat, health) = (flat.json(), health.json());
            let (flat, health) = (flat.as_array().unwrap(), health.as_array().unwrap());
            assert_eq!(flat.len(), health.len(), "{name}{query}");
            for (flat, health) in flat.iter().zip(health) {
                assert_eq!(flat["ServiceID"], health["Service"]["ID"]);
                assert_eq!(flat["ServiceAddress"], health["Service"]["Address"]);
                let port = health["Service"]["Port"].as_u64().unwrap_or(0);
                assert_eq!(
                    flat["ServicePort"], port,
                    "what is 0 is left out, as Go does"
                );
                assert_eq!(flat["ServiceTags"], health["Service"]["Tags"]);
                assert_eq!(flat["Node"], health["Node"]["Node"]);
                assert_eq!(flat["ServiceName"], name.as_str());
            }
        }
    }
}

/// `registry/consul/service.go`: checks in any state, then each service; joined by node and id of the service.
#[tokio::test]
async fn the_requests_of_fabio_join_by_node_and_id() {
    let site = Site::start(Mall::open());
    let checks = site.get("/v1/health/state/any?consistent=").await;
    assert!(checks.index() > 0);
    let of = |value: &Value, node: &str, id: &str| {
        (
            value[node].as_str().unwrap().to_owned(),
            value[id].as_str().unwrap().to_owned(),
        )
    };
    let checks = checks.json();
    let checks = checks.as_array().unwrap();
    let passing: BTreeSet<_> = checks
        .iter()
        .map(|check| of(check, "Node", "ServiceID"))
        .collect();
    let names: BTreeSet<&str> = checks
        .iter()
        .map(|check| check["ServiceName"].as_str().unwrap())
        .collect();
    let mut found = BTreeSet::new();
    for name in names {
        let list = site
            .get(&format!("/v1/catalog/service/{name}"))
            .await
            .json();
        for entry in list.as_array().unwrap() {
            found.insert(of(entry, "Node", "ServiceID"));
        }
    }
    assert_eq!(found, passing);
    assert!(found.len() > 40);
}
