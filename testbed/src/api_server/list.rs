// SPDX-License-Identifier: MIT OR Apache-2.0
//! One page of a list: what stands on it, the token of the next, and the body's bytes.
//!
//! All pages of a list show one version. A token names the list that it continues and the last object before; when that
//! list is forgotten, the 410 carries a fresh token that goes on from the same object at the present version.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    answer::{Chunks, failure},
    beta,
    request::Objects,
    selector::Selector,
    store::{Key, Store, Stored},
};

/// The lists that tokens continue.
#[derive(Debug)]
pub(super) struct Cursors {
    next: u64,
    open: VecDeque<Cursor>,
    life: Duration,
}

#[derive(Debug)]
struct Cursor {
    id: u64,
    made: Instant,
    version: u64,
    objects: Arc<[Arc<Stored>]>,
}

/// A page, or part of one, of a list.
#[derive(Debug)]
pub(super) struct Page {
    version: u64,
    token: String,
    remaining: Option<usize>,
    items: Vec<Arc<Stored>>,
}

impl Cursors {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            next: 1,
            open: VecDeque::new(),
            life,
        }
    }

    /// Forgets every list under way, as a compaction does.
    pub(super) fn expire(&mut self) {
        self.open.clear();
    }

    /// The page that begins a list.
    pub(super) fn first(
        &mut self,
        store: &Store,
        objects: &Objects,
        selector: &Selector,
        limit: usize,
    ) -> Page {
        let (version, selected) = store.select(objects.resource, selector);
        self.page(version, &selected.into(), 0, limit, selector, None)
    }

    /// The page that a token asks for; the error is the `Status` to refuse it with.
    pub(super) fn next(
        &mut self,
        store: &Store,
        objects: &Objects,
        selector: &Selector,
        limit: usize,
        token: &str,
    ) -> Result<Page, Value> {
        let invalid = || failure(400, "BadRequest", "continue key is not valid");
        let (id, after) = parse(token).ok_or_else(invalid)?;
        let now = Instant::now();
        let life = self.life;
        self.open.retain(|cursor| now - cursor.made < life);
        let after_key = |all: &[Arc<Stored>]| all.partition_point(|object| object.key <= after);
        if id == PRESENT {
            let (version, selected) = store.select(objects.resource, selector);
            let from = after_key(&selected);
            return Ok(self.page(version, &selected.into(), from, limit, selector, None));
        }
        let Some(cursor) = self.open.iter().find(|cursor| cursor.id == id) else {
            let text = "The provided continue parameter is too old to display a consistent list result. You can start \
                        a new list without the continue parameter, or use the continue token in this response.";
            let mut status = failure(410, "Expired", text);
            status["metadata"] = json!({ "continue": written(PRESENT, &after) });
            return Err(status);
        };
        let (version, all) = (cursor.version, cursor.objects.clone());
        let from = after_key(&all);
        Ok(self.page(version, &all, from, limit, selector, Some(id)))
    }

    fn page(
        &mut self,
        version: u64,
        all: &Arc<[Arc<Stored>]>,
        from: usize,
        limit: usize,
        selector: &Selector,
        id: Option<u64>,
    ) -> Page {
        let to = from.saturating_add(limit).min(all.len());
        let items = all.get(from..to).unwrap_or_default().to_vec();
        let remaining = all.len() - to;
        let mut token = String::new();
        if let Some(last) = items.last().filter(|_| remaining > 0) {
            let id = id.unwrap_or_else(|| self.open(version, all.clone()));
            token = written(id, &last.key);
        }
        Page {
            version,
            token,
            // A server does not count what a selector would have to be tried on.
            remaining: Some(remaining).filter(|n| *n > 0 && selector.is_everything()),
            items,
        }
    }

    fn open(&mut self, version: u64, objects: Arc<[Arc<Stored>]>) -> u64 {
        if self.open.len() == CURSORS_MAX {
            self.open.pop_front();
        }
        let id = self.next;
        self.next += 1;
        self.open.push_back(Cursor {
            id,
            made: Instant::now(),
            version,
            objects,
        });
        id
    }
}

impl Page {
    /// The same page without its objects and without a next one.
    pub(super) fn emptied(self) -> Self {
        Self {
            token: String::new(),
            remaining: None,
            items: Vec::new(),
            ..self
        }
    }

    /// About how many bytes the body has, before compression.
    pub(super) fn size_bytes(&self) -> usize {
        self.items.iter().map(|item| item.json.len() + 1).sum()
    }

    /// The body, an object at a time.
    pub(super) fn chunks(self, objects: &Objects) -> Chunks {
        let (resource, is_beta) = (objects.resource, objects.is_beta);
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if !self.token.is_empty() {
            metadata["continue"] = self.token.into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let head = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
            resource.kind(),
            resource.api_version(is_beta),
        );
        let items = self.items.into_iter().enumerate();
        let items = items.flat_map(move |(nth, item)| {
            let comma = Bytes::from_static(if nth == 0 { b"" } else { b"," });
            [comma, beta::spoken(&item, is_beta)]
        });
        let items = items.filter(|bytes| !bytes.is_empty());
        let all = [Bytes::from(head)].into_iter().chain(items);
        stream::iter(all.chain([Bytes::from_static(b"]}\n")]).map(Ok)).boxed()
    }
}

/// `id.namespace.name`: neither of these has a dot that would not be found from the left, and namespaces have none.
fn written(id: u64, key: &Key) -> String {
    format!("{id}.{}.{}", key.namespace, key.name)
}

fn parse(token: &str) -> Option<(u64, Key)> {
    let (id, rest) = token.split_once('.')?;
    let (namespace, name) = rest.split_once('.')?;
    Some((id.parse().ok()?, Key::new(namespace, name)))
}

/// The list that a fresh token of a 410 continues: whatever is there now.
const PRESENT: u64 = 0;
/// More lists under way than agents in any test.
const CURSORS_MAX: usize = 4_096;
