// SPDX-License-Identifier: MIT OR Apache-2.0
//! hickory-server with the zone in memory, in a process of its own: its runtime with several threads, of which there is one.

use crate::{
    server::tell,
    world::{self, SERVICES},
};
use hickory_server::{
    Server,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{
        LowerName, Name, RData, Record,
        rdata::{A, SOA, SRV},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, UdpSocket};

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut server = Server::new(catalog()?);
        server.register_socket(UdpSocket::bind(address).await?);
        let listener = TcpListener::bind(address).await?;
        server.register_listener(listener, Duration::from_secs(30), QUEUED_MAX);
        tell(&json!({ "address": address }));
        Ok(server.block_until_done().await?)
    })
}

fn catalog() -> anyhow::Result<Catalog> {
    let origin = Name::from_ascii("consul.")?;
    let zone = ZoneType::Primary;
    let mut handler: InMemoryZoneHandler<TokioRuntimeProvider> =
        InMemoryZoneHandler::empty(origin.clone(), zone, AxfrPolicy::Deny);
    let mut add = |name: &Name, data: RData| {
        handler.upsert_mut(Record::from_rdata(name.clone(), 5, data), 1);
    };
    let host = |name: &str| Name::from_ascii(name);
    let soa = SOA::new(
        host("ns.consul.")?,
        host("hostmaster.consul.")?,
        1,
        3600,
        600,
        86400,
        1,
    );
    add(&origin, RData::SOA(soa));
    for service in 0..SERVICES {
        let name = host(&format!("svc-{service:04}.service.consul."))?;
        for address in world::addresses(service) {
            let target = host(&format!("{}.addr.mall-1.consul.", world::hex(address)))?;
            add(&name, RData::A(A(address)));
            add(&target, RData::A(A(address)));
            add(&name, RData::SRV(SRV::new(1, 1, 8080, target)));
        }
    }
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::from(&origin), vec![Arc::new(handler)]);
    Ok(catalog)
}

/// Replies that wait for a connection; more than are asked for at once.
const QUEUED_MAX: usize = 64;
