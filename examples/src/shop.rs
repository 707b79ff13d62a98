// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shop on this machine: three services at loopback addresses, and a manifest that lists them.

use super::Backend;
use anyhow::Context as _;
use discovery_core::client::{Discovery, DiscoveryBuilder};
use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};
use tempfile::TempDir;

/// Three pods of the service `shop/web`, which exist for as long as this does.
#[derive(Debug)]
pub struct Shop {
    backends: Vec<Backend>,
    folder: TempDir,
}

impl Shop {
    /// Opens it: `web-0`, `web-1` and `web-2` at 127.0.0.1 to 127.0.0.3, with the ports `http` and `grpc`.
    pub async fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for _ in 0..TRIES {
            let first = Backend::start("web-0", address(0), [0, 0]).await?;
            let ports = first.ports();
            // Another process may have one of them at another address.
            let Ok(second) = Backend::start("web-1", address(1), ports).await else {
                continue;
            };
            let Ok(third) = Backend::start("web-2", address(2), ports).await else {
                continue;
            };
            let shop = Self {
                backends: vec![first, second, third],
                folder,
            };
            shop.list(&[0, 1, 2])?;
            return Ok(shop);
        }
        anyhow::bail!("no port is free at three addresses")
    }

    /// Lists these pods in the manifest and no others, as a control plane does when pods come and go.
    pub fn list(&self, pods: &[u8]) -> anyhow::Result<()> {
        let ports = self.backends[0].ports();
        let beside = self.folder.path().join("new");
        std::fs::write(&beside, manifest(pods, ports)?)?;
        std::fs::rename(beside, self.path()).context("the manifest is moved into place")
    }

    /// Ends a pod, as a host does that loses its power.
    pub async fn kill(&mut self, name: &str) {
        let is_it = |backend: &Backend| backend.name() == name;
        if let Some(at) = self.backends.iter().position(is_it) {
            self.backends.remove(at).kill().await;
        }
    }

    /// The pod of this name, while it runs.
    pub fn pod(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name() == name)
    }

    /// Discovery in this shop.
    pub fn discovery(&self) -> DiscoveryBuilder {
        Discovery::builder()
            .node("edge-a")
            .manifest(self.path())
            .allow_loopback_endpoints()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.yaml")
    }
}

/// The manifest of the service `shop/web` with these pods.
pub fn manifest(pods: &[u8], [http, grpc]: [u16; 2]) -> anyhow::Result<String> {
    let mut text = format!(
        "{{apiVersion: v1, kind: List, items: [
  {{apiVersion: v1, kind: Node, metadata: {{name: edge-a, labels: {{topology.kubernetes.io/zone: mall-1}}}}}},
  {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
   metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}},
   ports: [{{name: http, port: {http}}}, {{name: grpc, port: {grpc}}}], endpoints: [\n"
    );
    for pod in pods {
        writeln!(
            text,
            "{{addresses: [{}], nodeName: edge-a, targetRef: {{kind: Pod, name: web-{pod}, uid: u{pod}}}}},",
            address(*pod)
        )?;
    }
    text.push_str("]}]}\n");
    Ok(text)
}

fn address(pod: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, pod + 1).into()
}

const TRIES: usize = 20;
