// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our responder in a process of its own, one worker on one thread; and the same process without it.

use crate::{in_runtime, server::tell, world};
use discovery_core::{
    model::NodeName,
    store::{Reader, StateConfig, Writer, channel},
};
use dns_sidecar::{Config, DnsServer};
use serde_json::json;
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Serves so many services until it is killed.
pub(crate) fn serve(address: SocketAddr, services: u32) -> anyhow::Result<()> {
    let (_writer, reader) = published(services)?;
    let mut config = Config::default()
        .listen(vec![address])?
        .ttl(Duration::from_secs(5))?
        .udp_workers(NonZeroUsize::MIN);
    if !address.ip().is_loopback() {
        // Limits are no part of what is measured, their cost is.
        config = config
            .allow(vec!["198.18.0.0/15".parse().map_err(anyhow::Error::msg)?])
            .rate_per_second(NonZeroU32::MAX);
    }
    in_runtime(async {
        let begun = busy_ms();
        let server = DnsServer::bind(config, reader, Arc::default())?;
        // Opening the sockets is nothing beside it.
        let index_ms = busy_ms() - begun;
        tell(&json!({ "address": server.local_addrs()[0], "index_ms": index_ms }));
        server.run(CancellationToken::new()).await;
        anyhow::Ok(())
    })
}

/// Holds so many services until it is killed, with everything but the face.
pub(crate) fn hold(services: u32) -> anyhow::Result<()> {
    let (_writer, _reader) = published(services)?;
    in_runtime(async {
        tell(&json!({}));
        std::future::pending::<()>().await;
        anyhow::Ok(())
    })
}

/// What this thread spent on its core so far: proc(5), in nanoseconds there.
fn busy_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e6
}

fn published(services: u32) -> anyhow::Result<(Writer, Reader)> {
    let node = NodeName::parse("edge-a")?;
    let (mut writer, reader) = channel(StateConfig::new(node.clone()));
    world::fill(&mut writer, &node, services)?;
    writer.publish();
    Ok((writer, reader))
}
