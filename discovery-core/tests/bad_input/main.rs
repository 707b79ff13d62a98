// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an embedding service, or whoever annotates a Service, can say wrong about picks: each ends in a typed error, in a
//! problem line, or in a limit that is documented; never in a panic, and never in a pick that nobody asked for.

#[cfg(feature = "tower")]
mod adapters;
mod factors;
mod keys;
mod sets;
mod weights;

use discovery_core::{
    client::{Discovery, ServiceClient},
    model::{
        Conditions, Node, NodeName, Protocol, Service, Slice, SliceEndpoint, SliceKey, SlicePort,
        TargetRef, Zone,
    },
    store::{Kind, Object, Reader, SourceId, StateConfig, Update, Writer, channel},
};
use std::{net::Ipv4Addr, num::NonZeroU16};

/// Discovery in a zone with the service `shop/web` of three pods, whose Service carries the annotation.
async fn annotated(key: &str, value: &str) -> (tempfile::TempDir, Discovery) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mall.yaml");
    let value = serde_json::to_string(value).unwrap();
    let service = format!("zonal.dev/{key}: {value}");
    std::fs::write(&path, MALL.replace("ANNOTATION", &service)).unwrap();
    let builder = Discovery::builder().node("edge-a").manifest(&path);
    let discovery = builder.start().await.unwrap();
    discovery.ready().await;
    (folder, discovery)
}

/// The place and reason of each problem that is told of the service.
fn problems(discovery: &Discovery) -> Vec<String> {
    let told = discovery.runtime().status().problems.into_iter();
    told.map(|[object, place, reason]| format!("{object} {place}: {reason}"))
        .collect()
}

/// A value that cannot be read is one problem line that names it, and asks for nothing.
async fn is_told_and_asks_for_nothing(key: &str, value: &str) {
    let (_folder, discovery) = annotated(key, value).await;
    let told = problems(&discovery);
    assert_eq!(told.len(), 1, "{key}={value}: {told:?}");
    let place = format!("metadata.annotations[zonal.dev/{key}]: ");
    let is_named = told[0].starts_with("Service shop/web ") && told[0].contains(&place);
    assert!(is_named, "{told:?}");
    let mut web = discovery.service("shop/web".parse().unwrap());
    assert!(web.pick_any().is_ok(), "{key}={value}");
    discovery.stop().await;
}

/// A zone in which the service `shop/web` is what the slices say.
fn mall(service: Service, slices: impl IntoIterator<Item = Slice>) -> (Writer, Reader) {
    let name = NodeName::parse("edge-a").unwrap();
    let node = Node::new(name.clone(), Some(Zone::parse("mall-1").unwrap()));
    let (mut writer, reader) = channel(StateConfig::new(name));
    let objects = [Object::OwnNode(node.clone()), Object::Node(node)];
    let slices = slices.into_iter().map(Object::Slice);
    for object in objects
        .into_iter()
        .chain([Object::Service(service)])
        .chain(slices)
    {
        writer.apply(Update::Upsert(SourceId::Manifest, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    (writer, reader)
}

/// A slice of pods given by name and number of address.
fn slice<'p>(name: &str, pods: impl IntoIterator<Item = (&'p str, u32)>) -> Slice {
    let endpoint = |(pod, number): (&str, u32)| SliceEndpoint {
        target: Some(TargetRef {
            name: pod.into(),
            uid: format!("uid of {pod} {number}").as_str().into(),
        }),
        node: Some(NodeName::parse("edge-a").unwrap()),
        conditions: Conditions::from_api(Some(true), None, None),
        ..SliceEndpoint::new(Ipv4Addr::from(0x0a00_0001 + number).into())
    };
    let port = SlicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(8080).unwrap(),
    };
    let service = "shop/web".parse().unwrap();
    Slice {
        ports: [port].into(),
        endpoints: pods.into_iter().map(endpoint).collect(),
        ..Slice::new(SliceKey::new("shop", name).unwrap(), service)
    }
}

fn service() -> Service {
    Service::new("shop/web".parse().unwrap())
}

fn web(reader: &Reader) -> ServiceClient {
    ServiceClient::new(reader.clone(), "shop/web".parse().unwrap())
}

const MALL: &str = "
{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: Node, metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}},
  {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, annotations: {ANNOTATION}},
   spec: {ports: [{name: http, port: 80}]}},
  {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
   metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
   ports: [{name: http, port: 8080}], endpoints: [
   {addresses: [10.1.0.1], nodeName: edge-a, targetRef: {kind: Pod, name: web-0, uid: u0}},
   {addresses: [10.1.0.2], nodeName: edge-a, targetRef: {kind: Pod, name: web-1, uid: u1}},
   {addresses: [10.1.0.3], nodeName: edge-a, targetRef: {kind: Pod, name: web-2, uid: u2}}]}]}
";
