// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's configuration: file → raw → checked, flags and environment before the file.

use crate::{
    cli::{AgentArgs, SourceArgs},
    failure::{Code, Failure},
    sources::{self, RawSource, Sources},
};
use discovery_core::{
    config::{self, ConfigError},
    model::{AddressRules, CidrMap, ModelError, NodeName, Unlocated, Zone, ZoneKeys, ZonePolicy},
    runtime::{AgentSocketConfig, RuntimeConfig, SourceConfig},
    source::{ConsulAddressError, ConsulAgent, KubeConfig, PeerUids, Token},
    store::{HoldRule, MergeRules},
};
use lb_proxy::Registration;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The configuration file as it stands: every key optional, an unknown key an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    node_name: Option<String>,
    zone: RawZone,
    source: RawSource,
    dns: RawDns,
    proxy: RawProxy,
    admin: RawListener,
    metrics: RawListener,
    snapshot: RawSnapshot,
    agent: RawAgent,
    allow_loopback_endpoints: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawZone {
    name: Option<String>,
    keys: Vec<String>,
    policy: Option<String>,
    hold_seconds: Option<u64>,
    pod: Option<String>,
    unlocated: Option<String>,
    networks: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDns {
    enabled: Option<bool>,
    listen: Vec<SocketAddr>,
    domain: Option<String>,
    ttl_seconds: Option<u32>,
    profile: Option<dns_sidecar::Profile>,
    alt_domain: Option<String>,
    dns_config: Option<dns_sidecar::DnsConfig>,
    recursors: Vec<String>,
    datacenter_aliases: Vec<String>,
    zone_labels: BTreeMap<String, String>,
    node_meta_labels: BTreeMap<String, String>,
    plain_namespaces: Option<Vec<String>>,
    queries: Vec<dns_sidecar::PreparedQuery>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProxy {
    enabled: Option<bool>,
    drain_seconds: Option<u64>,
    register: RawRegister,
}

/// At which Consul agent this host is registered for what it fronts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRegister {
    consul: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    address: Option<IpAddr>,
    tags: Vec<String>,
    weight: Option<u32>,
    ttl_seconds: Option<u64>,
    leave_wait_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawListener {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAgent {
    socket: Option<PathBuf>,
    mode: Option<String>,
    uids: Vec<u32>,
    any_uid: bool,
    clients_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSnapshot {
    folder: Option<PathBuf>,
}

/// The checked configuration of an agent.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    pub(crate) runtime: RuntimeConfig,
    pub(crate) dns: Option<DnsConfig>,
    pub(crate) proxy: Option<ProxyConfig>,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_write: bool,
    pub(crate) metrics_listen: SocketAddr,
    pub(crate) socket: Option<AgentSocketConfig>,
}

/// The DNS face.
#[derive(Debug)]
pub(crate) struct DnsConfig {
    pub(crate) listen: Vec<SocketAddr>,
    names: RawDns,
}

/// The proxy face.
#[derive(Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) node: NodeName,
    pub(crate) drain: Duration,
    pub(crate) registration: Option<Registration>,
}

impl DnsConfig {
    /// The configuration of the responder.
    pub(crate) fn face(&self) -> Result<dns_sidecar::Config, Failure> {
        let config = dns_sidecar::Config::default()
            .listen(self.listen.clone())
            .and_then(|config| self.names.apply(config));
        config.map_err(|error| Failure::caused(Code::ConfigInvalid, &error))
    }
}

impl RawDns {
    /// Everything about names; a Consul's `dns_config` comes after the plain TTL and wins.
    fn apply(
        &self,
        mut config: dns_sidecar::Config,
    ) -> Result<dns_sidecar::Config, dns_sidecar::ConfigError> {
        if let Some(seconds) = self.ttl_seconds {
            config = config.ttl(Duration::from_secs(seconds.into()))?;
        }
        if let Some(domain) = &self.domain {
            config = config.domain(domain)?;
        }
        if let Some(domain) = &self.alt_domain {
            config = config.alt_domain(domain)?;
        }
        if let Some(block) = &self.dns_config {
            config = config.dns_config(block.clone())?;
        }
        if let Some(namespaces) = &self.plain_namespaces {
            config = config.plain_namespaces(namespaces.clone());
        }
        let aliases: Vec<_> = self.datacenter_aliases.iter().map(String::as_str).collect();
        let labels: Vec<_> = self
            .node_meta_labels
            .iter()
            .map(|(label, key)| (&**label, &**key))
            .collect();
        config
            .profile(self.profile.unwrap_or_default())
            .datacenter_aliases(&aliases)
            .zone_labels(self.zone_labels.clone())
            .node_meta_labels(&labels)
            .queries(self.queries.clone())
            .recursors(&self.recursors)
    }
}

impl ProxyConfig {
    /// The configuration of the proxy.
    pub(crate) fn face(&self) -> lb_proxy::Config {
        let config = lb_proxy::Config::default()
            .node(self.node.clone())
            .self_proof(true)
            .drain_timeout(self.drain);
        match &self.registration {
            Some(registration) => config.register(registration.clone()),
            None => config,
        }
    }
}

impl AgentConfig {
    /// Reads the file, if one is named, and lays flags and environment over it.
    pub(crate) fn load(args: &AgentArgs) -> Result<Self, Failure> {
        Self::check(args, RawConfig::load(&args.source)?)
    }

    fn check(args: &AgentArgs, raw: RawConfig) -> Result<Self, Failure> {
        let admin_listen = args
            .admin_listen
            .or(raw.admin.listen)
            .unwrap_or(ADMIN_LISTEN);
        let metrics_listen = args
            .metrics_listen
            .or(raw.metrics.listen)
            .unwrap_or(METRICS_LISTEN);
        let dns = dns(args, raw.dns);
        let mut own: Vec<_> = dns
            .iter()
            .flat_map(|dns| dns.listen.iter().copied())
            .collect();
        own.extend([admin_listen, metrics_listen]);
        let holds = holds(&raw.zone, &raw.source);
        let view = ViewConfig::check(&args.source, raw.node_name, raw.zone)?;
        let allows_loopback = args.source.allow_loopback_endpoints || raw.allow_loopback_endpoints;
        let sources = Sources::check(args, raw.source)?;
        let node = view.node.clone();
        let runtime = view
            .runtime(sources, AddressRules::new(allows_loopback, own))
            .state(|state| state.holds(holds))
            .snapshot_folder(args.snapshot_folder.clone().or(raw.snapshot.folder));
        let is_proxy = !args.no_proxy && raw.proxy.enabled.unwrap_or(true);
        let proxy = is_proxy.then(|| proxy(node, raw.proxy)).transpose()?;
        Ok(Self {
            runtime,
            dns,
            proxy,
            admin_listen,
            admin_write: args.admin_write,
            metrics_listen,
            socket: socket(args, raw.agent)?,
        })
    }
}

impl RawConfig {
    fn load(args: &SourceArgs) -> Result<Self, Failure> {
        match &args.config {
            Some(path) => config::read(path).map_err(|error| file_failure(&error)),
            None => Ok(Self::default()),
        }
    }
}

/// What an agent with these flags and this file would watch of Kubernetes, and how it would look at it.
#[derive(Debug)]
pub(crate) struct DirectConfig {
    /// For questions of one's own.
    pub(crate) kube: KubeConfig,
    pub(crate) runtime: RuntimeConfig,
}

impl DirectConfig {
    /// Reads the file, if one is named, and lays flags and environment over it.
    pub(crate) fn load(args: &SourceArgs) -> Result<Self, Failure> {
        let raw = RawConfig::load(args)?;
        let view = ViewConfig::check(args, raw.node_name, raw.zone)?;
        let (kubeconfig, selection) = sources::kubernetes(args, &raw.source)?;
        let kube = KubeConfig::new(view.node.clone(), view.keys.clone())
            .kubeconfig(kubeconfig.clone())
            .select(selection.clone());
        let sources = Sources {
            first: SourceConfig::Kube {
                kubeconfig,
                selection,
            },
            others: Vec::new(),
            merge: MergeRules::default(),
        };
        // Loopback endpoints are the agent's business: here nothing is served.
        let rules = AddressRules::new(true, []);
        Ok(Self {
            kube,
            runtime: view.runtime(sources, rules),
        })
    }
}

/// Whose view it is, and everything that decides what is near.
struct ViewConfig {
    node: NodeName,
    name: Option<Zone>,
    pod: Option<Zone>,
    keys: ZoneKeys,
    policy: ZonePolicy,
    unlocated: Unlocated,
}

impl ViewConfig {
    fn check(args: &SourceArgs, node: Option<String>, raw: RawZone) -> Result<Self, Failure> {
        let parse = |text: Option<String>| text.map(|text| Zone::parse(&text)).transpose();
        // The Downward API gives an empty text for a label that the pod does not have.
        let pod = args
            .pod_zone
            .clone()
            .or(raw.pod)
            .filter(|text| !text.is_empty());
        let policy = args.zone_policy.clone().or(raw.policy);
        let keys = if args.zone_keys.is_empty() {
            raw.keys
        } else {
            args.zone_keys.clone()
        };
        let keys = if keys.is_empty() {
            Ok(ZoneKeys::default())
        } else {
            ZoneKeys::parse(keys.iter().map(String::as_str))
        };
        Ok(Self {
            node: self::node(args, node)?,
            name: parse(args.zone.clone().or(raw.name)).map_err(|e| invalid(&e))?,
            pod: parse(pod).map_err(|e| invalid(&e))?,
            keys: keys.map_err(|e| invalid(&e))?,
            policy: policy
                .map_or(Ok(ZonePolicy::default()), |text| text.parse())
                .map_err(|e| invalid(&e))?,
            unlocated: unlocated(
                args.unlocated.as_deref().or(raw.unlocated.as_deref()),
                &raw.networks,
            )?,
        })
    }

    fn runtime(self, sources: Sources, rules: AddressRules) -> RuntimeConfig {
        let (merge, first) = (sources.merge, RuntimeConfig::new(self.node, sources.first));
        let others = sources.others.into_iter();
        others
            .fold(first, RuntimeConfig::and_source)
            .zone(self.name)
            .zone_keys(self.keys)
            .pod_zone(self.pod)
            .state(|state| {
                let state = state.policy(self.policy).unlocated(self.unlocated);
                state.addresses(rules).merge(merge)
            })
    }
}

fn unlocated(
    policy: Option<&str>,
    networks: &BTreeMap<String, String>,
) -> Result<Unlocated, Failure> {
    let refuse = |text: String, help| Err(Failure::new(Code::ConfigInvalid, text).help(help));
    match (policy, networks.is_empty()) {
        (None | Some("drop"), true) => Ok(Unlocated::Drop),
        (Some("include"), true) => Ok(Unlocated::Include),
        (Some("cidr-map"), false) => {
            let pairs = networks
                .iter()
                .map(|(net, zone)| (net.as_str(), zone.as_str()));
            let map = CidrMap::parse(pairs).map_err(|error| invalid(&error))?;
            Ok(Unlocated::CidrMap(map))
        }
        (Some("cidr-map"), true) => refuse(
            "endpoints on no node are to be located by their network, and there is none".into(),
            "list networks in the file: zone: {networks: {10.1.0.0/16: mall-1}}",
        ),
        (None | Some("drop" | "include"), false) => refuse(
            "networks are listed, and nothing is to be located by them".into(),
            "say zone: {unlocated: cidr-map}",
        ),
        (Some(other), _) => refuse(
            format!("{other:?} is no policy for endpoints on no node"),
            "the policies are drop, include and cidr-map",
        ),
    }
}

fn node(args: &SourceArgs, in_file: Option<String>) -> Result<NodeName, Failure> {
    let by_downward_api = || std::env::var("NODE_NAME").ok();
    let name = args
        .node_name
        .clone()
        .or_else(by_downward_api)
        .or(in_file)
        .ok_or_else(|| {
            Failure::new(Code::NodeNameMissing, "the name of this node is not known")
                .help("set NODE_NAME from the Downward API (spec.nodeName), or pass --node-name")
        })?;
    NodeName::parse(&name).map_err(|error| invalid(&error))
}

fn holds(zone: &RawZone, source: &RawSource) -> HoldRule {
    let default = HoldRule::default();
    let seconds = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_secs);
    HoldRule {
        mass_change: seconds(source.mass_change_hold_seconds, default.mass_change),
        zone: seconds(zone.hold_seconds, default.zone),
    }
}

fn dns(args: &AgentArgs, raw: RawDns) -> Option<DnsConfig> {
    let listen = match (&args.dns_listen[..], &raw.listen) {
        ([], in_file) if in_file.is_empty() => vec![DNS_LISTEN],
        ([], in_file) => in_file.clone(),
        (flags, _) => flags.to_vec(),
    };
    let enabled = !args.no_dns && raw.enabled.unwrap_or(true);
    enabled.then_some(DnsConfig { listen, names: raw })
}

fn proxy(node: NodeName, raw: RawProxy) -> Result<ProxyConfig, Failure> {
    Ok(ProxyConfig {
        node,
        drain: raw.drain_seconds.map_or(DRAIN, Duration::from_secs),
        registration: registration(raw.register)?,
    })
}

fn registration(raw: RawRegister) -> Result<Option<Registration>, Failure> {
    let Some(address) = raw.consul else {
        return Ok(None);
    };
    let refuse = |text: String| Failure::new(Code::ConfigInvalid, text);
    let address = address
        .parse()
        .map_err(|error: ConsulAddressError| refuse(error.to_string()))?;
    let token = raw.token_file.map_or(Token::Anonymous, Token::File);
    let agent = ConsulAgent::new(address, token, raw.ca_file.as_deref()).map_err(refuse)?;
    let mut registration = Registration::new(agent).tags(raw.tags);
    if let Some(address) = raw.address {
        registration = registration.address(address);
    }
    if let Some(weight) = raw.weight {
        registration = registration.weight(weight);
    }
    if let Some(seconds) = raw.ttl_seconds.filter(|seconds| *seconds > 0) {
        registration = registration.ttl(Duration::from_secs(seconds));
    }
    if let Some(seconds) = raw.leave_wait_seconds {
        registration = registration.leave_wait(Duration::from_secs(seconds));
    }
    Ok(Some(registration))
}

/// The socket for clients of this node; none unless a path is given.
fn socket(args: &AgentArgs, raw: RawAgent) -> Result<Option<AgentSocketConfig>, Failure> {
    let Some(path) = args.agent_socket.clone().or(raw.socket) else {
        return Ok(None);
    };
    let uids = if raw.any_uid {
        PeerUids::any()
    } else {
        raw.uids
            .into_iter()
            .fold(PeerUids::default(), PeerUids::and)
    };
    let mut config = AgentSocketConfig::new(path).uids(uids);
    if let Some(mode) = raw.mode {
        let octal = u32::from_str_radix(&mode, 8).ok();
        let octal = octal.filter(|mode| *mode <= 0o777).ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                format!("{mode:?} is no mode of a file"),
            )
            .help("say it in octal digits: agent: {mode: '0660'}")
        })?;
        config = config.mode(octal);
    }
    if let Some(clients) = raw.clients_max {
        config = config.clients_max(clients);
    }
    Ok(Some(config))
}

fn invalid(error: &ModelError) -> Failure {
    Failure::caused(Code::ConfigInvalid, error)
}

fn file_failure(error: &ConfigError) -> Failure {
    let code = if error.is_io() {
        Code::ConfigUnreadable
    } else {
        Code::ConfigInvalid
    };
    let failure = Failure::caused(code, error);
    match error.suggestion() {
        Some(suggestion) => failure.help(suggestion),
        None => failure,
    }
}

/// Consul's own default.
pub(crate) const DNS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8600);
/// Loopback only: whoever may log in here may look.
pub(crate) const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9690);
/// Scrapers and probes come from outside.
const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9691);
/// The default grace period of a pod.
const DRAIN: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn every_key_of_the_file_is_known() {
        let text = "
            {node_name: edge-a, zone: {name: mall-1, keys: [zone], policy: strict, hold_seconds: 60, pod: mall-1,
                    unlocated: cidr-map, networks: {10.1.0.0/16: mall-1}},
             source: {static: mall.yaml, mass_change_hold_seconds: 60},
             dns: {enabled: true, listen: ['127.0.0.1:53'], domain: corp, ttl_seconds: 3},
             proxy: {enabled: false, drain_seconds: 5, register: {consul: '127.0.0.1:8500', token_file: /t,
                    address: 10.0.0.1, tags: [lan], weight: 10, ttl_seconds: 10, leave_wait_seconds: 10}}, admin: {listen: '127.0.0.1:1'},
             metrics: {listen: '127.0.0.1:2'}, snapshot: {folder: /tmp/x},
             agent: {socket: /run/zonal/agent.sock, mode: '0660', uids: [1000], any_uid: false, clients_max: 9}, allow_loopback_endpoints: true}";
        let raw: RawConfig = config::parse("zonal.yaml", text).unwrap();
        assert_eq!(raw.zone.policy.as_deref(), Some("strict"));
        assert_eq!(raw.dns.listen.len(), 1);
    }

    #[test]
    fn endpoints_on_no_node_need_a_policy_that_fits_the_networks() {
        let networks = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |(net, zone): &(&str, &str)| ((*net).to_owned(), (*zone).to_owned());
            pairs.iter().map(own).collect()
        };
        let (none, one) = (networks(&[]), networks(&[("10.1.0.0/16", "mall-1")]));
        let check = unlocated;
        assert_eq!(check(None, &none).ok(), Some(Unlocated::Drop));
        assert_eq!(check(Some("include"), &none).ok(), Some(Unlocated::Include));
        assert!(matches!(
            check(Some("cidr-map"), &one),
            Ok(Unlocated::CidrMap(_))
        ));
        for (policy, networks) in [
            (None, &one),
            (Some("include"), &one),
            (Some("cidr-map"), &none),
            (Some("keep"), &none),
            (Some("cidr-map"), &bad_network()),
        ] {
            assert!(check(policy, networks).is_err(), "{policy:?} {networks:?}");
        }
    }

    fn bad_network() -> BTreeMap<String, String> {
        [("10.1.0.1/16".to_owned(), "mall-1".to_owned())].into()
    }

    #[test]
    fn a_mode_that_is_none_is_refused() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: AgentArgs,
        }
        let raw = |mode: &str| RawAgent {
            socket: Some("/run/zonal/agent.sock".into()),
            mode: Some(mode.to_owned()),
            ..RawAgent::default()
        };
        let args = Line::try_parse_from(["agent"]).unwrap().args;
        for (mode, is_good) in [
            ("0660", true),
            ("600", true),
            ("999", false),
            ("7777", false),
            ("rw", false),
        ] {
            assert_eq!(socket(&args, raw(mode)).is_ok(), is_good, "{mode}");
        }
        assert!(socket(&args, RawAgent::default()).unwrap().is_none());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
        let error =
            config::parse::<RawConfig>("zonal.yaml", "node_name: a\nzone:\n  polcy: strict\n")
                .unwrap_err();
        assert_eq!(error.to_string(), "zonal.yaml:3:3: unknown key `polcy`");
        assert!(
            error
                .suggestion()
                .unwrap()
                .starts_with("did you mean `policy`?")
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        for text in [
            "dns: {listen: 53}",
            "proxy: {drain_seconds: soon}",
            "admin: 1",
            "- a",
            "dns: {ttl_seconds: -1}",
        ] {
            let error = config::parse::<RawConfig>("zonal.yaml", text).unwrap_err();
            assert!(
                error.to_string().starts_with("zonal.yaml:1:"),
                "{text}: {error}"
            );
        }
    }
}
