// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services that every server is given: as a snapshot for ours, as a zone file for the others.

use discovery_core::{
    model::{
        Conditions, Node, NodeName, Protocol, ServiceName, Slice, SliceEndpoint, SliceKey,
        SlicePort, TargetRef, Zone,
    },
    store::{Kind, Object, SourceId, StateConfig, Update, Writer, channel},
};
use dns_sidecar::{Config, DnsServer};
use std::{fmt::Write, net::Ipv4Addr, num::NonZeroU16, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const SERVICES: u32 = 1_000;

/// The addresses of a service: 4 to 16.
fn addresses(service: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..4 + service % 13).map(move |endpoint| Ipv4Addr::from(0x0a40_0000 + service * 16 + endpoint))
}

/// Serves the services until the process is killed.
pub(crate) fn serve(port: u16) -> anyhow::Result<()> {
    let node = NodeName::parse("edge-a")?;
    let (mut writer, reader) = channel(StateConfig::new(node.clone()));
    fill(&mut writer, &node)?;
    let config = Config::default()
        .listen(vec![([127, 0, 0, 1], port).into()])?
        .ttl(Duration::from_secs(5))?
        .udp_workers(std::num::NonZeroUsize::MIN);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = DnsServer::bind(config, reader, Arc::default())?;
        server.run(CancellationToken::new()).await;
        anyhow::Ok(())
    })
}

fn fill(writer: &mut Writer, name: &NodeName) -> anyhow::Result<()> {
    let node = Node::new(name.clone(), Some(Zone::parse("mall-1")?));
    let mut upsert = |object| writer.apply(Update::Upsert(SourceId::Manifest, object));
    upsert(Object::OwnNode(node.clone()));
    upsert(Object::Node(node));
    let port = SlicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(8080).unwrap_or(NonZeroU16::MIN),
    };
    for service in 0..SERVICES {
        let service_name = ServiceName::new("default", &format!("svc-{service:04}"))?;
        let endpoints = addresses(service).map(|address| SliceEndpoint {
            target: Some(TargetRef {
                name: format!("pod-{address}").into(),
                uid: format!("uid-{address}").into(),
            }),
            node: Some(name.clone()),
            conditions: Conditions::from_api(Some(true), None, None),
            ..SliceEndpoint::new(address.into())
        });
        upsert(Object::Slice(Slice {
            ports: [port.clone()].into(),
            endpoints: endpoints.collect(),
            ..Slice::new(SliceKey::new("default", service_name.name())?, service_name)
        }));
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(SourceId::Manifest, kind));
    }
    writer.publish();
    Ok(())
}

/// The same for servers that read a zone file.
pub(crate) fn zone_file() -> String {
    let mut zone = "$ORIGIN consul.\n$TTL 5\n@ 1 SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    for service in 0..SERVICES {
        for address in addresses(service) {
            let hex = format!("{:08x}", address.to_bits());
            // Writing to a string does not fail.
            let _ = writeln!(zone, "svc-{service:04}.service A {address}");
            let _ = writeln!(
                zone,
                "svc-{service:04}.service SRV 1 1 8080 {hex}.addr.mall-1"
            );
            let _ = writeln!(zone, "{hex}.addr.mall-1 A {address}");
        }
    }
    zone
}

/// 20,000 questions in a random order that is always the same; their ids are set when they are sent.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    let request = |_| {
        let kind = random.u32(..100);
        let (qtype, prefix) = match kind {
            0..70 => (1_u16, "svc-"),
            70..90 => (33, "svc-"),
            90..95 => (28, "svc-"),
            _ => (1, "nosuch-"),
        };
        let name = format!("{prefix}{:04}.service.consul", random.u32(..SERVICES));
        message(&name, qtype, random.bool())
    };
    (0..20_000).map(request).collect()
}

fn message(name: &str, qtype: u16, has_edns: bool) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend(qtype.to_be_bytes());
    message.extend([0, 1]);
    if has_edns {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    message
}
