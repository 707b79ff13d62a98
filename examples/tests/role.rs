// SPDX-License-Identifier: MIT OR Apache-2.0
//! The role that is shipped, against what an agent asks an API server for: nothing that it may do is unused, and nothing that
//! it does is left out.

mod agent;

use agent::Agent;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use testbed::api_server::{ApiServer, Options, generate::Cluster};

/// A right: group, resource and verb.
type Right = (String, String, String);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_the_role_has_what_an_agent_asks_for_and_nothing_else() -> anyhow::Result<()> {
    let cluster = Cluster {
        zones: 2,
        nodes_per_zone: 2,
        services: 2,
        ..Cluster::LARGE
    };
    let server = ApiServer::filled(Options::default(), |store| cluster.fill(store)).await?;
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(&Cluster::node(0, 0), &server.url(), folder.path(), None)?;
    agent.ready(Duration::from_secs(20)).await?;
    // Each list is followed by a watch.
    let watched = async || (rights_asked(&server).len() >= ROLE_RIGHTS).then_some(());
    testbed::wait_for("every kind is watched", Duration::from_secs(20), watched).await?;
    let allowed = role()?;
    ensure!(allowed.len() == ROLE_RIGHTS, "{allowed:?}");
    let asked = rights_asked(&server);
    ensure!(asked == allowed, "asked for {asked:?}, allowed {allowed:?}");
    Ok(())
}

/// What was asked for so far; documents about the server and reviews of one's own rights need no role.
fn rights_asked(server: &ApiServer) -> BTreeSet<Right> {
    let asked = server.all_asked();
    let of_objects = asked.iter().filter_map(|one| {
        let path = one.uri.split('?').next()?;
        let (group, rest) = match path.strip_prefix("/apis/") {
            Some(rest) => rest.split_once('/')?,
            None => ("", path.strip_prefix("/api/")?),
        };
        // Behind the version: a plural, and nothing more, or it is an object by name.
        let (_, plural) = rest.split_once('/')?;
        let verb = match (one.is_watch, plural.contains('/')) {
            (true, false) => "watch",
            (false, false) => "list",
            _ => "get",
        };
        let is_review =
            group.ends_with("authorization.k8s.io") || group.ends_with("authentication.k8s.io");
        (!is_review).then(|| (group.to_owned(), plural.to_owned(), verb.to_owned()))
    });
    of_objects.collect()
}

/// What the shipped role allows.
fn role() -> anyhow::Result<BTreeSet<Right>> {
    let text = include_str!("../../deploy/rbac.yaml");
    let documents = text
        .split("\n---\n")
        .map(|document| discovery_core::config::parse("rbac.yaml", document));
    let documents: Vec<Value> = documents.collect::<Result<_, _>>()?;
    let roles: Vec<_> = documents
        .iter()
        .filter(|one| one["kind"] == "ClusterRole")
        .collect();
    ensure!(roles.len() == 1, "one role, not {}", roles.len());
    let words = |value: &Value| -> Vec<String> {
        let words = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in roles[0]["rules"].as_array().context("it has rules")? {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    Ok(rights)
}

/// Nodes, services and slices, each listed and watched.
const ROLE_RIGHTS: usize = 6;
