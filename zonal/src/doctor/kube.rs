// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of the Kubernetes source. Pure: a status and, where they were asked for, our rights; out comes the report.

use super::{
    cost::Cost,
    report::{
        Check,
        Outcome::{Fail, Pass, Skip, Wait, Warn},
        Report,
    },
    rights::grant,
};
use discovery_core::{
    model::Reason,
    runtime::{Freshness, KindReport, SourceReport, Status},
    source::{FailureReason, Permissions, SliceApi},
};
use std::collections::BTreeMap;

/// What a status, and what the server says of our rights, mean for an operator.
pub(super) fn report(status: &Status, permissions: Option<&Permissions>, asked: &str) -> Report {
    let source = status.sources.iter().find(|source| source.source == "kube");
    let checks = match source {
        None => vec![no_source(status)],
        Some(source) => Examination {
            status,
            source,
            permissions,
        }
        .checks(),
    };
    Report {
        subject: "kube",
        node: status.node.clone(),
        zone: status.zone.clone(),
        asked: asked.to_owned(),
        checks,
        cost: source.and_then(Cost::of),
    }
}

fn no_source(status: &Status) -> Check {
    let says = format!(
        "the agent watches no API server; its source is {}",
        status.source
    );
    Check::new("kube-source", Fail, says)
        .next("zonal doctor kube --direct, or start the agent without --static and --consul")
}

/// What is looked at.
pub(super) struct Examination<'s> {
    pub(super) status: &'s Status,
    pub(super) source: &'s SourceReport,
    pub(super) permissions: Option<&'s Permissions>,
}

impl Examination<'_> {
    fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.reach(), self.cluster(), self.credentials()];
        checks.extend(self.rights());
        checks.extend([
            self.own_node(),
            self.zone_label(),
            self.slice_api(),
            self.selection(),
            self.slices_name_nodes(),
            self.fresh(),
            self.held(),
            self.objects(),
        ]);
        // A watch of our own keeps nothing.
        if self.permissions.is_none() {
            checks.push(self.snapshot());
        }
        checks
    }

    fn reach(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-reach", outcome, says);
        let version = self
            .permissions
            .and_then(|permissions| permissions.version.as_deref());
        if self.is_answered() {
            let version = version.map(|version| format!(": Kubernetes {version}"));
            let says = format!("the API server answers{}", version.unwrap_or_default());
            return check(Pass, says);
        }
        match self.failures().next() {
            None => check(Wait, "nothing was heard of the API server yet".to_owned())
                .next("zonal doctor kube --wait 60s"),
            Some(reason) => check(Fail, format!("the API server does not answer: {reason}")).next(
                "kubectl get --raw /readyz   from this node: address, route, firewall, certificate",
            ),
        }
    }

    /// Whether it answers, be it with a refusal.
    pub(super) fn is_answered(&self) -> bool {
        let refuses = |reason| {
            matches!(
                reason,
                FailureReason::Unauthorized | FailureReason::Forbidden | FailureReason::NotFound
            )
        };
        self.source.connected || self.failures().any(refuses)
    }

    /// Why kinds that are not connected failed last.
    fn failures(&self) -> impl Iterator<Item = FailureReason> {
        let failing = self.source.kinds.iter().filter(|kind| !kind.connected);
        failing.filter_map(last_failure)
    }

    fn cluster(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-cluster", outcome, says);
        if let Some(other) = &self.source.other_cluster {
            let ours = self.source.cluster_uid.as_deref().unwrap_or("unknown");
            let says = format!(
                "another cluster answers, {other}; ours is {ours}, and what it said last is kept"
            );
            return check(Fail, says).next(
                "mend the address, or zonal accept   where the other cluster is meant to be ours",
            );
        }
        match &self.source.cluster_uid {
            Some(uid) => check(Pass, format!("our cluster answers, {uid}")),
            None => check(
                Skip,
                "the service default/kubernetes is not read, which tells the cluster".to_owned(),
            ),
        }
    }

    fn credentials(&self) -> Check {
        let check = |outcome, says: &str| Check::new("kube-credentials", outcome, says);
        let user = self
            .permissions
            .and_then(|permissions| permissions.user.as_deref());
        if self
            .failures()
            .any(|reason| reason == FailureReason::Unauthorized)
        {
            return check(Fail, "the API server does not accept our credentials (401)").next(
                "kubectl auth whoami   with the same kubeconfig: an expired token or certificate, or another cluster's",
            );
        }
        match (self.is_answered(), user) {
            (true, Some(user)) => check(Pass, &format!("the API server takes us for {user}")),
            (true, None) => check(Pass, "the API server accepts our credentials"),
            (false, _) => check(Skip, "the API server does not answer"),
        }
    }

    fn own_node(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-own-node", outcome, says);
        let node = &self.status.node;
        let was_read = self
            .kind("own-node")
            .is_some_and(|kind| kind.sync_age_seconds.is_some());
        match self.status.zone_state.as_str() {
            "no-node" => check(Fail, format!("there is no node {node}")).next(format!(
                "kubectl get node {node}   the name is that of the Node object: NODE_NAME by spec.nodeName, or --node-name"
            )),
            _ if was_read => check(Pass, format!("node {node} was read")),
            "known" => check(Skip, "the zone is known without our node".to_owned()),
            _ => check(Wait, format!("node {node} was not read yet")).next("see kube-reach and kube-rights-nodes-list"),
        }
    }

    fn zone_label(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-zone-label", outcome, says);
        match (self.status.zone_state.as_str(), &self.status.zone) {
            ("no-label", _) => check(Fail, self.status.zone_status.clone()).next(format!(
                "kubectl label node {} topology.kubernetes.io/zone=ZONE   or name the label that it has: --zone-key LABEL",
                self.status.node
            )),
            ("no-node", _) => check(Skip, "there is no node to carry a label".to_owned()),
            (_, Some(zone)) => check(Pass, format!("our zone is {zone}")),
            _ => check(Wait, self.status.zone_status.clone()).next("see kube-own-node"),
        }
    }

    fn slice_api(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-slice-api", outcome, says);
        match self.source.slice_api.as_deref() {
            None => {
                check(Wait, "no API of endpoints was chosen yet".to_owned()).next("see kube-reach")
            }
            Some(api) if api == SliceApi::Endpoints.as_str() => {
                let says = "no EndpointSlice API is served; Endpoints are read, which end at 1,000 addresses";
                check(Warn, says.to_owned())
                    .next("kubectl api-versions | grep discovery   Kubernetes serves it since 1.17")
            }
            Some(api) => check(Pass, format!("endpoints are read from {api}")),
        }
    }

    fn selection(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-selection", outcome, says);
        let is_served = self.status.freshness != Freshness::Empty;
        let is_read = self
            .kind("services")
            .is_some_and(|kind| kind.sync_age_seconds.is_some());
        match (self.status.services.len(), &self.source.selector) {
            _ if !is_read || !is_served => check(Skip, "not everything was read yet".to_owned()),
            (0, Some(selector)) => check(Warn, format!("no service carries {selector}"))
                .next(format!("kubectl get services -A -l '{selector}'")),
            (0, None) => {
                check(Warn, "there is no service".to_owned()).next("kubectl get services -A")
            }
            (services, _) => check(Pass, format!("{services} services are read")),
        }
    }

    fn slices_name_nodes(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-slices-name-nodes", outcome, says);
        let services = self.status.services.iter();
        let services: Vec<_> = services.filter(|s| s.name != API_SERVER).collect();
        let listed: usize = services.iter().map(|service| service.listed).sum();
        let without = services.iter().filter_map(|service| {
            let count = service.out.get(Reason::NoZoneOnEndpoint.as_str())?;
            Some((service.name.as_str(), *count))
        });
        let without: BTreeMap<_, _> = without.collect();
        let unlocated: usize = without.values().sum();
        if self.status.is_degraded {
            let says = "nodes may not be read: zones are those that slices state, which a moved node does not change";
            return check(Warn, says.to_owned()).next(grant("nodes", None));
        }
        match without.keys().next() {
            _ if listed == 0 => check(Skip, "no endpoint is listed".to_owned()),
            None => check(Pass, format!("all {listed} endpoints name their node")),
            Some(service) => {
                let says = format!(
                    "{unlocated} of {listed} endpoints name no node, as of service {service}, and are left out"
                );
                let outcome = if unlocated == listed { Fail } else { Warn };
                check(outcome, says).next("annotate their slices with zonal.dev/zone, or choose --unlocated include | cidr-map")
            }
        }
    }

    fn fresh(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-fresh", outcome, says);
        let age = self
            .source
            .age_seconds
            .map(|age| format!("heard {age:.0} s ago"));
        let age = age.unwrap_or_else(|| "never heard".to_owned());
        match self.status.freshness {
            Freshness::Live => check(Pass, format!("what is served is live, {age}")),
            Freshness::Empty => check(
                Wait,
                format!(
                    "nothing is served yet: {}",
                    self.status.readiness.missing.join("; ")
                ),
            )
            .next("see the checks above"),
            other => check(Fail, format!("what is served is {other}, {age}"))
                .next("see kube-reach; answers go on as they are"),
        }
    }

    fn held(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-held", outcome, says);
        match &self.status.held[..] {
            [] => check(Pass, "nothing is held back".to_owned()),
            [held, ..] => check(Warn, held.clone())
                .next("zonal accept   where that is right; what is missing is believed after ten minutes by default, another cluster never"),
        }
    }

    fn objects(&self) -> Check {
        let check = |outcome, says: String| Check::new("kube-objects", outcome, says);
        match self.status.problems.len() {
            0 => check(Pass, "every object was understood".to_owned()),
            count => check(
                Warn,
                format!("{count} objects or parts of them were refused"),
            )
            .next("zonal status --problems"),
        }
    }

    fn snapshot(&self) -> Check {
        let check = |outcome, says: &str| Check::new("kube-snapshot", outcome, says);
        if self.status.keeps_snapshot {
            return check(Pass, "the last good snapshot is kept on disk");
        }
        check(
            Warn,
            "no snapshot is kept: a restart without the API server serves nothing",
        )
        .next("zonal agent --snapshot-folder /var/lib/zonal")
    }

    pub(super) fn kind(&self, name: &str) -> Option<&KindReport> {
        self.source.kinds.iter().find(|kind| kind.kind == name)
    }
}

pub(super) fn last_failure(kind: &KindReport) -> Option<FailureReason> {
    let word = kind.last_failure.as_deref()?;
    FailureReason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == word)
}

/// The API servers themselves, which are pods on no node.
const API_SERVER: &str = "default/kubernetes";
