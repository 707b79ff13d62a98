// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal agent`: both faces of a node on one watch, and how one agent replaces another without a failed connection.
//!
//! In: flags, environment and file; signals. Out: an exit code. SIGHUP has an agent with the newest configuration take over in
//! this process, SIGUSR2 one in a process of a new binary; SIGTERM and SIGINT drain. The new one opens its ports on the sockets
//! of the old one, which stops accepting only after that, and keeps what it carries (decision 0073).

mod activation;
mod channel;
mod descriptors;
mod panics;
mod upgrade;

pub(crate) use activation::sockets as activation;
pub(crate) use panics::{Panics, count_panics};

use crate::{
    cli::AgentArgs,
    config::AgentConfig,
    drain,
    faces::{Faces, OnBusy},
    failure::{Code, Failure},
    logging,
};
use channel::Channel;
use discovery_core::runtime::{Runtime, Sockets, StartError, admin_write_routes};
use lb_proxy::{HandedSessions, SessionGiver, UdpSession};
use std::{
    io,
    process::ExitCode,
    time::{Duration, SystemTime},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use upgrade::{Binary, replaced, tell_supervisor};

pub(crate) async fn run(args: &AgentArgs, inherited: Sockets) -> Result<ExitCode, Failure> {
    logging::init(logging::AGENT_FILTER);
    descriptors::raise_limit();
    let (panics, asked) = (count_panics(), CancellationToken::new());
    let mut signals = Signals::new(asked.clone())?;
    let binary = Binary::of_this_process();
    let binary = binary.map_err(|error| Failure::internal("our own binary is unknown", &error))?;
    let before = replaced().map_err(|error| handed_nothing(&error))?;
    let agent = match before {
        None => {
            let agent = Agent::start(AgentConfig::load(args)?, inherited, None, &asked).await?;
            agent.close_rest_once_open();
            agent
        }
        Some(before) => Agent::take_over(before, args, &asked).await?,
    };
    panics.of(&agent.runtime);
    tell_supervisor("READY=1");
    let mut life = Life {
        args,
        binary,
        panics,
        asked,
        agent,
        older: JoinSet::new(),
    };
    life.follow(&mut signals).await;
    life.end(&mut signals).await;
    tracing::info!("Agent ended");
    Ok(ExitCode::SUCCESS)
}

/// The agent that serves, and those before it that still carry connections.
struct Life<'a> {
    args: &'a AgentArgs,
    binary: Binary,
    panics: Panics,
    /// That `zonal drain` was called.
    asked: CancellationToken,
    agent: Agent,
    older: JoinSet<()>,
}

impl Life<'_> {
    /// Replaces the agent as signals ask for it, until this process has nothing more to accept.
    async fn follow(&mut self, signals: &mut Signals) {
        loop {
            let by_another_process = match signals.next().await {
                Word::End => return,
                Word::Reload => false,
                Word::Upgrade => true,
            };
            tokio::select! {
                is_over = self.replace(by_another_process) => if is_over { return },
                () = signals.end() => return,
            }
        }
    }

    /// Replaces it here or by another process; whether it was the latter.
    async fn replace(&mut self, by_another_process: bool) -> bool {
        if by_another_process {
            return self.upgrade().await;
        }
        self.reload().await;
        false
    }

    /// Has an agent with the newest configuration take over; where that fails the one before goes on.
    async fn reload(&mut self) {
        while self.older.len() >= OLDER_MAX {
            tracing::info!("Reload waits for the connections of an earlier one");
            self.older.join_next().await;
        }
        match self.agent.successor(self.args, &self.asked).await {
            Ok(agent) => {
                self.panics.of(&agent.runtime);
                let older = std::mem::replace(&mut self.agent, agent);
                self.older.spawn(async move { older.faces.drain().await });
                tracing::info!("Configuration came into force");
            }
            Err(failure) => {
                self.agent.runtime.metrics().config_refused();
                tracing::error!(%failure, "Configuration refused; the one before holds");
            }
        }
        while self.older.try_join_next().is_some() {}
    }

    /// Has a new process take over, and says whether it has; where that fails this one goes on.
    async fn upgrade(&mut self) -> bool {
        match self.agent.hand_to(&self.binary).await {
            Ok(pid) => {
                tracing::info!(pid, "Another process has taken over");
                true
            }
            Err(error) => {
                let binary = self.binary.path().display();
                tracing::error!(%error, %binary, "No other process took over; this one goes on");
                false
            }
        }
    }

    /// Drains; further signals end the connections that are left.
    async fn end(mut self, signals: &mut Signals) {
        drain_all(&self.agent.faces, signals).await;
        // They began before, and have the same time at most.
        while self.older.join_next().await.is_some() {}
    }
}

/// One runtime with its faces.
struct Agent {
    runtime: Runtime,
    faces: Faces,
}

impl Agent {
    /// Starts on the sockets that were handed to it, where they are of its addresses. One that replaces another, and awaits its
    /// sessions, opens nothing before it knows what to serve.
    async fn start(
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
        let agent = Self { runtime, faces };
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
        let Self { runtime, faces } = self;
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
    async fn take_over(
        before: Channel,
        args: &AgentArgs,
        asked: &CancellationToken,
    ) -> Result<Self, Failure> {
        let config = AgentConfig::load(args)?;
        let sockets = Sockets::default();
        let received = before.receive_sockets(|socket| {
            if let Err(error) = sockets.hand(socket) {
                tracing::warn!(%error, "A socket of the process before cannot be used");
            }
        });
        received.await.map_err(|error| handed_nothing(&error))?;
        let (giver, awaited) = HandedSessions::awaited();
        let agent = Self::start(config, sockets, Some(awaited), asked).await?;
        before
            .send_open()
            .await
            .map_err(|error| handed_nothing(&error))?;
        // From here on nobody else accepts: what fails now must not end us.
        match before.receive_sessions().await {
            Ok(sessions) => agent.go_on(giver, sessions.into_iter().filter_map(session).collect()),
            Err(error) => tracing::warn!(%error, "UDP sessions of the process before are lost"),
        }
        Ok(agent)
    }

    /// An agent with the newest configuration that has taken over from this one; where it fails this one is as it was.
    async fn successor(
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

    /// Has a new process take over; its id.
    async fn hand_to(&self, binary: &Binary) -> io::Result<u32> {
        let (channel, mut child) = binary.start()?;
        let opened = async {
            let open = self.faces.sockets().open()?;
            channel.send_sockets(&open).await?;
            channel.receive_open().await
        };
        if let Err(error) = opened.await {
            // It may have ended by itself; its status is of no use then.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        tell_supervisor(&format!("MAINPID={}", child.id()));
        let sessions = self.faces.hand_over().await.into_iter();
        let lines = sessions.map(|session| (session.facts.to_string(), session.socket));
        if let Err(error) = channel.send_sessions(lines.collect()).await {
            tracing::warn!(%error, "UDP sessions were not taken over");
        }
        Ok(child.id())
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
    fn close_rest_once_open(&self) {
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

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    End,
    Reload,
    Upgrade,
}

/// The signals of a process that runs until it is told to end.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
    /// Ends it as SIGTERM does, once.
    asked: CancellationToken,
}

impl Signals {
    pub(crate) fn new(asked: CancellationToken) -> Result<Self, Failure> {
        let watched = |kind| {
            signal(kind).map_err(|error| Failure::internal("signals cannot be watched", &error))
        };
        Ok(Self {
            term: watched(SignalKind::terminate())?,
            int: watched(SignalKind::interrupt())?,
            hup: watched(SignalKind::hangup())?,
            usr2: watched(SignalKind::user_defined2())?,
            asked,
        })
    }

    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.term.recv() => Word::End,
            _ = self.int.recv() => Word::End,
            () = self.asked.cancelled() => {
                self.asked = CancellationToken::new();
                Word::End
            }
            _ = self.hup.recv() => Word::Reload,
            _ = self.usr2.recv() => Word::Upgrade,
        }
    }

    /// SIGTERM or SIGINT, or somebody who asks for the same.
    pub(crate) async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            () = self.asked.cancelled() => self.asked = CancellationToken::new(),
        }
    }
}

/// Drains, and ends; a further signal ends at once.
pub(crate) async fn drain_all(faces: &Faces, signals: &mut Signals) {
    tracing::info!("Draining; a second signal ends at once");
    let drained = faces.drain();
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => return,
            () = signals.end() => faces.kill(),
        }
    }
}

fn session((facts, socket): (String, std::os::fd::OwnedFd)) -> Option<UdpSession> {
    let facts = facts.parse().ok()?;
    Some(UdpSession { facts, socket })
}

fn handed_nothing(error: &io::Error) -> Failure {
    Failure::internal(
        "the sockets of the agent before were not handed over",
        error,
    )
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

/// Agents of one process that still carry connections; each has threads and a view of its own.
const OLDER_MAX: usize = 3;

/// How long one that replaces another may take to know what to serve; the other serves meanwhile.
const READY_MAX: Duration = Duration::from_secs(100);

/// Listeners take their sessions when they open, which they have by then.
const SESSIONS_KEPT: Duration = Duration::from_secs(5);
