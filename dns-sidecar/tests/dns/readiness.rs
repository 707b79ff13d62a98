// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process is ready once names are answered with data, and not when it could begin to make the answers.

use crate::{
    packet::{A, decode, query, words},
    running::{PATIENCE, exchange},
};
use discovery_core::{
    model::NodeName,
    runtime::{Runtime, RuntimeConfig, SourceConfig},
};
use dns_sidecar::{Config, DnsServer};
use std::future::poll_fn;
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = "{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: Node, metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}},
  {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80}]}},
  {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
   metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
   ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.1.0.1], nodeName: edge-a}]}]}";

#[tokio::test]
async fn a_runtime_is_ready_once_the_index_of_what_was_read_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mall.yaml");
    std::fs::write(&path, MANIFEST).unwrap();
    let source = SourceConfig::Manifest { path };
    let config = RuntimeConfig::new(NodeName::parse("edge-a").unwrap(), source);
    let runtime = Runtime::start(config).await.unwrap();
    let metrics = runtime.metrics().dns().clone();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    // Nothing was read yet: no task has run since the start.
    let server = DnsServer::bind(
        Config::default().listen(listen).unwrap(),
        runtime.reader(),
        metrics,
    );
    let server = server.unwrap().need(runtime.need("dns-index"));
    assert!(runtime.readiness().missing.len() > 1);
    let mut reader = runtime.reader();
    let read = async { while !reader.changed().await.unwrap().is_authoritative() {} };
    timeout(PATIENCE, read).await.expect("the manifest is read");
    assert_eq!(runtime.readiness().missing, ["dns-index not there yet"]);
    let mut ready = Box::pin(runtime.ready());
    let is_ready = poll_fn(|context| std::task::Poll::Ready(ready.as_mut().poll(context)));
    assert!(is_ready.await.is_pending());

    let (address, stop) = (server.local_addrs()[0], CancellationToken::new());
    let serving = tokio::spawn(server.run(stop.clone()));
    timeout(PATIENCE, ready).await.expect("it becomes ready");
    assert!(runtime.readiness().ready);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    let reply = exchange(&client, &query("web-shop.service.consul", A)).await;
    let answers = words(&decode(&reply).answers);
    assert_eq!(answers, ["web-shop.service.consul. 0 IN A 10.1.0.1"]);
    stop.cancel();
    serving.await.unwrap();
    runtime.stop().await;
}
