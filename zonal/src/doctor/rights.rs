// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of rights, resource by resource and verb by verb, with the line that grants what is missing. Pure.

use super::{
    kube::{Examination, last_failure},
    report::{
        Check,
        Outcome::{Fail, Pass, Skip, Wait},
    },
};
use discovery_core::{
    runtime::KindReport,
    source::{FailureReason, Right, SliceApi, Verdict},
};

impl Examination<'_> {
    /// Each resource and verb: as the server answered when it was asked for our rights, else as requests went.
    pub(super) fn rights(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for resource in self.resources() {
            for verb in ["list", "watch"] {
                let asked = self.asked(&resource.name, verb);
                checks.push(asked.unwrap_or_else(|| self.tried(&resource, verb)));
            }
        }
        checks
    }

    fn resources(&self) -> [Resource; 3] {
        let has_endpoints = self.source.slice_api.as_deref() == Some(SliceApi::Endpoints.as_str());
        let slices = if has_endpoints {
            "endpoints"
        } else {
            "endpointslices.discovery.k8s.io"
        };
        [
            Resource::new("nodes", &["own-node", "nodes"]),
            Resource::new("services", &["services"]),
            Resource::new(slices, &["slices"]),
        ]
    }

    /// The answers for one right in every namespace; none when it was not asked for, or not answered.
    fn asked(&self, resource: &str, verb: &str) -> Option<Check> {
        let rights = &self.permissions?.rights;
        let is_it = |right: &&Right| right.resource_name() == resource && right.verb == verb;
        let rights: Vec<_> = rights.iter().filter(is_it).collect();
        let denied: Vec<_> = rights
            .iter()
            .filter(|r| r.verdict == Verdict::Denied)
            .collect();
        if !denied.is_empty() {
            let namespaces: Vec<_> = denied
                .iter()
                .filter_map(|r| r.namespace.as_deref())
                .collect();
            return Some(self.denied(resource, verb, &namespaces));
        }
        let is_known = !rights.is_empty() && rights.iter().all(|r| r.verdict == Verdict::Allowed);
        is_known.then(|| {
            Check::new(
                right_id(resource, verb),
                Pass,
                format!("we may {verb} {resource}"),
            )
        })
    }

    /// What the requests for the kinds of a resource say of a right.
    fn tried(&self, resource: &Resource, verb: &str) -> Check {
        let kinds = resource.kinds.iter();
        let kinds: Vec<_> = kinds.filter_map(|kind| self.kind(kind)).collect();
        let check =
            |outcome, says: String| Check::new(right_id(&resource.name, verb), outcome, says);
        let name = &resource.name;
        let is_watch = verb == "watch";
        let is_denied = |kind: &&KindReport| {
            let is_it = kind.sync_age_seconds.is_some() == is_watch;
            is_it && !is_working(kind) && last_failure(kind) == Some(FailureReason::Forbidden)
        };
        let was_used = |kind: &&KindReport| {
            let was_read = kind.sync_age_seconds.is_some();
            if is_watch {
                kind.state == "live"
            } else {
                was_read
            }
        };
        if kinds.iter().any(is_denied) {
            self.denied(name, verb, &[])
        } else if kinds.iter().any(was_used) {
            check(Pass, format!("we may {verb} {name}"))
        } else if !self.is_answered() {
            check(Skip, "the API server does not answer".to_owned())
        } else if kinds
            .iter()
            .any(|kind| last_failure(kind) == Some(FailureReason::Forbidden))
        {
            check(
                Skip,
                format!("nothing was watched, since {name} cannot be listed"),
            )
        } else {
            check(Wait, format!("{name}: {verb} was not tried yet"))
                .next("zonal doctor kube --wait 60s")
        }
    }

    fn denied(&self, resource: &str, verb: &str, namespaces: &[&str]) -> Check {
        let place = match namespaces {
            [] => String::new(),
            names => format!(" in {}", names.join(", ")),
        };
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let says = format!(
            "we may not {verb} {resource}{place}; the rule that is missing: apiGroups: [{group:?}], resources: \
             [{plural:?}], verbs: [\"list\", \"watch\"]"
        );
        let user = self
            .permissions
            .and_then(|permissions| permissions.user.as_deref());
        Check::new(right_id(resource, verb), Fail, says).next(grant(resource, user))
    }
}

/// A resource, and the kinds that are read of it.
struct Resource {
    name: String,
    kinds: &'static [&'static str],
}

impl Resource {
    fn new(name: &str, kinds: &'static [&'static str]) -> Self {
        Self {
            name: name.to_owned(),
            kinds,
        }
    }
}

fn right_id(resource: &str, verb: &str) -> String {
    let plural = resource.split('.').next().unwrap_or(resource);
    format!("kube-rights-{plural}-{verb}")
}

fn is_working(kind: &KindReport) -> bool {
    kind.connected && kind.state == "live"
}

/// The line that grants what is missing to whom the server takes us for, else to the account of `deploy/`.
pub(super) fn grant(resource: &str, user: Option<&str>) -> String {
    let plural = resource.split('.').next().unwrap_or(resource);
    let role = format!("zonal-read-{plural}");
    let subject = match user.map(|user| (user, user.strip_prefix("system:serviceaccount:"))) {
        None => "--serviceaccount=zonal-system:zonal-agent".to_owned(),
        Some((_, Some(account))) => format!("--serviceaccount={account}"),
        Some((user, None)) => format!("--user='{user}'"),
    };
    format!(
        "kubectl create clusterrole {role} --verb=list,watch --resource={resource} && kubectl create clusterrolebinding \
         {role} --clusterrole={role} {subject}"
    )
}
