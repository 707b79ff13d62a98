// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts from a file: ordinary Kubernetes YAML or JSON with Nodes, Services, EndpointSlices and Endpoints.
//!
//! The file is read again when its folder tells of a change (a mounted ConfigMap swaps a link beside it, and a watch on
//! the file itself dies with it), and every 30 seconds as a net below. What is the same is not parsed again. A file that
//! disappears or cannot be read keeps what it said last, and says why.

mod content;
mod documents;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod tree;

pub use content::ManifestContent;

use super::{FailureReason, SourceStatus, UpdateSender, WatchState};
use crate::{
    model::{NodeName, ZoneKeys},
    store::{Kind, Problem, Update},
};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Why a manifest as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("manifest {} cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than 16 MiB.
    #[error("manifest {} has {bytes} bytes, more than the {FILE_BYTES_MAX} that are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file holds objects, and none of them can be used.
    #[error("nothing in manifest {} can be used: {place}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Where the first problem is.
        place: String,
        /// What it is.
        reason: String,
    },
    /// The file is no text.
    #[error("manifest {} is not UTF-8 in line {line}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first line that is not.
        line: usize,
    },
}

/// A manifest file that was read once and is followed from then on.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    node: NodeName,
    keys: ZoneKeys,
    status: Arc<SourceStatus>,
    content: ManifestContent,
    /// Of the text that the content was read from; none when it has to be read again in any case.
    digest: Option<u64>,
}

impl Manifest {
    /// Reads the file for the first time. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the file as a whole cannot be read, or nothing in it can be used. What is wrong with a part of it is a problem
    /// of its content, not an error.
    pub fn open(
        path: PathBuf,
        node: NodeName,
        keys: ZoneKeys,
        status: Arc<SourceStatus>,
    ) -> Result<Self, ManifestError> {
        let text = read_text(&path)?;
        let content = parse(&path, &text, &node, &keys);
        if let (true, Some(problem)) = (content.is_empty(), content.problems().first()) {
            return Err(ManifestError::Unusable {
                path,
                place: problem.place.clone(),
                reason: problem.reason.clone(),
            });
        }
        Ok(Self {
            path,
            node,
            keys,
            status,
            content,
            digest: Some(digest(&text)),
        })
    }

    /// Reads a manifest file. Blocks for as long as that takes; reads at most 16 MiB.
    ///
    /// # Errors
    /// When the file as a whole cannot be read.
    pub fn read(
        path: &Path,
        node: &NodeName,
        keys: &ZoneKeys,
    ) -> Result<ManifestContent, ManifestError> {
        Ok(parse(path, &read_text(path)?, node, keys))
    }

    /// What the file said when it was last read well.
    pub fn content(&self) -> &ManifestContent {
        &self.content
    }

    /// States the content, then every change of it, until `cancel` or until nobody receives.
    pub async fn run(self, sender: UpdateSender, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.follow(sender)).await;
    }

    async fn follow(mut self, sender: UpdateSender) {
        let (poke, mut pokes) = mpsc::channel(1);
        let watcher = watch_folder(&self.path, poke.clone());
        if let Err(error) = &watcher {
            tracing::warn!(path = %self.path.display(), %error, "Folder not watched; file is read every 30 s");
        }
        tracing::info!(path = %self.path.display(), objects = self.content.len(),
            problems = self.content.problems().len(), ignored = self.content.ignored(), "Manifest read");
        let mut updates = self.content.updates();
        self.note_good();
        loop {
            for update in updates {
                if sender.send(update).await.is_err() {
                    return;
                }
            }
            // Once at once, for what changed before the watch began.
            updates = self.reload().await;
            if updates.is_empty() {
                let _ = timeout(POLL, pokes.recv()).await;
                // A change comes as several events; the file is read when they have settled.
                sleep(SETTLE).await;
                while pokes.try_recv().is_ok() {}
            }
        }
    }

    /// Reads the file again and says what has changed.
    async fn reload(&mut self) -> Vec<Update> {
        match self.read_settled().await {
            Ok(None) => {
                self.note_good();
                Vec::new()
            }
            Ok(Some((_, content))) if content.is_blank() && !self.content.is_empty() => {
                self.keep("it is empty now")
            }
            Ok(Some((digest, content))) => {
                self.digest = Some(digest);
                self.note_good();
                self.replace(content)
            }
            Err(reason) => self.keep(&reason),
        }
    }

    /// Reads until the file says the same twice, lest one that is being written be taken for a shorter one; none when
    /// it says what it said last.
    async fn read_settled(&self) -> Result<Option<(u64, ManifestContent)>, String> {
        let mut text = self.read_now().await?;
        for _ in 0..SETTLE_READS_MAX {
            if self.digest == Some(digest(&text)) {
                return Ok(None);
            }
            sleep(SETTLE).await;
            let again = self.read_now().await?;
            if again == text {
                break;
            }
            text = again;
        }
        let (path, node, keys) = (self.path.clone(), self.node.clone(), self.keys.clone());
        let parse = move || (digest(&text), parse(&path, &text, &node, &keys));
        blocking(parse).await.map(Some)
    }

    async fn read_now(&self) -> Result<String, String> {
        let path = self.path.clone();
        blocking(move || read_text(&path))
            .await?
            .map_err(|error| super::error_chain(&error))
    }

    fn replace(&mut self, mut content: ManifestContent) -> Vec<Update> {
        content.inherit(&self.content);
        let updates = content.changes_since(&self.content);
        if !updates.is_empty() {
            let path = self.path.display();
            tracing::info!(%path, objects = content.len(), problems = content.problems().len(), "Manifest changed");
        }
        self.content = content;
        updates
    }

    /// Keeps the last good content, with the reason as a problem.
    fn keep(&mut self, reason: &str) -> Vec<Update> {
        self.digest = None;
        for kind in Kind::ALL {
            self.status.failed(kind, FailureReason::Unreadable);
            self.status.set_connected(kind, false);
            self.status.set_state(kind, WatchState::Stale);
        }
        let problem = Problem {
            kind: Kind::Slices,
            object: "the manifest".to_owned(),
            place: self.path.display().to_string(),
            reason: format!("{reason}; what it said before stays in force"),
        };
        if self.content.problems().contains(&problem) {
            return Vec::new();
        }
        tracing::warn!(path = %self.path.display(), reason = problem.reason, "Manifest unusable");
        let mut content = self.content.clone();
        content.add_problem(problem);
        let updates = content.changes_since(&self.content);
        self.content = content;
        updates
    }

    fn note_good(&self) {
        for kind in Kind::ALL {
            self.status.list_begun(kind);
            self.status.set_connected(kind, true);
            self.status.set_state(kind, WatchState::Live);
            self.status.heard(kind);
            self.status.synced(kind);
        }
    }
}

fn parse(path: &Path, text: &str, node: &NodeName, keys: &ZoneKeys) -> ManifestContent {
    ManifestContent::parse(&path.display().to_string(), text, node, keys)
}

fn digest(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())
}

fn read_text(path: &Path) -> Result<String, ManifestError> {
    let fail = |source| ManifestError::Io {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(fail)?;
    if !found.is_file() {
        return Err(fail(io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ManifestError::TooLarge {
            path: path.to_owned(),
            bytes: found.len(),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ManifestError::NotUtf8 {
            path: path.to_owned(),
            line: good.split(|byte| *byte == b'\n').count(),
        }
    })
}

/// Pokes when something in the file's folder was written, moved or removed; watches for as long as it is kept.
fn watch_folder(path: &Path, poke: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // Full means that a poke waits already.
            let _ = poke.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Our own reading is no change, and a file that is being written is read when it is closed.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(notify::event::ModifyKind::Data(_)) => false,
        _ => true,
    }
}

const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const POLL: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_millis(50);
/// A file that never stands still is taken as it is then.
const SETTLE_READS_MAX: usize = 20;
