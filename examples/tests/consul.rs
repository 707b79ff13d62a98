// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same names asked of a real Consul and of our responder, section by section.
//!
//! The zone is called as Consul's datacenter, so that names and targets can be equal to the letter. What differs on purpose
//! is not asked here: the serial of the SOA record, and the order of answers, which both shuffle.

use discovery_core::{
    model::{
        Conditions, Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef,
        Zone,
    },
    store::{Kind, Object, SourceId, StateConfig, Update, Writer, channel},
    telemetry::{DnsMetrics, DnsTransport},
};
use dns_sidecar::{
    Config, DnsServer,
    client::{Reply, ReplyRecord, ask},
};
use serde_json::json;
use std::{net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};
use testbed::Consul;
use tokio_util::sync::CancellationToken;

const PODS: [&str; 2] = ["10.1.0.1", "10.1.0.2"];
const NODE: &str = "10.1.0.9";

const QUESTIONS: [(&str, &str); 12] = [
    ("web.service.consul", "A"),
    ("web.service.consul", "SRV"),
    ("web.service.consul", "AAAA"),
    ("WeB.Service.Consul", "A"),
    ("web.service.dc1.consul", "A"),
    ("web.service.elsewhere.consul", "A"),
    ("http.web.service.consul", "SRV"),
    ("nosuchtag.web.service.consul", "A"),
    ("_web._tcp.service.consul", "SRV"),
    ("_web._http.service.consul", "SRV"),
    ("nosuch.service.consul", "A"),
    ("edge-a.node.consul", "A"),
];

#[tokio::test]
async fn a_real_consul_gives_the_same_answers() {
    let Some(consul) = Consul::start_or_skip("a_real_consul_gives_the_same_answers").await else {
        return;
    };
    for (number, pod) in PODS.iter().enumerate() {
        let registration = json!({
            "Node": "edge-a",
            "Address": NODE,
            "Service": { "ID": format!("web-{number}"), "Service": "web", "Address": pod, "Port": 8080, "Tags": ["http"] },
        });
        consul
            .put("/v1/catalog/register", &registration)
            .await
            .unwrap();
    }
    let (writer, reader) = ours();
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let config = Config::default().listen(listen).unwrap();
    let server = DnsServer::bind(config, reader, Arc::new(DnsMetrics::default())).unwrap();
    let (address, stop) = (server.local_addrs()[0], CancellationToken::new());
    let running = tokio::spawn(server.run(stop.clone()));
    for (name, qtype) in QUESTIONS {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            let theirs = sections(&question(consul.dns_addr(), name, qtype, transport).await);
            let ours = sections(&question(address, name, qtype, transport).await);
            assert_eq!(
                ours, theirs,
                "{name} {qtype} over {transport:?}: ours on the left"
            );
        }
    }
    stop.cancel();
    running.await.unwrap();
    drop(writer);
}

async fn question(server: SocketAddr, name: &str, qtype: &str, transport: DnsTransport) -> Reply {
    ask(server, name, qtype, transport, Duration::from_secs(5))
        .await
        .unwrap()
}

/// Code, flag and sections of a reply; records sorted, the authority by owner and type.
fn sections(reply: &Reply) -> (String, bool, [Vec<String>; 3]) {
    let sorted = |records: &[ReplyRecord], text: fn(&ReplyRecord) -> String| {
        let mut texts: Vec<_> = records.iter().map(text).collect();
        texts.sort();
        texts
    };
    let whole: fn(&ReplyRecord) -> String = ToString::to_string;
    let authority = |record: &ReplyRecord| format!("{} {}", record.owner, record.rtype);
    let sections = [
        sorted(&reply.answers, whole),
        sorted(&reply.authorities, authority),
        sorted(&reply.additionals, whole),
    ];
    (reply.rcode.clone(), reply.is_authoritative, sections)
}

fn ours() -> (Writer, discovery_core::store::Reader) {
    let name = NodeName::parse("edge-a").unwrap();
    let node = Node {
        addresses: vec![NODE.parse().unwrap()],
        ..Node::new(name.clone(), Some(Zone::parse("dc1").unwrap()))
    };
    let endpoint = |(number, address): (usize, &&str)| SliceEndpoint {
        target: Some(TargetRef {
            name: format!("web-{number}").into(),
            uid: format!("uid-{number}").into(),
        }),
        node: Some(name.clone()),
        conditions: Conditions::from_api(None, None, None),
        ..SliceEndpoint::new(address.parse().unwrap())
    };
    let port = SlicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(8080).unwrap(),
    };
    let slice = Slice {
        ports: [port].into(),
        endpoints: PODS.iter().enumerate().map(endpoint).collect(),
        ..Slice::new(
            SliceKey::new("default", "web-1").unwrap(),
            "web".parse().unwrap(),
        )
    };
    let (mut writer, reader) = channel(StateConfig::new(name.clone()));
    for object in [
        Object::OwnNode(node.clone()),
        Object::Node(node),
        Object::Slice(slice),
    ] {
        writer.apply(Update::Upsert(SourceId::Manifest, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    (writer, reader)
}
