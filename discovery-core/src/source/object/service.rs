// SPDX-License-Identifier: MIT OR Apache-2.0
//! Service: its ports, and what its labels and annotations ask of us.

use super::{
    Flaw, Flaws, Format, Meta, Names, Raw,
    balancing::balancing,
    meta::{nullable, object},
    port::{RawPort, ports, short},
    registration::registration,
    text::Text,
};
use crate::{
    model::{
        Affinity, Front, HashOn, HostPort, ModelError, ProxyProtocol, Scope, Service, ServiceKind,
        ServiceName, ServicePort, TopologyMode, TrafficDistribution, TrafficPolicy, ZoneKeys,
        ZonePolicy,
    },
    store::Object,
};
use serde::Deserialize;
use serde_json::Value;
use std::{num::NonZeroU16, str::FromStr};

/// A Service as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source) struct RawService<'a> {
    #[serde(borrow, deserialize_with = "object")]
    metadata: Meta<'a>,
    #[serde(borrow, deserialize_with = "object")]
    spec: RawSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<Option<RawPort<'a>>>,
    r#type: Option<Text<'a>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Text<'a>>,
    external_name: Option<Text<'a>>,
    selector: Option<Value>,
    publish_not_ready_addresses: Option<bool>,
    traffic_distribution: Option<Text<'a>>,
    external_traffic_policy: Option<Text<'a>>,
    session_affinity: Option<Text<'a>>,
    health_check_node_port: Option<u16>,
}

impl Raw for RawService<'_> {
    type Of<'a> = RawService<'a>;

    const FORMAT: Format = Format::Service;
    const LISTS: &'static [&'static str] = &["/spec/ports"];

    fn meta(&self) -> &Meta<'_> {
        &self.metadata
    }

    fn translate(
        &self,
        _: &ZoneKeys,
        _: &mut Names,
        flaws: &mut Flaws,
    ) -> Result<Vec<Object>, Flaw> {
        Ok(vec![Object::Service(service(self, flaws)?)])
    }
}

fn service(raw: &RawService<'_>, flaws: &mut Flaws) -> Result<Service, Flaw> {
    let meta = &raw.metadata;
    let name = ServiceName::new(meta.namespace(), meta.name())
        .map_err(|error| Flaw::new("metadata.name", &error))?;
    let ports = ports(&raw.spec.ports, &"spec.ports", flaws)
        .into_iter()
        .map(|port| ServicePort {
            name: port.name,
            protocol: port.protocol,
            port: port.number,
            node_port: port.node_port,
        });
    let balancing = balancing(meta, flaws);
    Ok(Service {
        name,
        ports: ports.collect(),
        zone_policy: annotation(meta, ZONE_POLICY, flaws, zone_policy),
        scope: scope(meta, flaws),
        traffic_distribution: traffic_distribution(&raw.spec, flaws),
        topology_mode: topology_mode(meta),
        kind: kind(&raw.spec, flaws),
        has_selector: matches!(&raw.spec.selector, Some(Value::Object(labels)) if !labels.is_empty()),
        publish_not_ready: raw.spec.publish_not_ready_addresses.unwrap_or(false),
        owns_node_ports: meta.label(SERVICE_PROXY_NAME) == Some(OUR_NAME),
        host_port: annotation(meta, HOST_PORT, flaws, host_port),
        front: front(raw, balancing.hash_on, flaws),
        balancing,
        registration: registration(meta, flaws),
        created: meta.created().map(Into::into),
        version: meta.version_number(),
    })
}

fn front(raw: &RawService<'_>, hash_on: Option<HashOn>, flaws: &mut Flaws) -> Front {
    let (meta, spec) = (&raw.metadata, &raw.spec);
    let affinity = match hash_on {
        None | Some(HashOn::SourceIp) => Affinity::Source,
        Some(HashOn::SourceIpPort) => Affinity::SourcePort,
        Some(HashOn::Key | HashOn::None) => Affinity::None,
    };
    let is_sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    Front {
        traffic_policy: if is_local {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        },
        health_port: spec.health_check_node_port.and_then(NonZeroU16::new),
        is_deleting: meta.is_deleting(),
        affinity: if is_sticky {
            Affinity::Source
        } else {
            affinity
        },
        proxy_protocol: annotation(meta, PROXY_PROTOCOL, flaws, proxy_protocol),
        idle_seconds: annotation(meta, IDLE_SECONDS, flaws, |text| {
            number(text, "a number of seconds")
        }),
        udp_replies: annotation(meta, UDP_REPLIES, flaws, |text| {
            number(text, "a number of replies")
        }),
    }
}

pub(super) fn annotation<T>(
    meta: &Meta<'_>,
    key: &str,
    flaws: &mut Flaws,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = meta.annotation(key)?;
    flaws.take(&format_args!("metadata.annotations[{key}]"), read(text))
}

/// What is near for the service: the first of our annotation, SuperEdge's grid label and annotation, OpenYurt's annotation
/// that says anything.
///
/// One that cannot be read still asks for a boundary, which we do not know: nothing is near then.
fn scope(meta: &Meta<'_>, flaws: &mut Flaws) -> Option<Scope> {
    type Read = fn(&str) -> Result<Option<Scope>, String>;
    let places: [(&str, &str, Option<&str>, Read); 4] = [
        ("annotations", ZONE_KEY, meta.annotation(ZONE_KEY), one_key),
        ("labels", GRID_KEY, meta.label(GRID_KEY), one_key),
        (
            "annotations",
            GRID_KEYS,
            meta.annotation(GRID_KEYS),
            key_list,
        ),
        (
            "annotations",
            POOL_KEYS,
            meta.annotation(POOL_KEYS),
            pool_key,
        ),
    ];
    places.into_iter().find_map(|(kind, key, text, read)| {
        read(text?).unwrap_or_else(|reason| {
            flaws.add(Flaw::new(&format_args!("metadata.{kind}[{key}]"), &reason));
            Some(Scope::nothing())
        })
    })
}

fn one_key(text: &str) -> Result<Option<Scope>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    parse_scope([text]).map(Some)
}

/// SuperEdge's list: to share one of the labels is enough, and an empty list asks for nothing.
fn key_list(text: &str) -> Result<Option<Scope>, String> {
    let keys: Vec<&str> = serde_json::from_str(text)
        .map_err(|_| format!("{:?} is no JSON list of label keys", short(text)))?;
    if keys.is_empty() {
        return Ok(None);
    }
    parse_scope(keys).map(Some)
}

/// OpenYurt's annotation: this node, or the pool of nodes, which has two names.
fn pool_key(text: &str) -> Result<Option<Scope>, String> {
    match text {
        "" => Ok(None),
        "kubernetes.io/hostname" => parse_scope([text]).map(Some),
        "openyurt.io/nodepool" | "kubernetes.io/zone" => parse_scope([POOL_LABEL]).map(Some),
        other => Err(format!(
            "{:?} is none of kubernetes.io/hostname, openyurt.io/nodepool, kubernetes.io/zone",
            short(other)
        )),
    }
}

fn parse_scope<'k>(keys: impl IntoIterator<Item = &'k str>) -> Result<Scope, String> {
    Scope::parse(keys).map_err(|error| error.to_string())
}

fn traffic_distribution(spec: &RawSpec<'_>, flaws: &mut Flaws) -> Option<TrafficDistribution> {
    match spec.traffic_distribution.as_deref()? {
        "" => None,
        "PreferSameZone" | "PreferClose" => Some(TrafficDistribution::SameZone),
        "PreferSameNode" => Some(TrafficDistribution::SameNode),
        other => {
            let reason = format!(
                "{:?} is none of PreferSameZone, PreferSameNode, PreferClose",
                short(other)
            );
            flaws.add(Flaw::new("spec.trafficDistribution", &reason));
            None
        }
    }
}

/// Values that we do not know are other implementations' own (KEP-2433).
fn topology_mode(meta: &Meta<'_>) -> Option<TopologyMode> {
    match meta.annotation(TOPOLOGY_MODE)? {
        "Auto" | "auto" => Some(TopologyMode::Auto),
        "Disabled" | "disabled" => Some(TopologyMode::Disabled),
        _ => None,
    }
}

fn kind(spec: &RawSpec<'_>, flaws: &mut Flaws) -> ServiceKind {
    if spec.r#type.as_deref() != Some("ExternalName") {
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        return if is_headless {
            ServiceKind::Headless
        } else {
            ServiceKind::Cluster
        };
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    let is_domain = matches!(name.len(), 1..=253)
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if is_domain {
        return ServiceKind::ExternalName(name.into());
    }
    let reason = format!("{:?} is no domain", short(name));
    flaws.add(Flaw::new("spec.externalName", &reason));
    ServiceKind::default()
}

fn host_port(text: &str) -> Result<HostPort, String> {
    text.parse::<NonZeroU16>().map(HostPort).map_err(|_| {
        format!(
            "host port {:?} is not a number between 1 and 65535",
            short(text)
        )
    })
}

fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        other => Err(format!("{:?} is none of v1, v2", short(other))),
    }
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{:?} is not {what}", short(text)))
}

fn zone_policy(text: &str) -> Result<ZonePolicy, String> {
    text.parse().map_err(|error: ModelError| error.to_string())
}

const ZONE_POLICY: &str = "zonal.dev/zone-policy";
const ZONE_KEY: &str = "zonal.dev/zone-key";
/// SuperEdge puts the key of a grid on the grid's Service, and from there on its slices.
const GRID_KEY: &str = "superedge.io/grid-uniq-key";
const GRID_KEYS: &str = "topologyKeys";
const POOL_KEYS: &str = "openyurt.io/topologyKeys";
/// What OpenYurt puts on the nodes of a pool.
const POOL_LABEL: &str = "apps.openyurt.io/nodepool";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const HOST_PORT: &str = "zonal.dev/host-port";
const PROXY_PROTOCOL: &str = "zonal.dev/proxy-protocol";
const IDLE_SECONDS: &str = "zonal.dev/proxy-idle-seconds";
const UDP_REPLIES: &str = "zonal.dev/proxy-udp-replies";
/// kube-proxy stands aside from Services with this label (KEP-2447).
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const OUR_NAME: &str = "zonal";
