// SPDX-License-Identifier: MIT OR Apache-2.0
//! A generated cluster: as many zones, nodes and services as wanted, its objects as long as real ones.
//!
//! Every service has one pod on every node. Its slices mix the zones, because the real controller packs pods in whatever
//! order it sees them. The same figures and seed give the same cluster, byte for byte.

use std::net::Ipv4Addr;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Resource, Store};
use crate::Error;

/// The figures of a cluster.
///
/// ```
/// # use testbed::api_server::{Resource, ApiServer, generate::Cluster};
/// # #[tokio::main] async fn main() -> Result<(), testbed::Error> {
/// let server = ApiServer::start().await?;
/// let cluster = Cluster { zones: 4, nodes_per_zone: 3, services: 2, ..Cluster::LARGE };
/// cluster.fill(server.store())?;
/// assert_eq!(server.store().names(Resource::Nodes).len(), 12);
/// assert_eq!(cluster.endpoints(), 24);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// How many zones.
    pub zones: usize,
    /// Nodes in each of them.
    pub nodes_per_zone: usize,
    /// Services, each with a pod on every node.
    pub services: usize,
    /// Endpoints in a full slice; the controller's own default is 100.
    pub endpoints_per_slice: usize,
    /// Whether endpoints carry the optional fields that some clusters set: hints and host names.
    pub is_wordy: bool,
    /// What the random parts are drawn from.
    pub seed: u64,
}

impl Cluster {
    /// 5,000 nodes in 500 zones, 30 services: 150,000 endpoints in 1,500 slices.
    pub const LARGE: Self = Self {
        zones: 500,
        nodes_per_zone: 10,
        services: 30,
        endpoints_per_slice: 100,
        is_wordy: true,
        seed: 7,
    };

    /// How many endpoints all services have together.
    pub fn endpoints(&self) -> usize {
        self.nodes() * self.services
    }

    /// The name of a zone.
    pub fn zone(zone: usize) -> String {
        format!("mall-{zone:04}")
    }

    /// The name of a node of a zone.
    pub fn node(zone: usize, nth: usize) -> String {
        format!("edge-{nth:02}.mall-{zone:04}.retail.example")
    }

    /// The name of a service; it is in namespace `shop`.
    pub fn service(nth: usize) -> String {
        format!("checkout-{nth:03}")
    }

    /// The name of the pod of a service on a node.
    pub fn pod(&self, service: usize, zone: usize, nth: usize) -> String {
        let mut random = self.random(&[3, service, zone, nth]);
        let suffix: String = (0..5).map(|_| random.lowercase()).collect();
        format!(
            "{}-7d9c6b8f5d-{suffix}-{zone:04}{nth:02}",
            Self::service(service)
        )
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn fill(&self, store: &Store) -> Result<(), Error> {
        self.objects().try_for_each(|object| {
            store.put(object)?;
            Ok(())
        })
    }

    /// All of it: the nodes, the services, the slices.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        let nodes = (0..self.nodes()).map(|at| self.node_object(at));
        let services = (0..self.services).map(|service| self.service_object(service));
        let slices = (0..self.services).flat_map(|service| self.slice_objects(service));
        nodes.chain(services).chain(slices)
    }

    /// The slice in which the pod of a service on a node stands, and its place there.
    pub fn place(&self, service: usize, (zone, nth): (usize, usize)) -> Option<(String, usize)> {
        let node = zone * self.nodes_per_zone + nth;
        let place = self.order(service).iter().position(|one| *one == node)?;
        let slice = Self::slice_name(service, place / self.endpoints_per_slice);
        Some((slice, place % self.endpoints_per_slice))
    }

    /// Makes the pod of a service on a node ready or not; the version that this made, none when there is no such pod.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn set_ready(
        &self,
        store: &Store,
        service: usize,
        on: (usize, usize),
        is_ready: bool,
    ) -> Result<Option<u64>, Error> {
        let Some((name, at)) = self.place(service, on) else {
            return Ok(None);
        };
        store.edit(Resource::EndpointSlices, NAMESPACE, &name, |slice| {
            let conditions = &mut slice["endpoints"][at]["conditions"];
            *conditions = json!({ "ready": is_ready, "serving": is_ready, "terminating": false });
        })
    }

    fn nodes(&self) -> usize {
        self.zones * self.nodes_per_zone
    }

    /// The order in which the controller saw the pods of a service.
    fn order(&self, service: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.nodes()).collect();
        self.random(&[1, service]).shuffle(&mut order);
        order
    }

    fn slice_name(service: usize, slice: usize) -> String {
        format!("{}-{slice:05}", Self::service(service))
    }

    fn slice_objects(&self, service: usize) -> impl Iterator<Item = Value> {
        let order = self.order(service);
        let slices = order.len().div_ceil(self.endpoints_per_slice.max(1));
        (0..slices).map(move |slice| {
            let nodes = order.iter().skip(slice * self.endpoints_per_slice);
            let nodes = nodes.take(self.endpoints_per_slice);
            let endpoints: Vec<_> = nodes.map(|node| self.endpoint(service, *node)).collect();
            let (name, owner) = (Self::slice_name(service, slice), Self::service(service));
            let mut metadata = self.metadata(&name, &[4, service, slice], "kube-controller-manager");
            metadata["namespace"] = NAMESPACE.into();
            metadata["generateName"] = format!("{owner}-").into();
            metadata["labels"] = json!({ "app": owner, "kubernetes.io/service-name": owner,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" });
            metadata["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Service", "name": owner,
                "uid": uid(&mut self.random(&[2, service])), "controller": true, "blockOwnerDeletion": true }]);
            json!({ "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] })
        })
    }

    fn endpoint(&self, service: usize, node: usize) -> Value {
        let (zone, nth) = (node / self.nodes_per_zone, node % self.nodes_per_zone);
        let mut random = self.random(&[5, service, node]);
        let (pod, zone_name) = (self.pod(service, zone, nth), Self::zone(zone));
        let mut endpoint = json!({
            "addresses": [address(service * self.nodes() + node).to_string()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": Self::node(zone, nth),
            "targetRef": { "kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": uid(&mut random) },
            "zone": zone_name,
        });
        if self.is_wordy {
            endpoint["hostname"] = pod.into();
            endpoint["hints"] = json!({ "forZones": [{ "name": zone_name }],
                "forNodes": [{ "name": Self::node(zone, nth) }] });
        }
        endpoint
    }

    fn service_object(&self, service: usize) -> Value {
        let name = Self::service(service);
        let mut metadata = self.metadata(&name, &[2, service], "helm");
        metadata["namespace"] = NAMESPACE.into();
        metadata["labels"] = json!({ "app": name, "app.kubernetes.io/managed-by": "Helm" });
        json!({ "kind": "Service", "metadata": metadata, "status": { "loadBalancer": {} }, "spec": {
            "type": "ClusterIP", "clusterIP": format!("10.96.{}.{}", service / 250, service % 250 + 1),
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "selector": { "app": name },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }] } })
    }

    /// About 11 KB, most of it the list of images.
    fn node_object(&self, at: usize) -> Value {
        let (zone, nth) = (at / self.nodes_per_zone, at % self.nodes_per_zone);
        let name = Self::node(zone, nth);
        let mut metadata = self.metadata(&name, &[6, at], "kubelet");
        metadata["labels"] = json!({ "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": name, "node-role.kubernetes.io/edge": "",
            "topology.kubernetes.io/region": "west", "topology.kubernetes.io/zone": Self::zone(zone) });
        let pods = format!("10.{}.{}.0/24", at / 256, at % 256);
        let status = node_status(&mut self.random(&[7, at]), address(at), &name);
        json!({ "kind": "Node", "metadata": metadata, "spec": { "podCIDR": pods }, "status": status })
    }

    /// What every object has, with the managed fields that clients always get and never need.
    fn metadata(&self, name: &str, draw: &[usize], manager: &str) -> Value {
        let fields = json!({ "f:metadata": { "f:generateName": {}, "f:labels": { ".": {}, "f:app": {},
            "f:kubernetes.io/service-name": {}, "f:endpointslice.kubernetes.io/managed-by": {} },
            "f:ownerReferences": { ".": {}, "k:{\"uid\":\"0\"}": {} } }, "f:ports": {}, "f:addressType": {},
            "f:endpoints": {} });
        json!({ "name": name, "uid": uid(&mut self.random(draw)), "generation": 3, "creationTimestamp": BORN,
            "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": BORN },
            "managedFields": [{ "manager": manager, "operation": "Update", "apiVersion": "v1", "time": BORN,
                "fieldsType": "FieldsV1", "fieldsV1": fields }] })
    }

    /// The same draw always gives the same numbers, whatever is asked for before.
    fn random(&self, draw: &[usize]) -> Rng {
        let mixed = draw.iter().fold(self.seed, |mixed, part| {
            let mut random = Rng::with_seed(mixed ^ (*part as u64 + 1));
            random.u64(..)
        });
        Rng::with_seed(mixed)
    }
}

fn node_status(random: &mut Rng, address: Ipv4Addr, name: &str) -> Value {
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(|kind| {
        let status = if kind == "Ready" { "True" } else { "False" };
        json!({ "type": kind, "status": status, "reason": "KubeletReady", "lastHeartbeatTime": BORN,
            "message": "kubelet is posting ready status", "lastTransitionTime": BORN })
    });
    let size = json!({ "cpu": "4", "memory": "16315412Ki", "pods": "110", "ephemeral-storage": "101430960Ki" });
    let addresses = json!([{ "type": "InternalIP", "address": address.to_string() },
        { "type": "Hostname", "address": name }]);
    let images: Vec<_> = (0..IMAGES).map(|image| node_image(random, image)).collect();
    json!({ "addresses": addresses, "allocatable": size, "capacity": size, "conditions": conditions,
        "images": images, "nodeInfo": { "architecture": "amd64", "operatingSystem": "linux",
            "kubeletVersion": "v1.33.0", "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 13",
            "containerRuntimeVersion": "containerd://2.1.0", "bootID": uid(random), "machineID": uid(random) } })
}

fn node_image(random: &mut Rng, nth: usize) -> Value {
    let digest: String = (0..64).map(|_| random.digit(16)).collect();
    let name = format!("registry.retail.example/shop/image-{nth:02}");
    json!({ "sizeBytes": random.u32(5_000_000..900_000_000),
        "names": [format!("{name}@sha256:{digest}"), format!("{name}:2026.11.{nth}")] })
}

fn address(nth: usize) -> Ipv4Addr {
    // 10.0.0.0/8 has room for 16 million.
    let nth = u32::try_from(nth % (1 << 24)).unwrap_or_default();
    Ipv4Addr::from(0x0a00_0000 + nth)
}

fn uid(random: &mut Rng) -> String {
    let (high, low) = (random.u64(..), random.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

const NAMESPACE: &str = "shop";
const BORN: &str = "2026-11-01T08:15:30Z";
/// The kubelet reports the 50 largest; edge nodes have fewer.
const IMAGES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SMALL: Cluster = Cluster {
        zones: 20,
        nodes_per_zone: 10,
        services: 2,
        ..Cluster::LARGE
    };

    #[test]
    fn a_slice_is_full_and_mixes_zones() {
        let slices: Vec<_> = SMALL.slice_objects(1).collect();
        assert_eq!(slices.len(), 2);
        let endpoints = slices[0]["endpoints"].as_array().unwrap();
        assert_eq!(endpoints.len(), 100);
        let zones: HashSet<_> = endpoints
            .iter()
            .map(|one| one["zone"].as_str().unwrap())
            .collect();
        assert!(zones.len() > 15, "{} of 20 zones in a slice", zones.len());
    }

    #[test]
    fn objects_are_as_long_as_real_ones() {
        let slices: usize = SMALL
            .slice_objects(0)
            .map(|slice| slice.to_string().len())
            .sum();
        let per_endpoint = slices / 200;
        assert!(
            (440..470).contains(&per_endpoint),
            "{per_endpoint} bytes per endpoint"
        );
        let node = SMALL.node_object(3).to_string().len();
        assert!((9_000..13_000).contains(&node), "{node} bytes per node");
    }

    #[test]
    fn the_same_figures_give_the_same_cluster() {
        let all = || {
            SMALL
                .slice_objects(1)
                .map(|slice| slice.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(all(), all());
        assert_ne!(SMALL.pod(0, 1, 2), SMALL.pod(0, 1, 3));
    }

    #[test]
    fn a_pod_is_found_in_its_slice() {
        let store = Store::new(10);
        SMALL.fill(&store).unwrap();
        let version = SMALL.set_ready(&store, 1, (7, 3), false).unwrap();
        assert_eq!(version, Some(store.version()));
        let truth = store.truth();
        let written = truth.last().unwrap();
        let slice = store
            .get(Resource::EndpointSlices, "shop", &written.name)
            .unwrap();
        let endpoints = slice["endpoints"].as_array().unwrap();
        let unready: Vec<_> = endpoints
            .iter()
            .filter(|one| one["conditions"]["ready"] == false)
            .collect();
        assert_eq!(unready.len(), 1);
        assert_eq!(unready[0]["nodeName"], Cluster::node(7, 3));
        assert_eq!(unready[0]["targetRef"]["name"], SMALL.pod(1, 7, 3));
    }
}
