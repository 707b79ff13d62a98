// SPDX-License-Identifier: MIT OR Apache-2.0
//! Statuses in, reports out: both outputs against golden files, and each failure with its next step.
//!
//! `UPDATE_GOLDEN=1 cargo test -p zonal doctor` writes the files anew.

use super::{
    kube,
    report::{Check, Outcome, Report},
    table::table,
};
use crate::golden;
use discovery_core::{
    runtime::Status,
    source::{Permissions, Right, Verdict},
};
use serde_json::{Value, json};

/// A status with everything in order, changed.
fn status(change: impl FnOnce(&mut Value)) -> Status {
    let kind = |kind: &str, objects: u64| {
        json!({
            "kind": kind, "state": "live", "state_age_seconds": 7200.0, "age_seconds": 2.0, "sync_age_seconds": 7200.0,
            "connected": true, "lists": 1, "objects": objects, "watches": 160, "list_bytes_wire": objects * 700,
            "list_bytes": objects * 2_900, "watch_bytes_wire": objects * 1_400, "watch_bytes": objects * 1_400,
        })
    };
    let kinds = [
        ("own-node", 1),
        ("nodes", 6),
        ("services", 40),
        ("slices", 120),
    ];
    let mut value = json!({
        "version": "0.1.0", "node": "edge-a", "zone": "mall-1", "zone_status": "zone mall-1", "zone_state": "known",
        "freshness": "LIVE", "age_seconds": 2.0, "source": "kube", "uptime_seconds": 7300.0, "generation": 812,
        "readiness": { "ready": true, "missing": [] }, "problems": [], "faces": {}, "keeps_snapshot": true,
        "services": [{ "name": "shop/web", "policy": "strict", "usable": 3, "local": 3, "listed": 9, "out": { "other-zone": 6 } }],
        "sources": [{
            "source": "kube", "connected": true, "live": true, "age_seconds": 2.0, "overruled": 0, "observed_seconds": 7300.0,
            "slice_api": "discovery.k8s.io/v1", "cluster_uid": "3f0f7f6e-0d5d-4c39-a0a5-6f8d8e9f1c11", "selector": "zonal.dev/watch=true", "namespaces": [],
            "kinds": kinds.map(|(name, objects)| kind(name, objects)),
        }],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn agent(change: impl FnOnce(&mut Value)) -> Report {
    kube::report(&status(change), None, "the agent at 127.0.0.1:9690")
}

fn permissions(denied: &[(&str, &str, &str)]) -> Permissions {
    let mut permissions = Permissions {
        version: Some("v1.33.2".into()),
        user: Some("system:serviceaccount:zonal-system:zonal-agent".into()),
        rights: Vec::new(),
    };
    for (group, resource) in [
        ("", "nodes"),
        ("", "services"),
        ("discovery.k8s.io", "endpointslices"),
    ] {
        for verb in ["list", "watch"] {
            let verdict = if denied.contains(&(group, resource, verb)) {
                Verdict::Denied
            } else {
                Verdict::Allowed
            };
            permissions.rights.push(Right {
                group: group.into(),
                resource: resource.into(),
                verb: verb.into(),
                namespace: None,
                verdict,
            });
        }
    }
    permissions
}

/// Nothing of slices could be read, and nothing is served.
fn without_slices(status: &mut Value) {
    let slices = &mut status["sources"][0]["kinds"][3];
    *slices = json!({
        "kind": "slices", "state": "listing", "state_age_seconds": 9.0, "lists": 2, "last_failure": "forbidden",
        "errors": { "forbidden": 2 },
    });
    status["freshness"] = "EMPTY".into();
    status["services"] = json!([]);
    status["readiness"] = json!({ "ready": false, "missing": ["list of slices not read yet"] });
}

fn check<'r>(report: &'r Report, id: &str) -> &'r Check {
    report
        .checks
        .iter()
        .find(|check| check.id == id)
        .unwrap_or_else(|| panic!("there is no check {id}"))
}

#[test]
fn b9_a_report_of_an_agent_in_order_is_the_golden_one() {
    let report = agent(|_| {});
    assert_eq!(report.exit(), 0);
    golden::is("doctor-kube.txt", &table(&report));
    golden::is("doctor-kube.json", &report.json());
}

#[test]
fn a_report_of_a_missing_right_is_the_golden_one() {
    let permissions = permissions(&[
        ("discovery.k8s.io", "endpointslices", "list"),
        ("discovery.k8s.io", "endpointslices", "watch"),
    ]);
    let report = kube::report(
        &status(without_slices),
        Some(&permissions),
        "the API server itself",
    );
    assert_eq!(report.exit(), 1);
    golden::is("doctor-kube-denied.txt", &table(&report));
    golden::is("doctor-kube-denied.json", &report.json());
}

#[test]
fn a_refused_list_is_a_missing_right_also_where_nobody_was_asked() {
    let report = agent(without_slices);
    let list = check(&report, "kube-rights-endpointslices-list");
    assert_eq!(list.outcome, Outcome::Fail);
    assert!(
        list.says
            .contains(r#"apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]"#),
        "{}",
        list.says
    );
    assert_eq!(
        list.next.as_deref(),
        Some(
            "kubectl create clusterrole zonal-read-endpointslices --verb=list,watch \
             --resource=endpointslices.discovery.k8s.io && kubectl create clusterrolebinding zonal-read-endpointslices \
             --clusterrole=zonal-read-endpointslices --serviceaccount=zonal-system:zonal-agent"
        )
    );
    assert_eq!(
        check(&report, "kube-rights-endpointslices-watch").outcome,
        Outcome::Skip
    );
    assert_eq!(
        check(&report, "kube-rights-nodes-list").outcome,
        Outcome::Pass
    );
    assert_eq!(report.exit(), 1);
}

#[test]
fn a_refused_watch_after_a_list_is_the_right_to_watch() {
    let report = agent(|status| {
        let slices = &mut status["sources"][0]["kinds"][3];
        slices["state"] = "stale".into();
        slices["connected"] = false.into();
        slices["last_failure"] = "forbidden".into();
    });
    assert_eq!(
        check(&report, "kube-rights-endpointslices-list").outcome,
        Outcome::Pass
    );
    assert_eq!(
        check(&report, "kube-rights-endpointslices-watch").outcome,
        Outcome::Fail
    );
}

#[test]
fn a_failure_that_is_over_fails_nothing() {
    let report =
        agent(|status| status["sources"][0]["kinds"][3]["last_failure"] = "forbidden".into());
    assert_eq!(report.exit(), 0, "{}", table(&report));
}

#[test]
fn a_server_that_is_away_is_told_by_its_own_exit_code() {
    let report = agent(|status| {
        status["freshness"] = "STALE".into();
        status["sources"][0]["connected"] = false.into();
        for kind in status["sources"][0]["kinds"].as_array_mut().unwrap() {
            kind["state"] = "stale".into();
            kind["connected"] = false.into();
            kind["last_failure"] = "connection".into();
        }
    });
    assert_eq!(check(&report, "kube-reach").outcome, Outcome::Fail);
    assert_eq!(check(&report, "kube-credentials").outcome, Outcome::Skip);
    assert_eq!(report.exit(), 69);
}

/// Every way to fail that a status tells, with the words by which it is known.
#[test]
fn every_failure_has_a_next_step() {
    type Case = (fn(&mut Value), &'static str, Outcome, &'static str);
    let cases: [Case; 10] = [
        (
            |status| {
                status["zone"] = Value::Null;
                status["zone_state"] = "no-node".into();
            },
            "kube-own-node",
            Outcome::Fail,
            "kubectl get node edge-a",
        ),
        (
            |status| {
                status["zone"] = Value::Null;
                status["zone_state"] = "no-label".into();
            },
            "kube-zone-label",
            Outcome::Fail,
            "kubectl label node edge-a topology.kubernetes.io/zone=ZONE",
        ),
        (
            |status| status["services"][0]["out"] = json!({ "no-zone-on-endpoint": 9 }),
            "kube-slices-name-nodes",
            Outcome::Fail,
            "zonal.dev/zone",
        ),
        (
            |status| status["services"][0]["out"]["no-zone-on-endpoint"] = 1.into(),
            "kube-slices-name-nodes",
            Outcome::Warn,
            "--unlocated",
        ),
        (
            |status| status["sources"][0]["slice_api"] = "v1/endpoints".into(),
            "kube-slice-api",
            Outcome::Warn,
            "kubectl api-versions",
        ),
        (
            |status| status["services"] = json!([]),
            "kube-selection",
            Outcome::Warn,
            "kubectl get services -A -l 'zonal.dev/watch=true'",
        ),
        (
            |status| status["keeps_snapshot"] = false.into(),
            "kube-snapshot",
            Outcome::Warn,
            "--snapshot-folder",
        ),
        (
            |status| status["held"] = json!(["kube says that all is gone"]),
            "kube-held",
            Outcome::Warn,
            "zonal accept",
        ),
        (
            |status| status["sources"][0]["other_cluster"] = "9d2c".into(),
            "kube-cluster",
            Outcome::Fail,
            "zonal accept",
        ),
        (
            |status| status["problems"] = json!([["Node a", "x", "y"]]),
            "kube-objects",
            Outcome::Warn,
            "zonal status --problems",
        ),
    ];
    for (change, id, outcome, next) in cases {
        let report = agent(change);
        let check = check(&report, id);
        assert_eq!(check.outcome, outcome, "{id}: {}", check.says);
        let step = check.next.as_deref().unwrap_or_default();
        assert!(step.contains(next), "{id}: {step}");
    }
}

#[test]
fn what_is_neither_passed_nor_skipped_has_a_next_step_and_every_check_a_section() {
    let page = include_str!("../../docs/doctor.md");
    let reports = [
        agent(|_| {}),
        agent(without_slices),
        agent(|status| status["sources"] = json!([])),
    ];
    for check in reports.iter().flat_map(|report| &report.checks) {
        let needs_step = !matches!(check.outcome, Outcome::Pass | Outcome::Skip);
        assert_eq!(
            check.next.is_some(),
            needs_step,
            "{}: {}",
            check.id,
            check.says
        );
        let section = check.page.split_once('#').unwrap().1;
        assert!(
            page.contains(&format!("\n### {section}\n")),
            "{section} is not explained"
        );
    }
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let report = agent(|status| status["held"] = json!(["\u{1b}[31mred"]));
    assert!(!table(&report).contains('\u{1b}'));
}
