// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal drain`: has a host leave: out of Consul first, its ports closed after the wait, its connections given their time.
//!
//! In: a running agent that may be written to. Out: one line for each step, until the agent has ended. It is what SIGTERM
//! does, with a view of it.

use crate::{
    admin_client::ask,
    cli::{DrainArgs, Output},
    failure::{Code, Failure},
};
use discovery_core::runtime::http::{Routes, json};
use hyper::{Method, StatusCode};
use lb_proxy::{ListenerState, ListenerStatus, StatusHandle};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How far it has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Nobody asked for a drain.
    Serving,
    /// The host leaves Consul; its ports still accept.
    Leaving,
    /// Its ports are closed; connections go on.
    Draining,
    /// Nothing is left.
    Ended,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Progress {
    phase: Phase,
    /// Ports that accept.
    ports: usize,
    /// Connections that go on.
    connections: usize,
}

pub(crate) async fn run(args: &DrainArgs) -> Result<ExitCode, Failure> {
    if !args.dry_run {
        let begun = ask(args.ask.admin, Method::POST, PATH).await?;
        if begun.status == StatusCode::METHOD_NOT_ALLOWED {
            let what = "this agent only lets itself be read";
            return Err(Failure::new(Code::AgentRefused, what)
                .help("start it with --admin-write, or send its process SIGTERM"));
        }
        begun.json::<serde_json::Value>()?;
    }
    let (began, mut told) = (Instant::now(), None::<Progress>);
    loop {
        let progress = match ask(args.ask.admin, Method::GET, PATH).await {
            Ok(answer) => answer.json::<Progress>()?,
            Err(failure) if failure.is_of_the_moment() && told.is_some() => Progress::ENDED,
            Err(failure) => return Err(failure),
        };
        if told.as_ref() != Some(&progress) {
            tell(args.ask.output, &progress)?;
        }
        // It serves for a moment more; one that serves again is the next agent.
        let has_left = told.is_some_and(|told| told.phase != Phase::Serving);
        let is_over = match progress.phase {
            Phase::Ended => true,
            Phase::Serving => has_left,
            Phase::Leaving | Phase::Draining => false,
        };
        if is_over || args.dry_run || args.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        if began.elapsed() > args.wait {
            let what = format!("{} after {} s", progress, args.wait.as_secs());
            return Err(Failure::new(Code::TimedOut, what));
        }
        told = Some(progress);
        sleep(ASK_AGAIN).await;
    }
}

fn tell(output: Output, progress: &Progress) -> Result<(), Failure> {
    match output {
        Output::Table => println!("{progress}"),
        Output::Json => {
            let text = serde_json::to_string(progress)
                .map_err(|error| Failure::internal("progress has no JSON form", &error))?;
            println!("{text}");
        }
    }
    Ok(())
}

/// Adds the page that tells how far a drain has come.
pub(crate) fn route(
    routes: Routes,
    asked: CancellationToken,
    proxies: Vec<StatusHandle>,
) -> Routes {
    routes.route(Method::GET, PATH, move |_| {
        let listeners = proxies
            .iter()
            .flat_map(StatusHandle::listeners)
            .collect::<Vec<_>>();
        json(
            StatusCode::OK,
            &Progress::of(asked.is_cancelled(), &listeners),
        )
    })
}

/// Adds the page that begins one.
pub(crate) fn write_route(routes: Routes, asked: CancellationToken) -> Routes {
    routes.route(Method::POST, PATH, move |_| {
        asked.cancel();
        json(StatusCode::ACCEPTED, &serde_json::json!({ "begun": true }))
    })
}

impl Progress {
    const ENDED: Self = Self {
        phase: Phase::Ended,
        ports: 0,
        connections: 0,
    };

    fn of(is_asked: bool, listeners: &[ListenerStatus]) -> Self {
        let accepts = |listener: &&ListenerStatus| {
            !listener.sockets.is_empty() && listener.state != ListenerState::Draining
        };
        let ports = listeners.iter().filter(accepts).count();
        let connections = listeners.iter().map(|listener| listener.active).sum();
        let phase = match (is_asked, ports, connections) {
            (false, ..) => Phase::Serving,
            (true, 1.., _) => Phase::Leaving,
            (true, 0, 1..) => Phase::Draining,
            (true, 0, 0) => Phase::Ended,
        };
        Self {
            phase,
            ports,
            connections,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ports, connections) = (self.ports, self.connections);
        match self.phase {
            Phase::Serving => write!(f, "serving: {ports} ports, {connections} connections"),
            Phase::Leaving => write!(
                f,
                "leaving: {ports} ports still accept until nobody is sent here, {connections} connections"
            ),
            Phase::Draining => write!(
                f,
                "draining: the ports are closed, {connections} connections go on"
            ),
            Phase::Ended => f.write_str("ended"),
        }
    }
}

const PATH: &str = "/api/v1/drain";
const ASK_AGAIN: Duration = Duration::from_millis(250);
