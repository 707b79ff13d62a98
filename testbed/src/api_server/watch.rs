// SPDX-License-Identifier: MIT OR Apache-2.0
//! A watch: from which version, what it tells, and when it ends.
//!
//! From a version whose events are forgotten: one ERROR event with code 410, and the end. From a version of the future: an
//! open stream without a word. Without a version: what is there as ADDED, then what happens. Objects that begin or cease
//! to match the selector come and go as ADDED and DELETED.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    answer::{Chunks, failure},
    beta,
    request::Objects,
    selector::Selector,
    store::{Event, Store, Stored},
};

/// A watch that is about to begin.
pub(super) struct Watch {
    pub(super) store: Arc<Store>,
    pub(super) objects: Objects,
    pub(super) selector: Selector,
    pub(super) from: From,
    pub(super) timeout: Duration,
    /// None: the client did not ask for bookmarks, or the server sends none.
    pub(super) bookmarks: Option<Duration>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    /// After this version.
    Version(u64),
    /// With all that is there.
    Present {
        /// A bookmark says where what was there ends.
        is_marked: bool,
    },
}

struct Running {
    watch: Watch,
    changed: watch::Receiver<u64>,
    position: u64,
    lines: VecDeque<Bytes>,
    ends: Instant,
    next_bookmark: Option<Instant>,
    has_ended: bool,
}

impl Watch {
    /// The lines of the watch, each in a piece of its own.
    pub(super) fn chunks(self) -> Chunks {
        let running = Running::new(self);
        let next = |mut running: Running| async {
            let line = running.next().await?;
            Some((Ok(line), running))
        };
        stream::unfold(running, next).boxed()
    }
}

impl Running {
    fn new(watch: Watch) -> Self {
        let now = Instant::now();
        let ends = now + watch.timeout;
        let mut running = Self {
            changed: watch.store.subscribe(),
            position: 0,
            lines: VecDeque::new(),
            ends,
            next_bookmark: next_bookmark(watch.bookmarks, now, ends),
            has_ended: false,
            watch,
        };
        match running.watch.from {
            From::Version(version) => running.position = version,
            From::Present { is_marked } => running.tell_present(is_marked),
        }
        running
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.has_ended {
                return None;
            }
            self.changed.borrow_and_update();
            if self.take_events() {
                continue;
            }
            let bookmark = self.next_bookmark.unwrap_or(self.ends);
            tokio::select! {
                changed = self.changed.changed() => self.has_ended = changed.is_err(),
                () = sleep_until(bookmark.min(self.ends)) => self.time_passed(),
            }
        }
    }

    /// Whether there was anything after the position.
    fn take_events(&mut self) -> bool {
        let resource = self.watch.objects.resource;
        let taken = self
            .watch
            .store
            .events_after(resource, self.position, EVENTS_AT_ONCE);
        let Ok((events, version)) = taken else {
            let text = format!("too old resource version: {}", self.position);
            self.lines
                .push_back(line("ERROR", &failure(410, "Expired", &text)));
            self.has_ended = true;
            return true;
        };
        let is_any = !events.is_empty();
        for event in events {
            self.position = event.version;
            self.tell(&event);
        }
        if !is_any {
            self.position = self.position.max(version);
        }
        is_any
    }

    fn tell(&mut self, event: &Event) {
        let selected = |object: &Option<Arc<Stored>>| {
            let object = object
                .as_ref()
                .filter(|object| self.watch.selector.matches(object));
            object.cloned()
        };
        let told = match (selected(&event.before), selected(&event.now)) {
            (None, None) => return,
            (None, Some(now)) => self.object_line("ADDED", &now),
            (Some(_), Some(now)) => self.object_line("MODIFIED", &now),
            (Some(before), None) => self.object_line("DELETED", &before.at(event.version)),
        };
        self.lines.push_back(told);
    }

    fn tell_present(&mut self, is_marked: bool) {
        let (version, objects) = self
            .watch
            .store
            .select(self.watch.objects.resource, &self.watch.selector);
        self.position = version;
        self.lines = objects
            .iter()
            .map(|object| self.object_line("ADDED", object))
            .collect();
        if is_marked {
            let annotations = json!({ "k8s.io/initial-events-end": "true" });
            self.tell_bookmark(Some(annotations));
        }
    }

    fn time_passed(&mut self) {
        let now = Instant::now();
        if now >= self.ends {
            self.has_ended = true;
            return;
        }
        self.next_bookmark = next_bookmark(self.watch.bookmarks, now, self.ends);
        // A version of the future is nothing to confirm.
        if self.position <= self.watch.store.version() {
            self.tell_bookmark(None);
        }
    }

    fn tell_bookmark(&mut self, annotations: Option<Value>) {
        let objects = &self.watch.objects;
        let mut metadata =
            json!({ "resourceVersion": self.position.to_string(), "creationTimestamp": null });
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let object = json!({ "kind": objects.resource.kind(),
            "apiVersion": objects.resource.api_version(objects.is_beta), "metadata": metadata });
        self.lines.push_back(line("BOOKMARK", &object));
    }

    fn object_line(&self, kind: &str, object: &Stored) -> Bytes {
        let objects = &self.watch.objects;
        let json = beta::spoken(object, objects.is_beta);
        let head = format!(
            r#"{{"type":"{kind}","object":{{"kind":"{}","apiVersion":"{}","#,
            objects.resource.kind(),
            objects.resource.api_version(objects.is_beta),
        );
        let mut line = BytesMut::with_capacity(head.len() + json.len() + 2);
        line.put(head.as_bytes());
        line.put(json.slice(1..));
        line.put(&b"}\n"[..]);
        line.freeze()
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

/// Every so often, and once shortly before the end, so that the next watch begins where this one ended.
fn next_bookmark(every: Option<Duration>, now: Instant, ends: Instant) -> Option<Instant> {
    let last = ends.checked_sub(LAST_BOOKMARK)?;
    let regular = now + every?;
    if last > now {
        Some(regular.min(last))
    } else {
        None
    }
}

const EVENTS_AT_ONCE: usize = 64;
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
