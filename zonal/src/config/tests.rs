// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the file may say, and how it is refused.

use super::{view::unlocated, *};
use clap::Parser as _;
use discovery_core::model::Unlocated;
use std::{collections::BTreeMap, time::Duration};

#[test]
fn every_key_of_the_file_is_known() {
    let text = "
        {node_name: edge-a, zone: {name: mall-1, keys: [zone], policy: strict, hold_seconds: 60, pod: mall-1,
                unlocated: cidr-map, networks: {10.1.0.0/16: mall-1}},
         source: {static: mall.yaml, mass_change_hold_seconds: 60, move_grace_seconds: 0},
         dns: {enabled: true, listen: ['127.0.0.1:53'], domain: corp, ttl_seconds: 3,
               http: {listen: ['127.0.0.1:8500'], connections_max: 9, waiting_max: 7},
               tls: {dot_listen: ['127.0.0.1:853'], doh_listen: ['127.0.0.1:443'], certificate: /t.crt, key: /t.key}},
         proxy: {enabled: false, listen: [10.0.0.1], drain_seconds: 5, peer_timeout_seconds: 60,
                limits: {connections: 9, pipes: 0}, timeouts: {idle_seconds: 9, answer_seconds: 0},
                expect_proxy_header: {30080: [10.0.0.0/8, 192.0.2.1]}, register: {consul: '127.0.0.1:8500', token_file: /t,
                address: 10.0.0.1, tags: [lan], weight: 10, ttl_seconds: 10, leave_wait_seconds: 10}}, admin: {listen: '127.0.0.1:1'},
         metrics: {listen: '127.0.0.1:2'}, snapshot: {folder: /tmp/x},
         agent: {socket: /run/zonal/agent.sock, mode: '0660', uids: [1000], any_uid: false, clients_max: 9, take_over: '@zonal'}, allow_loopback_endpoints: true}";
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

#[test]
fn an_address_below_tls_needs_both_files() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }
    let args = Line::try_parse_from(["agent"]).unwrap().args;
    let is_taken = |tls: &str| {
        let raw: RawConfig =
            config::parse("zonal.yaml", &format!("{{dns: {{tls: {tls}}}}}")).unwrap();
        dns(&args, raw.dns).unwrap().face().is_ok()
    };
    assert!(is_taken("{}"));
    assert!(is_taken(
        "{doh_listen: ['127.0.0.1:443'], certificate: /c, key: /k}"
    ));
    assert!(!is_taken("{dot_listen: ['127.0.0.1:853']}"));
    assert!(!is_taken(
        "{dot_listen: ['127.0.0.1:853'], certificate: /c}"
    ));
}

#[test]
fn a_grace_that_would_keep_the_dead_is_refused() {
    let check = |seconds| {
        let text = format!("{{source: {{move_grace_seconds: {seconds}}}}}");
        let raw: RawConfig = config::parse("zonal.yaml", &text).unwrap();
        grace(&raw.source).ok()
    };
    assert_eq!(check(0), Some(Some(Duration::ZERO)));
    assert_eq!(check(10), Some(Some(Duration::from_secs(10))));
    assert_eq!(check(11), None);
    let nothing = grace(&RawConfig::default().source);
    assert_eq!(nothing.ok(), Some(None), "the default is the library's");
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
fn the_door_of_the_next_agent_is_the_flags_before_the_files() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }
    let door = |flags: &[&str], file: Option<&str>| {
        let line = ["agent"].iter().chain(flags);
        let raw = RawAgent {
            take_over: file.map(str::to_owned),
            ..RawAgent::default()
        };
        let door = door(&Line::try_parse_from(line).unwrap().args, &raw).ok()?;
        Some(door.map(|door| door.to_string()))
    };
    let at = |address: &str| Some(Some(address.to_owned()));
    assert_eq!(door(&[], None), Some(None));
    assert_eq!(door(&[], Some("@zonal")), at("@zonal"));
    let flag = ["--take-over", "/run/zonal/next"];
    assert_eq!(door(&flag, Some("@zonal")), at("/run/zonal/next"));
    assert_eq!(door(&[], Some("zonal")), None);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    let error = config::parse::<RawConfig>("zonal.yaml", "node_name: a\nzone:\n  polcy: strict\n")
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

#[test]
fn a_proxy_header_is_expected_from_networks_that_are_some() {
    let refused = |networks: &str| {
        let text = format!("{{expect_proxy_header: {{30080: {networks}}}}}");
        let raw: RawProxy = config::parse("proxy.yaml", &text).unwrap();
        let node = discovery_core::model::NodeName::parse("edge-a").unwrap();
        proxy(node, raw, 9_691)
            .err()
            .map(|failure| failure.to_string())
    };
    assert_eq!(refused("[10.0.0.0/8]"), None);
    for (networks, why) in [("[]", "from nobody"), ("[10.0.0.1/8]", "beyond its prefix")] {
        let said = refused(networks).unwrap();
        assert!(said.contains("port 30080") && said.contains(why), "{said}");
    }
}

/// The arguments of an agent that is told nothing but its node.
fn bare() -> AgentArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }
    Line::try_parse_from(["agent", "--node-name", "edge-a"])
        .unwrap()
        .args
}

#[test]
fn b2_the_corpus_of_agent_configurations_holds() {
    crate::corpus::run("agent_config", |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        match config::parse::<RawConfig>("zonal.yaml", text) {
            Ok(raw) => {
                if let Err(failure) = AgentConfig::check(&bare(), raw) {
                    let told = failure.to_string();
                    assert!(told.starts_with("ZNL02"), "{told}");
                }
            }
            Err(error) => {
                let failure = file_failure(&error).to_string();
                assert!(failure.starts_with("ZNL0203: "), "{failure}");
            }
        }
    });
}
