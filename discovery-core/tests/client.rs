// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an embedding service sees: picks and how they end, replica order, changes, owners, a close in good order.

use discovery_core::{
    client::{CallError, Discovery, DiscoveryError, ServiceClient},
    hash::HashKey,
    model::{
        Conditions, Node, NodeName, Protocol, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef,
        Zone,
    },
    pick::candidates,
    store::{Kind, Object, ObjectKey, Reader, SourceId, StateConfig, Update, Writer, channel},
};
use futures::{FutureExt as _, StreamExt as _};
use std::{net::Ipv4Addr, num::NonZeroU16, time::Duration};

/// A zone with the service `shop/web` whose pods are given as (number, uid, ready).
struct Scene {
    writer: Writer,
    reader: Reader,
}

impl Scene {
    fn new() -> Self {
        let name = NodeName::parse("edge-a").unwrap();
        let (writer, reader) = channel(StateConfig::new(name));
        Self { writer, reader }
    }

    fn sync(mut self) -> Self {
        let name = NodeName::parse("edge-a").unwrap();
        let node = Node::new(name, Some(Zone::parse("mall-1").unwrap()));
        for object in [Object::OwnNode(node.clone()), Object::Node(node)] {
            self.writer
                .apply(Update::Upsert(SourceId::Manifest, object));
        }
        for kind in Kind::ALL {
            self.writer.apply(Update::Synced(SourceId::Manifest, kind));
        }
        self.writer.publish();
        self
    }

    fn pods(&mut self, pods: &[(u8, &str, bool)]) {
        let endpoint = |&(number, uid, ready): &(u8, &str, bool)| SliceEndpoint {
            target: Some(TargetRef {
                name: format!("web-{number}").into(),
                uid: uid.into(),
            }),
            node: Some(NodeName::parse("edge-a").unwrap()),
            conditions: Conditions::from_api(Some(ready), None, None),
            ..SliceEndpoint::new(Ipv4Addr::new(10, 1, 0, number).into())
        };
        let port = SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: NonZeroU16::new(8080).unwrap(),
        };
        let slice = Slice {
            ports: [port].into(),
            endpoints: pods.iter().map(endpoint).collect(),
            ..Slice::new(
                SliceKey::new("shop", "web-1").unwrap(),
                "shop/web".parse().unwrap(),
            )
        };
        let update = Update::Upsert(SourceId::Manifest, Object::Slice(slice));
        self.writer.apply(update);
        self.writer.publish();
    }

    fn remove(&mut self) {
        let key = ObjectKey::Slice(SliceKey::new("shop", "web-1").unwrap());
        self.writer.apply(Update::Remove(SourceId::Manifest, key));
        self.writer.publish();
    }

    fn web(&self) -> ServiceClient {
        ServiceClient::new(self.reader.clone(), "shop/web".parse().unwrap())
    }
}

const THREE: [(u8, &str, bool); 3] = [(1, "a", true), (2, "b", true), (3, "c", true)];

fn names(endpoints: &[std::sync::Arc<discovery_core::store::Endpoint>]) -> Vec<String> {
    let mut names: Vec<_> = endpoints.iter().map(|e| e.identity().to_string()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_watch_tells_what_is_and_then_what_came_went_and_changed() {
    let mut scene = Scene::new().sync();
    scene.pods(&THREE);
    let mut watch = scene.web().watch();
    let first = watch.changed().await.unwrap();
    assert_eq!(names(first.added()), ["web-1", "web-2", "web-3"]);
    assert!(
        watch.changed().now_or_never().is_none(),
        "nothing has changed"
    );
    scene.pods(&[
        (2, "b", false),
        (3, "another pod of the name", true),
        (4, "d", true),
    ]);
    let second = watch.changed().await.unwrap();
    assert_eq!(names(second.added()), ["web-4"]);
    assert_eq!(names(second.removed()), ["web-1"]);
    assert_eq!(names(second.changed()), ["web-2", "web-3"]);
    assert!(second.generation() > first.generation());
}

#[tokio::test]
async fn a_watch_that_is_asked_rarely_is_told_of_everything_at_once() {
    let mut scene = Scene::new().sync();
    scene.pods(&THREE);
    let mut watch = Box::pin(scene.web().watch().into_stream());
    watch.next().await.unwrap();
    for number in 4..100 {
        scene.pods(&[(number, "x", true)]);
    }
    let change = watch.next().await.unwrap();
    assert_eq!(names(change.added()), ["web-99"]);
    assert_eq!(names(change.removed()), ["web-1", "web-2", "web-3"]);
    drop(scene);
    assert!(watch.next().await.is_none(), "discovery has stopped");
}

#[tokio::test]
async fn a_missing_service_is_told_only_when_everything_was_read() {
    let scene = Scene::new();
    let mut watch = scene.web().watch();
    assert!(watch.changed().now_or_never().is_none());
    let mut scene = scene.sync();
    assert!(watch.changed().await.unwrap().view().is_none());
    scene.pods(&THREE);
    assert!(watch.changed().await.unwrap().view().is_some());
    scene.remove();
    let gone = watch.changed().await.unwrap();
    assert_eq!((gone.view().is_none(), gone.removed().len()), (true, 3));
}

#[tokio::test]
async fn the_owner_of_a_key_is_told_when_it_goes_and_when_it_comes_back() {
    let mut scene = Scene::new().sync();
    scene.pods(&THREE);
    let mut web = scene.web();
    let key = HashKey::of(b"ann");
    let order = web.pick_n(key, 3).unwrap();
    let mut owners = web.watch_owner(key);
    let first = owners.changed().await.unwrap();
    assert_eq!(first.to.unwrap().identity(), order[0].identity());
    let others = |flip: usize, ready: bool| {
        let mut pods = THREE;
        let number = order[flip].addresses()[0]
            .to_string()
            .pop()
            .unwrap()
            .to_digit(10);
        pods[number.unwrap() as usize - 1].2 = ready;
        pods
    };
    scene.pods(&others(2, false));
    assert!(
        owners.changed().now_or_never().is_none(),
        "another's readiness moves no owner"
    );
    scene.pods(&others(0, false));
    let moved = owners.changed().await.unwrap();
    assert_eq!(moved.from.unwrap().identity(), order[0].identity());
    assert_eq!(moved.to.unwrap().identity(), order[1].identity());
    scene.pods(&THREE);
    let back = owners.changed().await.unwrap();
    assert_eq!(back.to.unwrap().identity(), order[0].identity());
}

#[tokio::test]
async fn replicas_come_in_the_order_in_which_a_key_is_tried() {
    let mut scene = Scene::new().sync();
    scene.pods(&THREE);
    let mut web = scene.web();
    let snapshot = scene.reader.load();
    let view = snapshot.service(web.name()).unwrap();
    for key in 0..200_u32 {
        let key = HashKey::of(&key.to_le_bytes());
        let all: Vec<_> = candidates(view, key).cloned().collect();
        let two = web.pick_n(key, 2).unwrap();
        assert_eq!(names(&two), names(&all[..2]));
        assert_eq!(two[0].identity(), web.pick(key).unwrap().identity());
        assert_eq!(web.pick_n(key, 99).unwrap().len(), 3);
    }
}

async fn discovery(limit: usize) -> (tempfile::TempDir, Discovery) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mall.yaml");
    std::fs::write(&path, MALL).unwrap();
    let discovery = Discovery::builder()
        .node("edge-a")
        .manifest(&path)
        .in_flight_max(limit)
        .start()
        .await
        .unwrap();
    discovery.ready().await;
    (folder, discovery)
}

#[tokio::test]
async fn a_close_lets_calls_finish_and_takes_no_new_ones() {
    let (_folder, discovery) = discovery(100).await;
    let mut web = discovery.service("shop/web".parse().unwrap());
    let call = web.pick(HashKey::of(b"ann")).unwrap();
    let closing = tokio::spawn(discovery.clone().close(Duration::from_secs(60)));
    while web.pick_any().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(web.pick_any().unwrap_err(), CallError::Closed);
    assert!(
        !closing.is_finished(),
        "the call that is under way is waited for"
    );
    call.success();
    assert_eq!(closing.await.unwrap().unfinished(), 0);
    assert_eq!((discovery.outcomes(), discovery.in_flight()), ((1, 0), 0));
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_counted() {
    let (_folder, discovery) = discovery(2).await;
    let mut web = discovery.service("shop/web".parse().unwrap());
    let _held = [web.pick_any().unwrap(), web.pick_any().unwrap()];
    let error = web.pick(HashKey::of(b"ann")).unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error, CallError::Overloaded { limit: 2 });
    assert_eq!((discovery.overloads(), discovery.in_flight()), (1, 2));
    discovery.stop().await;
}

#[tokio::test]
async fn a_name_that_is_wrong_is_told_from_one_that_may_come() {
    let (_folder, discovery) = discovery(2).await;
    let mut web = discovery.service("shop/wbe".parse().unwrap());
    let error = web.pick_any().unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(error.to_string(), "service shop/wbe is unknown");
    let refused = Discovery::builder().node("no node!").start().await;
    assert!(matches!(refused, Err(DiscoveryError::Node(_))));
    discovery.stop().await;
}

const MALL: &str = "
{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: Node, metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}},
  {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
   metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
   ports: [{name: http, port: 8080}], endpoints: [
   {addresses: [10.1.0.1], nodeName: edge-a, targetRef: {kind: Pod, name: web-0, uid: u0}},
   {addresses: [10.1.0.2], nodeName: edge-a, targetRef: {kind: Pod, name: web-1, uid: u1}}]}]}
";
