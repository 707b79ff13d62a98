// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's socket: the services of this node follow one watch (see `source/agent` for what is told).
//!
//! Bounded: clients by a limit, each by its user id; nothing queues for a client, since it is told the difference from what
//! it has to what is newest; one that does not read is dropped and comes back for a whole view. While nobody is connected
//! nothing is computed.

mod client;

use super::{Runtime, publisher::Ask};
use crate::{
    source::{Hello, PeerUids, SourceStatus, VERSION, View, encode, peer_uid},
    store::{Coverage, Reader, StateConfig},
    telemetry::{AgentMetrics, ClientEnd},
};
use client::Client;
#[cfg(any(test, fuzzing))]
pub use client::agent_open;
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where and to whom the agent tells what it knows.
#[derive(Clone, Debug)]
pub struct AgentSocketConfig {
    path: PathBuf,
    mode: u32,
    uids: PeerUids,
    clients_max: usize,
    write_timeout: Duration,
    beat: Duration,
}

impl AgentSocketConfig {
    /// A socket at this path, for root and the agent's own user.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            mode: MODE,
            uids: PeerUids::default(),
            clients_max: CLIENTS_MAX,
            write_timeout: WRITE_TIMEOUT,
            beat: BEAT,
        }
    }

    /// The mode of the file; 0660 unless set.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Whose processes are told anything.
    #[must_use]
    pub fn uids(mut self, uids: PeerUids) -> Self {
        self.uids = uids;
        self
    }

    /// Clients at once; 128 unless set, at least 1.
    #[must_use]
    pub fn clients_max(mut self, clients: usize) -> Self {
        self.clients_max = clients.max(1);
        self
    }

    /// How long a client may take for 64 KiB before it is dropped; 10 s unless set.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentSocketError {
    /// The path is taken by something that is no socket.
    #[error("{} is no socket, and is not replaced by one", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("the socket {} cannot be made", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What the server of a socket needs of the runtime.
pub(super) struct Told {
    pub(super) reader: Reader,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) state: StateConfig,
    pub(super) sources: Vec<Arc<SourceStatus>>,
    pub(super) metrics: Arc<AgentMetrics>,
}

impl Runtime {
    /// Tells what this runtime knows to the processes of this node that connect, until the runtime stops.
    ///
    /// A socket of an earlier agent is replaced, also while that still serves: its clients stay with it until it ends.
    pub fn serve_agent_socket(&self, config: AgentSocketConfig) -> Result<(), AgentSocketError> {
        let listener = bind(&config)?;
        let told = self.told();
        let metrics = told.metrics.clone();
        let path = config.path.display().to_string();
        self.add_face("agent-socket", move || {
            serde_json::json!({
                "path": path,
                "clients": metrics.clients(),
                "views_told": metrics.views_told(),
                "changes_told": metrics.changes_told(),
            })
        });
        let inode = fs::metadata(&config.path).map(|file| file.ino()).ok();
        let server = Server {
            config,
            listener,
            told: Arc::new(told),
            inode,
        };
        self.spawn(|stop| server.run(stop));
        Ok(())
    }
}

/// Makes the socket beside its place and moves it there, so that it never stands there with another mode, and a client
/// finds the old one or the new one.
fn bind(config: &AgentSocketConfig) -> Result<UnixListener, AgentSocketError> {
    let path = &config.path;
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(AgentSocketError::Taken { path: path.clone() });
    }
    let fail = |source| AgentSocketError::Io {
        path: path.clone(),
        source,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).map_err(fail)?;
    let moved = fs::set_permissions(&beside, fs::Permissions::from_mode(config.mode))
        .and_then(|()| fs::rename(&beside, path));
    if let Err(error) = moved {
        let _ = fs::remove_file(&beside);
        return Err(fail(error));
    }
    Ok(listener)
}

struct Server {
    config: AgentSocketConfig,
    listener: UnixListener,
    told: Arc<Told>,
    inode: Option<u64>,
}

impl Server {
    async fn run(self, stop: CancellationToken) {
        tracing::info!(path = %self.config.path.display(), "Agent's socket open");
        let (views, _) = watch::channel(None);
        let (clients, mut reader) = (TaskTracker::new(), self.told.reader.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = reader.changed(), if views.receiver_count() > 0 => match changed {
                    Some(_) => self.refresh(&views).await,
                    None => break,
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &views, &clients, &stop).await,
                    // Out of descriptors: neither may end or spin the loop.
                    Err(error) => {
                        tracing::warn!(%error, "Accept failed on the agent's socket");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        clients.close();
        let _ = tokio::time::timeout(STOP_DEADLINE, clients.wait()).await;
        let is_ours = |file: fs::Metadata| Some(file.ino()) == self.inode;
        if fs::metadata(&self.config.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.config.path);
        }
    }

    async fn admit(
        &self,
        stream: UnixStream,
        views: &watch::Sender<Option<Arc<View>>>,
        clients: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let metrics = &self.told.metrics;
        let uid = peer_uid(&stream).ok();
        if !uid.is_some_and(|uid| self.config.uids.allows(uid)) {
            metrics.count(ClientEnd::Stranger);
            tracing::warn!(?uid, "Client of a user who is not allowed refused");
            return;
        }
        if clients.len() >= self.config.clients_max {
            metrics.count(ClientEnd::Limit);
            tracing::warn!(
                limit = self.config.clients_max,
                "Client over the limit refused"
            );
            return;
        }
        if views.receiver_count() == 0 {
            // What was told to the last client that left is forgotten; nothing was followed since.
            self.refresh(views).await;
        }
        let hello = encode(&Hello {
            version: VERSION,
            config: self.told.state.clone(),
        });
        let client = Client {
            stream,
            views: views.subscribe(),
            hello,
            told: self.told.clone(),
            write_timeout: self.config.write_timeout,
            beat: self.config.beat,
        };
        clients.spawn(client.run(stop.clone()));
    }

    /// Makes the view of what is published now; none before anything is served, since nothing could be taken back.
    async fn refresh(&self, views: &watch::Sender<Option<Arc<View>>>) {
        let snapshot = self.told.reader.load();
        if snapshot.coverage() == Coverage::Partial || snapshot.zone().zone().is_none() {
            return;
        }
        let (ask, answer) = oneshot::channel();
        if self.told.asks.send(Ask::ForPeer(ask)).await.is_err() {
            return;
        }
        let Ok(stated) = answer.await else { return };
        let before = views.borrow().clone();
        let generation = snapshot.generation().0;
        let age = self.told.age_seconds();
        let (view, left_out) = View::new(stated, generation, age, before.as_deref());
        if !left_out.is_empty() {
            tracing::error!(objects = left_out.len(), first = %left_out[0].1, "Objects too large to be told to clients");
        }
        tracing::debug!(generation, objects = view.len(), "View made for clients");
        views.send_replace(Some(Arc::new(view)));
    }
}

impl Told {
    /// How long ago the source that was heard longest ago was heard.
    fn age_seconds(&self) -> Option<u64> {
        let ages = self.sources.iter().filter_map(|source| source.age());
        ages.max().map(|age| age.as_secs())
    }
}

const MODE: u32 = 0o660;
/// Services of one node: Kubernetes runs 110 pods on it.
const CLIENTS_MAX: usize = 128;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STOP_DEADLINE: Duration = Duration::from_secs(1);
