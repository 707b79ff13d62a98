// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays the fleet: makes nodes, services and pods, and reports what a kubelet would report.
//!
//! In: names, labels, addresses. Out: objects at the API server, from which its controllers make slices. Objects are
//! written as JSON and applied server-side, so that every method can be repeated.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Node, Pod, Service},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Error, apply,
    leases::{self, Leases},
};

/// Makes the objects of a cluster; cheap to clone.
#[derive(Clone)]
pub struct Driver {
    client: Client,
}

impl Driver {
    /// A driver with the rights of `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client that it uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a node that is ready, with its internal address and a fresh lease. It stays ready for the grace period of
    /// the controller manager; longer with [`Driver::renew_leases`].
    ///
    /// # Errors
    ///
    /// [`Error::Kube`] when the server refuses or is away, as with every method here.
    pub async fn node(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        internal_ip: impl Into<IpAddr>,
    ) -> Result<(), Error> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": labels },
        });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": "kube-node-lease" },
            "spec": leases::spec(name),
        });
        apply(&self.client, &node).await?;
        apply(&self.client, &lease).await?;
        self.node_status(name, internal_ip, true).await
    }

    /// Reports a node's address and whether it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`].
    pub async fn node_status(
        &self,
        name: &str,
        internal_ip: impl Into<IpAddr>,
        ready: bool,
    ) -> Result<(), Error> {
        let status = json!({ "status": {
            "addresses": [
                { "type": "InternalIP", "address": internal_ip.into() },
                { "type": "Hostname", "address": name },
            ],
            "conditions": [condition("Ready", ready, "KubeletReady")],
        }});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(status);
        let patched = nodes
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        patched.map_err(Error::kube(format!("reporting the status of node {name}")))?;
        Ok(())
    }

    /// Sets a label of a node.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`].
    pub async fn label_node(&self, name: &str, key: &str, value: &str) -> Result<(), Error> {
        self.patch_label(name, key, value.into()).await
    }

    /// Takes a label of a node away; without it nothing changes.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`].
    pub async fn unlabel_node(&self, name: &str, key: &str) -> Result<(), Error> {
        self.patch_label(name, key, Value::Null).await
    }

    /// Deletes a node. Its pods stay until the garbage collector finds them, after about a minute.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`], also when it does not exist.
    pub async fn delete_node(&self, name: &str) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let deleted = nodes.delete(name, &DeleteParams::default()).await;
        deleted.map_err(Error::kube(format!("deleting node {name}")))?;
        Ok(())
    }

    /// Applies a Service, given whole; `apiVersion` and `kind` may be left out, as may the namespace `default`.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] without a name, otherwise [`Error::Kube`].
    pub async fn service(&self, mut service: Value) -> Result<(), Error> {
        service["apiVersion"] = "v1".into();
        service["kind"] = "Service".into();
        apply(&self.client, &service).await
    }

    /// Deletes a Service.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`], also when it does not exist.
    pub async fn delete_service(&self, name: &str, namespace: &str) -> Result<(), Error> {
        let services = self.namespaced::<Service>(namespace);
        let deleted = services.delete(name, &DeleteParams::default()).await;
        deleted.map_err(Error::kube(format!("deleting service {namespace}/{name}")))?;
        Ok(())
    }

    /// Makes a pod on `node` that runs, is ready and has the address `ip`.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`].
    pub async fn pod(
        &self,
        name: &str,
        namespace: &str,
        labels: &[(&str, &str)],
        node: &str,
        ip: impl Into<IpAddr>,
    ) -> Result<(), Error> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "main", "image": "testbed.invalid/none" }],
            },
        });
        apply(&self.client, &pod).await?;
        self.pod_status(name, namespace, ip, true).await
    }

    /// Reports a running pod's address and whether it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`].
    pub async fn pod_status(
        &self,
        name: &str,
        namespace: &str,
        ip: impl Into<IpAddr>,
        ready: bool,
    ) -> Result<(), Error> {
        let ip = ip.into();
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [
                condition("Ready", ready, "Reported"),
                condition("ContainersReady", ready, "Reported"),
            ],
        }});
        let pods = self.namespaced::<Pod>(namespace);
        let patch = Patch::Merge(status);
        let patched = pods
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        patched.map_err(Error::kube(format!(
            "reporting the status of pod {namespace}/{name}"
        )))?;
        Ok(())
    }

    /// Begins to delete a pod and leaves it there, terminating, as no kubelet ends it: its endpoint is `terminating`.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`], also when it does not exist.
    pub async fn terminate_pod(&self, name: &str, namespace: &str) -> Result<(), Error> {
        self.delete_pod_within(name, namespace, 30).await
    }

    /// Deletes a pod at once (no grace period).
    ///
    /// # Errors
    ///
    /// [`Error::Kube`], also when it does not exist.
    pub async fn delete_pod(&self, name: &str, namespace: &str) -> Result<(), Error> {
        self.delete_pod_within(name, namespace, 0).await
    }

    /// Renews the leases of `nodes` every five seconds until the guard is dropped: a guard per zone cuts a zone off.
    /// Must be called inside a tokio runtime.
    pub fn renew_leases<S: Into<String>>(&self, nodes: impl IntoIterator<Item = S>) -> Leases {
        Leases::start(
            self.client.clone(),
            nodes.into_iter().map(Into::into).collect(),
        )
    }

    async fn patch_label(&self, name: &str, key: &str, value: Value) -> Result<(), Error> {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { key: value }}}));
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patched = nodes.patch(name, &PatchParams::default(), &patch).await;
        patched.map_err(Error::kube(format!("changing label {key} of node {name}")))?;
        Ok(())
    }

    async fn delete_pod_within(
        &self,
        name: &str,
        namespace: &str,
        grace_seconds: u32,
    ) -> Result<(), Error> {
        let params = DeleteParams::default().grace_period(grace_seconds);
        let deleted = self
            .namespaced::<Pod>(namespace)
            .delete(name, &params)
            .await;
        deleted.map_err(Error::kube(format!("deleting pod {namespace}/{name}")))?;
        Ok(())
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn condition(kind: &str, holds: bool, reason: &str) -> Value {
    let now = format!("{:.0}", Timestamp::now());
    json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "reason": reason,
        "lastTransitionTime": now,
    })
}
