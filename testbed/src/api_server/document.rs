// SPDX-License-Identifier: MIT OR Apache-2.0
//! The documents beside the objects: version, health, and what the API serves. Pure.

use serde_json::{Value, json};

use super::{Resource, SliceApis};

/// What stands at a path; plain text is a string. None when it is not served.
pub(super) fn document(path: &str, slices: SliceApis) -> Option<Value> {
    match path {
        "readyz" | "livez" | "healthz" => Some("ok".into()),
        "version" => Some(json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })),
        "api" => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        "api/v1" => Some(resources("v1", |one| one != Resource::EndpointSlices)),
        "apis" => {
            let groups: Vec<_> = group(slices).into_iter().collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        "apis/discovery.k8s.io" => {
            let mut group = group(slices)?;
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        _ => {
            let version = path.rsplit('/').next()?;
            let is_served = slices.versions().contains(&version);
            let list = || {
                resources(&format!("{GROUP}/{version}"), |one| {
                    one == Resource::EndpointSlices
                })
            };
            is_served.then(list)
        }
    }
}

fn group(slices: SliceApis) -> Option<Value> {
    let version = |version: &&str| json!({ "groupVersion": format!("{GROUP}/{version}"), "version": version });
    let versions: Vec<_> = slices.versions().iter().map(version).collect();
    let preferred = versions.first()?.clone();
    Some(json!({ "name": GROUP, "versions": versions, "preferredVersion": preferred }))
}

fn resources(group_version: &str, is_meant: impl Fn(Resource) -> bool) -> Value {
    let listed = Resource::ALL.into_iter().filter(|one| is_meant(*one));
    let listed = listed.map(|one| {
        json!({ "name": one.plural(), "singularName": one.kind().to_lowercase(), "kind": one.kind(),
            "namespaced": one.is_namespaced(), "verbs": ["get", "list", "watch"] })
    });
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": listed.collect::<Vec<_>>() })
}

const GROUP: &str = "discovery.k8s.io";
