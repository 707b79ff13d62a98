// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which API endpoints are read from, and how a discovery document is read for it. Pure.
//!
//! `discovery.k8s.io` serves v1 since Kubernetes 1.21 and v1beta1 up to 1.24. Endpoints are the last resort: truncated at
//! 1,000 addresses, deprecated, and their controller may be off. So they are read only where no EndpointSlice API is
//! served, never because it has nothing to say.

use serde::Deserialize;
use std::{fmt, str::FromStr};

/// The API that endpoints are read from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SliceApi {
    /// EndpointSlice of `discovery.k8s.io/v1`.
    V1,
    /// EndpointSlice of `discovery.k8s.io/v1beta1`.
    V1Beta1,
    /// Endpoints of `v1`.
    Endpoints,
}

impl SliceApi {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V1Beta1, Self::Endpoints];

    /// The word for files, the page and logs; what [`FromStr`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "discovery.k8s.io/v1",
            Self::V1Beta1 => "discovery.k8s.io/v1beta1",
            Self::Endpoints => "v1/endpoints",
        }
    }
}

impl fmt::Display for SliceApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no API that endpoints are read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it names no API that endpoints are read from")]
pub struct UnknownSliceApi;

impl FromStr for SliceApi {
    type Err = UnknownSliceApi;

    fn from_str(text: &str) -> Result<Self, UnknownSliceApi> {
        let known = Self::ALL.into_iter().find(|api| api.as_str() == text);
        known.ok_or(UnknownSliceApi)
    }
}

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

    #[test]
    fn words_are_read_back() {
        for api in SliceApi::ALL {
            assert_eq!(api.as_str().parse(), Ok(api));
        }
        assert_eq!("v2".parse::<SliceApi>(), Err(UnknownSliceApi));
    }
}
