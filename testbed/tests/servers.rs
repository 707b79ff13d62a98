// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers of the testbed start, answer, obey and end.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    core::v1::{Namespace, Node},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use testbed::{Consul, Driver, Error, Kube, KubeOptions, client, wait_for};
use tokio::net::UdpSocket;

#[tokio::test]
async fn the_controller_manager_makes_slices_that_name_node_and_zone() -> Result<()> {
    let Some(kube) = Kube::start_or_skip("slices_name_node_and_zone").await else {
        return Ok(());
    };
    let driver = kube.driver();
    two_nodes_one_pod(&driver).await?;

    let found = endpoint(&kube, "10.1.0.1 is ready", |it| is_ready(it, true)).await?;
    assert_eq!(found.node_name.as_deref(), Some("edge-1"));
    assert_eq!(found.zone.as_deref(), Some("hall-a"));

    driver
        .pod_status("web-1", "default", [10, 1, 0, 1], false)
        .await?;
    endpoint(&kube, "10.1.0.1 is not ready", |it| is_ready(it, false)).await?;
    driver
        .pod_status("web-1", "default", [10, 1, 0, 1], true)
        .await?;
    driver.terminate_pod("web-1", "default").await?;
    let leaving = |it: &Endpoint| it.conditions.as_ref().and_then(|c| c.terminating) == Some(true);
    endpoint(&kube, "10.1.0.1 is terminating", leaving).await?;
    driver.delete_pod("web-1", "default").await?;
    let slices: Api<EndpointSlice> = Api::default_namespaced(kube.admin());
    wait_for("no endpoint of the service is left", WITHIN, async || {
        let list = slices.list(&of_web()).await.ok()?;
        let empty = list.iter().all(|slice| slice.endpoints.is_empty());
        (!list.items.is_empty() && empty).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn tokens_may_do_what_their_roles_say() -> Result<()> {
    let Some(kube) = Kube::start_or_skip("tokens_may_do_what_roles_say").await else {
        return Ok(());
    };
    let driver = kube.driver();
    driver
        .node("edge-1", &[("zone", "hall-a")], Ipv4Addr::new(10, 0, 0, 1))
        .await?;
    driver.label_node("edge-1", "zone", "hall-b").await?;
    driver.label_node("edge-1", "spare", "yes").await?;
    driver.unlabel_node("edge-1", "spare").await?;

    let nobody = kube.kubeconfig_for_token(kube.unprivileged_token(), "nobody")?;
    assert_eq!(status_of_node_list(&nobody).await?, 403);
    let stranger = kube.kubeconfig_for_token("issued-by-nobody", "stranger")?;
    assert_eq!(status_of_node_list(&stranger).await?, 401);

    let account = kube.service_account_kubeconfig("default", "agent").await?;
    assert_eq!(status_of_node_list(&account).await?, 403);
    kube.apply_yaml(AGENT_ROLE).await?;
    wait_for("the role counts", WITHIN, async || {
        (status_of_node_list(&account).await.ok()? == 200).then_some(())
    })
    .await?;
    let nodes: Api<Node> = Api::all(client(&account).await?);
    let node = nodes.get("edge-1").await?;
    let labels = node.metadata.labels.context("the node has labels")?;
    assert_eq!(labels.get("zone").map(String::as_str), Some("hall-b"));
    assert!(!labels.contains_key("spare"));

    kube.apply_yaml(AGENT_ROLE).await?;
    driver.delete_node("edge-1").await?;
    assert!(nodes.get_opt("edge-1").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_api_server_hangs_dies_and_comes_back_as_told() -> Result<()> {
    let Some(mut kube) = Kube::start_or_skip("the_api_server_obeys").await else {
        return Ok(());
    };
    let (url, first_id) = (kube.url(), kube.ids().0);
    kube.apply_yaml("apiVersion: v1\nkind: Namespace\nmetadata: { name: kept }\n")
        .await?;
    let namespaces: Api<Namespace> = Api::all(kube.admin());

    kube.stop_apiserver()?;
    let hung = tokio::time::timeout(Duration::from_millis(500), namespaces.get("kept")).await;
    assert!(hung.is_err(), "a stopped server answers nothing");
    kube.cont_apiserver()?;
    wait_for("it goes on", WITHIN, async || {
        namespaces.get("kept").await.ok()
    })
    .await?;

    kube.kill_apiserver();
    assert!(matches!(kube.stop_apiserver(), Err(Error::Killed { .. })));
    let refused = tokio::time::timeout(WITHIN, get_kept_anew(&kube)).await?;
    assert!(refused.is_err(), "a killed server refuses");
    kube.start_apiserver().await?;
    assert_eq!(kube.url(), url);
    assert_ne!(kube.ids().0, first_id);
    namespaces.get("kept").await?;
    Ok(())
}

#[tokio::test]
async fn a_node_whose_lease_is_not_renewed_becomes_unknown() -> Result<()> {
    let options = KubeOptions::default()
        .controller_manager_flag("--node-monitor-grace-period=12s")
        .controller_manager_flag("--node-monitor-period=1s");
    let Some(kube) = Kube::start_with_or_skip("a_node_becomes_unknown", options).await else {
        return Ok(());
    };
    let driver = kube.driver();
    driver.node("kept", &[], [10, 0, 0, 1]).await?;
    driver.node("cut", &[], [10, 0, 0, 2]).await?;
    let _kept = driver.renew_leases(["kept"]);

    let nodes: Api<Node> = Api::all(kube.admin());
    wait_for("the cut node is unknown", WITHIN, async || {
        (node_ready(&nodes, "cut").await? == "Unknown").then_some(())
    })
    .await?;
    assert_eq!(node_ready(&nodes, "kept").await.as_deref(), Some("True"));
    Ok(())
}

#[tokio::test]
async fn consul_registers_a_service_and_answers_dns() -> Result<()> {
    let Some(consul) = Consul::start_or_skip("consul_registers_and_answers").await else {
        return Ok(());
    };
    let web = json!({ "Name": "web", "Address": "10.2.0.7", "Port": 8080 });
    assert_eq!(
        consul.put("/v1/agent/service/register", &web).await?,
        Value::Null
    );
    wait_for("the catalog has the service", WITHIN, async || {
        let list = consul.get("/v1/catalog/service/web").await.ok()?;
        (list[0]["ServicePort"] == 8080).then_some(())
    })
    .await?;
    let refused = consul.get("/v1/no/such/path").await;
    assert!(
        matches!(refused, Err(Error::Answer { status: 404, .. })),
        "{refused:?}"
    );

    let answer = ask_dns(&consul, "web.service.consul").await?;
    let (flags, answers) = (answer[3], u16::from_be_bytes([answer[6], answer[7]]));
    assert_eq!(
        (flags & 0x0f, answers),
        (0, 1),
        "one answer without an error"
    );
    assert!(
        answer.ends_with(&[0, 4, 10, 2, 0, 7]),
        "the record holds the address: {answer:?}"
    );
    Ok(())
}

async fn two_nodes_one_pod(driver: &Driver) -> Result<()> {
    let zone = |zone| [("topology.kubernetes.io/zone", zone)];
    driver
        .node("edge-1", &zone("hall-a"), [10, 0, 0, 1])
        .await?;
    driver
        .node("edge-2", &zone("hall-b"), [10, 0, 0, 2])
        .await?;
    let web = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    driver.service(web).await?;
    driver
        .pod(
            "web-1",
            "default",
            &[("app", "web")],
            "edge-1",
            [10, 1, 0, 1],
        )
        .await?;
    Ok(())
}

/// Waits until the endpoint 10.1.0.1 is as asked.
async fn endpoint(kube: &Kube, what: &str, is: impl Fn(&Endpoint) -> bool) -> Result<Endpoint> {
    let slices: Api<EndpointSlice> = Api::default_namespaced(kube.admin());
    let found = wait_for(what, WITHIN, async || {
        let list = slices.list(&of_web()).await.ok()?;
        let mut endpoints = list.into_iter().flat_map(|slice| slice.endpoints);
        endpoints.find(|it| it.addresses == ["10.1.0.1"] && is(it))
    });
    Ok(found.await?)
}

fn of_web() -> ListParams {
    ListParams::default().labels("kubernetes.io/service-name=web")
}

fn is_ready(endpoint: &Endpoint, wanted: bool) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        == Some(wanted)
}

async fn node_ready(nodes: &Api<Node>, name: &str) -> Option<String> {
    let conditions = nodes.get(name).await.ok()?.status?.conditions?;
    conditions
        .into_iter()
        .find(|it| it.type_ == "Ready")
        .map(|it| it.status)
}

async fn status_of_node_list(kubeconfig: &Path) -> Result<u16> {
    let nodes: Api<Node> = Api::all(client(kubeconfig).await?);
    match nodes.list(&ListParams::default()).await {
        Ok(_) => Ok(200),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error.into()),
    }
}

/// Asks with a new connection, as one that is open would only be reset.
async fn get_kept_anew(kube: &Kube) -> Result<Namespace> {
    let namespaces: Api<Namespace> = Api::all(client(&kube.admin_kubeconfig()).await?);
    Ok(namespaces.get("kept").await?)
}

/// Sends one A question over UDP, byte by byte as RFC 1035 4.1 has it, until it is answered.
async fn ask_dns(consul: &Consul, name: &str) -> Result<Vec<u8>> {
    let mut question = vec![0x5a, 0x6f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(consul.dns_addr()).await?;
    let answer = wait_for("an answer over DNS", WITHIN, async || {
        socket.send(&question).await.ok()?;
        let mut answer = vec![0; 512];
        let received = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await;
        answer.truncate(received.ok()?.ok()?);
        answer.starts_with(&question[..2]).then_some(answer)
    });
    Ok(answer.await?)
}

const WITHIN: Duration = Duration::from_secs(60);

const AGENT_ROLE: &str = "
# A comment before the first document.
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: agent
rules:
  - apiGroups: ['']
    resources: [nodes]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: agent
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent }
subjects:
  - { kind: ServiceAccount, name: agent, namespace: default }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent, namespace: default }
spec:
  selector: { matchLabels: { app: agent } }
  template:
    metadata: { labels: { app: agent } }
    spec:
      serviceAccountName: agent
      hostNetwork: true
      containers: [{ name: agent, image: testbed.invalid/agent, securityContext: { privileged: true } }]
";
