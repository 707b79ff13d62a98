// SPDX-License-Identifier: MIT OR Apache-2.0
//! The section `source` of the configuration: which sources there are, and what is done where they differ.

use crate::{
    cli::{AgentArgs, SourceArgs},
    failure::{Code, Failure},
};
use discovery_core::{
    model::ModelError,
    runtime::SourceConfig,
    source::{ConsulConfig, Secret, Selection, Selector, Token},
    store::{MergePolicy, MergeRule, MergeRules, SourceId},
};
use serde::Deserialize;
use std::{env, path::PathBuf, time::Duration};

/// The section as it stands.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSource {
    pub(crate) r#static: Option<PathBuf>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) kubernetes: Option<bool>,
    pub(crate) selector: Option<String>,
    pub(crate) grid: Option<bool>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) mass_change_hold_seconds: Option<u64>,
    pub(crate) move_grace_seconds: Option<u64>,
    pub(crate) consul: RawConsul,
    pub(crate) precedence: Vec<String>,
    pub(crate) merge: Vec<RawMerge>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConsul {
    address: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    datacenter: Option<String>,
    namespace: Option<String>,
    services: Vec<String>,
    services_max: Option<usize>,
    tag: Option<String>,
    zone_from: Option<String>,
    stale_max_seconds: Option<u64>,
}

/// What is done for the services of a pattern.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMerge {
    service: String,
    #[serde(default)]
    precedence: Vec<String>,
    policy: Option<String>,
}

/// The checked section.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) first: SourceConfig,
    pub(crate) others: Vec<SourceConfig>,
    pub(crate) merge: MergeRules,
}

impl Sources {
    /// Lays flags and environment over the section.
    pub(crate) fn check(args: &AgentArgs, raw: RawSource) -> Result<Self, Failure> {
        let merge = merge_rules(&raw)?;
        let selection = selection(&args.source, &raw)?;
        let consul = consul(args, raw.consul)?;
        // A flag of either kind goes before both keys of the file.
        let (manifest, kubeconfig) = match (&args.manifest, &args.source.kubeconfig) {
            (Some(path), _) => (Some(path.clone()), None),
            (None, Some(path)) => (None, Some(path.clone())),
            (None, None) => (raw.r#static, raw.kubeconfig),
        };
        let in_cluster = || env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let wants_kube = raw
            .kubernetes
            .unwrap_or_else(|| kubeconfig.is_some() || consul.is_none() || in_cluster());
        let cluster = match manifest {
            Some(path) => Some(SourceConfig::Manifest { path }),
            None => wants_kube.then_some(SourceConfig::Kube {
                kubeconfig,
                selection,
            }),
        };
        let mut sources = cluster.into_iter().chain(consul);
        let first = sources.next().ok_or_else(|| {
            Failure::new(Code::ConfigInvalid, "there is no source")
                .help("drop `source.kubernetes: false`, or set `source.static` or `source.consul.address`")
        })?;
        Ok(Self {
            first,
            others: sources.collect(),
            merge,
        })
    }
}

/// The kubeconfig and the part of the cluster that are read, whatever other sources there are.
pub(crate) fn kubernetes(
    args: &SourceArgs,
    raw: &RawSource,
) -> Result<(Option<PathBuf>, Selection), Failure> {
    let kubeconfig = args.kubeconfig.clone().or_else(|| raw.kubeconfig.clone());
    Ok((kubeconfig, selection(args, raw)?))
}

/// A flag of either kind goes before both keys of the file.
fn selection(args: &SourceArgs, raw: &RawSource) -> Result<Selection, Failure> {
    let (text, grid) = match (&args.selector, args.grid) {
        (None, false) => (raw.selector.as_deref(), raw.grid.unwrap_or(false)),
        (text, grid) => (text.as_deref(), grid),
    };
    let selector = match (text, grid) {
        (Some(_), true) => {
            let text = "a selector is given, and the services of a grid are asked for";
            return Err(Failure::new(Code::ConfigInvalid, text).help(
                "drop `source.grid`, or say source: {selector: superedge.io/grid-uniq-key}",
            ));
        }
        (Some(text), false) => {
            let parsed = Selector::parse(text);
            Some(parsed.map_err(|error| Failure::caused(Code::ConfigInvalid, &error))?)
        }
        (None, true) => Some(Selector::grid()),
        (None, false) => None,
    };
    let namespaces = if args.namespaces.is_empty() {
        raw.namespaces.clone()
    } else {
        args.namespaces.clone()
    };
    Ok(Selection {
        selector,
        namespaces,
    })
}

fn consul(args: &AgentArgs, raw: RawConsul) -> Result<Option<SourceConfig>, Failure> {
    let Some(address) = args.consul.clone().or(raw.address) else {
        return Ok(None);
    };
    let address = address.parse().map_err(|error| {
        Failure::caused(Code::ConfigInvalid, &error)
            .help("write http://HOST:PORT, https://HOST:PORT or unix:///PATH")
    })?;
    let mut config = ConsulConfig::new(address)
        .token(token(raw.token_file))
        .authorities(
            raw.ca_file
                .or_else(|| env::var_os("CONSUL_CACERT").map(Into::into)),
        )
        .datacenter(raw.datacenter)
        .services(raw.services)
        .tag(raw.tag);
    if let Some(namespace) = raw.namespace {
        config = config.namespace(&namespace);
    }
    if let Some(services) = raw.services_max {
        config = config.services_max(services);
    }
    if let Some(zone_from) = raw.zone_from {
        config = config.zone_from(zone_from.parse().map_err(|error| invalid(&error))?);
    }
    if let Some(seconds) = raw.stale_max_seconds {
        config = config.stale_max(Duration::from_secs(seconds));
    }
    Ok(Some(SourceConfig::Consul(Box::new(config))))
}

/// The file of the configuration, else what Consul's own tools read.
fn token(file: Option<PathBuf>) -> Token {
    let by_environment = || env::var_os("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from);
    match (file.or_else(by_environment), env::var("CONSUL_HTTP_TOKEN")) {
        (Some(path), _) => Token::File(path),
        (None, Ok(token)) => Token::Given(Secret::new(&token)),
        (None, Err(_)) => Token::Anonymous,
    }
}

fn merge_rules(raw: &RawSource) -> Result<MergeRules, Failure> {
    let precedence = precedence(&raw.precedence)?;
    let mut rules = MergeRules::default().others(MergeRule {
        precedence: precedence.clone(),
        policy: MergePolicy::default(),
    });
    for raw in &raw.merge {
        let pattern = raw.service.parse().map_err(|error| invalid(&error))?;
        let policy = raw.policy.as_deref().map(str::parse).transpose();
        let own = self::precedence(&raw.precedence)?;
        let rule = MergeRule {
            precedence: if own.is_empty() {
                precedence.clone()
            } else {
                own
            },
            policy: policy.map_err(|error| invalid(&error))?.unwrap_or_default(),
        };
        rules = rules.service(pattern, rule);
    }
    Ok(rules)
}

fn precedence(words: &[String]) -> Result<Vec<SourceId>, Failure> {
    let ids: Result<_, ModelError> = words.iter().map(|word| word.parse()).collect();
    ids.map_err(|error| invalid(&error))
}

fn invalid(error: &ModelError) -> Failure {
    Failure::caused(Code::ConfigInvalid, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use discovery_core::config;

    fn check(flags: &[&str], text: &str) -> Result<Sources, Failure> {
        let Command::Agent(args) = Cli::parse_from(["zonal", "agent"].iter().chain(flags)).command
        else {
            unreachable!("the words name the agent");
        };
        Sources::check(&args, config::parse("zonal.yaml", text).unwrap())
    }

    fn ids(sources: &Sources) -> Vec<SourceId> {
        let others = sources.others.iter();
        std::iter::once(&sources.first)
            .chain(others)
            .map(SourceConfig::id)
            .collect()
    }

    #[test]
    fn every_key_is_known() {
        let text = "
            {static: mall.yaml, precedence: [consul, static],
             merge: [{service: 'shop/*', precedence: [static, consul], policy: union}],
             consul: {address: 'unix:///run/consul.sock', token_file: /t, ca_file: /c, datacenter: dc1, namespace: shop,
                      services: [web, 'pay-*'], services_max: 5, tag: prod, zone_from: 'node-meta:zone',
                      stale_max_seconds: 10}}";
        let sources = check(&[], text).unwrap();
        assert_eq!(ids(&sources), [SourceId::Manifest, SourceId::Consul]);
        let both = [SourceId::Manifest, SourceId::Consul];
        let web = sources.merge.choose(&"web".parse().unwrap(), &both);
        assert_eq!(web.in_force, [SourceId::Consul]);
        let pay = sources.merge.choose(&"shop/pay".parse().unwrap(), &both);
        assert_eq!(pay.in_force, both);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_one() {
        let text = "consul:\n  adress: consul:8500\n";
        let error = config::parse::<RawSource>("zonal.yaml", text).unwrap_err();
        assert_eq!(error.to_string(), "zonal.yaml:2:3: unknown key `adress`");
        assert!(
            error
                .suggestion()
                .unwrap()
                .starts_with("did you mean `address`?")
        );
    }

    #[test]
    fn consul_stands_alone_or_beside_a_cluster_that_is_asked_for() {
        let by = |flags: &[&str], text| ids(&check(flags, text).unwrap());
        assert_eq!(by(&[], ""), [SourceId::Kube]);
        assert_eq!(by(&["--consul", "127.0.0.1:8500"], ""), [SourceId::Consul]);
        let both = [SourceId::Kube, SourceId::Consul];
        assert_eq!(by(&["--consul", "c", "--kubeconfig", "k"], ""), both);
        assert_eq!(by(&["--consul", "c"], "kubernetes: true"), both);
        assert!(check(&[], "kubernetes: false").is_err());
    }

    #[test]
    fn flags_select_before_the_file_and_a_grid_is_a_selector() {
        let by = |flags: &[&str], text| match check(flags, text).unwrap().first {
            SourceConfig::Kube { selection, .. } => {
                let selector = selection.selector.map(|selector| selector.to_string());
                (selector.unwrap_or_default(), selection.namespaces.join(","))
            }
            other => panic!("{other:?}"),
        };
        let pair = |selector: &str, namespaces: &str| (selector.to_owned(), namespaces.to_owned());
        let file = "{selector: 'team=shop', namespaces: [shop, pay]}";
        assert_eq!(by(&[], ""), pair("", ""));
        assert_eq!(by(&[], file), pair("team=shop", "shop,pay"));
        assert_eq!(
            by(&[], "grid: true"),
            pair("superedge.io/grid-uniq-key", "")
        );
        let flags = [
            "--selector",
            "a in (b, c)",
            "--namespace",
            "x",
            "--namespace",
            "y",
        ];
        assert_eq!(by(&flags, file), pair("a in (b, c)", "x,y"));
        assert_eq!(
            by(&["--grid"], file),
            pair("superedge.io/grid-uniq-key", "shop,pay")
        );
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for text in [
            "consul: {address: 'ftp://x'}",
            "consul: {address: x, zone_from: rack}",
            "selector: ''",
            "{selector: 'a=b', grid: true}",
            "precedence: [etcd]",
            "precedence: [snapshot]",
            "merge: [{service: 'a b'}]",
            "merge: [{service: web, policy: both}]",
        ] {
            assert!(check(&[], text).is_err(), "{text}");
        }
    }
}
