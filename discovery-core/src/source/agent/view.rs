// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told over the socket at one moment: encoded once, shared by all clients, and told apart from the one before.
//!
//! A client that is slow is told the difference from what it has to what is newest, so that nothing queues for it.

use super::{
    frame::{self, FrameKind},
    message::{self, Begin, End, Remove, Upsert},
};
use crate::store::{ObjectKey, SourceId, Stated};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One state of everything, immutable.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    entries: BTreeMap<Key, Bytes>,
    end: End,
}

type Key = (SourceId, ObjectKey);

impl View {
    /// Encodes what is stated. Objects that are as they were share their bytes with `before`; one that is too large for
    /// a frame is left out and named in the second part.
    pub(crate) fn new(
        stated: Stated,
        generation: u64,
        age_seconds: Option<u64>,
        before: Option<&Self>,
    ) -> (Self, Vec<Key>) {
        let (mut entries, mut left_out) = (BTreeMap::new(), Vec::new());
        for (source, object) in stated.objects {
            let key = (source, object.key());
            let payload = message::encode(&Upsert { source, object });
            let known = before.and_then(|before| before.entries.get(&key));
            if !frame::fits(&payload) {
                left_out.push(key);
            } else if let Some(known) = known.filter(|known| ***known == payload[..]) {
                entries.insert(key, known.clone());
            } else {
                entries.insert(key, payload.into());
            }
        }
        let end = End {
            generation,
            synced: stated.synced,
            denied: stated.denied,
            age_seconds,
        };
        (Self { entries, end }, left_out)
    }

    /// The frames of the whole, in parts of about 64 KiB.
    pub(crate) fn whole(&self) -> Vec<Bytes> {
        let mut parts = Parts::new(true);
        for payload in self.entries.values() {
            parts.put(FrameKind::Upsert, payload);
        }
        parts.end(&self.end)
    }

    /// The frames that bring a client from `before` to here; none when it is here.
    pub(crate) fn since(&self, before: &Self) -> Option<Vec<Bytes>> {
        let mut parts = Parts::new(false);
        for key in before.entries.keys() {
            if !self.entries.contains_key(key) {
                let (source, key) = key.clone();
                let gone = message::encode(&Remove { source, key });
                parts.put(FrameKind::Remove, &gone);
            }
        }
        for (key, payload) in &self.entries {
            let known = before.entries.get(key);
            // The same bytes are the same place in memory, or else they are compared.
            let differs = |known: &Bytes| known.as_ptr() != payload.as_ptr() && known != payload;
            if known.is_none_or(differs) {
                parts.put(FrameKind::Upsert, payload);
            }
        }
        let is_same = parts.is_empty()
            && (&self.end.synced, &self.end.denied) == (&before.end.synced, &before.end.denied);
        (!is_same).then(|| parts.end(&self.end))
    }

    /// How many objects are told.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts an object that came in by its frame.
    pub(super) fn put(&mut self, key: Key, payload: Bytes) {
        self.entries.insert(key, payload);
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    /// Notes how far it has come now, and gives how far it had come.
    pub(super) fn replace_end(&mut self, end: End) -> End {
        std::mem::replace(&mut self.end, end)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Frames on their way into parts of a size that is written at once.
struct Parts {
    done: Vec<Bytes>,
    part: Vec<u8>,
    frames: usize,
}

impl Parts {
    fn new(is_whole: bool) -> Self {
        let mut part = Vec::new();
        frame::put(
            &mut part,
            FrameKind::Begin,
            &message::encode(&Begin { is_whole }),
        );
        Self {
            done: Vec::new(),
            part,
            frames: 0,
        }
    }

    fn put(&mut self, kind: FrameKind, payload: &[u8]) {
        frame::put(&mut self.part, kind, payload);
        self.frames += 1;
        if self.part.len() >= PART_BYTES {
            self.done.push(std::mem::take(&mut self.part).into());
        }
    }

    fn is_empty(&self) -> bool {
        self.frames == 0
    }

    fn end(mut self, end: &End) -> Vec<Bytes> {
        frame::put(&mut self.part, FrameKind::End, &message::encode(end));
        self.done.push(self.part.into());
        self.done
    }
}

const PART_BYTES: usize = 64 * 1024;
