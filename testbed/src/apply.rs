// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the API server hold an object as it is written, whether it existed or not.
//!
//! Server-side apply with force, by one field manager. The path of a kind is asked from the server, so every kind
//! that it knows works, those of its custom resource definitions too.

use kube::{
    Client,
    api::{Api, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;

use crate::Error;

/// Applies one object; a namespaced one without a namespace goes to `default`.
///
/// # Errors
///
/// [`Error::Manifest`] when it lacks `apiVersion`, `kind` or `metadata.name`; [`Error::Kube`] when the server refuses.
pub async fn apply(client: &Client, object: &Value) -> Result<(), Error> {
    let kind = kind_of(object)?;
    let name = text(object, "/metadata/name")?;
    let what = format!("applying {} {name}", kind.kind);
    let (resource, capabilities) = pinned_kind(client, &kind)
        .await
        .map_err(Error::kube(&what))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = text(object, "/metadata/namespace").unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let params = PatchParams::apply("testbed").force();
    api.patch(name, &params, &Patch::Apply(object))
        .await
        .map_err(Error::kube(what))?;
    Ok(())
}

/// Applies every document of a YAML text in its order; empty documents are passed over.
///
/// # Errors
///
/// [`Error::Manifest`] when the text is no YAML, before anything is applied; otherwise as [`apply`], and the documents
/// before the refused one stay applied.
pub async fn apply_yaml(client: &Client, yaml: &str) -> Result<(), Error> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).map_err(|error| Error::manifest("manifest", error))?;
    for document in documents.iter().filter(|document| !document.is_null()) {
        apply(client, document).await?;
    }
    Ok(())
}

fn kind_of(object: &Value) -> Result<GroupVersionKind, Error> {
    let api_version = text(object, "/apiVersion")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Ok(GroupVersionKind::gvk(
        group,
        version,
        text(object, "/kind")?,
    ))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str, Error> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| Error::manifest("object", format!("no text at {pointer}")))
}
