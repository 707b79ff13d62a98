// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo's mall: its backends, and the manifest that states them to the agent.

use super::backend::Backend;
use discovery_core::runtime::http::HttpServer;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// The node that the demo's agent runs for.
pub(super) const OWN_NODE: &str = "edge-a";
/// The NodePort of the service `web`.
pub(super) const NODE_PORT: u16 = 30_080;

/// Three zones with three backends each, and the file that is their control plane.
#[derive(Debug)]
pub(super) struct Mall {
    folder: PathBuf,
    port: u16,
    backends: Vec<Backend>,
    stated: Stated,
}

/// What the demo's control plane has said last; the agent's view follows it a moment later.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Stated {
    /// Whether it can say anything.
    pub(super) is_cut: bool,
    /// Each backend, and whether it is stated to be ready.
    pub(super) ready: BTreeMap<String, bool>,
}

impl Mall {
    /// Binds every backend on a loopback address of its own and writes the manifest.
    pub(super) fn open() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("zonal-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (port, servers) = bind_all()?;
        let mut backends = backends(port);
        for (backend, server) in backends.iter_mut().zip(servers) {
            backend.serve(server);
        }
        let mut mall = Self {
            folder,
            port,
            backends,
            stated: Stated::default(),
        };
        mall.state()?;
        Ok(mall)
    }

    /// What the control plane has said last.
    pub(super) fn stated(&self) -> &Stated {
        &self.stated
    }

    /// The manifest file.
    pub(super) fn manifest(&self) -> PathBuf {
        self.folder.join("mall.yaml")
    }

    /// Stops a backend and states it not ready, if anybody can be told.
    pub(super) fn kill(&mut self, name: &str) -> Result<String, String> {
        let backend = self.backend(name)?;
        if !backend.is_running() {
            return Err(format!("{name} is stopped already"));
        }
        backend.kill();
        self.told(format!("{name} is killed"))
    }

    /// Starts a stopped backend and states it ready.
    pub(super) fn revive(&mut self, name: &str) -> Result<String, String> {
        let backend = self.backend(name)?;
        if backend.is_running() {
            return Err(format!("{name} runs already"));
        }
        backend
            .revive()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        self.told(format!("{name} runs again"))
    }

    /// Takes the control plane away.
    pub(super) fn cut(&mut self) -> Result<String, String> {
        if self.stated.is_cut {
            return Err(String::from("the control plane is cut off already"));
        }
        fs::remove_file(self.manifest()).map_err(|error| error.to_string())?;
        self.stated.is_cut = true;
        Ok(String::from(
            "the control plane is cut off: answers stay, their age grows",
        ))
    }

    /// Brings the control plane back, with the present state of the backends.
    pub(super) fn heal(&mut self) -> Result<String, String> {
        if !self.stated.is_cut {
            return Err(String::from("the control plane is not cut off"));
        }
        self.stated.is_cut = false;
        self.told(String::from("the control plane is back"))
    }

    fn backend(&mut self, name: &str) -> Result<&mut Backend, String> {
        let names = self
            .backends
            .iter()
            .map(|backend| backend.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let found = self
            .backends
            .iter_mut()
            .find(|backend| backend.name == name);
        found.ok_or_else(|| format!("there is no backend {name}; there are {names}"))
    }

    fn told(&mut self, done: String) -> Result<String, String> {
        if self.stated.is_cut {
            return Ok(format!(
                "{done}; the control plane is cut off and cannot say so"
            ));
        }
        self.state().map_err(|error| error.to_string())?;
        Ok(done)
    }

    /// Writes the manifest anew: a whole file under another name, then renamed, as a control plane would never half say.
    fn state(&mut self) -> io::Result<()> {
        let draft = self.folder.join("mall.yaml.draft");
        fs::write(&draft, manifest(&self.backends, self.port))?;
        fs::rename(draft, self.manifest())?;
        let backends = self.backends.iter();
        self.stated.ready = backends
            .map(|backend| (backend.name.clone(), backend.is_running()))
            .collect();
        Ok(())
    }
}

impl Drop for Mall {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Binds the nine addresses on one port, the first from 18080 on that is free on all of them.
fn bind_all() -> io::Result<(u16, Vec<HttpServer>)> {
    let mut last = io::Error::other("no port was tried");
    for port in BACKEND_PORT..BACKEND_PORT + 100 {
        let mut servers = Vec::new();
        for backend in backends(port) {
            match HttpServer::bind(backend.address) {
                Ok(server) => servers.push(server),
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        if servers.len() == backends(port).len() {
            return Ok((port, servers));
        }
    }
    Err(last)
}

fn backends(port: u16) -> Vec<Backend> {
    let place = |(zone_number, (zone, node)): (u8, (&'static str, &'static str)), host: u8| {
        let address = SocketAddr::new(
            Ipv4Addr::new(127, 77, zone_number + 1, host + 1).into(),
            port,
        );
        Backend::new(
            format!("web-{}", zone_number * 3 + host),
            zone,
            node,
            address,
        )
    };
    (0..)
        .zip(ZONES)
        .flat_map(|zone| (0..3).map(move |host| place(zone, host)))
        .collect()
}

/// Ordinary Kubernetes objects: three nodes, one service, one slice.
fn manifest(backends: &[Backend], port: u16) -> String {
    let mut text = String::new();
    for (zone, node) in ZONES {
        text.push_str(&NODE.replace("NODE", node).replace("ZONE", zone));
    }
    text.push_str(&SERVICE.replace("NODE_PORT", &NODE_PORT.to_string()));
    text.push_str(&SLICE.replace("PORT", &port.to_string()));
    for backend in backends {
        let (name, node, address) = (&backend.name, backend.node, backend.address.ip());
        let ready = backend.is_running();
        let _ = writeln!(text, "- addresses: [\"{address}\"]");
        let _ = writeln!(text, "  nodeName: {node}");
        let _ = writeln!(text, "  conditions: {{ready: {ready}}}");
        let _ = writeln!(
            text,
            "  targetRef: {{kind: Pod, name: {name}, uid: demo-{name}}}"
        );
    }
    text
}

const ZONES: [(&str, &str); 3] = [
    ("mall-1", "edge-a"),
    ("mall-2", "edge-b"),
    ("mall-3", "edge-c"),
];

const NODE: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: NODE
  labels:
    topology.kubernetes.io/zone: ZONE
---
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: default
  labels:
    service.kubernetes.io/service-proxy-name: zonal
spec:
  type: NodePort
  ports:
  - name: http
    port: 80
    nodePort: NODE_PORT
---
";

const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-demo
  namespace: default
  labels:
    kubernetes.io/service-name: web
addressType: IPv4
ports:
- name: http
  port: PORT
endpoints:
";

/// Where the search for the backends' port begins.
const BACKEND_PORT: u16 = 18_080;
