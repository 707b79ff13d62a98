// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects of the scripted server, their one rising version, and what happened to them.
//!
//! In: whole objects as JSON, deletions, edits. Out: lists at a version, the events after one, and the truth: every write
//! with its version and time, to compare with what agents saw. Objects are kept as the bytes that are sent, so that a
//! list of a hundred megabytes is put together without copies.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};

use super::{Resource, selector::Selector};
use crate::Error;

/// What identifies an object of a resource; a list has this order.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// An object as it stands or stood.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: Key,
    pub(super) labels: BTreeMap<String, String>,
    /// The object without `kind` and `apiVersion`, which lists leave out and events have in front.
    pub(super) json: Bytes,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// The object is new.
    Added,
    /// It was there before.
    Modified,
    /// It is gone.
    Deleted,
}

/// One line of the truth: what was written when.
#[derive(Clone, Debug)]
pub struct Write {
    /// The version that the write made.
    pub version: u64,
    /// When, in the runtime's time, which tests may pause.
    pub at: Instant,
    /// What kind of object.
    pub resource: Resource,
    /// Its namespace; empty for nodes.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub change: Change,
}

/// A write as watches tell it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    /// None when it was deleted.
    pub(super) now: Option<Arc<Stored>>,
    /// As it was before, still under its old version.
    pub(super) before: Option<Arc<Stored>>,
}

/// A version that is older than the events that are kept.
#[derive(Debug)]
pub(super) struct TooOld;

/// The objects of a server; shared by all of its connections.
#[derive(Debug)]
pub struct Store {
    // Guards objects, events and version, which change together; never held across an await.
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    events_kept: usize,
}

#[derive(Debug)]
struct State {
    version: u64,
    shelves: BTreeMap<Resource, Shelf>,
    truth: VecDeque<Write>,
}

#[derive(Debug, Default)]
struct Shelf {
    objects: BTreeMap<Key, Arc<Stored>>,
    events: VecDeque<Arc<Event>>,
    /// Watches from before this version are too old.
    floor: u64,
}

impl Store {
    pub(super) fn new(events_kept: usize) -> Self {
        Self {
            state: Mutex::new(State::at(FIRST_VERSION)),
            changed: watch::Sender::new(FIRST_VERSION),
            events_kept,
        }
    }

    /// Writes an object whole, by its `kind`; the version that this made. The version in it is replaced, and a missing
    /// namespace is `default`.
    ///
    /// # Errors
    /// [`Error::Manifest`] when the kind is none that is kept, or there is no name.
    pub fn put(&self, object: Value) -> Result<u64, Error> {
        let mut state = self.lock();
        let version = state.version + 1;
        let (resource, stored) = Stored::of(object, version)?;
        Ok(self.write(&mut state, resource, Arc::new(stored)))
    }

    /// Changes an object in place; the version that this made, or none when it is not there.
    ///
    /// # Errors
    /// [`Error::Manifest`] when the change takes the name away.
    pub fn edit(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Option<u64>, Error> {
        let mut state = self.lock();
        let Some(mut object) = state.get(resource, &Key::new(namespace, name)) else {
            return Ok(None);
        };
        change(&mut object);
        object["kind"] = resource.kind().into();
        let (_, stored) = Stored::of(object, state.version + 1)?;
        Ok(Some(self.write(&mut state, resource, Arc::new(stored))))
    }

    /// Deletes an object; the version that this made, or none when it is not there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> Option<u64> {
        let mut state = self.lock();
        let version = state.version + 1;
        let shelf = state.shelves.entry(resource).or_default();
        let gone = shelf.objects.remove(&Key::new(namespace, name))?;
        let key = gone.key.clone();
        self.happened(&mut state, resource, key, None, Some(gone));
        Some(version)
    }

    /// The object as it stands.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.lock().get(resource, &Key::new(namespace, name))
    }

    /// The names of all objects of a resource, with their namespaces.
    pub fn names(&self, resource: Resource) -> Vec<(String, String)> {
        let state = self.lock();
        let shelf = state.shelves.get(&resource);
        let keys = shelf.into_iter().flat_map(|shelf| shelf.objects.keys());
        keys.map(|key| (key.namespace.clone(), key.name.clone()))
            .collect()
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Forgets all events: a watch from any earlier version is told 410, as after a compaction.
    pub fn compact(&self) {
        let mut state = self.lock();
        let version = state.version;
        for resource in Resource::ALL {
            let shelf = state.shelves.entry(resource).or_default();
            shelf.events.clear();
            shelf.floor = version;
        }
    }

    /// Loses everything and continues at this version, as a cluster whose store was restored from nothing does. Watches
    /// that are open learn nothing of it.
    pub fn wipe(&self, version: u64) {
        let mut state = self.lock();
        let truth = std::mem::take(&mut state.truth);
        *state = State::at(version);
        state.truth = truth;
        self.changed.send_replace(version);
    }

    /// Every write, oldest first; of very many only the last million.
    pub fn truth(&self) -> Vec<Write> {
        self.lock().truth.iter().cloned().collect()
    }

    /// What is selected now, in order, and the version of this list.
    pub(super) fn select(
        &self,
        resource: Resource,
        selector: &Selector,
    ) -> (u64, Vec<Arc<Stored>>) {
        let state = self.lock();
        let shelf = state.shelves.get(&resource);
        let objects = shelf.into_iter().flat_map(|shelf| shelf.objects.values());
        let selected = objects.filter(|object| selector.matches(object));
        (state.version, selected.cloned().collect())
    }

    /// Up to `limit` events after a version, and the version that the store has reached.
    pub(super) fn events_after(
        &self,
        resource: Resource,
        version: u64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), TooOld> {
        let state = self.lock();
        let Some(shelf) = state.shelves.get(&resource) else {
            return Ok((Vec::new(), state.version));
        };
        if version < shelf.floor {
            return Err(TooOld);
        }
        let first = shelf
            .events
            .partition_point(|event| event.version <= version);
        let events = shelf.events.range(first..).take(limit);
        Ok((events.cloned().collect(), state.version))
    }

    /// Tells of every write.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn write(&self, state: &mut State, resource: Resource, stored: Arc<Stored>) -> u64 {
        let shelf = state.shelves.entry(resource).or_default();
        let before = shelf.objects.insert(stored.key.clone(), stored.clone());
        self.happened(state, resource, stored.key.clone(), Some(stored), before);
        state.version
    }

    fn happened(
        &self,
        state: &mut State,
        resource: Resource,
        key: Key,
        now: Option<Arc<Stored>>,
        before: Option<Arc<Stored>>,
    ) {
        state.version += 1;
        let version = state.version;
        let change = match (&now, &before) {
            (None, _) => Change::Deleted,
            (Some(_), None) => Change::Added,
            (Some(_), Some(_)) => Change::Modified,
        };
        let shelf = state.shelves.entry(resource).or_default();
        shelf.events.push_back(Arc::new(Event {
            version,
            now,
            before,
        }));
        if shelf.events.len() > self.events_kept
            && let Some(forgotten) = shelf.events.pop_front()
        {
            shelf.floor = forgotten.version;
        }
        if state.truth.len() == TRUTH_MAX {
            state.truth.pop_front();
        }
        state.truth.push_back(Write {
            version,
            at: Instant::now(),
            resource,
            namespace: key.namespace,
            name: key.name,
            change,
        });
        self.changed.send_replace(version);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn at(version: u64) -> Self {
        Self {
            version,
            shelves: Resource::ALL.map(|one| (one, Shelf::at(version))).into(),
            truth: VecDeque::new(),
        }
    }

    fn get(&self, resource: Resource, key: &Key) -> Option<Value> {
        let stored = self.shelves.get(&resource)?.objects.get(key)?;
        serde_json::from_slice(&stored.json).ok()
    }
}

impl Shelf {
    fn at(version: u64) -> Self {
        Self {
            floor: version,
            ..Self::default()
        }
    }
}

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl Stored {
    /// The object under a new version.
    pub(super) fn of(mut object: Value, version: u64) -> Result<(Resource, Self), Error> {
        let refuse = |why: &str| Error::manifest("an object for the scripted API server", why);
        let fields = object.as_object_mut();
        let fields = fields.ok_or_else(|| refuse("it is no JSON object"))?;
        let kind = fields.remove("kind");
        fields.remove("apiVersion");
        let resource = kind.as_ref().and_then(Value::as_str);
        let resource = resource.and_then(Resource::of_kind);
        let resource = resource.ok_or_else(|| refuse("its kind is none that is kept"))?;
        let Some(Value::Object(mut metadata)) = fields.remove("metadata") else {
            return Err(refuse("it has no metadata"));
        };
        metadata.insert("resourceVersion".into(), version.to_string().into());
        if resource.is_namespaced() {
            metadata
                .entry("namespace")
                .or_insert_with(|| "default".into());
        }
        let text = |field| metadata.get(field).and_then(Value::as_str);
        let key = Key::new(
            text("namespace").unwrap_or_default(),
            text("name").ok_or_else(|| refuse("it has no name"))?,
        );
        let labels = labels(&metadata);
        let json = written(metadata, fields);
        Ok((resource, Self { key, labels, json }))
    }

    /// The same object as a deletion at this version tells it.
    pub(super) fn at(&self, version: u64) -> Self {
        let mut object: Value = serde_json::from_slice(&self.json).unwrap_or_default();
        let mut metadata = Map::new();
        if let Some(Value::Object(own)) = object.get_mut("metadata") {
            metadata = std::mem::take(own);
        }
        metadata.insert("resourceVersion".into(), version.to_string().into());
        let mut rest = Map::new();
        if let Value::Object(mut fields) = object {
            fields.remove("metadata");
            rest = fields;
        }
        Self {
            key: self.key.clone(),
            labels: self.labels.clone(),
            json: written(metadata, &rest),
        }
    }
}

/// The metadata stands in front, where real servers have it.
fn written(metadata: Map<String, Value>, rest: &Map<String, Value>) -> Bytes {
    let mut text = String::from(r#"{"metadata":"#);
    text.push_str(&Value::Object(metadata).to_string());
    for (name, value) in rest {
        let _ = write!(text, ",{}:{value}", Value::from(name.as_str()));
    }
    text.push('}');
    text.into()
}

fn labels(metadata: &Map<String, Value>) -> BTreeMap<String, String> {
    let labels = metadata.get("labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Real versions begin at 1.
const FIRST_VERSION: u64 = 1;
const TRUTH_MAX: usize = 1_000_000;
