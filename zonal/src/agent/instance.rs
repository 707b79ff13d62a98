// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent: a runtime with its faces, from its configuration to the one that takes over from it.
//!
//! In: a configuration; sockets and UDP sessions of the agent before, of this process or another. Out: faces that serve, and the
//! same sockets and sessions for the next one.

use super::{channel::Channel, descriptors, door::DoorAddress};
use crate::{
    cli::AgentArgs,
    config::AgentConfig,
    drain,
    faces::{Faces, OnBusy},
    failure::{Code, Failure},
};
use discovery_core::runtime::{Runtime, Sockets, StartError, admin_write_routes};
use lb_proxy::{HandedSessions, SessionGiver, UdpSession};
use std::{
    io,
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// One runtime with its faces.
pub(super) struct Agent {
    pub(super) runtime: Runtime,
    pub(super) faces: Faces,
    /// Where the next agent of this host knocks, when that is wanted.
    pub(super) door: Option<DoorAddress>,
}

impl Agent {
    /// Starts on the sockets that were handed to it, where they are of its addresses. One that replaces another, and awaits its
    /// sessions, opens nothing before it knows what to serve.
    pub(super) async fn start(
        config: AgentConfig,
        sockets: Sockets,
        sessions: Option<HandedSessions>,
        asked: &CancellationToken,
    ) -> Result<Self, Failure> {
        let read_at = SystemTime::now();
        let runtime = Runtime::start(config.runtime.clone())
            .await
            .map_err(|error| start_failure(&error))?;
        runtime.metrics().config_loaded(read_at);
        runtime.metrics().descriptors_max(descriptors::limit());
        let faces = Faces::new(runtime.clone(), sockets);
        let agent = Self {
            runtime,
            faces,
            door: config.door.clone(),
        };
        match agent.open(config, sessions, asked).await {
            Ok(()) => Ok(agent),
            Err(failure) => {
                agent.faces.kill();
                agent.faces.drain().await;
                Err(failure)
            }
        }
    }

    async fn open(
        &self,
        config: AgentConfig,
        sessions: Option<HandedSessions>,
        asked: &CancellationToken,
    ) -> Result<(), Failure> {
        let Self { runtime, faces, .. } = self;
        if sessions.is_some() && timeout(READY_MAX, runtime.ready()).await.is_err() {
            let missing = runtime.readiness().missing.join(", ");
            let what = format!("not ready after {} s: {missing}", READY_MAX.as_secs());
            return Err(Failure::new(Code::TimedOut, what));
        }
        if let Some(dns) = &config.dns {
            let addresses = faces.dns(dns.face()?, OnBusy::Fail)?;
            tracing::info!(?addresses, "DNS answers");
        }
        let replaces = sessions.is_some();
        if let Some(proxy) = &config.proxy {
            faces.proxy(proxy.face().sessions(sessions.unwrap_or_default()));
        }
        if let Some(socket) = config.socket {
            runtime.serve_agent_socket(socket).map_err(|error| {
                Failure::caused(Code::AddressDenied, &error)
                    .help("choose another path with --agent-socket PATH")
            })?;
        }
        let writable = |routes| {
            let routes = admin_write_routes(routes, runtime);
            drain::write_route(routes, asked.clone())
        };
        let readable = |routes| routes;
        let admin = if config.admin_write {
            faces.admin(config.admin_listen, OnBusy::Fail, writable)?
        } else {
            faces.admin(config.admin_listen, OnBusy::Fail, readable)?
        };
        let metrics = faces.probes(config.metrics_listen, OnBusy::Fail)?;
        if replaces {
            faces.opened().await;
        }
        tracing::info!(%admin, %metrics, "Agent started");
        Ok(())
    }

    /// The agent that takes over from the process at the other end.
    pub(super) async fn take_over(
        before: &Channel,
        config: AgentConfig,
        asked: &CancellationToken,
    ) -> Result<Self, Failure> {
        let sockets = Sockets::default();
        let received = before.receive_sockets(|socket| {
            if let Err(error) = sockets.hand(socket) {
                tracing::warn!(%error, "A socket of the process before cannot be used");
            }
        });
        received.await.map_err(|error| not_handed(&error))?;
        let (giver, awaited) = HandedSessions::awaited();
        let agent = Self::start(config, sockets, Some(awaited), asked).await?;
        before
            .send_open()
            .await
            .map_err(|error| not_handed(&error))?;
        // From here on nobody else accepts: what fails now must not end us.
        match before.receive_sessions().await {
            Ok(sessions) => agent.go_on(giver, sessions.into_iter().filter_map(session).collect()),
            Err(error) => tracing::warn!(%error, "UDP sessions of the process before are lost"),
        }
        Ok(agent)
    }

    /// An agent with the newest configuration that has taken over from this one; where it fails this one is as it was.
    pub(super) async fn successor(
        &self,
        args: &AgentArgs,
        asked: &CancellationToken,
    ) -> Result<Self, Failure> {
        let config = AgentConfig::load(args)?;
        let (sockets, open) = (Sockets::default(), self.faces.sockets().open());
        let handed = open.and_then(|open| open.into_iter().try_for_each(|s| sockets.hand(s)));
        handed.map_err(|error| handed_nothing(&error))?;
        let (giver, awaited) = HandedSessions::awaited();
        let agent = Self::start(config, sockets, Some(awaited), asked).await?;
        agent.go_on(giver, self.faces.hand_over().await);
        Ok(agent)
    }

    /// Gives the sockets to a new process, and waits until its ports are open; from then on both accept.
    pub(super) async fn offer(&self, channel: &Channel) -> io::Result<()> {
        let open = self.faces.sockets().open()?;
        channel.send_sockets(&open).await?;
        channel.receive_open().await
    }

    /// Closes the sockets and gives the UDP sessions, to one whose ports are open.
    pub(super) async fn let_go(&self, channel: &Channel) {
        let sessions = self.faces.hand_over().await.into_iter();
        let lines = sessions.map(|session| (session.facts.to_string(), session.socket));
        if let Err(error) = channel.send_sessions(lines.collect()).await {
            tracing::warn!(%error, "UDP sessions were not taken over");
        }
    }

    /// Goes on with the sessions; what nobody asks for is closed soon.
    fn go_on(&self, giver: SessionGiver, sessions: Vec<UdpSession>) {
        tracing::info!(sessions = sessions.len(), "UDP sessions taken over");
        giver.give(sessions);
        tokio::spawn(async move {
            sleep(SESSIONS_KEPT).await;
            drop(giver);
        });
        close_rest(self.faces.sockets());
    }

    /// Closes the sockets that no port is opened on, once the ports are open.
    pub(super) fn close_rest_once_open(&self) {
        let (runtime, opened) = (self.runtime.clone(), self.faces.opened());
        let sockets = self.faces.sockets().clone();
        tokio::spawn(async move {
            runtime.ready().await;
            opened.await;
            close_rest(&sockets);
        });
    }
}

fn close_rest(sockets: &Sockets) {
    let closed = sockets.close_rest();
    if !closed.is_empty() {
        tracing::info!(?closed, "Handed sockets that no face asked for are closed");
    }
}

fn session((facts, socket): (String, std::os::fd::OwnedFd)) -> Option<UdpSession> {
    let facts = facts.parse().ok()?;
    Some(UdpSession { facts, socket })
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

fn handed_nothing(error: &io::Error) -> Failure {
    Failure::internal(
        "the sockets of the agent before were not handed over",
        error,
    )
}

/// The other process ended, refused us, or speaks otherwise.
pub(super) fn not_handed(error: &io::Error) -> Failure {
    let what = format!("the agent that serves did not hand over its sockets: {error}");
    Failure::new(Code::AgentRefused, what).help("its log says why")
}

/// How long one that replaces another may take to know what to serve; the other serves meanwhile.
const READY_MAX: Duration = Duration::from_secs(100);

/// Listeners take their sessions when they open, which they have by then.
const SESSIONS_KEPT: Duration = Duration::from_secs(5);
