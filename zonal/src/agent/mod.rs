// SPDX-License-Identifier: MIT OR Apache-2.0
//! `zonal agent`: both faces of a node on one watch, and how one agent replaces another without a failed connection.
//!
//! In: flags, environment and file; signals, and whoever knocks at the door. Out: an exit code. SIGHUP has an agent with the newest
//! configuration take over in this process, SIGUSR2 one in a process of a new binary, and a knock one that somebody else started;
//! SIGTERM and SIGINT drain. The new one opens its ports on the sockets of the old one, which stops accepting only after that, and
//! keeps what it carries (decision 0073).

mod activation;
mod channel;
mod descriptors;
mod door;
mod instance;
mod panics;
mod signals;
mod upgrade;

pub(crate) use activation::sockets as activation;
pub(crate) use door::DoorAddress;
pub(crate) use panics::{Panics, count_panics};
pub(crate) use signals::{Signals, drain_all};

use crate::{cli::AgentArgs, config::AgentConfig, failure::Failure, logging};
use channel::Channel;
use discovery_core::runtime::Sockets;
use door::Door;
use instance::{Agent, not_handed};
use signals::{Word, drain_until_told};
use std::{io, process::ExitCode};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use upgrade::{Binary, replaced, tell_supervisor};

pub(crate) async fn run(args: &AgentArgs, inherited: Sockets) -> Result<ExitCode, Failure> {
    logging::init(logging::AGENT_FILTER);
    descriptors::raise_limit();
    let (panics, asked) = (count_panics(), CancellationToken::new());
    let mut signals = Signals::new(asked.clone())?;
    let binary = Binary::of_this_process();
    let binary = binary.map_err(|error| Failure::internal("our own binary is unknown", &error))?;
    let config = AgentConfig::load(args)?;
    let before = before(&config).map_err(|error| not_handed(&error))?;
    let agent = match before {
        None => {
            let agent = Agent::start(config, inherited, None, &asked).await?;
            agent.close_rest_once_open();
            agent
        }
        Some(before) => Agent::take_over(&before, config, &asked).await?,
    };
    panics.of(&agent.runtime);
    tell_supervisor("READY=1");
    let mut life = Life {
        args,
        binary,
        panics,
        asked,
        agent,
        door: None,
        older: JoinSet::new(),
    };
    life.open_door();
    let end = life.follow(&mut signals).await;
    life.end(&mut signals, end).await;
    tracing::info!("Agent ended");
    Ok(ExitCode::SUCCESS)
}

/// The channel to the agent that this one replaces: to the one that started us, or to the one behind the door.
fn before(config: &AgentConfig) -> io::Result<Option<Channel>> {
    match (replaced()?, &config.door) {
        (Some(parent), _) => Ok(Some(parent)),
        (None, Some(door)) => door.knock(),
        (None, None) => Ok(None),
    }
}

/// The agent that serves, and those before it that still carry connections.
struct Life<'a> {
    args: &'a AgentArgs,
    binary: Binary,
    panics: Panics,
    /// That `zonal drain` was called.
    asked: CancellationToken,
    agent: Agent,
    door: Option<Door>,
    older: JoinSet<()>,
}

/// Why a process accepts nothing more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is told to end, or its child has taken over.
    Now,
    /// One that somebody else started has taken over. Whoever started us ends us in his own time, and would start us anew before.
    WhenTold,
}

impl Life<'_> {
    /// Replaces the agent as it is asked for, until this process has nothing more to accept.
    async fn follow(&mut self, signals: &mut Signals) -> End {
        loop {
            let asked = tokio::select! {
                word = signals.next() => Ok(word),
                channel = Door::next(self.door.as_ref()) => Err(channel),
            };
            let end = async {
                match asked {
                    Ok(Word::End) => Some(End::Now),
                    Ok(Word::Reload) => self.reload().await,
                    Ok(Word::Upgrade) => self.upgrade().await,
                    Err(channel) => self.give_way(&channel).await,
                }
            };
            let end = tokio::select! {
                end = end => end,
                () = signals.end() => Some(End::Now),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Has an agent with the newest configuration take over; where that fails the one before goes on.
    async fn reload(&mut self) -> Option<End> {
        while self.older.len() >= OLDER_MAX {
            tracing::info!("Reload waits for the connections of an earlier one");
            self.older.join_next().await;
        }
        match self.agent.successor(self.args, &self.asked).await {
            Ok(agent) => {
                self.panics.of(&agent.runtime);
                let older = std::mem::replace(&mut self.agent, agent);
                self.older.spawn(async move { older.faces.drain().await });
                self.open_door();
                tracing::info!("Configuration came into force");
            }
            Err(failure) => {
                self.agent.runtime.metrics().config_refused();
                tracing::error!(%failure, "Configuration refused; the one before holds");
            }
        }
        while self.older.try_join_next().is_some() {}
        None
    }

    /// Has a new process of ours take over; where that fails this one goes on.
    async fn upgrade(&mut self) -> Option<End> {
        let binary = self.binary.path().display().to_string();
        let (channel, mut child) = match self.binary.start() {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(%error, binary, "No other process took over; this one goes on");
                return None;
            }
        };
        let pid = child.id();
        if let Err(error) = self.agent.offer(&channel).await {
            // It may have ended by itself; its status is of no use then.
            let _ = child.kill();
            let _ = child.wait();
            tracing::error!(%error, binary, "No other process took over; this one goes on");
            return None;
        }
        tell_supervisor(&format!("MAINPID={pid}"));
        self.let_go(&channel).await;
        tracing::info!(pid, "Another process has taken over");
        Some(End::Now)
    }

    /// Has whoever knocked take over; where that fails this one goes on.
    async fn give_way(&mut self, channel: &Channel) -> Option<End> {
        if let Err(error) = self.agent.offer(channel).await {
            tracing::error!(%error, "Whoever knocked did not take over; this one goes on");
            return None;
        }
        self.let_go(channel).await;
        tracing::info!("Another agent of this host has taken over");
        Some(End::WhenTold)
    }

    /// Closes all that is open, the door first: the next one opens it when it has our sessions.
    async fn let_go(&mut self, channel: &Channel) {
        self.door = None;
        self.agent.let_go(channel).await;
    }

    /// Opens the door that the configuration names, unless it is open; without it this one serves as well.
    fn open_door(&mut self) {
        if self.door.as_ref().map(Door::address) == self.agent.door.as_ref() {
            return;
        }
        self.door = None;
        let Some(address) = self.agent.door.clone() else {
            return;
        };
        match address.clone().open() {
            Ok(door) => self.door = Some(door),
            Err(error) => {
                tracing::error!(%error, %address, "No other agent can take over from this one");
            }
        }
    }

    /// Drains; further signals end the connections that are left.
    async fn end(mut self, signals: &mut Signals, end: End) {
        match end {
            End::Now => drain_all(&self.agent.faces, signals).await,
            End::WhenTold => drain_until_told(&self.agent.faces, signals).await,
        }
        // They began before, and have the same time at most.
        while self.older.join_next().await.is_some() {}
    }
}

/// Agents of one process that still carry connections; each has threads and a view of its own.
const OLDER_MAX: usize = 3;
