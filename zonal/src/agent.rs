// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal agent`: both faces of a node on one watch.

use crate::{
    cli::AgentArgs,
    config::AgentConfig,
    faces::{Faces, OnBusy},
    failure::{Code, Failure},
    logging,
};
use discovery_core::runtime::{Runtime, StartError, admin_write_routes};
use std::{process::ExitCode, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) async fn run(args: &AgentArgs) -> Result<ExitCode, Failure> {
    logging::init(logging::AGENT_FILTER);
    let config = AgentConfig::load(args)?;
    let runtime = Runtime::start(config.runtime.clone())
        .await
        .map_err(|error| start_failure(&error))?;
    count_panics(&runtime);
    let faces = Faces::new(runtime.clone());
    if let Some(dns) = &config.dns {
        let addresses = faces.dns(dns.face()?, OnBusy::Fail)?;
        tracing::info!(?addresses, "DNS answers");
    }
    if let Some(proxy) = &config.proxy {
        faces.proxy(proxy.face());
    }
    if let Some(socket) = config.socket {
        runtime.serve_agent_socket(socket).map_err(|error| {
            Failure::caused(Code::AddressDenied, &error)
                .help("choose another path with --agent-socket PATH")
        })?;
    }
    let writable = |routes| admin_write_routes(routes, &runtime);
    let readable = |routes| routes;
    let admin = if config.admin_write {
        faces.admin(config.admin_listen, OnBusy::Fail, writable)?
    } else {
        faces.admin(config.admin_listen, OnBusy::Fail, readable)?
    };
    let metrics = faces.probes(config.metrics_listen, OnBusy::Fail)?;
    tracing::info!(%admin, %metrics, "Agent started");
    wait_and_drain(&faces).await?;
    tracing::info!("Agent ended");
    Ok(ExitCode::SUCCESS)
}

/// Waits for SIGTERM or SIGINT, drains, and ends; a second signal ends at once.
pub(crate) async fn wait_and_drain(faces: &Faces) -> Result<(), Failure> {
    let (mut term, mut int) = signal(SignalKind::terminate())
        .and_then(|term| Ok((term, signal(SignalKind::interrupt())?)))
        .map_err(|error| Failure::internal("signals cannot be watched", &error))?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("Draining; a second signal ends at once");
    let drained = faces.drain();
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => return Ok(()),
            _ = term.recv() => faces.kill(),
            _ = int.recv() => faces.kill(),
        }
    }
}

fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::Kube(_) => Failure::caused(Code::KubeConfigMissing, error)
            .help("pass --kubeconfig FILE, or run without a cluster: --static FILE"),
        StartError::Consul(_) => Failure::caused(Code::ConsulUnusable, error),
        _ => Failure::caused(Code::ManifestUnusable, error)
            .help("make one with `kubectl get nodes,svc,endpointslices -A -o yaml`"),
    }
}

/// A panic ends one task and not the process; it is counted, and logged by the hook that was there before.
pub(crate) fn count_panics(runtime: &Runtime) {
    let metrics = Arc::clone(runtime.metrics());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        before(panic);
    }));
}
