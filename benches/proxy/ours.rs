// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our proxy in a process of its own, one worker thread.

use crate::stage::{FRONT_PORT, backends};
use discovery_core::{
    model::{
        Conditions, Node, NodeName, Protocol, Service, ServicePort, Slice, SliceEndpoint, SliceKey,
        SlicePort, TargetRef, Zone,
    },
    store::{Kind, Object, SourceId, StateConfig, Update, channel},
    telemetry::ProxyMetrics,
};
use lb_proxy::{Config, Proxy};
use std::{num::NonZeroU16, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Runs until it is killed.
pub(crate) async fn run() -> anyhow::Result<()> {
    let name = NodeName::parse("edge-a")?;
    let (mut writer, reader) = channel(StateConfig::new(name.clone()));
    let node = Node::new(name.clone(), Some(Zone::parse("mall-1")?));
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: NonZeroU16::MIN,
        node_port: NonZeroU16::new(FRONT_PORT),
    };
    let service = Service {
        ports: vec![port("http", Protocol::Tcp), port("talk", Protocol::Udp)],
        owns_node_ports: true,
        front: discovery_core::model::Front {
            // As the rivals, which go round.
            affinity: discovery_core::model::Affinity::None,
            ..Default::default()
        },
        ..Service::new("web".parse()?)
    };
    let mut objects = vec![
        Object::OwnNode(node.clone()),
        Object::Node(node),
        Object::Service(service),
    ];
    for (number, address) in backends().enumerate() {
        let pod = format!("pod-{number}");
        let endpoint = SliceEndpoint {
            target: Some(TargetRef {
                name: pod.as_str().into(),
                uid: pod.as_str().into(),
            }),
            node: Some(name.clone()),
            conditions: Conditions::from_api(None, None, None),
            ..SliceEndpoint::new(address.ip())
        };
        let port = |name: &str, protocol| SlicePort {
            name: name.into(),
            protocol,
            port: NonZeroU16::new(address.port()).unwrap_or(NonZeroU16::MIN),
        };
        objects.push(Object::Slice(Slice {
            ports: [port("http", Protocol::Tcp), port("talk", Protocol::Udp)].into(),
            endpoints: vec![endpoint],
            ..Slice::new(SliceKey::new("default", &pod)?, "web".parse()?)
        }));
    }
    for object in objects {
        writer.apply(Update::Upsert(SourceId::Manifest, object));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    let config = Config::default()
        .threads(1)
        .source_connections_max(100_000)
        .source_rate(1_000_000, 1_000_000);
    let proxy = Proxy::new(config, reader, Arc::new(ProxyMetrics::default()));
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    proxy.run(stop, kill).await;
    drop(writer);
    Ok(())
}
