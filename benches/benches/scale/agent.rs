// SPDX-License-Identifier: MIT OR Apache-2.0
//! The role of the agent: the product's own runtime, and what a pick of it sees.

use crate::{
    CLUSTER, FLIPPED, OWN_ZONE,
    child::{end_with_input, say},
};
use discovery_core::{
    model::{NodeName, ServiceName},
    runtime::{Runtime, RuntimeConfig, SourceConfig},
    source::Selection,
};
use std::collections::BTreeSet;
use testbed::api_server::{generate::Cluster, kubeconfig};

/// Says `started`, `ready`, and every pod of the flipped service that can or cannot be picked any more.
///
/// `server` is the address of a scripted server, or the kubeconfig of a real one.
pub(crate) async fn run(server: &str) -> anyhow::Result<()> {
    end_with_input();
    let folder = tempfile::tempdir()?;
    let file = if server.starts_with("http://") {
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, kubeconfig(server))?;
        file
    } else {
        server.into()
    };
    let node = NodeName::parse(&Cluster::node(OWN_ZONE, 0))?;
    let source = SourceConfig::Kube {
        kubeconfig: Some(file),
        selection: Selection::default(),
    };
    say("started");
    let runtime = Runtime::start(RuntimeConfig::new(node, source)).await?;
    runtime.ready().await;
    say("ready");
    let service: ServiceName = format!("shop/{}", Cluster::service(FLIPPED)).parse()?;
    let mut reader = runtime.reader();
    let mut known = BTreeSet::new();
    loop {
        let snapshot = reader.load();
        let view = snapshot.service(&service);
        let usable = view.into_iter().flat_map(|view| view.usable());
        let usable: BTreeSet<_> = usable.map(|one| one.identity().to_string()).collect();
        for pod in known.difference(&usable) {
            say(&format!("lost {pod}"));
        }
        for pod in usable.difference(&known) {
            say(&format!("gained {pod}"));
        }
        known = usable;
        assert!(
            known.len() <= CLUSTER.nodes_per_zone,
            "only pods of the own zone"
        );
        if reader.changed().await.is_none() {
            return Ok(());
        }
    }
}
