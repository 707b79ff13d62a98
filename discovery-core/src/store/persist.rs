// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last good snapshot on disk: what a node serves from when it starts and nobody answers.
//!
//! Written as a temporary file, synced, the present file renamed to the previous one, the temporary one to the present
//! one, and the folder synced: a crash at any moment leaves one whole file. Read with a checksum; refused, with the reason,
//! when it is of another cluster, node or schema. All calls block: not for a runtime's worker.

#[cfg(test)]
mod crash;
mod disk;
#[cfg(any(test, fuzzing))]
mod fuzz;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use fuzz::snapshot;

use super::{Kind, Object, SourceId, Update};
use crate::model::{Node, NodeName, Service, Slice, Zone};
use disk::{Disk, System};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where and for whom snapshots are kept.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    owner: Owner,
    vouched_by: Option<SourceId>,
}

/// Whom a snapshot belongs to; another's is refused.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// How the cluster is called: the API server's CA or address, or the manifest's path.
    pub cluster: String,
    /// Our node.
    pub node: NodeName,
    /// The zone by configuration; none when the node's label tells it.
    pub zone: Option<Zone>,
}

/// What was read back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// The statements that bring the state back: each object by the source that stated it, each kind complete by
    /// [`SourceId::Disk`].
    pub updates: Vec<Update>,
    /// What was known of each source.
    pub facts: BTreeMap<SourceId, SourceFacts>,
    /// When it was written.
    pub saved_at: SystemTime,
    /// Why the newest file was passed over for the one before, if it was.
    pub passed_over: Option<String>,
    /// The name of its cluster, when that is another than ours and it was not refused for the sake of a UID
    /// ([`Shelf::vouched_by`]).
    pub other_name: Option<String>,
}

/// What is kept of a source beside its objects, so that the next run goes on where this one ended.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The API that it reads endpoints from, by its word.
    pub slice_api: Option<String>,
    /// The version that each of its lists had reached.
    pub versions: BTreeMap<Kind, u64>,
    /// How many seconds before the snapshot was written it was last heard; none when it never was.
    pub age_seconds: Option<u64>,
    /// What tells its cluster from others for as long as that lives; none when nothing does.
    #[serde(default)]
    pub cluster_uid: Option<String>,
}

impl Restored {
    /// How old at `now` is what the source said; none when the snapshot knows no such source.
    pub fn age(&self, source: SourceId, now: SystemTime) -> Option<Duration> {
        let before = self.facts.get(&source)?.age_seconds.unwrap_or_default();
        Some(
            self.saved_age(now)
                .saturating_add(Duration::from_secs(before)),
        )
    }

    /// How long ago at `now` it was written; zero when the clock was set back since.
    pub fn saved_age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.saved_at).unwrap_or_default()
    }
}

/// Why no snapshot could be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// There is none yet.
    #[error("there is no snapshot in {}", folder.display())]
    Missing {
        /// The folder that was looked in.
        folder: PathBuf,
    },
    /// The file could not be read or written.
    #[error("snapshot {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("snapshot {} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The file was written by another version.
    #[error("snapshot {} has schema {found}, this version reads {SCHEMA}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema found.
        found: u32,
    },
    /// The file is of another cluster, node or zone.
    #[error("snapshot {} is of another {what}: {found}, not {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs: cluster, node or zone.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What this process is.
        expected: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(flatten)]
    owner: Owner,
    saved_at_seconds: u64,
    facts: BTreeMap<SourceId, SourceFacts>,
    stated: BTreeMap<SourceId, Stated>,
}

/// What one source stated.
#[derive(Default, Serialize, Deserialize)]
struct Stated {
    own_node: Option<Node>,
    nodes: Vec<Node>,
    services: Vec<Service>,
    slices: Vec<Slice>,
}

impl Shelf {
    /// A shelf in the folder, which need not exist yet.
    pub fn new(folder: PathBuf, owner: Owner) -> Self {
        Self {
            folder,
            owner,
            vouched_by: None,
        }
    }

    /// Where the file has the UID of the cluster of this source, the cluster's name is not looked at: it changes with the
    /// authority's certificate or the server's address. Whoever loads then has to compare the UID as soon as it is known.
    #[must_use]
    pub fn vouched_by(mut self, source: Option<SourceId>) -> Self {
        self.vouched_by = source;
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the objects, and what is known of their sources, as the newest snapshot and keeps the one before.
    pub fn save(
        &self,
        objects: Vec<(SourceId, Object)>,
        facts: BTreeMap<SourceId, SourceFacts>,
        now: SystemTime,
    ) -> Result<(), ShelfError> {
        self.save_on(&System, objects, facts, now)
    }

    fn save_on(
        &self,
        disk: &impl Disk,
        objects: Vec<(SourceId, Object)>,
        facts: BTreeMap<SourceId, SourceFacts>,
        now: SystemTime,
    ) -> Result<(), ShelfError> {
        let [temporary, newest, previous] = self.files();
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| ShelfError::Io { path, source }
        };
        disk.create_folder(&self.folder)
            .map_err(fail(&self.folder))?;
        disk.write_synced(&temporary, &self.encode(objects, facts, now))
            .map_err(fail(&temporary))?;
        match disk.rename(&newest, &previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fail(&newest)(error));
            }
            _ => {}
        }
        disk.rename(&temporary, &newest).map_err(fail(&newest))?;
        disk.sync_folder(&self.folder).map_err(fail(&self.folder))
    }

    /// Reads the newest snapshot, or the one before when the newest is damaged or missing.
    pub fn load(&self) -> Result<Restored, ShelfError> {
        self.load_on(&System)
    }

    fn load_on(&self, disk: &impl Disk) -> Result<Restored, ShelfError> {
        let [_, newest, previous] = self.files();
        let error = match self.read(disk, &newest) {
            Ok(restored) => return Ok(restored),
            Err(error) => error,
        };
        match self.read(disk, &previous) {
            Ok(restored) => Ok(Restored {
                passed_over: Some(error.to_string()),
                ..restored
            }),
            Err(_) => Err(error),
        }
    }

    fn files(&self) -> [PathBuf; 3] {
        ["snapshot.tmp", "snapshot", "snapshot.previous"].map(|name| self.folder.join(name))
    }

    fn encode(
        &self,
        objects: Vec<(SourceId, Object)>,
        facts: BTreeMap<SourceId, SourceFacts>,
        now: SystemTime,
    ) -> Vec<u8> {
        let saved_at = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut body = Body {
            owner: self.owner.clone(),
            saved_at_seconds: saved_at.as_secs(),
            facts,
            stated: BTreeMap::new(),
        };
        for (source, object) in objects {
            let stated = body.stated.entry(source).or_default();
            match object {
                Object::OwnNode(node) => stated.own_node = Some(node),
                Object::Node(node) => stated.nodes.push(node),
                Object::Service(service) => stated.services.push(service),
                Object::Slice(slice) => stated.slices.push(slice),
            }
        }
        let json = serde_json::to_vec(&body).expect("plain values with text keys have a JSON form");
        [first_line(&json).as_bytes(), b"\n", &json].concat()
    }

    fn read(&self, disk: &impl Disk, path: &Path) -> Result<Restored, ShelfError> {
        let bytes = disk.read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ShelfError::Missing {
                folder: self.folder.clone(),
            },
            _ => ShelfError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        let mut body = decode(&bytes, path)?;
        let other_name = self.other_name(&body);
        self.check_owner(&body.owner, other_name.is_some(), path)?;
        let saved_at = UNIX_EPOCH + Duration::from_secs(body.saved_at_seconds);
        Ok(Restored {
            facts: std::mem::take(&mut body.facts),
            updates: updates(body),
            saved_at,
            passed_over: None,
            other_name,
        })
    }

    /// The name of the file's cluster when it is another than ours and a UID vouches in its stead.
    fn other_name(&self, body: &Body) -> Option<String> {
        let facts = body.facts.get(&self.vouched_by?)?;
        let is_other = facts.cluster_uid.is_some() && body.owner.cluster != self.owner.cluster;
        is_other.then(|| body.owner.cluster.clone())
    }

    fn check_owner(&self, found: &Owner, is_vouched: bool, path: &Path) -> Result<(), ShelfError> {
        let zone = |owner: &Owner| {
            owner
                .zone
                .as_ref()
                .map_or("by label".to_owned(), Zone::to_string)
        };
        let pairs = [
            ("cluster", found.cluster.clone(), self.owner.cluster.clone()),
            ("node", found.node.to_string(), self.owner.node.to_string()),
            ("zone", zone(found), zone(&self.owner)),
        ];
        let differs = |(what, found, expected): &(&str, String, String)| {
            found != expected && !(is_vouched && *what == "cluster")
        };
        match pairs.into_iter().find(differs) {
            None => Ok(()),
            Some((what, found, expected)) => Err(ShelfError::Foreign {
                path: path.to_owned(),
                what,
                found,
                expected,
            }),
        }
    }
}

/// `zonal-snapshot <schema> <crc32>`, with which a file begins: it vouches for the body.
fn first_line(json: &[u8]) -> String {
    format!("{MAGIC} {SCHEMA} {:08x}", crc32fast::hash(json))
}

/// Reads the first line and then the body; a line that differs in one letter from what would be written is damage.
fn decode(bytes: &[u8], path: &Path) -> Result<Body, ShelfError> {
    let damaged = |why: &str| ShelfError::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let end = bytes
        .iter()
        .position(|&b| b == b'\n')
        .ok_or_else(|| damaged("it has no first line"))?;
    let (head, json) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| damaged("its first line is not text"))?;
    let mut words = head.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged("it is no snapshot"));
    }
    let schema = words.next().and_then(|word| word.parse().ok());
    match schema.ok_or_else(|| damaged("its schema is no number"))? {
        SCHEMA => {}
        found => {
            return Err(ShelfError::Schema {
                path: path.to_owned(),
                found,
            });
        }
    }
    if head != first_line(json) {
        return Err(damaged("its checksum does not fit"));
    }
    serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))
}

fn updates(body: Body) -> Vec<Update> {
    let objects = body.stated.into_iter().flat_map(|(source, stated)| {
        let own_node = stated.own_node.into_iter().map(Object::OwnNode);
        own_node
            .chain(stated.nodes.into_iter().map(Object::Node))
            .chain(stated.services.into_iter().map(Object::Service))
            .chain(stated.slices.into_iter().map(Object::Slice))
            .map(move |object| Update::Upsert(source, object))
    });
    objects
        .chain(Kind::ALL.map(|kind| Update::Synced(SourceId::Disk, kind)))
        .collect()
}

const MAGIC: &str = "zonal-snapshot";

/// Rises with every change of the body that an older version would misread.
const SCHEMA: u32 = 3;
