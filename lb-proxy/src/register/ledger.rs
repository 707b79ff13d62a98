// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which instances are registered, and what has to be told to Consul next.
//!
//! In: what each listener is worth, outcomes of calls, the time. Out: steps. Pure.

use super::Registration;
use crate::{
    prove::Proof,
    status::{ListenerState, ListenerStatus},
};
use discovery_core::{
    model::{NodeName, Protocol},
    source::{ConsulCallError, ConsulHealth, ConsulInstance},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

/// An instance that could be, and whether it should.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) instance: ConsulInstance,
    pub(super) worth: Worth,
    pub(super) note: String,
}

/// What a listener is worth to clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Worth {
    /// It serves, and connections come out here.
    Serves,
    /// It will serve again soon, as far as anybody knows.
    Pauses,
    /// Clients do not reach it, or not us.
    Out,
}

/// One call to the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Register(ConsulInstance),
    Report {
        instance: ConsulInstance,
        health: ConsulHealth,
        note: String,
    },
    Deregister(ConsulInstance),
}

/// The instances of this host by id; as many as there are listeners.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// Between critical and gone.
    leave_wait: Duration,
}

#[derive(Debug)]
struct Entry {
    instance: ConsulInstance,
    registered_at: Option<Instant>,
    reported: Option<ConsulHealth>,
    /// Since when it is critical.
    critical_since: Option<Instant>,
    /// Whether the last call failed; the next failure is no news, and waits for the next beat.
    has_failed: bool,
}

impl Standing {
    /// What the listener is worth. A port that nobody asked a proof of is believed; one that cannot be proved is not.
    pub(super) fn of(
        listener: &ListenerStatus,
        is_alive: bool,
        node: &NodeName,
        address: IpAddr,
        registration: &Registration,
    ) -> Self {
        let is_proved = matches!(listener.proof, Proof::Passed | Proof::NotAsked);
        let worth = match &listener.state {
            ListenerState::Serving if is_proved && is_alive => Worth::Serves,
            ListenerState::Serving if is_proved => Worth::Pauses,
            ListenerState::Holding
            | ListenerState::Isolated { .. }
            | ListenerState::NoEndpoint
            | ListenerState::Opening
            | ListenerState::Bound => Worth::Pauses,
            _ => Worth::Out,
        };
        let note = match (&listener.proof, is_alive) {
            (_, false) => "a worker thread does not answer".into(),
            (Proof::Impossible { cause }, _) => format!("{}; no proof: {cause}", listener.state),
            _ => listener.state.to_string(),
        };
        Self {
            instance: instance(listener, node, address, registration),
            worth,
            note,
        }
    }
}

fn instance(
    listener: &ListenerStatus,
    node: &NodeName,
    address: IpAddr,
    registration: &Registration,
) -> ConsulInstance {
    let service = &listener.service;
    let name = match service.namespace() {
        "default" => service.name().to_owned(),
        namespace => format!("{}-{namespace}", service.name()),
    };
    let mut tags = registration.tags.clone();
    tags.extend((!listener.port_name.is_empty()).then(|| listener.port_name.to_string()));
    tags.extend((listener.protocol == Protocol::Udp).then(|| "udp".to_owned()));
    let meta = [
        ("external-source", "zonal".to_owned()),
        ("kubernetes-service", service.to_string()),
        ("kubernetes-node", node.to_string()),
    ];
    ConsulInstance {
        id: format!(
            "zonal:{name}:{}:{}:{node}",
            listener.wanted, listener.protocol
        ),
        name,
        address,
        port: listener.port,
        tags,
        meta: meta.map(|(key, value)| (key.to_owned(), value)).into(),
        weight: registration.weight,
        ttl: registration.ttl,
        forget_after: FORGET_AFTER,
    }
}

impl Ledger {
    pub(super) fn new(leave_wait: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            leave_wait,
        }
    }

    /// What has to be told now; at a beat also what was told before.
    pub(super) fn steps(&self, now: Instant, standings: Vec<Standing>, is_beat: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut gone: Vec<String> = self.entries.keys().cloned().collect();
        for Standing {
            instance,
            worth,
            note,
        } in standings
        {
            gone.retain(|id| *id != instance.id);
            let known = self.entries.get(&instance.id);
            let is_registered = known.is_some_and(|entry| entry.registered_at.is_some());
            let must_wait = known.is_some_and(|entry| entry.has_failed) && !is_beat;
            if must_wait {
                continue;
            }
            match (worth, is_registered) {
                (Worth::Serves, false) => steps.push(Step::Register(instance)),
                (Worth::Serves, true) => {
                    if known.is_some_and(|entry| entry.is_outdated(now, &instance)) {
                        steps.push(Step::Register(instance.clone()));
                    }
                    self.report(&mut steps, instance, ConsulHealth::Passing, note, is_beat);
                }
                (Worth::Pauses, true) => {
                    self.report(&mut steps, instance, ConsulHealth::Critical, note, is_beat);
                }
                (Worth::Out, true) => {
                    self.report(
                        &mut steps,
                        instance.clone(),
                        ConsulHealth::Critical,
                        note,
                        false,
                    );
                    steps.push(Step::Deregister(instance));
                }
                (Worth::Pauses | Worth::Out, false) => {}
            }
        }
        for id in gone {
            steps.extend(self.leave(now, &id, is_beat));
        }
        steps
    }

    /// The next step of an instance whose listener is gone or leaves: critical first, so that nobody is sent here any more, and
    /// taken away after the wait.
    fn leave(&self, now: Instant, id: &str, is_beat: bool) -> Option<Step> {
        let entry = self.entries.get(id)?;
        if entry.registered_at.is_none() || entry.has_failed && !is_beat {
            return None;
        }
        let instance = entry.instance.clone();
        match entry.critical_since {
            None => Some(Step::Report {
                instance,
                health: ConsulHealth::Critical,
                note: "this port leaves".into(),
            }),
            Some(since) if now.saturating_duration_since(since) >= self.leave_wait => {
                Some(Step::Deregister(instance))
            }
            Some(_) => None,
        }
    }

    /// When the next instance that is not among those that stand is to be taken away.
    pub(super) fn due(&self, standings: &[Standing]) -> Option<Instant> {
        let stands = |id: &String| standings.iter().any(|standing| standing.instance.id == *id);
        let leaving = self.entries.iter().filter(|(id, entry)| {
            entry.registered_at.is_some() && !entry.has_failed && !stands(id)
        });
        let since = leaving.filter_map(|(_, entry)| entry.critical_since);
        since.min().map(|since| since + self.leave_wait)
    }

    /// Takes in how a step went.
    pub(super) fn done(&mut self, now: Instant, step: Step, outcome: Result<(), ConsulCallError>) {
        let id = step.instance().id.clone();
        if outcome.is_ok() && matches!(step, Step::Deregister(_)) {
            self.entries.remove(&id);
            return;
        }
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            instance: step.instance().clone(),
            registered_at: None,
            reported: None,
            critical_since: None,
            has_failed: false,
        });
        entry.has_failed = outcome.is_err();
        match (step, outcome) {
            (Step::Register(instance), Ok(())) => {
                entry.instance = instance;
                entry.registered_at = Some(now);
            }
            (Step::Report { health, .. }, Ok(())) => {
                entry.reported = Some(health);
                let is_critical = health == ConsulHealth::Critical;
                let since = entry.critical_since.unwrap_or(now);
                entry.critical_since = is_critical.then_some(since);
            }
            (Step::Report { .. }, Err(error)) if error.is_forgotten() => {
                // At once, not at the next beat: until then nobody is sent here.
                (entry.registered_at, entry.reported, entry.has_failed) = (None, None, false);
                entry.critical_since = None;
            }
            _ => {}
        }
    }

    /// A step for every instance that is registered.
    pub(super) fn all(&self, step: impl Fn(ConsulInstance) -> Step) -> Vec<Step> {
        let registered = self
            .entries
            .values()
            .filter(|entry| entry.registered_at.is_some());
        registered
            .map(|entry| step(entry.instance.clone()))
            .collect()
    }

    /// Whether a failure of the step is the first in a row.
    pub(super) fn is_news(&self, step: &Step) -> bool {
        let entry = self.entries.get(&step.instance().id);
        entry.is_none_or(|entry| !entry.has_failed)
    }

    /// Whether the step makes a difference to clients.
    pub(super) fn is_change(&self, step: &Step) -> bool {
        let entry = self.entries.get(&step.instance().id);
        match step {
            Step::Register(_) => entry.is_none_or(|entry| entry.registered_at.is_none()),
            Step::Report { health, .. } => {
                entry.is_none_or(|entry| entry.reported != Some(*health))
            }
            Step::Deregister(_) => true,
        }
    }

    fn report(
        &self,
        steps: &mut Vec<Step>,
        instance: ConsulInstance,
        health: ConsulHealth,
        note: String,
        is_beat: bool,
    ) {
        let reported = self
            .entries
            .get(&instance.id)
            .and_then(|entry| entry.reported);
        if is_beat || reported != Some(health) {
            steps.push(Step::Report {
                instance,
                health,
                note,
            });
        }
    }
}

impl Entry {
    /// Whether it is to be registered anew: it is another, or its agent may have lost it without a word.
    fn is_outdated(&self, now: Instant, instance: &ConsulInstance) -> bool {
        let age = self
            .registered_at
            .map(|at| now.saturating_duration_since(at));
        self.instance != *instance || age.is_some_and(|age| age >= ANEW_AFTER)
    }
}

impl Step {
    fn instance(&self) -> &ConsulInstance {
        let (Self::Register(instance) | Self::Deregister(instance) | Self::Report { instance, .. }) =
            self;
        instance
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(instance) => write!(f, "register {}", instance.id),
            Self::Deregister(instance) => write!(f, "deregister {}", instance.id),
            Self::Report {
                instance,
                health,
                note,
            } => write!(f, "report {} {health:?}: {note}", instance.id),
        }
    }
}

/// An agent that comes back may be asked for its instances by people who look for the reason.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// An agent without its data directory forgets its services, and a server that was restored has old ones.
const ANEW_AFTER: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests;
