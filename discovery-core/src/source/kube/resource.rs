// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is listed and watched: path, selector, and how its requests are written. Pure.

use crate::{
    model::{NodeName, Zone, ZoneKey},
    source::object::Format,
    store::Kind,
};
use std::{fmt::Write, time::Duration};

/// One list of objects at the API server. Another version of an API is another value of this.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    kind: Kind,
    format: Format,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    selector: Option<(&'static str, String)>,
}

impl Resource {
    /// Our own node, by name.
    pub(super) fn own_node(name: &NodeName) -> Self {
        let selector = ("fieldSelector", format!("metadata.name={name}"));
        Self {
            kind: Kind::OwnNode,
            ..Self::core("nodes", Format::Node, Some(selector))
        }
    }

    /// The nodes with the given zone.
    pub(super) fn nodes(key: &ZoneKey, zone: &Zone) -> Self {
        let selector = ("labelSelector", format!("{key}={zone}"));
        Self::core("nodes", Format::Node, Some(selector))
    }

    /// All services.
    pub(super) fn services() -> Self {
        Self::core("services", Format::Service, None)
    }

    /// All endpoint slices: no server can select them by zone.
    pub(super) fn slices() -> Self {
        Self {
            group: "discovery.k8s.io",
            ..Self::core("endpointslices", Format::EndpointSlice, None)
        }
    }

    fn core(
        plural: &'static str,
        format: Format,
        selector: Option<(&'static str, String)>,
    ) -> Self {
        Self {
            kind: format.kind(),
            format,
            group: "",
            version: "v1",
            plural,
            selector,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// What people call it: `endpointslices.discovery.k8s.io`.
    pub(super) fn name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Path and query of one page of the list.
    pub(super) fn list_uri(&self, page_size: u32, token: Option<&str>) -> String {
        let mut uri = self.uri();
        add(&mut uri, "limit", &page_size.to_string());
        if let Some(token) = token {
            add(&mut uri, "continue", token);
        }
        uri
    }

    /// Path and query of a watch from a version.
    pub(super) fn watch_uri(&self, version: &str, timeout: Duration) -> String {
        let mut uri = self.uri();
        add(&mut uri, "watch", "true");
        add(&mut uri, "allowWatchBookmarks", "true");
        add(&mut uri, "timeoutSeconds", &timeout.as_secs().to_string());
        add(&mut uri, "resourceVersion", version);
        uri
    }

    /// A name of its own for each list, because caches in front of API servers keep answers by User-Agent.
    pub(super) fn user_agent(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match &self.selector {
            Some((_, selector)) => format!("zonal-{}/{version} ({selector})", self.kind),
            None => format!("zonal-{}/{version}", self.kind),
        }
    }

    /// What to tell a person whose credentials do not allow `verb`.
    pub(super) fn rule_to_add(&self, verb: &str) -> String {
        format!(
            "we may not {verb} {}; add to the ClusterRole: apiGroups: [{:?}], resources: [{:?}], \
             verbs: [\"get\", \"list\", \"watch\"]",
            self.name(),
            self.group,
            self.plural,
        )
    }

    /// What to tell a person whose server does not have it.
    pub(super) fn not_served(&self) -> String {
        let version = match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        };
        format!(
            "the API server does not serve {} in {version}; check that it is an API server of Kubernetes 1.21 or newer",
            self.plural
        )
    }

    fn uri(&self) -> String {
        let mut uri = match self.group {
            "" => format!("/api/{}/{}?", self.version, self.plural),
            group => format!("/apis/{group}/{}/{}?", self.version, self.plural),
        };
        if let Some((parameter, selector)) = &self.selector {
            add(&mut uri, parameter, selector);
        }
        uri
    }
}

/// Adds a query parameter, its value percent-encoded (RFC 3986).
fn add(uri: &mut String, parameter: &str, value: &str) {
    if !uri.ends_with('?') {
        uri.push('&');
    }
    uri.push_str(parameter);
    uri.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ZoneKeys;

    #[test]
    fn requests_are_written_as_the_api_has_them() {
        let keys = ZoneKeys::default();
        let nodes = Resource::nodes(keys.iter().next().unwrap(), &Zone::parse("mall-1").unwrap());
        assert_eq!(
            nodes.list_uri(500, None),
            "/api/v1/nodes?labelSelector=topology.kubernetes.io%2Fzone%3Dmall-1&limit=500"
        );
        let own = Resource::own_node(&NodeName::parse("n1").unwrap());
        assert_eq!(
            own.watch_uri("12", Duration::from_secs(45)),
            "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=true&allowWatchBookmarks=true\
             &timeoutSeconds=45&resourceVersion=12"
        );
        assert_eq!(
            Resource::slices().list_uri(10, Some("a+b/c=")),
            "/apis/discovery.k8s.io/v1/endpointslices?limit=10&continue=a%2Bb%2Fc%3D"
        );
    }

    #[test]
    fn every_list_has_its_own_user_agent() {
        let own = Resource::own_node(&NodeName::parse("n1").unwrap());
        let keys = ZoneKeys::default();
        let nodes = Resource::nodes(keys.iter().next().unwrap(), &Zone::parse("z").unwrap());
        let agents = [own, nodes, Resource::services(), Resource::slices()].map(|r| r.user_agent());
        for (position, agent) in agents.iter().enumerate() {
            assert!(!agents[..position].contains(agent), "{agent}");
            assert!(http::HeaderValue::from_str(agent).is_ok(), "{agent}");
        }
    }

    #[test]
    fn a_missing_right_is_told_with_the_rule_to_add() {
        let text = Resource::slices().rule_to_add("watch");
        assert!(
            text.contains("may not watch endpointslices.discovery.k8s.io"),
            "{text}"
        );
        assert!(text.contains(r#"apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]"#));
    }
}
