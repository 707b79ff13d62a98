// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client's end of what an agent says: frames in, whole transactions out. Pure; the same for a socket and for a file.

use super::{
    frame::{Frame, FrameError, FrameKind},
    message::{self, Begin, Bye, End, Hello, Remove, Upsert},
    view::View,
};
use crate::store::{Kind, ObjectKey, SourceId, StateConfig, Update};
use bytes::Bytes;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the bytes cannot be cut into frames")]
    Frame(#[from] FrameError),
    #[error("a message of kind {kind:?} cannot be read")]
    Message {
        kind: FrameKind,
        #[source]
        source: serde_json::Error,
    },
    #[error("a message of kind {0:?} does not belong here")]
    OutOfPlace(FrameKind),
    #[error("the agent speaks version {0} of the messages")]
    Version(u32),
    #[error("more than {OBJECTS_MAX} objects or {BYTES_MAX} bytes are told")]
    TooMuch,
    #[error("the agent says: {0}")]
    Bye(String),
}

/// What a frame brought about.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing to act on yet.
    None,
    /// The agent lives; its sources were heard so long ago.
    Beat(Option<u64>),
    /// A transaction is complete.
    Transaction(Box<Transaction>),
}

/// What is to be applied at once.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// How the agent judges, at the first transaction of a session.
    pub(crate) config: Option<StateConfig>,
    pub(crate) updates: Vec<Update>,
    pub(crate) is_whole: bool,
    pub(crate) end: End,
}

/// Reads what one agent says on one connection, or said into one file.
#[derive(Debug, Default)]
pub(crate) struct Session {
    hello: Option<Hello>,
    /// The bytes of the hello, for the disk.
    hello_payload: Bytes,
    open: Option<Open>,
    view: View,
    bytes: usize,
    has_view: bool,
    /// Whether what is told is kept as it came, for the disk.
    keeps: bool,
    objects: usize,
}

/// A transaction that is being read.
#[derive(Debug)]
struct Open {
    is_whole: bool,
    upserts: Vec<(Upsert, Bytes)>,
    removes: Vec<Remove>,
}

impl Session {
    /// A session before its first frame; `keeps` what it is told, for [`Session::file`].
    pub(crate) fn new(keeps: bool) -> Self {
        Self {
            keeps,
            ..Self::default()
        }
    }

    /// Takes one frame in.
    pub(crate) fn take(&mut self, frame: Frame) -> Result<Event, SessionError> {
        let (kind, payload) = (frame.kind, frame.payload);
        match kind {
            FrameKind::Hello if self.hello.is_none() => self.begin(payload)?,
            FrameKind::Bye => {
                let bye: Bye = decode(kind, &payload)?;
                return Err(SessionError::Bye(bye.reason));
            }
            _ if self.hello.is_none() => return Err(SessionError::OutOfPlace(kind)),
            FrameKind::Beat => {
                return Ok(Event::Beat(
                    decode::<message::Beat>(kind, &payload)?.age_seconds,
                ));
            }
            FrameKind::Begin if self.open.is_none() => {
                let begin: Begin = decode(kind, &payload)?;
                if !begin.is_whole && !self.has_view {
                    return Err(SessionError::OutOfPlace(kind));
                }
                self.open = Some(Open {
                    is_whole: begin.is_whole,
                    upserts: Vec::new(),
                    removes: Vec::new(),
                });
                self.bytes = 0;
                self.objects = 0;
            }
            FrameKind::Upsert | FrameKind::Remove => self.member(kind, payload)?,
            FrameKind::End => {
                let end = decode(kind, &payload)?;
                let open = self.open.take();
                let open = open.ok_or(SessionError::OutOfPlace(kind))?;
                return Ok(Event::Transaction(Box::new(self.finish(open, end))));
            }
            FrameKind::Open | FrameKind::Hello | FrameKind::Begin => {
                return Err(SessionError::OutOfPlace(kind));
            }
        }
        Ok(Event::None)
    }

    /// The bytes of how the agent judges.
    pub(crate) fn hello(&self) -> &Bytes {
        &self.hello_payload
    }

    /// Everything that is known by now, as an agent would tell it: hello and whole view. None before the first view, or
    /// when nothing is kept.
    pub(crate) fn file(&self) -> Option<Vec<Bytes>> {
        if !self.keeps || !self.has_view {
            return None;
        }
        let mut hello = Vec::new();
        super::frame::put(&mut hello, FrameKind::Hello, &self.hello_payload);
        let mut parts = vec![hello.into()];
        parts.extend(self.view.whole());
        Some(parts)
    }

    fn begin(&mut self, payload: Bytes) -> Result<(), SessionError> {
        let hello: Hello = decode(FrameKind::Hello, &payload)?;
        if hello.version != message::VERSION {
            return Err(SessionError::Version(hello.version));
        }
        self.hello = Some(hello);
        self.hello_payload = payload;
        Ok(())
    }

    fn member(&mut self, kind: FrameKind, payload: Bytes) -> Result<(), SessionError> {
        self.bytes += payload.len();
        self.objects += 1;
        if self.bytes > BYTES_MAX || self.objects > OBJECTS_MAX {
            return Err(SessionError::TooMuch);
        }
        let open = self.open.as_mut();
        let open = open.ok_or(SessionError::OutOfPlace(kind))?;
        if kind == FrameKind::Upsert {
            open.upserts.push((decode(kind, &payload)?, payload));
        } else {
            open.removes.push(decode(kind, &payload)?);
        }
        Ok(())
    }

    fn finish(&mut self, open: Open, end: End) -> Transaction {
        let is_first = !std::mem::replace(&mut self.has_view, true);
        if self.keeps {
            self.keep(&open);
        }
        let before = self.view.replace_end(end.clone());
        let config = self.hello.as_ref().map(|hello| hello.config.clone());
        Transaction {
            config: config.filter(|_| is_first),
            is_whole: open.is_whole,
            updates: updates(open, &before, &end),
            end,
        }
    }

    fn keep(&mut self, open: &Open) {
        if open.is_whole {
            self.view.clear();
        }
        for remove in &open.removes {
            self.view.remove(&(remove.source, remove.key.clone()));
        }
        for (upsert, payload) in &open.upserts {
            let key = (upsert.source, upsert.object.key());
            self.view.put(key, payload.clone());
        }
    }
}

/// The statements that a transaction stands for. What a whole view lacks of a list that was read in full is gone with it;
/// lists that the agent has not read say nothing of what is missing.
fn updates(open: Open, before: &End, end: &End) -> Vec<Update> {
    let live = |list: &&(SourceId, Kind)| list.0 != SourceId::Disk;
    let listed: Vec<_> = if open.is_whole {
        end.synced.iter().filter(live).copied().collect()
    } else {
        Vec::new()
    };
    let mut updates: Vec<_> = listed
        .iter()
        .map(|(source, kind)| Update::Reset(*source, *kind))
        .collect();
    for remove in open.removes {
        updates.push(Update::Remove(remove.source, remove.key));
    }
    for (upsert, _) in open.upserts {
        let (source, key) = (upsert.source, upsert.object.key());
        if matches!(key, ObjectKey::Slice(_)) && !listed.contains(&(source, Kind::Slices)) {
            // The agent has judged which version is the later one; ours may be of a server that was restored since.
            updates.push(Update::Remove(source, key));
        }
        updates.push(Update::Upsert(source, upsert.object));
    }
    let is_new = |list: &&(SourceId, Kind)| open.is_whole || !before.synced.contains(list);
    let synced = end.synced.iter().filter(is_new);
    updates.extend(synced.map(|(source, kind)| Update::Synced(*source, *kind)));
    let denied = end.denied.iter();
    updates.extend(denied.map(|(source, kind)| Update::Denied(*source, *kind)));
    updates
}

fn decode<M: serde::de::DeserializeOwned>(
    kind: FrameKind,
    payload: &[u8],
) -> Result<M, SessionError> {
    message::decode(payload).map_err(|source| SessionError::Message { kind, source })
}

/// Three times the largest cluster that is tested, in objects.
const OBJECTS_MAX: usize = 500_000;
const BYTES_MAX: usize = 256 * 1024 * 1024;
