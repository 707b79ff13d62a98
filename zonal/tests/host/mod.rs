// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host with one service: its manifest, its configuration, the agent on both, and endpoints on loopback.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The label that puts the node into a zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone: mall-1";

/// A port of the service: the node port, and the one endpoint behind it.
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) front: u16,
    pub(crate) endpoint: SocketAddr,
}

impl Port {
    pub(crate) fn tcp(front: u16, endpoint: SocketAddr) -> Self {
        let (name, protocol) = ("http", "TCP");
        Self {
            name,
            protocol,
            front,
            endpoint,
        }
    }

    pub(crate) fn udp(front: u16, endpoint: SocketAddr) -> Self {
        let (name, protocol) = ("talk", "UDP");
        Self {
            name,
            protocol,
            front,
            endpoint,
        }
    }
}

/// Where the agent listens beside its node ports.
#[derive(Clone, Copy)]
pub(crate) struct Listens {
    pub(crate) dns: Option<u16>,
    pub(crate) admin: u16,
    pub(crate) metrics: u16,
}

/// Writes the manifest of the node `edge-a` with that label and the service `web`.
pub(crate) fn write_manifest(folder: &Path, label: &str, ports: &[Port]) {
    let listed = |tell: &dyn Fn(&Port) -> String| -> String {
        ports.iter().map(tell).collect::<Vec<_>>().join(", ")
    };
    let of_service = listed(&|port| {
        let Port {
            name,
            protocol,
            front,
            ..
        } = port;
        format!("{{name: {name}, port: 80, protocol: {protocol}, nodePort: {front}}}")
    });
    let of_slice = listed(&|port| {
        let (name, protocol, number) = (port.name, port.protocol, port.endpoint.port());
        format!("{{name: {name}, protocol: {protocol}, port: {number}}}")
    });
    let manifest = format!(
        "
apiVersion: v1
kind: Node
metadata:
  name: edge-a
  labels: {{{label}}}
status:
  addresses: [{{type: InternalIP, address: 127.0.0.1}}]
---
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {{service.kubernetes.io/service-proxy-name: zonal}}
spec:
  ports: [{of_service}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels: {{kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{of_slice}]
endpoints: [{{addresses: [127.0.0.1], nodeName: edge-a}}]
"
    );
    fs::write(folder.join("mall.yaml"), manifest).unwrap();
}

/// Writes the configuration, with those keys of the proxy.
pub(crate) fn write_config(folder: &Path, listens: Listens, proxy: &str) {
    let Listens {
        dns,
        admin,
        metrics,
    } = listens;
    let dns = match dns {
        Some(port) => format!("listen: ['127.0.0.1:{port}']"),
        None => "enabled: false".to_owned(),
    };
    let config = format!(
        "{{node_name: edge-a, source: {{static: {}}}, allow_loopback_endpoints: true, dns: {{{dns}}},\n\
         admin: {{listen: '127.0.0.1:{admin}'}}, metrics: {{listen: '127.0.0.1:{metrics}'}},\n\
         proxy: {{{proxy}}}}}\n",
        folder.join("mall.yaml").display(),
    );
    fs::write(folder.join("zonal.yaml"), config).unwrap();
}

/// The agent on both files.
pub(crate) fn agent(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    command
        .args(["agent", "--config"])
        .arg(folder.join("zonal.yaml"));
    command
}

/// An endpoint that echoes; for ever. Needs a runtime of tokio.
pub(crate) fn echo() -> SocketAddr {
    let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    bound.set_nonblocking(true).unwrap();
    let address = bound.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(bound).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

/// Says a word to an endpoint that echoes, and hears it.
pub(crate) async fn exchange(stream: &mut tokio::net::TcpStream) -> io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, *b"hello");
    Ok(())
}
