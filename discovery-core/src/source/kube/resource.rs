// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is listed and watched: path, selector, and how its requests are written. Pure.

use super::scope::Scope;
use crate::{
    model::{NodeName, Zone, ZoneKey},
    source::{SliceApi, object::Format},
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
    namespace: Option<String>,
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

    /// The services of a scope.
    pub(super) fn services(scope: &Scope) -> Self {
        Self::core("services", Format::Service, None).within(scope)
    }

    /// The endpoint slices of a scope: no server can select them by zone.
    pub(super) fn slices(api: SliceApi, scope: &Scope) -> Self {
        let slices = || Self {
            group: "discovery.k8s.io",
            ..Self::core("endpointslices", Format::EndpointSlice, None)
        };
        let resource = match api {
            SliceApi::V1 => slices(),
            SliceApi::V1Beta1 => Self {
                version: "v1beta1",
                ..slices()
            },
            SliceApi::Endpoints => Self::core("endpoints", Format::Endpoints, None),
        };
        resource.within(scope)
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
            namespace: None,
            selector,
        }
    }

    fn within(self, scope: &Scope) -> Self {
        let selector = scope.selector.as_ref();
        Self {
            namespace: scope.namespace.clone(),
            selector: selector.map(|selector| ("labelSelector", selector.to_string())),
            ..self
        }
    }

    /// Objects in a page at most, so that a page has a few MB: a full slice has 27 KB, a node 11 KB.
    pub(super) fn page_size(&self) -> u32 {
        match self.kind {
            Kind::Slices => 100,
            Kind::OwnNode | Kind::Nodes | Kind::Services => 500,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the service that tells the cluster stands in the list, if the server shows it.
    pub(super) fn holds_cluster(&self) -> bool {
        let is_there = self
            .namespace
            .as_deref()
            .is_none_or(|name| name == "default");
        self.kind == Kind::Services && self.selector.is_none() && is_there
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
        let mut agent = format!("zonal-{}/{}", self.kind, env!("CARGO_PKG_VERSION"));
        if self.version != "v1" || self.format == Format::Endpoints {
            let _ = write!(agent, " ({} {})", self.plural, self.version);
        }
        if let Some(namespace) = &self.namespace {
            let _ = write!(agent, " (in {namespace})");
        }
        if let Some((_, selector)) = &self.selector {
            let _ = write!(agent, " ({selector})");
        }
        agent
    }

    /// What to tell a person whose credentials do not allow `verb`.
    pub(super) fn rule_to_add(&self, verb: &str) -> String {
        format!(
            "we may not {verb} {}; add to the ClusterRole: apiGroups: [{:?}], resources: [{:?}], \
             verbs: [\"list\", \"watch\"]",
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
            "the API server does not serve {} in {version}; check its address and its version",
            self.plural
        )
    }

    fn uri(&self) -> String {
        let mut uri = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = &self.namespace {
            let _ = write!(uri, "/namespaces/{namespace}");
        }
        let _ = write!(uri, "/{}?", self.plural);
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
    use crate::{model::ZoneKeys, source::Selector};

    fn slices() -> Resource {
        Resource::slices(SliceApi::V1, &Scope::default())
    }

    fn scope() -> Scope {
        Scope {
            namespace: Some("shop".into()),
            selector: Some(Selector::parse("a in (b,c)").unwrap()),
        }
    }

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
            slices().list_uri(10, Some("a+b/c=")),
            "/apis/discovery.k8s.io/v1/endpointslices?limit=10&continue=a%2Bb%2Fc%3D"
        );
    }

    #[test]
    fn every_api_and_scope_has_its_path() {
        for (resource, expected) in [
            (
                Resource::slices(SliceApi::V1Beta1, &Scope::default()),
                "/apis/discovery.k8s.io/v1beta1/endpointslices?limit=100",
            ),
            (
                Resource::slices(SliceApi::Endpoints, &Scope::default()),
                "/api/v1/endpoints?limit=100",
            ),
            (
                Resource::services(&scope()),
                "/api/v1/namespaces/shop/services?labelSelector=a%20in%20%28b%2Cc%29&limit=500",
            ),
            (
                Resource::slices(SliceApi::V1, &scope()),
                "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices\
                 ?labelSelector=a%20in%20%28b%2Cc%29&limit=100",
            ),
        ] {
            assert_eq!(resource.list_uri(resource.page_size(), None), expected);
        }
    }

    #[test]
    fn every_list_has_its_own_user_agent() {
        let own = Resource::own_node(&NodeName::parse("n1").unwrap());
        let keys = ZoneKeys::default();
        let nodes = Resource::nodes(keys.iter().next().unwrap(), &Zone::parse("z").unwrap());
        let (all, some) = (Scope::default(), scope());
        let slices = |api| Resource::slices(api, &all);
        let resources = [
            own,
            nodes,
            Resource::services(&all),
            Resource::services(&some),
            Resource::slices(SliceApi::V1, &some),
        ];
        let resources = resources.into_iter().chain(SliceApi::ALL.map(slices));
        let agents: Vec<_> = resources.map(|r| r.user_agent()).collect();
        for (position, agent) in agents.iter().enumerate() {
            assert!(!agents[..position].contains(agent), "{agent}");
            assert!(http::HeaderValue::from_str(agent).is_ok(), "{agent}");
        }
    }

    #[test]
    fn a_missing_right_is_told_with_the_rule_to_add() {
        let text = slices().rule_to_add("watch");
        assert!(
            text.contains("may not watch endpointslices.discovery.k8s.io"),
            "{text}"
        );
        assert!(text.contains(r#"apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]"#));
    }
}
