// SPDX-License-Identifier: MIT OR Apache-2.0
//! Service: its ports, and what its labels and annotations ask of us.

use super::{
    Flaw, Flaws, Format, Meta, Raw,
    meta::nullable,
    port::{RawPort, ports, short},
};
use crate::{
    model::{HostPort, ModelError, Service, ServiceName, ServicePort, ZoneKeys, ZonePolicy},
    store::Object,
};
use serde::Deserialize;
use std::num::NonZeroU16;

/// A Service as its JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source) struct RawService {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: RawSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Option<RawPort>>,
}

impl Raw for RawService {
    const FORMAT: Format = Format::Service;
    const LISTS: &'static [&'static str] = &["/spec/ports"];

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn translate(&self, _: &ZoneKeys, flaws: &mut Flaws) -> Result<Vec<Object>, Flaw> {
        Ok(vec![Object::Service(service(self, flaws)?)])
    }
}

fn service(raw: &RawService, flaws: &mut Flaws) -> Result<Service, Flaw> {
    let meta = &raw.metadata;
    let name = ServiceName::new(meta.namespace(), meta.name())
        .map_err(|error| Flaw::new("metadata.name", &error))?;
    let ports = ports(&raw.spec.ports, "spec.ports", flaws)
        .into_iter()
        .map(|port| ServicePort {
            name: port.name,
            protocol: port.protocol,
            port: port.number,
            node_port: port.node_port,
        });
    Ok(Service {
        name,
        ports: ports.collect(),
        zone_policy: annotation(meta, ZONE_POLICY, flaws, zone_policy),
        owns_node_ports: meta.label(SERVICE_PROXY_NAME) == Some(OUR_NAME),
        host_port: annotation(meta, HOST_PORT, flaws, host_port),
    })
}

fn annotation<T>(
    meta: &Meta,
    key: &str,
    flaws: &mut Flaws,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = meta.annotation(key)?;
    flaws.take(format!("metadata.annotations[{key}]"), read(text))
}

fn host_port(text: &str) -> Result<HostPort, String> {
    text.parse::<NonZeroU16>().map(HostPort).map_err(|_| {
        format!(
            "host port {:?} is not a number between 1 and 65535",
            short(text)
        )
    })
}

fn zone_policy(text: &str) -> Result<ZonePolicy, String> {
    text.parse().map_err(|error: ModelError| error.to_string())
}

const ZONE_POLICY: &str = "zonal.dev/zone-policy";
const HOST_PORT: &str = "zonal.dev/host-port";
/// kube-proxy stands aside from Services with this label (KEP-2447).
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const OUR_NAME: &str = "zonal";
