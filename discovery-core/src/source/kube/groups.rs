// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a discovery document is read for the API that endpoints are to be read from. Pure.

use crate::source::SliceApi;
use serde::Deserialize;

/// Where the versions of the EndpointSlice API are told.
pub(super) const GROUP_PATH: &str = "/apis/discovery.k8s.io";
/// Where all groups are told.
pub(super) const GROUPS_PATH: &str = "/apis";

/// The best API of the group's document; none when it is no such document.
pub(super) fn of_group(document: &[u8]) -> Option<SliceApi> {
    let group: Group = serde_json::from_slice(document).ok()?;
    if group.kind.as_deref() != Some("APIGroup") || group.name != GROUP {
        return None;
    }
    Some(group.best())
}

/// The best API of the document of all groups; none when it is no such document.
pub(super) fn of_groups(document: &[u8]) -> Option<SliceApi> {
    let groups: Groups = serde_json::from_slice(document).ok()?;
    // Every API server serves some group; one without any is a page of something else.
    if groups.kind != "APIGroupList" || groups.groups.is_empty() {
        return None;
    }
    let group = groups.groups.iter().find(|group| group.name == GROUP);
    Some(group.map_or(SliceApi::Endpoints, Group::best))
}

#[derive(Deserialize)]
struct Groups {
    kind: String,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    kind: Option<String>,
    name: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

impl Group {
    fn best(&self) -> SliceApi {
        let serves = |version: &str| self.versions.iter().any(|v| v.version == version);
        if serves("v1") {
            SliceApi::V1
        } else if serves("v1beta1") {
            SliceApi::V1Beta1
        } else {
            SliceApi::Endpoints
        }
    }
}

const GROUP: &str = "discovery.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    fn group(versions: &[&str]) -> String {
        let versions: Vec<_> = versions
            .iter()
            .map(|v| format!(r#"{{"groupVersion":"discovery.k8s.io/{v}","version":"{v}"}}"#))
            .collect();
        format!(
            r#"{{"kind":"APIGroup","name":"discovery.k8s.io","versions":[{}]}}"#,
            versions.join(",")
        )
    }

    #[test]
    fn the_best_version_served_is_chosen() {
        for (versions, expected) in [
            (&["v1", "v1beta1"][..], SliceApi::V1),
            (&["v1beta1", "v1"], SliceApi::V1),
            (&["v1beta1"], SliceApi::V1Beta1),
            (&["v1alpha1"], SliceApi::Endpoints),
        ] {
            let document = group(versions);
            assert_eq!(of_group(document.as_bytes()), Some(expected));
            let all = format!(r#"{{"kind":"APIGroupList","groups":[{document}]}}"#);
            assert_eq!(of_groups(all.as_bytes()), Some(expected));
        }
        let others = r#"{"kind":"APIGroupList","groups":[{"name":"apps","versions":[]}]}"#;
        assert_eq!(of_groups(others.as_bytes()), Some(SliceApi::Endpoints));
    }

    #[test]
    fn what_is_no_discovery_document_chooses_nothing() {
        for text in [
            "",
            "{}",
            "null",
            "<html>",
            r#"{"kind":"Status","code":404}"#,
            r#"{"kind":"APIGroupList","groups":[]}"#,
            r#"{"kind":"APIGroup","name":"apps","versions":[{"version":"v1"}]}"#,
        ] {
            assert_eq!(of_group(text.as_bytes()), None, "{text}");
            assert_eq!(of_groups(text.as_bytes()), None, "{text}");
        }
    }
}
