// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a request to Consul's interface asks for.
//!
//! In: method, path and query. Out: the endpoint and what narrows it, or the error that Consul would give. A parameter that
//! would change the answer and is not known here is refused, never ignored. Pure.

use super::filter::{
    CHECK, Fields, Filter, FilterError, HEALTH_ENTRY, NODE, SERVICE, SERVICE_ENTRY,
};
use crate::config::read_span;
use discovery_core::telemetry::ConsulApiEndpoint;
use http::{Method, StatusCode};
use std::{error::Error, time::Duration};

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    /// Every service with its tags.
    Services,
    /// The instances of a service, flat.
    Service(String),
    /// Every node.
    Nodes,
    /// A node with its services, by their ids or in a list.
    Node { name: String, is_list: bool },
    /// The datacenters: our zone.
    Datacenters,
    /// The instances of a service with their checks.
    HealthService(String),
    /// The checks of a service.
    HealthChecks(String),
    /// The checks in a state, or in any.
    HealthState(String),
    /// The checks of a node.
    HealthNode(String),
    /// Who answers.
    Agent,
    /// The services of our own node.
    AgentServices,
    /// Who leads.
    Leader,
    /// Who may lead.
    Peers,
}

/// A request that can be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) endpoint: Endpoint,
    /// Answered once the index is higher.
    pub(super) index: Option<u64>,
    pub(super) wait: Duration,
    pub(super) datacenter: Option<String>,
    /// All of which an instance must have.
    pub(super) tags: Vec<String>,
    pub(super) only_passing: bool,
    /// The node whose instances come first; `_agent` is our own.
    pub(super) near: Option<String>,
    pub(super) node_meta: Vec<(String, String)>,
    /// Of what would be told, what is.
    pub(super) filter: Option<Filter>,
    /// Whether the client would take an answer from the agent's cache.
    pub(super) is_cached: bool,
}

/// Why a request is not answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl Endpoint {
    fn read(path: &str) -> Result<Self, Refusal> {
        let unknown = || {
            let text = "Invalid URL path: not a recognized HTTP API endpoint\n";
            Refusal::new(StatusCode::NOT_FOUND, text)
        };
        let path = path.strip_prefix("/v1/").ok_or_else(unknown)?;
        let named = |what: &str, name: &str| match decode(name) {
            Some(name) if !name.is_empty() => Ok(name),
            Some(_) => Err(Refusal::bad(format!("Missing {what} name"))),
            None => Err(Refusal::bad(format!("Invalid {what} name"))),
        };
        let (service, node) = (|name| named("service", name), |name| named("node", name));
        match path {
            "catalog/services" => return Ok(Self::Services),
            "catalog/nodes" => return Ok(Self::Nodes),
            "catalog/datacenters" => return Ok(Self::Datacenters),
            "agent/self" => return Ok(Self::Agent),
            "agent/services" => return Ok(Self::AgentServices),
            "status/leader" => return Ok(Self::Leader),
            "status/peers" => return Ok(Self::Peers),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("catalog/service/") {
            service(name).map(Self::Service)
        } else if let Some(name) = path.strip_prefix("health/service/") {
            service(name).map(Self::HealthService)
        } else if let Some(name) = path.strip_prefix("health/checks/") {
            service(name).map(Self::HealthChecks)
        } else if let Some(name) = path.strip_prefix("health/node/") {
            node(name).map(Self::HealthNode)
        } else if let Some(name) = path.strip_prefix("catalog/node/") {
            let is_list = false;
            node(name).map(|name| Self::Node { name, is_list })
        } else if let Some(name) = path.strip_prefix("catalog/node-services/") {
            let is_list = true;
            node(name).map(|name| Self::Node { name, is_list })
        } else if let Some(state) = path.strip_prefix("health/state/") {
            match state {
                "" => Err(Refusal::bad("Missing check state")),
                state => Ok(Self::HealthState(state.to_owned())),
            }
        } else {
            Err(unknown())
        }
    }

    /// How it is counted.
    pub(super) fn label(&self) -> ConsulApiEndpoint {
        match self {
            Self::Services => ConsulApiEndpoint::Services,
            Self::Service(_) => ConsulApiEndpoint::Service,
            Self::Nodes | Self::Node { .. } => ConsulApiEndpoint::Nodes,
            Self::HealthService(_) => ConsulApiEndpoint::HealthService,
            Self::HealthChecks(_) | Self::HealthState(_) | Self::HealthNode(_) => {
                ConsulApiEndpoint::HealthState
            }
            Self::Datacenters | Self::Agent | Self::AgentServices | Self::Leader | Self::Peers => {
                ConsulApiEndpoint::Agent
            }
        }
    }

    /// What an expression is about; none where there is nothing to choose from.
    fn fields(&self) -> Option<Fields> {
        match self {
            Self::Services | Self::Service(_) => Some(SERVICE_ENTRY),
            Self::Nodes => Some(NODE),
            Self::Node { .. } | Self::AgentServices => Some(SERVICE),
            Self::HealthService(_) => Some(HEALTH_ENTRY),
            Self::HealthChecks(_) | Self::HealthState(_) | Self::HealthNode(_) => Some(CHECK),
            Self::Datacenters | Self::Agent | Self::Leader | Self::Peers => None,
        }
    }
}

impl Asked {
    /// Reads a request; the endpoint for the count, and what to do.
    pub(super) fn read(
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> (ConsulApiEndpoint, Result<Self, Refusal>) {
        let endpoint = match Endpoint::read(path) {
            Ok(endpoint) => endpoint,
            // Writing is what no path here does.
            Err(_) if method != Method::GET => {
                return (ConsulApiEndpoint::Other, Err(read_only(method)));
            }
            Err(refusal) => return (ConsulApiEndpoint::Other, Err(refusal)),
        };
        let label = endpoint.label();
        if method != Method::GET {
            return (label, Err(read_only(method)));
        }
        (label, Self::narrowed(endpoint, query.unwrap_or_default()))
    }

    fn narrowed(endpoint: Endpoint, query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            endpoint,
            index: None,
            wait: WAIT,
            datacenter: None,
            tags: Vec::new(),
            only_passing: false,
            near: None,
            node_meta: Vec::new(),
            filter: None,
            is_cached: false,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name).zip(decode(value));
            let (name, value) =
                decoded.ok_or_else(|| Refusal::bad("The query is not UTF-8 in URL encoding"))?;
            asked.take(&name, value)?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        match name {
            "index" if !value.is_empty() => {
                let index = value.parse().map_err(|_| Refusal::bad("Invalid index"))?;
                self.index = Some(index).filter(|index| *index > 0);
            }
            "wait" if !value.is_empty() => {
                let wait = read_span(&value).ok_or_else(|| Refusal::bad("Invalid wait time"))?;
                // No time at all means the default.
                self.wait = if wait.is_zero() {
                    WAIT
                } else {
                    wait.min(WAIT_MAX)
                };
            }
            "dc" => self.datacenter = Some(value).filter(|label| !label.is_empty()),
            "tag" => self.tags.push(value),
            "passing" => {
                let passing = value
                    .is_empty()
                    .then_some(true)
                    .or_else(|| read_bool(&value));
                self.only_passing =
                    passing.ok_or_else(|| Refusal::bad("Invalid value for ?passing"))?;
            }
            "near" => self.near = Some(value).filter(|node| !node.is_empty()),
            "node-meta" => {
                let (key, value) = value.split_once(':').unwrap_or((&value, ""));
                self.node_meta.push((key.to_owned(), value.to_owned()));
            }
            "cached" => self.is_cached = true,
            "ns" | "partition" if value == "default" => {}
            "filter" if !value.is_empty() => match self.endpoint.fields() {
                Some(fields) => self.filter = Some(Filter::read(&value, fields)?),
                None => return Err(unsupported(name)),
            },
            "peer" | "sg" | "partition" | "ns" if !value.is_empty() => {
                return Err(unsupported(name));
            }
            // How Consul asks its servers, who asks, and how it looks: nothing that changes what is told.
            _ => {}
        }
        Ok(())
    }
}

fn unsupported(parameter: &str) -> Refusal {
    Refusal::bad(format!(
        "The query parameter {parameter:?} is not supported"
    ))
}

impl From<FilterError> for Refusal {
    /// In Consul's words; its status is 500, though nothing helps but another expression.
    fn from(error: FilterError) -> Self {
        // Of a pattern that is none the last line tells the reason, the others show the place.
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        let reason = source.lines().last().map(|reason| format!(": {reason}"));
        let reason = reason.unwrap_or_default();
        Self::bad(format!(
            "Failed to create boolean expression evaluator: {error}{reason}"
        ))
    }
}

fn read_only(method: &Method) -> Refusal {
    let text = format!("method {method} not allowed: this interface is read-only");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// As Go reads it.
pub(super) fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decodes `%xx` and `+`; none when the bytes are no UTF-8 or an escape is cut.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'%', high, low, tail @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let byte = digit(high)? * 16 + digit(low)?;
                bytes.push(u8::try_from(byte).ok()?);
                tail
            }
            [b'%', ..] => return None,
            [b'+', tail @ ..] => {
                bytes.push(b' ');
                tail
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        };
    }
}

/// Consul's default and its longest.
const WAIT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, query: &str) -> Result<Asked, Refusal> {
        Asked::read(&Method::GET, path, Some(query)).1
    }

    #[test]
    fn a_question_of_every_client_is_read() {
        let query = "dc=mall-1&index=18&passing=1&stale=&wait=60000ms&tag=a%2Fb&tag=c+d&near=_agent&node-meta=site%3Anorth";
        let asked = read("/v1/health/service/web%2Fx", query).unwrap();
        assert_eq!(asked.endpoint, Endpoint::HealthService("web/x".to_owned()));
        assert_eq!(
            (asked.index, asked.wait),
            (Some(18), Duration::from_secs(60))
        );
        assert!(asked.only_passing && !asked.is_cached);
        assert_eq!(asked.tags, ["a/b", "c d"]);
        assert_eq!(asked.node_meta, [("site".to_owned(), "north".to_owned())]);
        assert_eq!(asked.near.as_deref(), Some("_agent"));
        let asked = read("/v1/catalog/services", "index=0&wait=24h&passing=false").unwrap();
        assert_eq!((asked.index, asked.wait), (None, WAIT_MAX));
        assert!(!asked.only_passing);
    }

    #[test]
    fn what_cannot_be_answered_is_refused_as_consul_refuses_it() {
        for (path, query, status, text) in [
            ("/v1/health/service/web", "index=abc", 400, "Invalid index"),
            (
                "/v1/health/service/web",
                "wait=60",
                400,
                "Invalid wait time",
            ),
            (
                "/v1/health/service/web",
                "passing=maybe",
                400,
                "Invalid value for ?passing",
            ),
            ("/v1/health/service/", "", 400, "Missing service name"),
            (
                "/v1/health/service/web",
                "filter=a==b",
                400,
                "Failed to create boolean expression evaluator: Selector \"a\" is not valid",
            ),
            (
                "/v1/catalog/service/web",
                "filter=ServiceName+matches+%22(%22",
                400,
                "Failed to compile regular expression \"(\": error: unclosed group",
            ),
            ("/v1/agent/self", "filter=a==b", 400, "not supported"),
            ("/v1/catalog/node/", "", 400, "Missing node name"),
            ("/v1/health/node/", "", 400, "Missing node name"),
            ("/v1/health/service/web", "tag=%zz", 400, "URL encoding"),
            ("/v1/kv/x", "", 404, "not a recognized HTTP API endpoint"),
            ("/v2/catalog/services", "", 404, "not a recognized"),
        ] {
            let refusal = read(path, query).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{path}?{query}");
            assert!(
                refusal.text.contains(text),
                "{path}?{query}: {}",
                refusal.text
            );
        }
    }

    #[test]
    fn nothing_is_written() {
        for (method, path) in [
            (Method::PUT, "/v1/agent/service/register"),
            (Method::PUT, "/v1/catalog/register"),
            (Method::POST, "/v1/catalog/services"),
            (Method::DELETE, "/v1/kv/x"),
            (Method::HEAD, "/v1/catalog/services"),
        ] {
            let refusal = Asked::read(&method, path, None).1.unwrap_err();
            assert_eq!(
                refusal.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
        }
    }
}
