// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoint slices as `discovery.k8s.io/v1beta1` writes them. Pure.
//!
//! Before `v1`, an endpoint told its node and zone as `topology` labels. `deprecatedTopology` of `v1` goes there too.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::store::Stored;

/// The object in the version that is asked for.
pub(super) fn spoken(object: &Stored, is_beta: bool) -> Bytes {
    if !is_beta {
        return object.json.clone();
    }
    let mut slice: Value = serde_json::from_slice(&object.json).unwrap_or_default();
    let endpoints = slice.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in endpoints.into_iter().flatten() {
        if let Some(fields) = endpoint.as_object_mut() {
            to_beta(fields);
        }
    }
    slice.to_string().into()
}

fn to_beta(endpoint: &mut Map<String, Value>) {
    let mut topology = match endpoint.remove("deprecatedTopology") {
        Some(Value::Object(labels)) => labels,
        _ => Map::new(),
    };
    let places = [
        ("nodeName", "kubernetes.io/hostname"),
        ("zone", "topology.kubernetes.io/zone"),
    ];
    for (field, label) in places {
        if let Some(value) = endpoint.remove(field) {
            topology.insert(label.to_owned(), value);
        }
    }
    endpoint.remove("hints");
    if !topology.is_empty() {
        endpoint.insert("topology".to_owned(), topology.into());
    }
}
