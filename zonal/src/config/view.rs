// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose view it is, and what is near: node, zone, policy.

use super::{RawConfig, invalid};
use crate::{
    cli::SourceArgs,
    failure::{Code, Failure},
    sources::{self, RawSource, Sources},
};
use discovery_core::{
    model::{AddressRules, CidrMap, NodeName, Unlocated, Zone, ZoneKeys, ZonePolicy},
    runtime::{RuntimeConfig, SourceConfig},
    source::KubeConfig,
    store::{HoldRule, MergeRules},
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawZone {
    pub(super) name: Option<String>,
    pub(super) keys: Vec<String>,
    pub(super) policy: Option<String>,
    pub(super) hold_seconds: Option<u64>,
    pub(super) pod: Option<String>,
    pub(super) unlocated: Option<String>,
    pub(super) networks: BTreeMap<String, String>,
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
pub(super) struct ViewConfig {
    pub(super) node: NodeName,
    name: Option<Zone>,
    pod: Option<Zone>,
    keys: ZoneKeys,
    policy: ZonePolicy,
    unlocated: Unlocated,
}

impl ViewConfig {
    pub(super) fn check(
        args: &SourceArgs,
        node: Option<String>,
        raw: RawZone,
    ) -> Result<Self, Failure> {
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

    pub(super) fn runtime(self, sources: Sources, rules: AddressRules) -> RuntimeConfig {
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

pub(super) fn unlocated(
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

/// How long a pod that left its slice ready stays; none when the file says nothing.
pub(super) fn grace(source: &RawSource) -> Result<Option<Duration>, Failure> {
    match source.move_grace_seconds {
        Some(seconds) if seconds > GRACE_SECONDS_MAX => {
            let text = format!("{seconds} s are too long for a pod that is moved between slices");
            let help = format!("a dead one is picked for as long: 0 to {GRACE_SECONDS_MAX}");
            Err(Failure::new(Code::ConfigInvalid, text).help(help))
        }
        given => Ok(given.map(Duration::from_secs)),
    }
}

const GRACE_SECONDS_MAX: u64 = 10;

pub(super) fn holds(zone: &RawZone, source: &RawSource) -> HoldRule {
    let default = HoldRule::default();
    let seconds = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_secs);
    HoldRule {
        mass_change: seconds(source.mass_change_hold_seconds, default.mass_change),
        zone: seconds(zone.hold_seconds, default.zone),
    }
}
