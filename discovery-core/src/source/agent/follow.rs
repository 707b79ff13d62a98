// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows the agent: connects, reads transactions, keeps the last one on disk, and falls back when it is away.

use super::{
    AgentConfig,
    file::{self, Kept},
    frame::{self, FrameError, FrameKind},
    message::{self, Open},
    peer::peer_uid,
    session::{Event, Session, SessionError, Transaction},
};
use crate::{
    clock::Clock,
    source::{Backoff, BackoffRule, FailureReason, SourceStatus, UpdateSender, WatchState},
    store::{Kind, SourceId, StateConfig, Update},
};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use std::{fmt, io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Statements that are to be applied and published as one.
#[derive(Debug)]
pub struct Batch {
    /// Begin anew under this configuration; none goes on under the one in force.
    pub config: Option<Box<StateConfig>>,
    /// The statements, in their order.
    pub updates: Vec<Update>,
    /// Told once they are published.
    pub applied: oneshot::Sender<()>,
}

/// Where an agent source sends its batches.
pub type BatchSender = mpsc::Sender<Batch>;

/// What a client watches for itself while the agent is away: runs until its token is cancelled.
pub type OwnWatch =
    Arc<dyn Fn(UpdateSender, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// A client of the node's agent.
pub struct AgentSource {
    config: AgentConfig,
    status: Arc<SourceStatus>,
    clock: Arc<dyn Clock>,
    own_watch: Option<OwnWatch>,
    /// The configuration that the state has, as it was told; none while it has its own.
    adopted: Option<Bytes>,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    saved: Option<Instant>,
    stop: CancellationToken,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the socket cannot be used")]
    Io(#[from] io::Error),
    #[error("the agent runs as user {0}, who is not believed")]
    Stranger(u32),
    #[error("what the agent says cannot be used")]
    Session(#[from] SessionError),
    #[error("the agent was silent for too long")]
    Silent,
    #[error("nobody receives any more")]
    Stopped,
}

impl Lost {
    fn reason(&self) -> FailureReason {
        match self {
            Self::Io(_) | Self::Stopped => FailureReason::Connection,
            Self::Stranger(_) => FailureReason::Forbidden,
            Self::Silent => FailureReason::Silent,
            Self::Session(SessionError::Frame(FrameError::TooLarge(_)) | SessionError::TooMuch) => {
                FailureReason::TooLarge
            }
            Self::Session(SessionError::Bye(_) | SessionError::Version(_)) => {
                FailureReason::Refused
            }
            Self::Session(_) => FailureReason::Undecodable,
        }
    }
}

impl AgentSource {
    /// A source that has not begun; `own_watch` is what it falls back to at last.
    pub fn new(
        config: AgentConfig,
        status: Arc<SourceStatus>,
        clock: Arc<dyn Clock>,
        own_watch: Option<OwnWatch>,
    ) -> Self {
        Self {
            config,
            status,
            clock,
            own_watch,
            adopted: None,
            running: None,
            saved: None,
            stop: CancellationToken::new(),
        }
    }

    /// Follows the agent until `stop`, or until nobody receives.
    pub async fn run(
        mut self,
        batches: BatchSender,
        updates: UpdateSender,
        stop: CancellationToken,
    ) {
        self.stop = stop.clone();
        let following = self.follow(&batches, &updates);
        let _ = stop.run_until_cancelled(following).await;
        self.end_own_watch().await;
    }

    async fn follow(&mut self, batches: &BatchSender, updates: &UpdateSender) {
        self.restore(batches).await;
        let mut backoff = Backoff::new(BACKOFF, fastrand::u64(..));
        let mut away_since = Instant::now();
        loop {
            let begun = self.clock.now();
            let mut had_view = false;
            let lost = self.session(batches, &mut had_view).await;
            if matches!(lost, Lost::Stopped) {
                return;
            }
            self.note_lost(&lost);
            if had_view {
                away_since = Instant::now();
                backoff.succeeded(begun);
            }
            let wait = backoff.failed(self.clock.now());
            self.pause(wait, away_since, updates).await;
        }
    }

    /// Waits before the next try; when the agent has been away for long enough the own watch begins meanwhile.
    async fn pause(&mut self, wait: Duration, away_since: Instant, updates: &UpdateSender) {
        let until = Instant::now() + wait;
        let patience = away_since + self.config.patience;
        if self.own_watch.is_some() && self.running.is_none() && patience <= until {
            sleep_until(patience).await;
            self.begin_own_watch(updates);
        }
        sleep_until(until).await;
    }

    /// One connection, from its begin to its end.
    async fn session(&mut self, batches: &BatchSender, had_view: &mut bool) -> Lost {
        match self.connect().await {
            Ok(stream) => {
                let read = self.read(stream, batches, had_view).await;
                read.err().unwrap_or(Lost::Stopped)
            }
            Err(lost) => lost,
        }
    }

    async fn connect(&self) -> Result<UnixStream, Lost> {
        let connecting = UnixStream::connect(&self.config.socket);
        let mut stream = in_time(connecting).await?;
        let uid = peer_uid(&stream)?;
        if !self.config.uids.allows(uid) {
            return Err(Lost::Stranger(uid));
        }
        let open = Open {
            versions: vec![message::VERSION],
            client: program(),
        };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, FrameKind::Open, &message::encode(&open));
        in_time(stream.write_all(&bytes)).await?;
        Ok(stream)
    }

    async fn read(
        &mut self,
        mut stream: UnixStream,
        batches: &BatchSender,
        had_view: &mut bool,
    ) -> Result<(), Lost> {
        let mut session = Session::new(self.config.folder.is_some());
        let (mut buffer, mut unsaved) = (BytesMut::new(), false);
        loop {
            while let Some(frame) = frame::take(&mut buffer).map_err(SessionError::from)? {
                match session.take(frame)? {
                    Event::None => {}
                    Event::Beat(age) => self.heard(age),
                    Event::Transaction(transaction) => {
                        self.apply(*transaction, session.hello(), batches).await?;
                        (*had_view, unsaved) = (true, true);
                    }
                }
            }
            let save_at = self
                .saved
                .map_or_else(Instant::now, |saved| saved + SAVE_PAUSE);
            let save_at = save_at.max(Instant::now() + SAVE_SETTLE);
            tokio::select! {
                read = timeout(self.config.silence_max, stream.read_buf(&mut buffer)) => {
                    if read.map_err(|_| Lost::Silent)?? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
                () = sleep_until(save_at), if unsaved => {
                    self.save(&session).await;
                    unsaved = false;
                }
            }
        }
    }

    /// Hands a transaction to the state and waits until it is published.
    async fn apply(
        &mut self,
        transaction: Transaction,
        hello: &Bytes,
        batches: &BatchSender,
    ) -> Result<(), Lost> {
        // What the own watch has stated is gone with its state.
        let has_watched = self.end_own_watch().await;
        let is_known = !has_watched && self.adopted.as_ref() == Some(hello);
        let config = transaction.config.filter(|_| !is_known).map(Box::new);
        send(batches, config, transaction.updates).await?;
        self.adopted = Some(hello.clone());
        for kind in Kind::ALL {
            self.status.set_connected(kind, true);
            self.status.set_state(kind, WatchState::Live);
            if transaction.is_whole {
                self.status.list_begun(kind);
                self.status.synced(kind);
            }
        }
        if transaction.is_whole {
            tracing::info!(socket = %self.config.socket.display(), generation = transaction.end.generation,
                "Following the node's agent");
        }
        self.heard(transaction.end.age_seconds);
        Ok(())
    }

    /// Serves the last view on disk until the agent speaks.
    async fn restore(&mut self, batches: &BatchSender) {
        let Some(folder) = self.config.folder.clone() else {
            return;
        };
        let now = self.clock.wall();
        let loaded = tokio::task::spawn_blocking(move || file::load(&folder, now)).await;
        let kept = match loaded {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) if error.is_missing() => return,
            Ok(Err(error)) => {
                let cause = crate::source::error_chain(&error);
                tracing::warn!(cause, "View on disk refused");
                return;
            }
            Err(_) => return,
        };
        let Kept { transaction, age } = kept;
        let before = Duration::from_secs(transaction.end.age_seconds.unwrap_or_default());
        let config = transaction.config.map(Box::new);
        if send(batches, config, as_of_disk(transaction.updates))
            .await
            .is_ok()
        {
            self.status.restored(&Kind::ALL, age.saturating_add(before));
            tracing::info!(
                age_seconds = age.as_secs(),
                "Serving the agent's view from disk"
            );
        }
    }

    async fn save(&mut self, session: &Session) {
        self.saved = Some(Instant::now());
        let (Some(folder), Some(parts)) = (self.config.folder.clone(), session.file()) else {
            return;
        };
        let saved = tokio::task::spawn_blocking(move || file::save(&folder, &parts)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "Agent's view not saved; a start without the agent would serve an older one");
        }
    }

    fn begin_own_watch(&mut self, updates: &UpdateSender) {
        let Some(watch) = &self.own_watch else { return };
        tracing::warn!(socket = %self.config.socket.display(), "Agent away for too long; watching for ourselves");
        let stop = self.stop.child_token();
        let watching = tokio::spawn(watch(updates.clone(), stop.clone()));
        self.running = Some((stop, watching));
    }

    /// Whether there was one.
    async fn end_own_watch(&mut self) -> bool {
        let Some((stop, watching)) = self.running.take() else {
            return false;
        };
        stop.cancel();
        let _ = watching.await;
        true
    }

    fn note_lost(&self, lost: &Lost) {
        let cause = crate::source::error_chain(lost);
        tracing::warn!(socket = %self.config.socket.display(), cause, "Agent lost; its last view stays in force");
        for kind in Kind::ALL {
            self.status.failed(kind, lost.reason());
            self.status.set_connected(kind, false);
            if self.status.state(kind) == WatchState::Live {
                self.status.set_state(kind, WatchState::Stale);
            }
        }
    }

    fn heard(&self, age_seconds: Option<u64>) {
        let ago = Duration::from_secs(age_seconds.unwrap_or_default());
        for kind in Kind::ALL {
            self.status.heard_before(kind, ago);
        }
    }
}

impl fmt::Debug for AgentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSource")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

async fn send(
    batches: &BatchSender,
    config: Option<Box<StateConfig>>,
    updates: Vec<Update>,
) -> Result<(), Lost> {
    let (applied, done) = oneshot::channel();
    let batch = Batch {
        config,
        updates,
        applied,
    };
    batches.send(batch).await.map_err(|_| Lost::Stopped)?;
    done.await.map_err(|_| Lost::Stopped)
}

/// The same statements as what was known once: no list is complete but by the disk.
fn as_of_disk(updates: Vec<Update>) -> Vec<Update> {
    let objects = updates
        .into_iter()
        .filter(|update| matches!(update, Update::Upsert(..) | Update::Denied(..)));
    let synced = Kind::ALL.map(|kind| Update::Synced(SourceId::Disk, kind));
    objects.chain(synced).collect()
}

async fn in_time<T>(doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(CONNECT_TIMEOUT, doing).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The name of this program, for the agent's log.
fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(Path::file_name);
    let name = name.map(|name| name.to_string_lossy().chars().take(64).collect());
    name.unwrap_or_default()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An agent is on this host, and a try costs it nothing.
const BACKOFF: BackoffRule = BackoffRule {
    first: Duration::from_millis(100),
    cap: Duration::from_secs(2),
    hold: Duration::from_secs(5),
};
/// A change is mostly followed by more of its kind.
const SAVE_SETTLE: Duration = Duration::from_secs(1);
/// Between two writes, for the sake of flash memory.
const SAVE_PAUSE: Duration = Duration::from_secs(5);
