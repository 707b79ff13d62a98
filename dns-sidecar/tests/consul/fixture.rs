// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded catalogue: calls to Consul's HTTP interface, carried out on a [`Catalog`]; and what each variant configures.

use dns_sidecar::{
    Config, PreparedQuery, Profile,
    catalog::{
        Catalog, CatalogInstance, CatalogNode, InstanceAddress, InstanceHealth, InstanceTag,
        LanAddresses,
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

pub(crate) fn fixture() -> Value {
    serde_json::from_str(include_str!("recorded/fixture.json")).unwrap()
}

/// What the calls left behind.
#[derive(Default)]
struct Loader {
    agent: String,
    nodes: BTreeMap<String, CatalogNode>,
    node_checks: BTreeMap<(String, String), String>,
    services: BTreeMap<(String, String), Value>,
    checks: BTreeMap<(String, String, String), String>,
    gateways: BTreeMap<String, Vec<String>>,
    queries: Vec<PreparedQuery>,
}

/// The catalogue after all calls, and its prepared queries.
pub(crate) fn catalog() -> (Catalog, Vec<PreparedQuery>) {
    let own = json!({ "Node": { "Meta": { "consul-network-segment": "" } }, "Services": { "consul": { "Port": 18300 } } });
    catalog_of("agent-1", &own)
}

/// The same of an agent of another name, which says of itself what `/v1/catalog/node/<name>` tells.
pub(crate) fn catalog_of(agent: &str, own: &Value) -> (Catalog, Vec<PreparedQuery>) {
    let mut loader = Loader {
        agent: agent.to_owned(),
        ..Loader::default()
    };
    loader.register(
        &json!({ "Node": agent, "Address": "127.0.0.1", "NodeMeta": own["Node"]["Meta"],
        "Service": { "Service": "consul", "Port": own["Services"]["consul"]["Port"] },
        "Checks": [{ "CheckID": "serfHealth", "Status": "passing" }] }),
    );
    for call in fixture()["calls"].as_array().unwrap() {
        loader.call(call["path"].as_str().unwrap(), &call["body"]);
    }
    loader.finish()
}

impl Loader {
    fn call(&mut self, path: &str, body: &Value) {
        match path {
            "/v1/catalog/register" => self.register(body),
            "/v1/agent/service/register" => {
                let mut service = body.clone();
                service["Service"] = body["Name"].clone();
                let status = body["Check"]["Status"].as_str().unwrap_or("critical");
                self.register(
                    &json!({ "Node": self.agent.clone(), "SkipNodeUpdate": true, "Service": service,
                    "Checks": [{ "CheckID": "ttl", "Status": status, "ServiceID": body["ID"] }] }),
                );
            }
            "/v1/config" => {
                let listeners = body["Listeners"].as_array().unwrap();
                let services = listeners
                    .iter()
                    .flat_map(|listener| listener["Services"].as_array().unwrap());
                let names = services.map(|service| text(&service["Name"])).collect();
                self.gateways.insert(text(&body["Name"]), names);
            }
            "/v1/query" => self.query(body),
            other => panic!("{other}"),
        }
    }

    fn query(&mut self, body: &Value) {
        let name = body["Name"].as_str().unwrap();
        let mut query = match body.get("Template") {
            Some(_) => PreparedQuery::prefix(name),
            None => PreparedQuery::new(name, body["Service"]["Service"].as_str().unwrap()),
        };
        if body["Service"]["OnlyPassing"] == true {
            query = query.only_passing();
        }
        if let Some(ttl) = body["DNS"]["TTL"].as_str() {
            query = query.ttl_seconds(ttl.strip_suffix('s').unwrap().parse().unwrap());
        }
        self.queries.push(query);
    }

    fn register(&mut self, body: &Value) {
        let name = text(&body["Node"]);
        if body["SkipNodeUpdate"] != true || !self.nodes.contains_key(&name) {
            self.nodes.insert(name.clone(), node(&name, body));
        }
        if let Some(service) = body.get("Service") {
            let id = service["ID"]
                .as_str()
                .unwrap_or(service["Service"].as_str().unwrap());
            self.services
                .insert((name.clone(), id.to_owned()), service.clone());
        }
        for check in body["Checks"].as_array().into_iter().flatten() {
            let (id, status) = (text(&check["CheckID"]), text(&check["Status"]));
            match check["ServiceID"].as_str() {
                Some(service) => drop(
                    self.checks
                        .insert((name.clone(), service.to_owned(), id), status),
                ),
                None => drop(self.node_checks.insert((name.clone(), id), status)),
            }
        }
    }

    fn finish(self) -> (Catalog, Vec<PreparedQuery>) {
        let mut catalog = Catalog {
            datacenter: "dc1".to_owned(),
            ..Catalog::default()
        };
        let nodes: BTreeMap<_, _> = self
            .nodes
            .iter()
            .map(|(name, node)| (name, Arc::new(node.clone())))
            .collect();
        for ((node_name, id), service) in &self.services {
            let node = &nodes[node_name];
            let on_node = self
                .node_checks
                .iter()
                .filter(|((node, _), _)| node == node_name)
                .map(|(_, status)| status);
            let own = self
                .checks
                .iter()
                .filter(|((node, service, _), _)| node == node_name && service == id);
            let health = worst(on_node.chain(own.map(|(_, status)| status)));
            let instance = CatalogInstance {
                id: Some(id.clone()),
                ..instance(node, service, health)
            };
            let name = text(&service["Service"]);
            match service["Kind"].as_str() {
                Some("connect-proxy") => {
                    let target = text(&service["Proxy"]["DestinationServiceName"]);
                    catalog
                        .connect
                        .entry(target)
                        .or_default()
                        .instances
                        .push(instance.clone());
                }
                Some("ingress-gateway") => {
                    for target in self.gateways.get(&name).into_iter().flatten() {
                        catalog
                            .ingress
                            .entry(target.clone())
                            .or_default()
                            .instances
                            .push(instance.clone());
                    }
                }
                _ => {}
            }
            if name == "consul" {
                catalog.servers.push(node.clone());
            }
            catalog
                .services
                .entry(name)
                .or_default()
                .instances
                .push(instance);
        }
        catalog.nodes = nodes.into_values().collect();
        (catalog, self.queries)
    }
}

fn worst<'s>(statuses: impl Iterator<Item = &'s String>) -> InstanceHealth {
    let statuses: Vec<&str> = statuses.map(String::as_str).collect();
    if statuses.contains(&"critical") {
        InstanceHealth::Critical
    } else if statuses.contains(&"warning") {
        InstanceHealth::Warning
    } else {
        InstanceHealth::Passing
    }
}

fn node(name: &str, body: &Value) -> CatalogNode {
    let address = text(&body["Address"]);
    let meta = body["NodeMeta"].as_object().into_iter().flatten();
    let mut node = CatalogNode {
        name: name.to_owned(),
        meta: meta
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        ..CatalogNode::default()
    };
    match address.parse() {
        Ok(ip) => node.addresses.push(ip),
        Err(_) => node.host = Some(address),
    }
    let tagged = &body["TaggedAddresses"];
    node.lan = LanAddresses {
        v4: tagged["lan_ipv4"].as_str().map(|ip| ip.parse().unwrap()),
        v6: tagged["lan_ipv6"].as_str().map(|ip| ip.parse().unwrap()),
    };
    node
}

fn instance(node: &Arc<CatalogNode>, service: &Value, health: InstanceHealth) -> CatalogInstance {
    let number = |value: &Value| u16::try_from(value.as_u64().unwrap_or(1)).unwrap();
    let address = service["Address"]
        .as_str()
        .filter(|address| !address.is_empty());
    let tagged = &service["TaggedAddresses"];
    let lan = |key: &str| {
        tagged[key]["Address"]
            .as_str()
            .map(|ip| ip.parse().unwrap())
    };
    let tags = service["Tags"].as_array().into_iter().flatten();
    CatalogInstance {
        address: address.map(|address| match address.parse() {
            Ok(ip) => InstanceAddress::Ip(ip),
            Err(_) => InstanceAddress::Name(address.to_owned()),
        }),
        lan: LanAddresses {
            v4: lan("lan_ipv4"),
            v6: lan("lan_ipv6"),
        },
        tags: tags
            .map(|tag| InstanceTag {
                name: text(tag),
                port: None,
            })
            .collect(),
        weights: (
            number(&service["Weights"]["Passing"]),
            number(&service["Weights"]["Warning"]),
        ),
        health,
        meta: service["Meta"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        ..CatalogInstance::new(
            node.clone(),
            u16::try_from(service["Port"].as_u64().unwrap_or(0)).unwrap(),
        )
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The configuration of a variant, on any free port; `upstream` stands for the recorded one.
pub(crate) fn config(variant: &str, profile: Profile, upstream: SocketAddr) -> Config {
    let change = &fixture()["variants"][variant];
    let mut block = json!({});
    if profile == Profile::Modern {
        // Its own defaults differ from what was recorded.
        block = json!({ "soa": { "min_ttl": 0 }, "enable_truncate": false });
    }
    for (key, value) in change["dns_config"].as_object().into_iter().flatten() {
        block[key] = value.clone();
    }
    let (_, queries) = catalog();
    let mut config = Config::default()
        .profile(profile)
        .listen(vec!["127.0.0.1:0".parse().unwrap()])
        .and_then(|config| config.consul_block(&block.to_string()))
        .unwrap()
        .queries(queries);
    if let Some(domain) = change["alt_domain"].as_str() {
        config = config.alt_domain(domain).unwrap();
    }
    if change["recursors"].is_array() {
        config = config.recursors(&[upstream.to_string()]).unwrap();
    }
    if change["acl"]["default_policy"] == "deny" {
        config = config.deny_all();
    }
    config
}
