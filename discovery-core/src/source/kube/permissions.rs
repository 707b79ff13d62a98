// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks an API server for its version, for whom it takes us, and for each right that the source needs.
//!
//! A `SelfSubjectAccessReview` is allowed to everybody who has credentials and writes nothing. A server that knows no such
//! thing leaves a verdict unknown, which is no failure.

use super::{
    answer::Answer,
    config::KubeConfig,
    failure::Failure,
    groups::{GROUP_PATH, of_group},
    request::{Asked, Asker},
};
use crate::source::{
    SliceApi,
    permissions::{Permissions, Right, Verdict},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Asks; every question is bounded, so that the whole takes 20 s at most, and what is not answered stays unknown.
pub(super) async fn permissions(config: &KubeConfig, asker: &Asker) -> Permissions {
    let version = asker.document("/version");
    let group = asker.document(GROUP_PATH);
    let nothing = json!({});
    let user = asker.review("authentication", "selfsubjectreviews", &nothing);
    let (version, group, user) = tokio::join!(version, group, user);
    let api = group.ok().and_then(|document| of_group(&document));
    let rights = stream::iter(needed(config, api.unwrap_or(SliceApi::V1)))
        .map(|right| asker.right(right))
        .buffered(REVIEWS_AT_ONCE);
    let text = |value: &Value, pointer| Some(value.pointer(pointer)?.as_str()?.to_owned());
    let version = version.ok().and_then(|document| {
        let value: Value = serde_json::from_slice(&document).ok()?;
        text(&value, "/gitVersion")
    });
    Permissions {
        version,
        user: user.and_then(|review| text(&review, "/status/userInfo/username")),
        rights: rights.collect().await,
    }
}

/// Nodes are asked for across the cluster; services and slices in each scope.
fn needed(config: &KubeConfig, api: SliceApi) -> Vec<Right> {
    let slices = match api {
        SliceApi::Endpoints => ("", "endpoints"),
        SliceApi::V1 | SliceApi::V1Beta1 => ("discovery.k8s.io", "endpointslices"),
    };
    let scopes: Vec<_> = config.scopes().into_iter().map(|s| s.namespace).collect();
    let mut rights = Vec::new();
    for (group, resource) in [("", "nodes"), ("", "services"), slices] {
        let everywhere = [None];
        let namespaces = if resource == "nodes" {
            &everywhere[..]
        } else {
            &scopes
        };
        for namespace in namespaces {
            rights.extend(["list", "watch"].map(|verb| Right {
                group: group.to_owned(),
                resource: resource.to_owned(),
                verb: verb.to_owned(),
                namespace: namespace.clone(),
                verdict: Verdict::Unknown,
            }));
        }
    }
    rights
}

impl Asker {
    async fn right(&self, mut right: Right) -> Right {
        let attributes = json!({
            "group": right.group, "resource": right.resource, "verb": right.verb,
            "namespace": right.namespace.as_deref().unwrap_or_default(),
        });
        let spec = json!({ "resourceAttributes": attributes });
        let review = self
            .review("authorization", "selfsubjectaccessreviews", &spec)
            .await;
        let allowed = review.and_then(|review| review.pointer("/status/allowed")?.as_bool());
        right.verdict = match allowed {
            Some(true) => Verdict::Allowed,
            Some(false) => Verdict::Denied,
            None => Verdict::Unknown,
        };
        right
    }

    /// What the server makes of a review; nothing when it has no such thing.
    async fn review(&self, group: &str, plural: &str, spec: &Value) -> Option<Value> {
        let group = format!("{group}.k8s.io/v1");
        let kind = match plural {
            "selfsubjectreviews" => "SelfSubjectReview",
            _ => "SelfSubjectAccessReview",
        };
        let review = json!({ "apiVersion": group, "kind": kind, "spec": spec });
        let path = format!("/apis/{group}/{plural}");
        let answer = self
            .post(&path, review.to_string().into_bytes(), ANSWER_TIME)
            .await;
        serde_json::from_slice(&read(answer.ok()?).await.ok()?).ok()
    }

    async fn document(&self, path: &str) -> Result<Vec<u8>, Failure> {
        read(self.ask(&Asked::Document, path, ANSWER_TIME).await?).await
    }
}

async fn read(answer: Answer) -> Result<Vec<u8>, Failure> {
    let deadline = Instant::now() + ANSWER_TIME;
    answer.read(ANSWER_BYTES_MAX, deadline, |_, _| {}).await
}

const ANSWER_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// 64 namespaces make 258 questions.
const REVIEWS_AT_ONCE: usize = 16;
