// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scripted API server against a client that adds nothing: what kube-apiserver would say, and what faults make of it.
//!
//! Time is paused: minutes of a watch take milliseconds.

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{io::Read as _, time::Duration};
use testbed::api_server::{
    Answer, ApiServer, Change, Fault, Options, Piece, Resource, Rule, SliceApis,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// An answer as it arrives.
struct Arriving {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    kept: Vec<u8>,
}

impl Arriving {
    /// The next line as JSON; none at the end of the body.
    async fn event(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.line().await?).unwrap())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let rest = self.kept.split_off(end + 1);
                let line = std::mem::replace(&mut self.kept, rest);
                return Some(String::from_utf8(line).unwrap());
            }
            let piece = self.piece().await.unwrap()?;
            self.kept.extend(piece);
        }
    }

    async fn piece(&mut self) -> hyper::Result<Option<Bytes>> {
        let frame = self.body.frame().await.transpose()?;
        Ok(frame.map(|frame| frame.into_data().unwrap()))
    }

    async fn whole(mut self) -> hyper::Result<Vec<u8>> {
        while let Some(piece) = self.piece().await? {
            self.kept.extend(piece);
        }
        Ok(self.kept)
    }
}

async fn ask(server: &ApiServer, path: &str, accept: &str) -> hyper::Result<Arriving> {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "test")
        .header("accept-encoding", accept)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Arriving {
        status: head.status,
        headers: head.headers,
        body,
        kept: Vec::new(),
    })
}

async fn get(server: &ApiServer, path: &str) -> (StatusCode, Value) {
    let answer = ask(server, path, "identity").await.unwrap();
    let status = answer.status;
    let body = answer.whole().await.unwrap();
    let value = serde_json::from_slice(&body);
    (
        status,
        value.unwrap_or_else(|_| String::from_utf8(body).unwrap().into()),
    )
}

async fn watch(server: &ApiServer, query: &str) -> Arriving {
    let path = format!("/api/v1/nodes?watch=true&{query}");
    let watch = ask(server, &path, "identity").await.unwrap();
    assert_eq!(watch.status, StatusCode::OK);
    watch
}

fn node(name: &str, zone: &str) -> Value {
    json!({ "kind": "Node", "metadata": { "name": name, "labels": { "zone": zone } } })
}

async fn with_nodes(options: Options) -> ApiServer {
    let server = ApiServer::with(options, |_| None).await.unwrap();
    for name in ["n1", "n2", "n3"] {
        let zone = if name == "n3" { "hall-b" } else { "hall-a" };
        server.store().put(node(name, zone)).unwrap();
    }
    server
}

async fn nodes() -> ApiServer {
    with_nodes(Options::default()).await
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// Type, name and version of an event.
fn told(event: &Value) -> (&str, &str, &str) {
    let metadata = &event["object"]["metadata"];
    (
        event["type"].as_str().unwrap(),
        metadata["name"].as_str().unwrap_or_default(),
        metadata["resourceVersion"].as_str().unwrap_or_default(),
    )
}

#[tokio::test(start_paused = true)]
async fn one_version_rises_over_all_kinds() {
    let server = nodes().await;
    let config =
        json!({ "kind": "ConfigMap", "metadata": { "name": "zonal" }, "data": { "a": "b" } });
    assert_eq!(server.store().put(config).unwrap(), 5);
    let (_, list) = get(&server, "/api/v1/nodes").await;
    assert_eq!(list["kind"], "NodeList");
    assert_eq!(list["metadata"]["resourceVersion"], "5");
    assert_eq!(list["items"][0]["metadata"]["resourceVersion"], "2");
    let (_, one) = get(&server, "/api/v1/namespaces/default/configmaps/zonal").await;
    assert_eq!(
        (&one["kind"], &one["data"]["a"]),
        (&json!("ConfigMap"), &json!("b"))
    );
    let (status, missing) = get(&server, "/api/v1/nodes/n9").await;
    assert_eq!(
        (status.as_u16(), &missing["reason"]),
        (404, &json!("NotFound"))
    );
}

#[tokio::test(start_paused = true)]
async fn lists_select_by_label_and_by_name() {
    let server = nodes().await;
    for (query, expected) in [
        ("labelSelector=zone%3Dhall-a", vec!["n1", "n2"]),
        ("labelSelector=zone+in+(hall-b,hall-c)", vec!["n3"]),
        ("fieldSelector=metadata.name%3Dn2", vec!["n2"]),
        ("labelSelector=!zone", vec![]),
    ] {
        let (_, list) = get(&server, &format!("/api/v1/nodes?{query}")).await;
        assert_eq!(names(&list), expected, "{query}");
    }
    let (status, refused) = get(
        &server,
        "/api/v1/services?fieldSelector=spec.type%3DNodePort",
    )
    .await;
    assert_eq!(
        (status.as_u16(), &refused["reason"]),
        (400, &json!("BadRequest"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_list_show_one_version_whatever_is_written_meanwhile() {
    let server = nodes().await;
    let (_, first) = get(&server, "/api/v1/nodes?limit=2").await;
    assert_eq!(names(&first), ["n1", "n2"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    server.store().delete(Resource::Nodes, "", "n3").unwrap();
    server.store().put(node("n4", "hall-a")).unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = get(&server, &format!("/api/v1/nodes?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["n3"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(second["metadata"].get("continue"), None);
    let (_, whole) = get(&server, "/api/v1/nodes?limit=2&resourceVersion=0").await;
    assert_eq!(names(&whole), ["n1", "n2", "n4"], "a cache answers whole");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refused_with_one_that_goes_on_at_the_present() {
    let server = with_nodes(Options::default().token_life(Duration::from_secs(300))).await;
    let (_, first) = get(&server, "/api/v1/nodes?limit=1").await;
    let next =
        |token: &Value| format!("/api/v1/nodes?limit=1&continue={}", token.as_str().unwrap());
    let path = next(&first["metadata"]["continue"]);
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(get(&server, &path).await.0, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(2)).await;
    let (status, gone) = get(&server, &path).await;
    assert_eq!((status.as_u16(), &gone["reason"]), (410, &json!("Expired")));
    server.store().put(node("n11", "hall-a")).unwrap();
    let (_, fresh) = get(&server, &next(&gone["metadata"]["continue"])).await;
    assert_eq!(names(&fresh), ["n11"], "after n1, as it is now");
    let path = next(&fresh["metadata"]["continue"]);
    server.expire_tokens();
    assert_eq!(get(&server, &path).await.0, StatusCode::GONE);
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_happened_after_its_version_and_what_happens() {
    let server = nodes().await;
    let mut watch = watch(&server, "resourceVersion=3").await;
    let event = watch.event().await.unwrap();
    assert_eq!(told(&event), ("ADDED", "n3", "4"));
    assert_eq!(
        (&event["object"]["kind"], &event["object"]["apiVersion"]),
        (&json!("Node"), &json!("v1"))
    );
    server.store().put(node("n1", "hall-c")).unwrap();
    server.store().delete(Resource::Nodes, "", "n2").unwrap();
    assert_eq!(told(&watch.event().await.unwrap()), ("MODIFIED", "n1", "5"));
    assert_eq!(told(&watch.event().await.unwrap()), ("DELETED", "n2", "6"));
}

#[tokio::test(start_paused = true)]
async fn an_object_comes_and_goes_as_the_selector_has_it() {
    let server = nodes().await;
    let mut watch = watch(&server, "labelSelector=zone%3Dhall-b&resourceVersion=4").await;
    for (name, zone) in [("n1", "hall-b"), ("n2", "hall-c"), ("n3", "hall-a")] {
        server.store().put(node(name, zone)).unwrap();
    }
    assert_eq!(told(&watch.event().await.unwrap()), ("ADDED", "n1", "5"));
    let gone = watch.event().await.unwrap();
    assert_eq!(told(&gone), ("DELETED", "n3", "7"));
    assert_eq!(
        gone["object"]["metadata"]["labels"]["zone"], "hall-b",
        "as it was"
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_before_the_end_that_was_asked_for() {
    let server = nodes().await;
    let begin = Instant::now();
    let mut watch = watch(
        &server,
        "resourceVersion=4&allowWatchBookmarks=true&timeoutSeconds=90",
    )
    .await;
    let config = json!({ "kind": "ConfigMap", "metadata": { "name": "other" } });
    server.store().put(config).unwrap();
    let mut heard = Vec::new();
    while let Some(event) = watch.event().await {
        let (kind, _, version) = told(&event);
        heard.push((
            kind.to_owned(),
            version.to_owned(),
            begin.elapsed().as_secs(),
        ));
    }
    let bookmark = |at| ("BOOKMARK".to_owned(), "5".to_owned(), at);
    assert_eq!(heard, [bookmark(60), bookmark(88)]);
    assert_eq!(begin.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_events_are_forgotten_is_too_old() {
    let server = with_nodes(Options::default().events_kept(2)).await;
    assert_eq!(
        told(
            &watch(&server, "resourceVersion=2")
                .await
                .event()
                .await
                .unwrap()
        )
        .0,
        "ADDED"
    );
    for case in ["outside the window", "compacted"] {
        let mut old = watch(&server, "resourceVersion=1").await;
        let event = old.event().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410)),
            "{case}"
        );
        assert!(old.event().await.is_none(), "the stream ends");
        server.store().compact();
    }
    let mut compacted = watch(&server, "resourceVersion=3").await;
    assert_eq!(compacted.event().await.unwrap()["object"]["code"], 410);
    let mut present = watch(&server, "resourceVersion=4&timeoutSeconds=1").await;
    assert!(present.event().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_of_the_future_is_silence_in_a_watch_and_a_timeout_in_a_list() {
    let server = nodes().await;
    let begin = Instant::now();
    let mut watch = watch(
        &server,
        "resourceVersion=1000&allowWatchBookmarks=true&timeoutSeconds=600",
    )
    .await;
    server.store().put(node("n4", "hall-a")).unwrap();
    assert!(watch.event().await.is_none());
    assert_eq!(begin.elapsed().as_secs(), 600);
    let (status, refused) = get(&server, "/api/v1/nodes?resourceVersion=1000").await;
    assert_eq!(status.as_u16(), 504);
    assert_eq!(refused["details"]["retryAfterSeconds"], 1);
    assert_eq!(begin.elapsed().as_secs(), 603);
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let server = nodes().await;
    let mut plain = watch(&server, "timeoutSeconds=5").await;
    for name in ["n1", "n2", "n3"] {
        assert_eq!(told(&plain.event().await.unwrap()).1, name);
    }
    let streaming =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut marked = watch(&server, &format!("{streaming}&labelSelector=zone%3Dhall-b")).await;
    assert_eq!(told(&marked.event().await.unwrap()).1, "n3");
    let mark = marked.event().await.unwrap();
    let annotation = &mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(
        (&mark["type"], annotation),
        (&json!("BOOKMARK"), &json!("true"))
    );
    let old = with_nodes(Options::default().streaming_lists(false)).await;
    let (status, _) = get(&old, &format!("/api/v1/nodes?watch=1&{streaming}")).await;
    assert_eq!(status.as_u16(), 422);
}

#[tokio::test(start_paused = true)]
async fn large_lists_are_compressed_when_asked() {
    let server = nodes().await;
    let path = "/api/v1/configmaps";
    for (name, kilobytes, compressed) in [("a", 100, false), ("b", 100, true)] {
        let data = "x".repeat(kilobytes * 1024);
        let object =
            json!({ "kind": "ConfigMap", "metadata": { "name": name }, "data": { "x": data } });
        server.store().put(object).unwrap();
        let answer = ask(&server, path, "gzip").await.unwrap();
        assert_eq!(
            answer.headers.contains_key("content-encoding"),
            compressed,
            "{name}"
        );
    }
    let plain = ask(&server, path, "identity")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    let before = server.sent_bytes();
    let small = ask(&server, path, "gzip")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    assert!(small.len() < plain.len() / 50);
    assert_eq!(server.sent_bytes() - before, small.len() as u64);
    let mut unpacked = Vec::new();
    GzDecoder::new(&small[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);
}

#[tokio::test(start_paused = true)]
async fn faults_are_for_the_requests_of_their_rule_while_they_are_switched_on() {
    let server = nodes().await;
    let down = Fault::Answer(Answer::status(503, "down").header("retry-after", "20"));
    let third = server.fault(
        Rule::everything().of("nodes").lists().nth(2..3),
        down.clone(),
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(get(&server, "/api/v1/nodes").await.0.as_u16());
        get(&server, "/api/v1/services").await;
    }
    assert_eq!((seen, third.hits()), (vec![200, 200, 503, 200], 1));
    let sick = server.fault(
        Rule::everything().for_the_next(Duration::from_secs(60)),
        down,
    );
    let answer = ask(&server, "/api/v1/nodes", "identity").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["retry-after"]),
        (503, &"20".parse().unwrap())
    );
    sick.off();
    assert_eq!(get(&server, "/api/v1/nodes").await.0.as_u16(), 200);
    sick.on();
    assert_eq!(get(&server, "/version").await.0.as_u16(), 503);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(get(&server, "/api/v1/nodes").await.0.as_u16(), 200);
    server.heal();
}

#[tokio::test(start_paused = true)]
async fn bodies_are_cut_ended_and_silenced() {
    let server = nodes().await;
    let path = "/api/v1/nodes";
    let whole = ask(&server, path, "identity")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    let cut = server.fault(Rule::everything(), Fault::CutAfter(50));
    let broken = ask(&server, path, "identity").await.unwrap().whole().await;
    assert!(broken.is_err(), "the connection breaks");
    cut.off();
    let ended = server.fault(Rule::everything(), Fault::EndAfter(50));
    let half = ask(&server, path, "identity")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    assert_eq!(half, whole[..50], "the end looks good");
    ended.off();
    server.fault(Rule::everything(), Fault::Silence(50));
    let mut answer = ask(&server, path, "identity").await.unwrap();
    let mut got = 0;
    while got < 50 {
        got += answer.piece().await.unwrap().unwrap().len();
    }
    let hour = Duration::from_secs(3600);
    assert!(
        timeout(hour, answer.piece()).await.is_err(),
        "silence for an hour"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_delayed_dripped_withheld_and_refused() {
    let server = nodes().await;
    let path = "/api/v1/nodes";
    let whole = ask(&server, path, "identity")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    let switch = server.fault(Rule::everything(), Fault::Delay(Duration::from_secs(7)));
    let begin = Instant::now();
    ask(&server, path, "identity").await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 7);
    switch.off();
    let switch = server.fault(Rule::everything(), Fault::Drip(10));
    let begin = Instant::now();
    let dripped = ask(&server, path, "identity")
        .await
        .unwrap()
        .whole()
        .await
        .unwrap();
    assert_eq!(dripped, whole);
    assert_eq!(begin.elapsed().as_secs(), whole.len() as u64 / 10);
    switch.off();
    let switch = server.fault(Rule::everything(), Fault::Answer(Answer::never()));
    let never = timeout(Duration::from_secs(3600), ask(&server, path, "identity")).await;
    assert!(never.is_err());
    switch.off();
    let switch = server.fault(Rule::everything(), Fault::Answer(Answer::close()));
    assert!(ask(&server, path, "identity").await.is_err());
    switch.off();
    server.fault(Rule::everything(), Fault::EmptyList);
    let (_, list) = get(&server, path).await;
    assert_eq!(
        (names(&list).len(), &list["metadata"]["resourceVersion"]),
        (0, &json!("4"))
    );
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_watch_are_truncated_replaced_and_endless() {
    let server = nodes().await;
    let switch = server.fault(Rule::everything(), Fault::TruncateLine(1));
    let mut truncated = watch(&server, "resourceVersion=1").await;
    assert_eq!(told(&truncated.event().await.unwrap()).1, "n1");
    let line = truncated.line().await.unwrap();
    assert!(
        serde_json::from_str::<Value>(line.trim_end())
            .unwrap_err()
            .is_eof(),
        "{line}"
    );
    assert_eq!(told(&truncated.event().await.unwrap()).1, "n3");
    switch.off();
    let switch = server.fault(Rule::everything(), Fault::GarbageLine(1));
    let mut garbage = watch(&server, "resourceVersion=1").await;
    assert_eq!(told(&garbage.event().await.unwrap()).1, "n1");
    let line = garbage.line().await.unwrap();
    assert!(
        serde_json::from_str::<Value>(&line)
            .unwrap_err()
            .is_syntax(),
        "{line}"
    );
    assert_eq!(told(&garbage.event().await.unwrap()).1, "n2");
    switch.off();
    server.fault(Rule::everything().watches(), Fault::EndlessLine);
    let mut endless = watch(&server, "resourceVersion=1").await;
    let mut read = 0;
    while read < 10_000_000 {
        let piece = endless.piece().await.unwrap().unwrap();
        assert!(!piece.contains(&b'\n'));
        read += piece.len();
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_answers_piece_by_piece_and_leaves_the_rest_to_the_truth() {
    let server = ApiServer::scripted(|asked| match (asked.what, asked.is_watch, asked.before) {
        ("nodes", false, 0) => Some(Answer::list("10", &[r#"{"metadata":{"name":"x"}}"#.into()])),
        ("own-node", true, _) => Some(Answer::ok([
            Piece::Text("a".into()),
            Piece::Wait(Duration::from_secs(2)),
            Piece::Text("b\n".into()),
            Piece::Cut,
        ])),
        ("services", true, _) => Some(Answer::events(&["{}".into()])),
        _ => None,
    })
    .await
    .unwrap();
    assert_eq!(names(&get(&server, "/api/v1/nodes").await.1), ["x"]);
    assert_eq!(names(&get(&server, "/api/v1/nodes").await.1).len(), 0);
    let begin = Instant::now();
    let mut own = watch(&server, "fieldSelector=metadata.name%3Dn1").await;
    assert_eq!(own.line().await.unwrap(), "ab\n");
    assert_eq!(begin.elapsed().as_secs(), 2);
    assert!(own.piece().await.is_err());
    let mut services = ask(&server, "/api/v1/services?watch=1", "identity")
        .await
        .unwrap();
    assert_eq!(services.line().await.unwrap(), "{}\n");
    assert!(
        timeout(Duration::from_secs(3600), services.piece())
            .await
            .is_err()
    );
    let asked = server.asked("nodes", false);
    assert_eq!(
        asked.iter().map(|one| one.before).collect::<Vec<_>>(),
        [0, 1]
    );
    let own = server.asked("own-node", true);
    assert_eq!(
        own[0].parameter("fieldSelector").as_deref(),
        Some("metadata.name=n1")
    );
    assert_eq!(own[0].query("fieldSelector"), Some("metadata.name%3Dn1"));
    assert_eq!(server.all_asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn connections_are_severed_and_refused() {
    let server = nodes().await;
    let mut open = watch(&server, "resourceVersion=4").await;
    server.sever().await.unwrap();
    assert!(open.piece().await.is_err(), "a watch is cut off");
    let mut open = watch(&server, "resourceVersion=4").await;
    server.refuse().await;
    assert!(open.piece().await.is_err());
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.listen_again().await.unwrap();
    assert_eq!(get(&server, "/readyz").await, (StatusCode::OK, json!("ok")));
}

#[tokio::test(start_paused = true)]
async fn slices_are_spoken_in_the_versions_that_there_are() {
    let server = nodes().await;
    let endpoint = json!({ "addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "hall-a" });
    let slice = json!({ "kind": "EndpointSlice", "metadata": { "name": "web-1" }, "endpoints": [endpoint] });
    server.store().put(slice).unwrap();
    let path = |version| format!("/apis/discovery.k8s.io/{version}/endpointslices");
    for (apis, expected, groups) in [
        (SliceApis::V1, [200, 404], 1),
        (SliceApis::V1Beta1, [404, 200], 1),
        (SliceApis::Both, [200, 200], 1),
        (SliceApis::None, [404, 404], 0),
    ] {
        server.serve_slices(apis);
        for (version, expected) in ["v1", "v1beta1"].into_iter().zip(expected) {
            assert_eq!(
                get(&server, &path(version)).await.0.as_u16(),
                expected,
                "{apis:?} {version}"
            );
            let resources = format!("/apis/discovery.k8s.io/{version}");
            assert_eq!(
                get(&server, &resources).await.0.as_u16(),
                expected,
                "{apis:?} {version}"
            );
        }
        let (_, list) = get(&server, "/apis").await;
        assert_eq!(list["groups"].as_array().unwrap().len(), groups);
        let status = get(&server, "/apis/discovery.k8s.io").await.0;
        assert_eq!(status.is_success(), groups == 1);
    }
    server.serve_slices(SliceApis::Both);
    let (_, group) = get(&server, "/apis/discovery.k8s.io").await;
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let (_, list) = get(&server, &path("v1beta1")).await;
    assert_eq!(list["apiVersion"], "discovery.k8s.io/v1beta1");
    let topology =
        json!({ "kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "hall-a" });
    assert_eq!(
        list["items"][0]["endpoints"][0],
        json!({ "addresses": ["10.0.0.1"], "topology": topology })
    );
    let watching = format!("{}?watch=1&resourceVersion=4", path("v1beta1"));
    let mut watch = ask(&server, &watching, "identity").await.unwrap();
    let event = watch.event().await.unwrap();
    assert_eq!(event["object"]["endpoints"][0]["topology"], topology);
}

#[tokio::test(start_paused = true)]
async fn the_truth_has_every_write_with_its_time() {
    let server = nodes().await;
    let begin = Instant::now();
    tokio::time::advance(Duration::from_secs(5)).await;
    let edited = server.store().edit(Resource::Nodes, "", "n1", |node| {
        node["metadata"]["labels"]["zone"] = "hall-z".into();
    });
    assert_eq!(edited.unwrap(), Some(5));
    assert_eq!(
        server
            .store()
            .edit(Resource::Nodes, "", "n9", |_| {})
            .unwrap(),
        None
    );
    assert_eq!(server.store().delete(Resource::Nodes, "", "n2"), Some(6));
    assert_eq!(server.store().delete(Resource::Nodes, "", "n2"), None);
    let truth = server.store().truth();
    let last: Vec<_> = truth[3..]
        .iter()
        .map(|w| (w.version, w.name.as_str(), w.change))
        .collect();
    assert_eq!(
        last,
        [(5, "n1", Change::Modified), (6, "n2", Change::Deleted)]
    );
    assert_eq!(truth[3].at - begin, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_begins_anew_at_the_version_that_it_is_told() {
    let server = nodes().await;
    server.store().wipe(2);
    let (_, list) = get(&server, "/api/v1/nodes").await;
    assert_eq!(
        (names(&list).len(), &list["metadata"]["resourceVersion"]),
        (0, &json!("2"))
    );
    let mut ahead = watch(&server, "resourceVersion=4&timeoutSeconds=60").await;
    assert!(
        ahead.event().await.is_none(),
        "silence, as from a restored store"
    );
    for nonsense in [
        json!(7),
        json!({ "kind": "Pod", "metadata": { "name": "x" } }),
        json!({ "kind": "Node" }),
    ] {
        assert!(server.store().put(nonsense).is_err());
    }
}
