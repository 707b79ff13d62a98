// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle on everything that runs: one writer, its sources, the disk, and the counters.

use super::{
    Need, Readiness, RuntimeConfig, StartError, Status,
    agent_socket::Told,
    need::Needs,
    persister::Persister,
    prepared::PreparedSource,
    publisher::{Ask, Publisher},
    restore::{load, restore, shelf},
    status::StatusContext,
};
use crate::{
    clock::{Clock, SystemClock},
    model::NodeName,
    source::SourceStatus,
    store::{Reader, Snapshot, StateConfig, Writer, channel, persist::Shelf},
    telemetry::Metrics,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The running core. Clones share it.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeName,
    reader: Reader,
    sources: Vec<Arc<SourceStatus>>,
    metrics: Arc<Metrics>,
    /// How the state judges.
    state: StateConfig,
    /// Asks the writer for everything that makes the view.
    asks: mpsc::Sender<Ask>,
    clock: Arc<dyn Clock>,
    started: Instant,
    /// When the snapshot was written that we started from.
    saved_at: Option<SystemTime>,
    draining: AtomicBool,
    needs: Needs,
    keeps_snapshot: bool,
    // Guards the list of faces; held for a clone of it, never across an await.
    faces: Mutex<Vec<(String, Face)>>,
    /// Tells the writer that a person accepts what is held back.
    accepted: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

type Face = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

impl Runtime {
    /// Starts the source, the writer and, with a snapshot folder, the disk. Returns at once: see [`Runtime::ready`].
    ///
    /// # Errors
    /// Only for what no waiting can mend: a manifest that cannot be read, no Kubernetes configuration. An API server that
    /// is away is no error.
    pub async fn start(config: RuntimeConfig) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut sources = PreparedSource::all(&config, &config.sources, &clock).await?;
        let lists: Vec<_> = sources.iter().flat_map(PreparedSource::lists).collect();
        let state = config.state.clone().lists(lists);
        let (mut writer, reader) = channel(state.clone());
        let (asks, asked) = mpsc::channel(1);
        let shelf = config
            .snapshot_folder
            .clone()
            // An agent's client keeps what it was told itself.
            .filter(|_| !config.follows_agent())
            .map(|folder| shelf(folder, &config, &sources));
        let restored = shelf.as_ref().and_then(load);
        if let Some(restored) = &restored {
            sources = restore(restored, sources, &mut writer, clock.wall());
        }
        let saved_at = restored.map(|restored| restored.saved_at);
        let statuses: Vec<_> = sources.iter().flat_map(PreparedSource::statuses).collect();
        let metrics = Arc::new(Metrics::new(reader.clone(), statuses.clone()));
        let runtime = Self {
            shared: Arc::new(Shared {
                node: config.node,
                reader,
                sources: statuses,
                metrics,
                state,
                asks,
                clock,
                started: Instant::now(),
                saved_at,
                draining: AtomicBool::new(false),
                needs: Needs::default(),
                keeps_snapshot: shelf.is_some(),
                faces: Mutex::default(),
                accepted: Arc::default(),
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        };
        runtime.spawn_all(writer, sources, shelf, asked);
        Ok(runtime)
    }

    fn spawn_all(
        &self,
        writer: Writer,
        sources: Vec<PreparedSource>,
        shelf: Option<Shelf>,
        asks: mpsc::Receiver<Ask>,
    ) {
        let shared = &self.shared;
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        let (batch_sender, batches) = mpsc::channel(1);
        let publisher = Publisher {
            writer,
            updates,
            batches,
            asks,
            accepted: shared.accepted.clone(),
            metrics: shared.metrics.clone(),
            clock: shared.clock.clone(),
            debounce: DEBOUNCE,
            held: Vec::new(),
        };
        // Stopped last, so that the final save still finds the writer.
        let writer_stop = CancellationToken::new();
        let run = |source: PreparedSource| {
            let running = source.run(sender.clone(), batch_sender.clone(), shared.stop.clone());
            shared.tasks.spawn(running)
        };
        let source_tasks: Vec<_> = sources.into_iter().map(run).collect();
        let persister = shelf.map(|shelf| {
            let (reader, clock) = (shared.reader.clone(), shared.clock.clone());
            shared.tasks.spawn(
                Persister {
                    shelf,
                    reader,
                    asks: shared.asks.clone(),
                    sources: shared.sources.clone(),
                    metrics: shared.metrics.clone(),
                    clock,
                }
                .run(shared.stop.clone()),
            )
        });
        shared.tasks.spawn(publisher.run(writer_stop.clone()));
        let stop = shared.stop.clone();
        shared.tasks.spawn(async move {
            stop.cancelled().await;
            if let Some(persister) = persister {
                let _ = persister.await;
            }
            source_tasks.iter().for_each(JoinHandle::abort);
            writer_stop.cancel();
        });
    }

    /// Runs something beside for as long as the runtime does.
    pub(super) fn spawn<F>(&self, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.tasks.spawn(run(self.shared.stop.clone()));
    }

    /// What the agent's socket needs.
    pub(super) fn told(&self) -> Told {
        Told {
            reader: self.reader(),
            asks: self.shared.asks.clone(),
            state: self.shared.state.clone(),
            sources: self.shared.sources.clone(),
            metrics: self.shared.metrics.agent().clone(),
        }
    }

    /// A reader of the snapshots.
    pub fn reader(&self) -> Reader {
        self.shared.reader.clone()
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Adds a face to the status under a name; `report` is called for each status and must not block.
    pub fn add_face(
        &self,
        name: &str,
        report: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) {
        let mut faces = self
            .shared
            .faces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        faces.push((name.to_owned(), Arc::new(report)));
    }

    /// Whether everything is there that callers need, and what is missing when not.
    pub fn readiness(&self) -> Readiness {
        self.readiness_of(&self.shared.reader.load())
    }

    fn readiness_of(&self, snapshot: &Snapshot) -> Readiness {
        let draining = self.shared.draining.load(Relaxed);
        Readiness::of(snapshot, draining).and(self.shared.needs.missing())
    }

    /// From now on it is ready only while this is met as well, which nothing is before [`Need::set`] says so. Named in
    /// readiness while it is missing; one name is one need.
    pub fn need(&self, name: &str) -> Need {
        self.shared.needs.add(name)
    }

    /// Waits until the runtime is ready.
    pub async fn ready(&self) {
        let (mut reader, mut needs) = (self.reader(), self.shared.needs.follow());
        while !self.readiness().ready {
            let has_writer = tokio::select! {
                snapshot = reader.changed() => snapshot.is_some(),
                told = needs.changed() => told.is_ok(),
            };
            if !has_writer {
                return std::future::pending().await;
            }
        }
    }

    /// What each source says of itself.
    pub fn sources(&self) -> &[Arc<SourceStatus>] {
        &self.shared.sources
    }

    /// What the process says of itself.
    pub fn status(&self) -> Status {
        let faces = self
            .shared
            .faces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let faces: BTreeMap<_, _> = faces
            .into_iter()
            .map(|(name, report)| (name, report()))
            .collect();
        let snapshot = self.shared.reader.load();
        let context = StatusContext {
            node: self.shared.node.as_str(),
            sources: &self.shared.sources,
            clock: &*self.shared.clock,
            started: self.shared.started,
            saved_at: self.shared.saved_at,
            readiness: self.readiness_of(&snapshot),
            keeps_snapshot: self.shared.keeps_snapshot,
            faces,
        };
        context.status(&snapshot)
    }

    /// Lets go of everything that is held back (see [`Held`](crate::store::Held)): the sources are right, also one that is
    /// answered by another cluster.
    pub fn accept(&self) {
        self.shared.accepted.notify_one();
        for source in &self.shared.sources {
            source.accept();
        }
    }

    /// Begins to drain: not ready from now on, everything else goes on.
    pub fn drain(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    /// Stops the source, saves the last snapshot and waits until every task has ended. Readers keep what they have.
    pub async fn stop(&self) {
        self.drain();
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}

/// Updates on their way to the writer; a source waits when it is that far ahead. A slice of 100 endpoints takes 25 KB
/// unpacked, so that few are enough and many would be what a whole list weighs.
const UPDATES_MAX: usize = 64;
/// How long a gain waits for more: short beside what a person notices, long beside a burst of events.
const DEBOUNCE: Duration = Duration::from_millis(50);
