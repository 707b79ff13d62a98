// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same catalogue and the same questions to a real Consul and to ours in the profile `modern`: every difference stands in
//! a table with its reason.

#[path = "../../../dns-sidecar/tests/consul/fixture.rs"]
#[allow(
    dead_code,
    reason = "shared with the replay of recorded answers, which needs more of it"
)]
mod fixture;
#[path = "../../../dns-sidecar/tests/consul/message.rs"]
#[allow(dead_code, reason = "as above")]
mod message;
mod reasons;

use dns_sidecar::{Config, DnsServer, Profile};
use message::{Message, type_number, wire_name};
use reasons::Question;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use testbed::{Consul, Error};
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;

const TEST: &str = "modern_answers_as_a_real_consul_but_where_a_reason_says_why_not";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modern_answers_as_a_real_consul_but_where_a_reason_says_why_not() {
    let Some(consul) = loaded().await else { return };
    let theirs = client(consul.dns_addr()).await;
    let ours = client(serve(&consul).await).await;
    let seed = std::env::var("ZONAL_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut reasons, mut unexplained): (BTreeMap<&str, u32>, BTreeSet<String>) =
        Default::default();
    let mut same = 0_u32;
    for id in 0..10_000_u32 {
        let question = Question::draw(&mut random);
        let request = request(&question, u16::try_from(id).unwrap());
        let (a, b) = (ask(&ours, &request).await, ask(&theirs, &request).await);
        if words(&a) == words(&b) {
            same += 1;
            continue;
        }
        match reasons::why(&question, &a, &b) {
            Some(reason) => *reasons.entry(reason).or_default() += 1,
            None => drop(unexplained.insert(format!(
                "{} {}\n  ours   {:?}\n  Consul {:?}",
                question.name,
                question.rtype,
                words(&a),
                words(&b)
            ))),
        }
    }
    println!("{same} of 10000 alike; {reasons:#?}");
    let shown: Vec<_> = unexplained.iter().take(20).cloned().collect();
    assert!(
        unexplained.is_empty(),
        "{} differ without a reason:\n{}",
        unexplained.len(),
        shown.join("\n")
    );
    assert!(same > 5_000, "most are alike: {same}");
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
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while consul.get("/v1/catalog/service/local").await.unwrap() == json!([]) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    Some(consul)
}

/// Ours, with the same catalogue: the agent's own node is called otherwise, and says its version.
async fn serve(consul: &Consul) -> SocketAddr {
    let node: Value = consul.get("/v1/catalog/node/testbed").await.unwrap();
    let (catalog, queries) = fixture::catalog_of("testbed", &node);
    let block = json!({ "soa": { "min_ttl": 0 }, "enable_truncate": false });
    let config = Config::default()
        .profile(Profile::Modern)
        .listen(vec!["127.0.0.1:0".parse().unwrap()])
        .and_then(|config| config.consul_block(&block.to_string()))
        .unwrap()
        .queries(queries);
    let server = DnsServer::bind_catalog(config, &catalog, Arc::default()).unwrap();
    let address = server.local_addrs()[0];
    tokio::spawn(server.run(CancellationToken::new()));
    address
}

async fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

fn request(question: &Question, id: u16) -> Vec<u8> {
    let mut request: Vec<u8> = [id, 0x0100, 1, 0, 0, 1]
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    request.extend(wire_name(&question.name));
    request.extend(
        [type_number(question.rtype), 1]
            .iter()
            .flat_map(|number| number.to_be_bytes()),
    );
    // 4096 bytes hold every answer whole.
    request.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    request
}

async fn ask(socket: &UdpSocket, request: &[u8]) -> Message {
    socket.send(request).await.unwrap();
    let mut reply = vec![0; 65_535];
    loop {
        let length = timeout(Duration::from_secs(10), socket.recv(&mut reply))
            .await
            .unwrap()
            .unwrap();
        if reply[..2] == request[..2] {
            return Message::read(&reply[..length]);
        }
    }
}

/// What is compared: everything but order, sizes and the case of our own domain.
fn words(message: &Message) -> (String, bool, [Vec<String>; 3]) {
    let sections = message.sections.clone().map(|mut records| {
        records.sort_unstable();
        records
    });
    (
        message.rcode.clone(),
        message.flags.contains("aa"),
        sections,
    )
}
