// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a request asks for, and the log entry that tests read. Pure.

use http::HeaderMap;
use tokio::time::Instant;

use super::Resource;

/// A request as scripts and tests see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Asked {
    /// The plural of the resource, `own-node` for nodes selected by name, otherwise the path without its first slash:
    /// `version`, `apis/discovery.k8s.io`.
    pub what: &'static str,
    /// Whether it is a watch.
    pub is_watch: bool,
    /// How often this was asked before, by anybody.
    pub before: usize,
    /// Path and query, as they were written.
    pub uri: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// When, in the runtime's time.
    pub at: Instant,
}

impl Asked {
    /// A query parameter, as it was written.
    pub fn query(&self, name: &str) -> Option<&str> {
        parameter(&self.uri, name)
    }

    /// A query parameter with its percent-encoding undone.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query(name).map(decoded)
    }

    /// Whether it is a list, or the reading of one object.
    pub fn is_list(&self) -> bool {
        !self.is_watch
    }
}

/// What the path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Objects(Objects),
    /// A path that has a document of its own, without the first slash.
    Document(&'static str),
    Unknown,
}

/// Objects of one kind, all of them, of a namespace, or one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Objects {
    pub(super) resource: Resource,
    pub(super) is_beta: bool,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

impl Target {
    pub(super) fn of(path: &str) -> Self {
        let path = path.trim_matches('/');
        if let Some(known) = DOCUMENTS.into_iter().find(|known| *known == path) {
            return Self::Document(known);
        }
        let parts: Vec<_> = path.split('/').collect();
        let (group, rest) = match parts[..] {
            ["api", "v1", ref rest @ ..] => ("v1", rest),
            [
                "apis",
                "discovery.k8s.io",
                version @ ("v1" | "v1beta1"),
                ref rest @ ..,
            ] => (if version == "v1" { "slices" } else { "beta" }, rest),
            _ => return Self::Unknown,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name) = match rest {
            [plural] => (plural, None),
            [plural, name] => (plural, Some((*name).to_owned())),
            _ => return Self::Unknown,
        };
        match Resource::of_plural(plural) {
            Some(resource) if (resource == Resource::EndpointSlices) == (group != "v1") => {
                Self::Objects(Objects {
                    resource,
                    is_beta: group == "beta",
                    namespace,
                    name,
                })
            }
            _ => Self::Unknown,
        }
    }

    /// What scripts and the log call it.
    pub(super) fn what(&self, uri: &str) -> &'static str {
        let by_name = |uri| {
            parameter(uri, "fieldSelector")
                .is_some_and(|selector| decoded(selector).starts_with("metadata.name="))
        };
        match self {
            Self::Document(document) => document,
            Self::Unknown => "unknown",
            Self::Objects(objects) => match objects.resource {
                Resource::Nodes if objects.name.is_some() || by_name(uri) => "own-node",
                resource => resource.plural(),
            },
        }
    }
}

/// The raw value of a query parameter.
pub(super) fn parameter<'u>(uri: &'u str, name: &str) -> Option<&'u str> {
    let query = uri.split_once('?')?.1;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Undoes percent-encoding, and `+` for a space as forms have it; what is no encoding stays.
pub(super) fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3);
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                out.push(escaped);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Paths with a document of their own.
const DOCUMENTS: [&str; 10] = [
    "version",
    "readyz",
    "livez",
    "healthz",
    "api",
    "api/v1",
    "apis",
    "apis/discovery.k8s.io",
    "apis/discovery.k8s.io/v1",
    "apis/discovery.k8s.io/v1beta1",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(path: &str) -> Option<(Resource, bool, Option<String>, Option<String>)> {
        match Target::of(path) {
            Target::Objects(o) => Some((o.resource, o.is_beta, o.namespace, o.name)),
            _ => None,
        }
    }

    #[test]
    fn paths_name_objects() {
        use Resource::{ConfigMaps, EndpointSlices, Nodes};
        let some = |text: &str| Some(text.to_owned());
        let slices = "/apis/discovery.k8s.io";
        for (path, expected) in [
            ("/api/v1/nodes".to_owned(), Some((Nodes, false, None, None))),
            (
                "/api/v1/nodes/n1".to_owned(),
                Some((Nodes, false, None, some("n1"))),
            ),
            (
                "/api/v1/namespaces/shop/configmaps/zonal".to_owned(),
                Some((ConfigMaps, false, some("shop"), some("zonal"))),
            ),
            (
                format!("{slices}/v1/endpointslices"),
                Some((EndpointSlices, false, None, None)),
            ),
            (
                format!("{slices}/v1beta1/namespaces/shop/endpointslices"),
                Some((EndpointSlices, true, some("shop"), None)),
            ),
            ("/api/v1/endpointslices".to_owned(), None),
            ("/api/v1/pods".to_owned(), None),
            (format!("{slices}/v2/endpointslices"), None),
        ] {
            assert_eq!(objects(&path), expected, "{path}");
        }
    }

    #[test]
    fn the_own_node_is_told_from_the_nodes_of_a_zone() {
        let what = |uri: &str| Target::of(uri.split('?').next().unwrap()).what(uri);
        assert_eq!(
            what("/api/v1/nodes?fieldSelector=metadata.name%3Dn1"),
            "own-node"
        );
        assert_eq!(what("/api/v1/nodes?labelSelector=zone%3Da"), "nodes");
        assert_eq!(what("/version"), "version");
    }

    #[test]
    fn encoding_is_undone() {
        assert_eq!(decoded("a%2Fb%3Dc+d%zz%"), "a/b=c d%zz%");
    }
}
