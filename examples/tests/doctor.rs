// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal doctor kube` as a command: without an agent, through an agent, against a scripted and against a real API server.

mod agent;

use agent::{Agent, zonal};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::{path::Path, time::Duration};
use testbed::{
    Kube,
    api_server::{Answer, ApiServer, Fault, Options, Rule, generate::Cluster, kubeconfig},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_refused_is_told_with_the_rule_and_the_line_that_grants_it()
-> anyhow::Result<()> {
    let (server, folder) = (filled().await?, tempfile::tempdir()?);
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&server.url()))?;
    let well = Doctor::direct(&file, &Cluster::node(0, 0), &[]).await?;
    ensure!(well.exit == 0, "{}", well.report);
    let slices = well.cost("slices")?;
    ensure!(slices["objects"].as_u64() == Some(SLICES), "{slices}");
    ensure!(slices["list_bytes_wire"].as_f64() > Some(0.0), "{slices}");

    let refusal = Fault::Answer(Answer::status(403, "endpointslices is forbidden"));
    server.fault(Rule::everything().of("endpointslices").lists(), refusal);
    let denied = Doctor::direct(&file, &Cluster::node(0, 0), &[]).await?;
    ensure!(denied.exit == 1, "{}", denied.report);
    let list = denied.check("kube-rights-endpointslices-list")?;
    ensure!(list["outcome"] == "FAIL", "{list}");
    let rule = r#"apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]"#;
    ensure!(text(list, "says").contains(rule), "{list}");
    ensure!(
        text(list, "next").starts_with("kubectl create clusterrole "),
        "{list}"
    );
    ensure!(denied.check("kube-own-node")?["outcome"] == "PASS");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_asked_for_what_it_has_found_and_a_server_that_is_away_has_its_exit_code()
-> anyhow::Result<()> {
    let (server, folder) = (filled().await?, tempfile::tempdir()?);
    let agent = Agent::start(&Cluster::node(0, 0), &server.url(), folder.path(), None)?;
    let admin = agent.admin().to_string();
    let waited = Doctor::run(&["--admin", &admin, "--wait", "30s"]).await?;
    ensure!(waited.exit == 0, "{}", waited.report);
    ensure!(waited.report["cost"]["is_estimate"] == true);
    ensure!(waited.check("kube-snapshot")?["outcome"] == "PASS");
    server.refuse().await;
    agent.is("STALE", Duration::from_secs(60)).await?;
    let away = Doctor::run(&["--admin", &admin]).await?;
    ensure!(away.exit == 69, "{} {}", away.exit, away.report);
    let in_vain = Doctor::run(&["--admin", &admin, "--wait", "1500ms"]).await?;
    ensure!(in_vain.exit == 75, "{} {}", in_vain.exit, in_vain.report);
    drop(agent);
    let nobody = Doctor::run(&["--admin", &admin]).await?;
    ensure!(nobody.exit == 69, "{}", nobody.exit);
    ensure!(
        nobody.errors.contains("help: start one"),
        "{}",
        nobody.errors
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_says_which_right_a_role_lacks() -> anyhow::Result<()> {
    let name = "a_real_api_server_says_which_right_a_role_lacks";
    let Some(kube) = Kube::start_or_skip(name).await else {
        return Ok(());
    };
    let zone = [("topology.kubernetes.io/zone", "mall-1")];
    kube.driver()
        .node("edge-a", &zone, std::net::Ipv4Addr::new(10, 9, 0, 1))
        .await?;
    kube.apply_yaml(&role(&["list"])).await?;
    let file = kube.service_account_kubeconfig("default", "reader").await?;
    let denied = Doctor::direct(&file, "edge-a", &["--wait", "1ms"]).await?;
    ensure!(denied.exit == 75, "{} {}", denied.exit, denied.report);
    let watch = denied.check("kube-rights-endpointslices-watch")?;
    ensure!(watch["outcome"] == "FAIL", "{watch}");
    let granted = "--resource=endpointslices.discovery.k8s.io && kubectl create clusterrolebinding";
    ensure!(text(watch, "next").contains(granted), "{watch}");
    ensure!(
        text(watch, "next").ends_with("--serviceaccount=default:reader"),
        "{watch}"
    );
    ensure!(denied.check("kube-rights-endpointslices-list")?["outcome"] == "PASS");
    let credentials = denied.check("kube-credentials")?;
    ensure!(text(credentials, "says").contains("system:serviceaccount:default:reader"));

    kube.apply_yaml(&role(&["list", "watch"])).await?;
    let well = Doctor::direct(&file, "edge-a", &["--wait", "30s"]).await?;
    ensure!(well.exit == 0, "{}", well.report);
    ensure!(text(well.check("kube-reach")?, "says").contains("Kubernetes v1."));
    ensure!(well.check("kube-zone-label")?["says"] == "our zone is mall-1");
    Ok(())
}

/// What the command said.
struct Doctor {
    exit: i32,
    report: Value,
    errors: String,
}

impl Doctor {
    async fn direct(kubeconfig: &Path, node: &str, more: &[&str]) -> anyhow::Result<Self> {
        let file = kubeconfig.to_str().context("a path in UTF-8")?;
        let flags = [
            "--direct",
            "--node-name",
            node,
            "--kubeconfig",
            file,
            "--for",
            "1s",
        ];
        Self::run(&[&flags[..], more].concat()).await
    }

    async fn run(flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = std::process::Command::new(zonal()?);
        command.args(["doctor", "kube", "-o", "json"]).args(flags);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok(Self {
            exit: output.status.code().context("it ends by itself")?,
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn check(&self, id: &str) -> anyhow::Result<&Value> {
        let checks = self.report["checks"].as_array();
        let checks = checks.with_context(|| self.errors.clone())?;
        let check = checks.iter().find(|check| check["id"] == id);
        check.with_context(|| format!("there is no check {id} in {}", self.report))
    }

    fn cost(&self, kind: &str) -> anyhow::Result<&Value> {
        let kinds = self.report["cost"]["kinds"].as_array();
        let kinds = kinds.context("the report has costs")?;
        let cost = kinds.iter().find(|cost| cost["kind"] == kind);
        cost.with_context(|| format!("there is no kind {kind}"))
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Everything that an agent needs, but for what may be done to slices.
fn role(slices: &[&str]) -> String {
    let verbs = slices.join(", ");
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: reader}}
rules:
- {{apiGroups: [''], resources: [nodes, services], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [{verbs}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: reader}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: default}}]
"
    )
}

async fn filled() -> anyhow::Result<ApiServer> {
    Ok(ApiServer::filled(Options::default(), |store| CLUSTER.fill(store)).await?)
}

const CLUSTER: Cluster = Cluster {
    zones: 4,
    nodes_per_zone: 5,
    services: 2,
    ..Cluster::LARGE
};
/// A service has an endpoint on each node, a hundred in a slice.
const SLICES: u64 = 2;
