// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the watches of a Consul source and states what they hear.
//!
//! The catalog says which services are watched; each has a watch of its own. A service that left the catalog is gone when
//! its own answer says that it has no instance: a catalog may be filtered by ACLs, or come from a server that lost its data.

use super::{
    client::{Question, encode},
    ledger::Ledger,
    pulse::Pulse,
    select::{Filter, Selection},
    translate::Dictionary,
    troubles::Troubles,
    watch::{Heard, Shared, Watch},
    wire::{self, RawNode, Reading},
};
use crate::{
    model::{NodeName, ServiceName},
    source::UpdateSender,
    store::{Kind, Object, ObjectKey, Problem, SourceId, Update},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

/// What a watch tells.
enum Event {
    Catalog(Heard<BTreeMap<String, Vec<String>>>),
    OwnNode(Heard<Option<RawNode>>),
    Service(String, Heard<Vec<Reading>>),
}

/// What is asked of Consul, and for whom.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) filter: Filter,
    pub(super) dictionary: Dictionary,
    /// The datacenter to ask about; none means the agent's own.
    pub(super) datacenter: Option<String>,
    /// Our own node, when Consul is to tell its zone.
    pub(super) own_node: Option<NodeName>,
}

/// The one task that owns what was heard.
pub(super) struct Manager {
    plan: Plan,
    shared: Arc<Shared>,
    sender: UpdateSender,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    ledger: Ledger,
    selection: Option<Selection>,
    watched: BTreeMap<String, Watched>,
    pulses: BTreeMap<Kind, Pulse>,
    troubles: Troubles,
    own_node_told: bool,
}

/// A service under watch.
struct Watched {
    service: ServiceName,
    task: AbortHandle,
    was_heard: bool,
}

/// Nobody listens any more.
pub(super) struct Closed;

impl Manager {
    /// Runs until nobody listens.
    pub(super) async fn run(plan: Plan, shared: Arc<Shared>, sender: UpdateSender) {
        let (events, mut heard) = mpsc::channel(EVENTS_MAX);
        let mut manager = Self {
            plan,
            shared,
            sender,
            events,
            tasks: JoinSet::new(),
            ledger: Ledger::default(),
            selection: None,
            watched: BTreeMap::new(),
            pulses: BTreeMap::new(),
            troubles: Troubles::default(),
            own_node_told: false,
        };
        let mut alive = manager.begin().await.is_ok();
        while alive {
            // Never closed: the manager holds a sender itself.
            let Some(event) = heard.recv().await else {
                return;
            };
            alive = manager.take(event).await.is_ok();
        }
    }

    async fn begin(&mut self) -> Result<(), Closed> {
        if let Some(node) = self.plan.own_node.clone() {
            let question = self.question(
                &format!("catalog/node/{}", encode(node.as_str())),
                "",
                NODES_RULE,
            );
            self.begin_watch(
                Kind::OwnNode,
                OWN_NODE,
                question,
                wire::node,
                Event::OwnNode,
            );
        }
        if let Some(selection) = self.plan.filter.fixed(&self.plan.dictionary) {
            return self.select(selection).await;
        }
        let rule = format!("{SERVICES_RULE} and {NODES_RULE}");
        let question = self.question("catalog/services", "", &rule);
        let tell = Event::Catalog;
        self.begin_watch(Kind::Services, CATALOG, question, wire::services, tell);
        Ok(())
    }

    async fn take(&mut self, event: Event) -> Result<(), Closed> {
        match event {
            Event::Catalog(heard) => {
                if let Some(catalog) = self.note(Kind::Services, CATALOG, heard) {
                    let selection = self.plan.filter.select(&catalog, &self.plan.dictionary);
                    self.select(selection).await?;
                    self.shared.status.synced(Kind::Services);
                }
            }
            Event::OwnNode(heard) => {
                if let Some(raw) = self.note(Kind::OwnNode, OWN_NODE, heard) {
                    self.own_node(raw).await?;
                }
            }
            Event::Service(name, heard) => self.service(&name, heard).await?,
        }
        self.tell_troubles().await?;
        self.complete_when_all_heard().await?;
        self.show();
        Ok(())
    }

    /// Watches what is selected, and no more what is not.
    async fn select(&mut self, selection: Selection) -> Result<(), Closed> {
        for (name, service) in &selection.services {
            if !self.watched.contains_key(name) {
                self.watch_service(name, service);
            }
        }
        let over_limit = |this: &Self| this.watched.len() > this.plan.filter.services_max;
        let left = self
            .watched
            .iter()
            .filter(|(name, _)| !selection.services.contains_key(*name));
        let left: Vec<_> = left
            .map(|(name, watched)| (name.clone(), watched.service.clone()))
            .collect();
        for (name, service) in left {
            let replaced = selection.services.values().any(|other| *other == service);
            // What has instances yet is believed to be gone when its own watch says so.
            if replaced || !self.ledger.has(&service) || over_limit(self) {
                self.end_service(&name, !replaced).await?;
            }
        }
        self.selection = Some(selection);
        self.tell_troubles().await?;
        self.complete_when_all_heard().await
    }

    fn watch_service(&mut self, name: &str, service: &ServiceName) {
        let rule = service_rule(name);
        let tag = self
            .plan
            .filter
            .tag
            .as_ref()
            .map(|tag| format!("tag={}", encode(tag)));
        let path = format!("health/service/{}", encode(name));
        let question = self.question(&path, &tag.unwrap_or_default(), &rule);
        let own_name = name.to_owned();
        let tell = move |heard| Event::Service(own_name.clone(), heard);
        let task = self.begin_watch(Kind::Slices, name, question, wire::entries, tell);
        let watched = Watched {
            service: service.clone(),
            task,
            was_heard: false,
        };
        self.watched.insert(name.to_owned(), watched);
        self.shared.services.store(self.watched.len(), Relaxed);
    }

    async fn end_service(&mut self, name: &str, takes_back: bool) -> Result<(), Closed> {
        let Some(watched) = self.watched.remove(name) else {
            return Ok(());
        };
        watched.task.abort();
        self.shared.services.store(self.watched.len(), Relaxed);
        self.troubles.forget(name);
        self.pulse(Kind::Slices).end(name);
        if takes_back {
            let updates = self.ledger.remove(&watched.service);
            self.send(updates).await?;
        }
        Ok(())
    }

    async fn service(&mut self, name: &str, heard: Heard<Vec<Reading>>) -> Result<(), Closed> {
        let is_filtered = matches!(
            heard,
            Heard::News {
                is_filtered: true,
                ..
            }
        );
        let readings = self.note(Kind::Slices, name, heard);
        let (Some(readings), Some(watched)) = (readings, self.watched.get_mut(name)) else {
            return Ok(());
        };
        let rule = is_filtered.then(|| service_rule(name));
        self.troubles.set_hidden(name, rule.as_deref());
        if is_filtered && readings.is_empty() {
            // Hidden is not gone: what was known stays.
            return Ok(());
        }
        watched.was_heard = true;
        let service = watched.service.clone();
        let before = self.ledger.read(&service);
        let translated = self.plan.dictionary.translate(&service, readings, before);
        let is_selected = self
            .selection
            .as_ref()
            .is_some_and(|s| s.services.contains_key(name));
        if translated.is_empty() && !is_selected {
            return self.end_service(name, true).await;
        }
        let updates = self.ledger.set(&service, translated);
        self.send(updates).await
    }

    async fn own_node(&mut self, raw: Option<RawNode>) -> Result<(), Closed> {
        let Some(name) = self.plan.own_node.clone() else {
            return Ok(());
        };
        let stated = match raw {
            Some(raw) => {
                let node = self.plan.dictionary.own_node(&name, &raw);
                Update::Upsert(SOURCE, Object::OwnNode(node))
            }
            None => Update::Absent(SOURCE, ObjectKey::OwnNode(name)),
        };
        let mut updates = vec![stated];
        if !std::mem::replace(&mut self.own_node_told, true) {
            updates.push(Update::Synced(SOURCE, Kind::OwnNode));
        }
        self.shared.status.synced(Kind::OwnNode);
        self.send(updates).await
    }

    /// Notes how a watch fares, and passes on what is new.
    fn note<T>(&mut self, kind: Kind, watch: &str, heard: Heard<T>) -> Option<T> {
        let (value, is_fresh) = match heard {
            Heard::News {
                value, is_fresh, ..
            } => (Some(value), is_fresh),
            Heard::Same { is_fresh } => (None, is_fresh),
            Heard::Failed(failure) => {
                self.pulse(kind).failed(watch);
                let (reason, error) = (failure.reason, &failure.text);
                if self.troubles.failed(watch, &failure) {
                    tracing::warn!(watch, %reason, error, "Consul request failed");
                } else {
                    tracing::debug!(watch, %reason, error, "Consul request failed");
                }
                return None;
            }
        };
        self.troubles.answered(watch);
        self.pulse(kind).answered(watch, Instant::now(), is_fresh);
        value
    }

    async fn tell_troubles(&mut self) -> Result<(), Closed> {
        let of_selection = self
            .selection
            .iter()
            .flat_map(|selection| &selection.problems);
        let problems = of_selection.cloned().chain(self.troubles.problems());
        let troubles: BTreeSet<Problem> = problems.collect();
        let updates = self.ledger.set_troubles(troubles);
        self.send(updates).await
    }

    /// A service that is refused holds nobody up once another was heard.
    async fn complete_when_all_heard(&mut self) -> Result<(), Closed> {
        if self.ledger.is_told() || self.selection.is_none() {
            return Ok(());
        }
        let heard = self
            .watched
            .values()
            .filter(|watched| watched.was_heard)
            .count();
        let waits = |(name, watched): (&String, &Watched)| {
            !watched.was_heard && !self.troubles.is_forbidden(name)
        };
        if self.watched.iter().any(waits) || (heard == 0 && !self.watched.is_empty()) {
            return Ok(());
        }
        let updates = self.ledger.complete();
        tracing::info!(services = heard, "Consul read");
        self.send(updates).await?;
        for kind in [Kind::Nodes, Kind::Services, Kind::Slices] {
            self.shared.status.synced(kind);
        }
        Ok(())
    }

    async fn send(&self, updates: Vec<Update>) -> Result<(), Closed> {
        for update in updates {
            self.sender.send(update).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    fn begin_watch<T: Send + 'static>(
        &mut self,
        kind: Kind,
        watch: &str,
        question: Question,
        decode: fn(&[u8]) -> Result<T, serde_json::Error>,
        tell: impl Fn(Heard<T>) -> Event + Send + 'static,
    ) -> AbortHandle {
        self.pulse(kind).begin(watch);
        let mut query = Watch::new(kind, question, decode, self.shared.clone());
        let events = self.events.clone();
        self.tasks.spawn(async move {
            loop {
                let heard = query.next().await;
                if events.send(tell(heard)).await.is_err() {
                    return;
                }
            }
        })
    }

    fn question(&self, path: &str, query: &str, rule: &str) -> Question {
        let datacenter = self
            .plan
            .datacenter
            .as_ref()
            .map(|dc| format!("dc={}", encode(dc)));
        let parts = datacenter
            .into_iter()
            .chain((!query.is_empty()).then(|| query.to_owned()));
        let query: Vec<_> = parts.collect();
        let mark = if query.is_empty() { "" } else { "?" };
        Question {
            path: format!("/v1/{path}{mark}{}", query.join("&")),
            rule: rule.to_owned(),
        }
    }

    fn pulse(&mut self, kind: Kind) -> &mut Pulse {
        self.pulses.entry(kind).or_default()
    }

    fn show(&self) {
        for (kind, pulse) in &self.pulses {
            self.shared.show(*kind, pulse);
        }
    }
}

fn service_rule(name: &str) -> String {
    format!("service {name:?} {{ policy = \"read\" }} and {NODES_RULE}")
}

const SOURCE: SourceId = SourceId::Consul;
/// What watches that are of no service are called.
const CATALOG: &str = "the catalog of services";
const OWN_NODE: &str = "our own node";
const NODES_RULE: &str = r#"node_prefix "" { policy = "read" }"#;
const SERVICES_RULE: &str = r#"service_prefix "" { policy = "read" }"#;
/// What watches may have heard before the manager looked at it.
const EVENTS_MAX: usize = 64;
