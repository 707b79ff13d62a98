// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that offers the interface, with the mall that it follows.

use crate::{
    client::{PATIENCE, Reply, get},
    mall::Mall,
};
use discovery_core::telemetry::DnsMetrics;
use dns_sidecar::{Config, DnsServer};
use std::{net::SocketAddr, sync::Arc};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) struct Site {
    pub(crate) mall: Mall,
    pub(crate) http: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Site {
    pub(crate) fn start(mall: Mall) -> Self {
        Self::start_as(mall, |config| config)
    }

    pub(crate) fn start_as(mall: Mall, change: impl FnOnce(Config) -> Config) -> Self {
        let metrics = Arc::new(DnsMetrics::default());
        let config = change(config());
        let server = DnsServer::bind(config, mall.reader.clone(), metrics.clone()).unwrap();
        let (http, dns) = (server.http_addrs()[0], server.local_addrs()[0]);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self {
            mall,
            http,
            dns,
            metrics,
            shutdown,
            task,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        get(self.http, path).await
    }

    pub(crate) async fn stop(self) -> Mall {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("it stops")
            .unwrap();
        self.mall
    }
}

pub(crate) fn config() -> Config {
    Config::default()
        .listen(vec!["127.0.0.1:0".parse().unwrap()])
        .unwrap()
        .http_listen(vec!["127.0.0.1:0".parse().unwrap()])
        .node_name("edge-a")
        .node_meta_labels(&[("site", "site")])
}
