// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal demo`: three zones of three backends, DNS, proxy and page in one process, on the agent's own code.
//!
//! The control plane of the demo is a manifest file that the agent watches: to kill a backend is to stop it and to state
//! it not ready there; to cut the control plane is to take the file away.

mod backend;
mod mall;

use crate::{
    admin_client::{ask, encode},
    agent::{Signals, count_panics, drain_all},
    config::{ADMIN_LISTEN, DNS_LISTEN},
    faces::{Faces, OnBusy},
    failure::{Code, Failure},
    logging,
};
use discovery_core::{
    model::{AddressRules, NodeName, Reason},
    runtime::{
        ExplainedEndpoint, Explanation, Freshness, Runtime, RuntimeConfig, Sockets, SourceConfig,
        Status,
        http::{RouteRequest, RouteResponse, Routes, json},
    },
};
use hyper::{Method, StatusCode};
use lb_proxy::{ListenerState, ListenerStatus, StatusHandle};
use mall::{Mall, Stated};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Runs the mall until a signal ends it.
pub(crate) async fn run() -> Result<ExitCode, Failure> {
    logging::init(logging::DEMO_FILTER);
    let mut signals = Signals::new(CancellationToken::new())?;
    let mall = Mall::open()
        .map_err(|error| Failure::internal("the demo's backends do not start", &error))?;
    let runtime = start(&mall).await?;
    count_panics().of(&runtime);
    let faces = Faces::new(runtime.clone(), Sockets::default());
    let dns = faces.dns(dns_sidecar::Config::default(), OnBusy::MoveOn)?;
    let proxy = lb_proxy::Config::default()
        .bind_addresses(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        .busy_port(lb_proxy::BusyPort::MoveOn);
    let proxy = faces.proxy(proxy);
    let mall = Arc::new(Mutex::new(mall));
    let admin = faces.admin(ADMIN_LISTEN, OnBusy::MoveOn, |routes| {
        demo_routes(routes, &mall)
    })?;
    let metrics = faces.probes(METRICS_LISTEN, OnBusy::MoveOn)?;
    runtime.ready().await;
    let front = front(&proxy).await;
    introduce(&Introduction {
        runtime: &runtime,
        dns: dns[0],
        front,
        admin,
        metrics,
    });
    signals.end().await;
    drain_all(&faces, &mut signals).await;
    Ok(ExitCode::SUCCESS)
}

/// Acts on the demo that runs.
pub(crate) async fn act(
    admin: &SocketAddr,
    action: &str,
    backend: Option<&str>,
) -> Result<ExitCode, Failure> {
    let backend = backend
        .map(|backend| format!("&backend={}", encode(backend)))
        .unwrap_or_default();
    let answer = ask(
        *admin,
        Method::POST,
        &format!("/api/v1/demo?action={action}{backend}"),
    )
    .await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::new(
            Code::AgentRefused,
            format!("what runs at {admin} is no demo"),
        ));
    }
    let done: Done = answer.json()?;
    println!("{}", done.done);
    if timeout(SETTLE_MAX, settled(*admin, &done.stated))
        .await
        .is_err()
    {
        eprintln!("the agent has not taken it in yet; see zonal status");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the demo answers to an action.
#[derive(Deserialize, Serialize)]
struct Done {
    done: String,
    stated: Stated,
}

/// Waits until the agent serves what the control plane has said, so that the next command finds it.
async fn settled(admin: SocketAddr, stated: &Stated) {
    while !is_settled(admin, stated).await.unwrap_or_default() {
        sleep(SETTLE_POLL).await;
    }
}

async fn is_settled(admin: SocketAddr, stated: &Stated) -> Result<bool, Failure> {
    let status: Status = ask(admin, Method::GET, "/api/v1/status").await?.json()?;
    let web = ask(admin, Method::GET, "/api/v1/explain?service=web").await?;
    let web: Explanation = web.json()?;
    let follows = |endpoint: &ExplainedEndpoint| {
        let stated = stated.ready.get(&endpoint.identity);
        let is_foreign = endpoint.reason == Reason::OtherZone.as_str();
        is_foreign || stated.is_none_or(|ready| *ready == endpoint.usable)
    };
    let is_live = status.freshness == Freshness::Live;
    Ok(is_live != stated.is_cut && web.endpoints.iter().all(follows))
}

async fn start(mall: &Mall) -> Result<Runtime, Failure> {
    let node =
        NodeName::parse(mall::OWN_NODE).map_err(|error| Failure::caused(Code::Internal, &error))?;
    let config = RuntimeConfig::new(
        node,
        SourceConfig::Manifest {
            path: mall.manifest(),
        },
    )
    .state(|state| state.addresses(AddressRules::new(true, [])));
    Runtime::start(config)
        .await
        .map_err(|error| Failure::caused(Code::Internal, &error))
}

fn demo_routes(routes: Routes, mall: &Arc<Mutex<Mall>>) -> Routes {
    let mall = mall.clone();
    routes.route(Method::POST, "/api/v1/demo", move |request| {
        let mut mall = mall.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut mall, request)
    })
}

fn answer(mall: &mut Mall, request: &RouteRequest) -> RouteResponse {
    let backend = request.query("backend").unwrap_or_default();
    let outcome = match request.query("action") {
        Some("kill") => mall.kill(backend),
        Some("revive") => mall.revive(backend),
        Some("cut") => mall.cut(),
        Some("heal") => mall.heal(),
        _ => Err(String::from("the actions are kill, revive, cut and heal")),
    };
    match outcome {
        Ok(done) => {
            let stated = mall.stated().clone();
            json(StatusCode::OK, &Done { done, stated })
        }
        Err(error) => json(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({ "error": error }),
        ),
    }
}

/// The address of the first front that serves; none when none can.
async fn front(proxy: &StatusHandle) -> Option<SocketAddr> {
    let decided = |listeners: &[ListenerStatus]| {
        listeners
            .iter()
            .any(|listener| listener.state != ListenerState::Opening)
    };
    let listeners = proxy.wait_for(decided).await?;
    let serving = listeners
        .iter()
        .find(|listener| listener.state == ListenerState::Serving)?;
    serving.sockets.first().copied()
}

struct Introduction<'d> {
    runtime: &'d Runtime,
    dns: SocketAddr,
    front: Option<SocketAddr>,
    admin: SocketAddr,
    metrics: SocketAddr,
}

fn introduce(demo: &Introduction<'_>) {
    let status = demo.runtime.status();
    let zone = status.zone.as_deref().unwrap_or("unknown");
    println!(
        "  zone    {zone} (this node: {})   view: static, generation {}",
        status.node, status.generation
    );
    println!(
        "  dns     {}{}",
        demo.dns,
        moved(demo.dns, DNS_LISTEN.port())
    );
    match demo.front {
        Some(front) => println!("  proxy   {front} -> web{}", moved(front, mall::NODE_PORT)),
        None => println!("  proxy   no port could be bound: see the page"),
    }
    println!(
        "  page    http://{}{}",
        demo.admin,
        moved(demo.admin, ADMIN_LISTEN.port())
    );
    println!(
        "  metrics http://{}/metrics{}",
        demo.metrics,
        moved(demo.metrics, METRICS_LISTEN.port())
    );
    println!("  endpoints at loopback addresses are allowed here (--allow-loopback-endpoints)");
    let admin = if demo.admin == ADMIN_LISTEN {
        String::new()
    } else {
        format!(" --admin {}", demo.admin)
    };
    println!(
        "  try     zonal resolve web.service.consul --server {}",
        demo.dns
    );
    if let Some(front) = demo.front {
        println!("          curl http://{front}/");
    }
    println!("          zonal explain web --key ann{admin}");
    println!("          zonal demo kill web-2{admin}");
    println!("          zonal demo cut kube{admin}");
    println!("  end     Ctrl-C");
}

fn moved(address: SocketAddr, wanted: u16) -> String {
    if address.port() == wanted {
        String::new()
    } else {
        format!("   ({wanted} is busy)")
    }
}

/// A changed file is read within a fraction of a second.
const SETTLE_MAX: Duration = Duration::from_secs(5);
const SETTLE_POLL: Duration = Duration::from_millis(20);
/// Loopback only: a demo is nobody else's business.
const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9691);
