// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a source fares: what the page, the metrics and readiness read while the source runs.
//!
//! Written by the source, read by anybody, without a lock. Every figure stands for itself: no two of them are ever read
//! as if they agreed, so each is one relaxed atomic.

use super::{FailureReason, SecondWatch, Selection, SliceApi, WatchState};
use crate::{
    clock::Clock,
    store::{Kind, SourceId},
};
use arc_swap::ArcSwapOption;
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The figures of one source, shared by whoever asks. Fixed size: about 2 KiB.
pub struct SourceStatus {
    source: SourceId,
    clock: Arc<dyn Clock>,
    start: Instant,
    kinds: [KindStatus; 4],
    is_restored: AtomicBool,
    slice_api: AtomicU8,
    selection: OnceLock<Selection>,
    cluster_uid: ArcSwapOption<String>,
    is_disowned: AtomicBool,
    other_cluster: ArcSwapOption<String>,
    /// A person says that what answers is ours.
    accepted: Notify,
}

/// The figures of one kind.
#[derive(Debug, Default)]
struct KindStatus {
    state: AtomicU8,
    state_since: Moment,
    connected: AtomicBool,
    contact: Moment,
    /// How long before the start of this run the kind was last heard of, as the last run kept it.
    restored: Moment,
    sync: Moment,
    /// The version that the list has reached; 0 while it is unknown.
    version: AtomicU64,
    lists: AtomicU64,
    watches: AtomicU64,
    second_watches: [AtomicU64; SecondWatch::ALL.len()],
    objects: AtomicU64,
    bytes_wire: AtomicU64,
    bytes: AtomicU64,
    list_bytes_wire: AtomicU64,
    list_bytes: AtomicU64,
    last_failure: AtomicU8,
    errors: [AtomicU64; FailureReason::ALL.len()],
    rejected: [AtomicU64; FailureReason::ALL.len()],
    relists: [AtomicU64; FailureReason::ALL.len()],
}

impl SourceStatus {
    /// The status of a source that has done nothing yet.
    pub fn new(source: SourceId, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            start: clock.now(),
            clock,
            kinds: Default::default(),
            is_restored: AtomicBool::new(false),
            slice_api: AtomicU8::new(0),
            selection: OnceLock::new(),
            cluster_uid: ArcSwapOption::empty(),
            is_disowned: AtomicBool::new(false),
            other_cluster: ArcSwapOption::empty(),
            accepted: Notify::new(),
        }
    }

    /// Which source it is.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Whether the source reaches what it reads from: its last request for some kind was answered well.
    pub fn is_connected(&self) -> bool {
        Kind::ALL
            .into_iter()
            .any(|kind| self.is_kind_connected(kind))
    }

    /// Whether the last request for this kind was answered well.
    pub fn is_kind_connected(&self, kind: Kind) -> bool {
        self.kind(kind).connected.load(Relaxed)
    }

    /// How long ago the kind that was heard of longest ago was heard of; none when nothing was heard at all.
    ///
    /// Kinds that are not asked for do not count, and neither do bytes that carry no whole statement, or answers of a
    /// cache that has nothing to say.
    pub fn age(&self) -> Option<Duration> {
        Kind::ALL
            .into_iter()
            .filter(|kind| self.state(*kind) != WatchState::Cold)
            .filter_map(|kind| self.kind_age(kind))
            .max()
    }

    /// How long ago this kind was last heard of: by this run, or else by the one that kept what is served.
    pub fn kind_age(&self, kind: Kind) -> Option<Duration> {
        let figures = self.kind(kind);
        let before = figures.restored.get();
        let before = before.map(|before| before.saturating_add(self.elapsed()));
        self.since(&figures.contact).or(before)
    }

    /// The version that the last list of this kind, or the changes since, had reached; none where versions are no numbers.
    pub fn version(&self, kind: Kind) -> Option<u64> {
        let version = self.kind(kind).version.load(Relaxed);
        (version != 0).then_some(version)
    }

    /// How long ago the last full list of this kind was complete.
    pub fn sync_age(&self, kind: Kind) -> Option<Duration> {
        self.since(&self.kind(kind).sync)
    }

    /// How far the watch of this kind is.
    pub fn state(&self, kind: Kind) -> WatchState {
        WatchState::of_number(self.kind(kind).state.load(Relaxed))
    }

    /// For how long the watch of this kind has been in its state; none while it is cold.
    pub fn state_age(&self, kind: Kind) -> Option<Duration> {
        self.since(&self.kind(kind).state_since)
    }

    /// Whether what the last run kept on disk was loaded.
    pub fn is_restored(&self) -> bool {
        self.is_restored.load(Relaxed)
    }

    /// Notes that what the last run kept on disk of these kinds was loaded, and how old it is: a kind that was never
    /// listed is not cold then, and its age is that of what is served.
    pub fn restored(&self, kinds: &[Kind], age: Duration) {
        self.is_restored.store(true, Relaxed);
        for kind in kinds {
            let before = age.saturating_sub(self.elapsed());
            self.kind(*kind).restored.set(before);
            if self.state(*kind) == WatchState::Cold {
                self.set_state(*kind, WatchState::Snapshot);
            }
        }
    }

    /// What tells the cluster from others for as long as it lives; none before it was read. Keep it, and hand it to the next
    /// run: see [`KubeConfig::known_cluster`](super::KubeConfig::known_cluster).
    pub fn cluster_uid(&self) -> Option<String> {
        self.cluster_uid.load().as_deref().cloned()
    }

    /// Whether what the last run kept on disk was dropped, because it was of another cluster.
    pub fn is_disowned(&self) -> bool {
        self.is_disowned.load(Relaxed)
    }

    /// The UID of the other cluster that answers at present; nothing of it is stated. None while ours does.
    pub fn other_cluster(&self) -> Option<String> {
        self.other_cluster.load().as_deref().cloned()
    }

    /// A person says that the other cluster that answers is ours from now on; nothing happens when there is none.
    pub fn accept(&self) {
        self.accepted.notify_waiters();
    }

    /// The API that endpoints are read from; none before it was chosen. Keep it, and hand it to the next run: see
    /// [`KubeConfig::known_api`](super::KubeConfig::known_api).
    pub fn slice_api(&self) -> Option<SliceApi> {
        let number = usize::from(self.slice_api.load(Relaxed));
        SliceApi::ALL.get(number.checked_sub(1)?).copied()
    }

    /// Which services and slices are read; everything unless the source was told otherwise.
    pub fn selection(&self) -> Selection {
        self.selection.get().cloned().unwrap_or_default()
    }

    /// For how long the figures have been counted.
    pub fn observed(&self) -> Duration {
        self.elapsed()
    }

    /// Full lists of this kind that were begun.
    pub fn lists(&self, kind: Kind) -> u64 {
        self.kind(kind).lists.load(Relaxed)
    }

    /// Objects in the last full list of this kind; 0 before one.
    pub fn objects(&self, kind: Kind) -> u64 {
        self.kind(kind).objects.load(Relaxed)
    }

    /// Watches of this kind that were begun.
    pub fn watches(&self, kind: Kind) -> u64 {
        self.kind(kind).watches.load(Relaxed)
    }

    /// Of [`SourceStatus::watches`], those that were begun beside an overdue one, by what became of them.
    pub fn second_watches(&self, kind: Kind, outcome: SecondWatch) -> u64 {
        self.kind(kind).second_watches[outcome as usize].load(Relaxed)
    }

    /// Bytes of bodies that came over the wire for this kind, as they were compressed.
    pub fn bytes_wire(&self, kind: Kind) -> u64 {
        self.kind(kind).bytes_wire.load(Relaxed)
    }

    /// Bytes read for this kind, after decompression.
    pub fn bytes(&self, kind: Kind) -> u64 {
        self.kind(kind).bytes.load(Relaxed)
    }

    /// Of [`SourceStatus::bytes_wire`], what came by lists and by asking which API there is; the rest came by watches.
    pub fn list_bytes_wire(&self, kind: Kind) -> u64 {
        self.kind(kind).list_bytes_wire.load(Relaxed)
    }

    /// Of [`SourceStatus::bytes`], what came by lists and by asking which API there is; the rest came by watches.
    pub fn list_bytes(&self, kind: Kind) -> u64 {
        self.kind(kind).list_bytes.load(Relaxed)
    }

    /// Why a request of this kind failed the last time that one did, however long ago.
    pub fn last_failure(&self, kind: Kind) -> Option<FailureReason> {
        let number = usize::from(self.kind(kind).last_failure.load(Relaxed));
        FailureReason::ALL.get(number.checked_sub(1)?).copied()
    }

    /// Failures of this kind, by reason.
    pub fn errors(&self, kind: Kind, reason: FailureReason) -> u64 {
        self.kind(kind).errors[reason.number()].load(Relaxed)
    }

    /// Lists of this kind that were read again, by reason.
    pub fn relists(&self, kind: Kind, reason: FailureReason) -> u64 {
        self.kind(kind).relists[reason.number()].load(Relaxed)
    }

    /// Lines of watches of this kind that were refused, by reason.
    pub fn lines_rejected(&self, kind: Kind, reason: FailureReason) -> u64 {
        self.kind(kind).rejected[reason.number()].load(Relaxed)
    }

    pub(super) fn set_state(&self, kind: Kind, state: WatchState) {
        // What was restored is served until the first list, whatever else was not asked for yet.
        let state = match state {
            WatchState::Cold if self.is_restored() => WatchState::Snapshot,
            state => state,
        };
        let figures = self.kind(kind);
        if figures.state.swap(state as u8, Relaxed) != state as u8 {
            figures.state_since.set(self.elapsed());
        }
    }

    pub(super) fn set_version(&self, kind: Kind, version: Option<u64>) {
        let version = version.unwrap_or_default();
        self.kind(kind).version.store(version, Relaxed);
    }

    pub(super) fn set_cluster_uid(&self, uid: &str) {
        self.cluster_uid.store(Some(Arc::new(uid.to_owned())));
    }

    pub(super) fn set_other_cluster(&self, uid: Option<String>) {
        self.other_cluster.store(uid.map(Arc::new));
    }

    pub(super) async fn accepted(&self) {
        self.accepted.notified().await;
    }

    /// What came from disk is of another cluster: nothing is restored any more, and nothing was heard before this run.
    pub(super) fn disowned(&self) {
        if !self.is_restored.swap(false, Relaxed) {
            return;
        }
        self.is_disowned.store(true, Relaxed);
        for kind in Kind::ALL {
            self.kind(kind).restored.clear();
            if self.state(kind) == WatchState::Snapshot {
                self.set_state(kind, WatchState::Cold);
            }
        }
    }

    pub(super) fn set_slice_api(&self, api: SliceApi) {
        let position = SliceApi::ALL.into_iter().position(|other| other == api);
        let number = position.and_then(|position| u8::try_from(position + 1).ok());
        self.slice_api.store(number.unwrap_or_default(), Relaxed);
    }

    /// The first word counts: a source reads the same part for as long as it lives.
    pub(super) fn set_selection(&self, selection: Selection) {
        let _ = self.selection.set(selection);
    }

    pub(super) fn set_connected(&self, kind: Kind, connected: bool) {
        self.kind(kind).connected.store(connected, Relaxed);
    }

    pub(super) fn heard(&self, kind: Kind) {
        self.kind(kind).contact.set(self.elapsed());
    }

    /// Notes that the kind was last heard of a while ago: of several watches the one heard of longest ago counts.
    pub(super) fn heard_before(&self, kind: Kind, ago: Duration) {
        let at = self.elapsed().saturating_sub(ago);
        self.kind(kind).contact.set(at);
    }

    pub(super) fn synced(&self, kind: Kind) {
        self.kind(kind).sync.set(self.elapsed());
    }

    pub(super) fn list_begun(&self, kind: Kind) {
        self.kind(kind).lists.fetch_add(1, Relaxed);
    }

    pub(super) fn set_objects(&self, kind: Kind, objects: usize) {
        self.kind(kind).objects.store(objects as u64, Relaxed);
    }

    pub(super) fn watch_begun(&self, kind: Kind) {
        self.kind(kind).watches.fetch_add(1, Relaxed);
    }

    pub(super) fn second_watch(&self, kind: Kind, outcome: SecondWatch) {
        self.kind(kind).second_watches[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn add_bytes(&self, kind: Kind, wire: usize, decoded: usize) {
        self.kind(kind).bytes_wire.fetch_add(wire as u64, Relaxed);
        self.kind(kind).bytes.fetch_add(decoded as u64, Relaxed);
    }

    /// As [`SourceStatus::add_bytes`], of a list.
    pub(super) fn add_list_bytes(&self, kind: Kind, wire: usize, decoded: usize) {
        let figures = self.kind(kind);
        figures.list_bytes_wire.fetch_add(wire as u64, Relaxed);
        figures.list_bytes.fetch_add(decoded as u64, Relaxed);
        self.add_bytes(kind, wire, decoded);
    }

    pub(super) fn rejected(&self, kind: Kind, reason: FailureReason) {
        self.kind(kind).rejected[reason.number()].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, kind: Kind, reason: FailureReason) {
        let figures = self.kind(kind);
        figures.errors[reason.number()].fetch_add(1, Relaxed);
        figures.last_failure.store(reason as u8 + 1, Relaxed);
    }

    pub(super) fn relisting(&self, kind: Kind, reason: FailureReason) {
        self.kind(kind).relists[reason.number()].fetch_add(1, Relaxed);
    }

    fn kind(&self, kind: Kind) -> &KindStatus {
        match kind {
            Kind::OwnNode => &self.kinds[0],
            Kind::Nodes => &self.kinds[1],
            Kind::Services => &self.kinds[2],
            Kind::Slices => &self.kinds[3],
        }
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.start)
    }

    fn since(&self, moment: &Moment) -> Option<Duration> {
        Some(self.elapsed().saturating_sub(moment.get()?))
    }
}

impl fmt::Debug for SourceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceStatus")
            .field("source", &self.source)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// When something last happened, in microseconds since the start; 0 means never.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn set(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros.saturating_add(1), Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let micros = self.0.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    fn status() -> (TestClock, SourceStatus) {
        let clock = TestClock::default();
        let status = SourceStatus::new(SourceId::Kube, Arc::new(clock.clone()));
        (clock, status)
    }

    #[test]
    fn never_and_just_now_are_told_apart() {
        let (_, status) = status();
        assert_eq!(status.kind_age(Kind::Nodes), None);
        status.heard(Kind::Nodes);
        assert_eq!(status.kind_age(Kind::Nodes), Some(Duration::ZERO));
    }

    #[test]
    fn the_age_is_that_of_the_kind_heard_of_longest_ago() {
        let (clock, status) = status();
        for kind in [Kind::Services, Kind::Slices] {
            status.set_state(kind, WatchState::Live);
            status.heard(kind);
        }
        clock.advance(Duration::from_secs(40));
        status.heard(Kind::Services);
        assert_eq!(status.age(), Some(Duration::from_secs(40)));
        status.set_state(Kind::Slices, WatchState::Cold);
        assert_eq!(status.age(), Some(Duration::ZERO));
    }

    #[test]
    fn a_restored_view_is_told_until_something_was_listed() {
        let (clock, status) = status();
        status.set_state(Kind::Slices, WatchState::Live);
        status.restored(&Kind::ALL, Duration::from_secs(100));
        assert_eq!(status.state(Kind::Slices), WatchState::Live);
        assert_eq!(status.state(Kind::Services), WatchState::Snapshot);
        clock.advance(Duration::from_secs(7));
        status.set_state(Kind::Services, WatchState::Snapshot);
        assert_eq!(
            status.state_age(Kind::Services),
            Some(Duration::from_secs(7))
        );
        status.set_state(Kind::Services, WatchState::Listing);
        assert_eq!(status.state_age(Kind::Services), Some(Duration::ZERO));
    }

    #[test]
    fn the_age_of_what_was_restored_goes_on_until_the_kind_is_heard_of() {
        let (clock, status) = status();
        status.restored(&[Kind::Services, Kind::Slices], Duration::from_secs(100));
        clock.advance(Duration::from_secs(20));
        assert_eq!(status.age(), Some(Duration::from_secs(120)));
        status.heard(Kind::Services);
        assert_eq!(status.kind_age(Kind::Services), Some(Duration::ZERO));
        assert_eq!(status.age(), Some(Duration::from_secs(120)));
        status.heard(Kind::Slices);
        assert_eq!(status.age(), Some(Duration::ZERO));
        assert_eq!(status.kind_age(Kind::Nodes), None);
    }

    #[test]
    fn the_chosen_api_is_told() {
        let (_, status) = status();
        assert_eq!(status.slice_api(), None);
        for api in SliceApi::ALL {
            status.set_slice_api(api);
            assert_eq!(status.slice_api(), Some(api));
        }
    }

    #[test]
    fn states_survive_the_atomic() {
        let (_, status) = status();
        for state in WatchState::ALL {
            status.set_state(Kind::Slices, state);
            assert_eq!(status.state(Kind::Slices), state);
        }
    }

    #[test]
    fn bytes_of_lists_are_a_part_of_all_bytes() {
        let (_, status) = status();
        status.add_list_bytes(Kind::Slices, 10, 40);
        status.add_bytes(Kind::Slices, 3, 5);
        assert_eq!(status.list_bytes_wire(Kind::Slices), 10);
        assert_eq!(status.list_bytes(Kind::Slices), 40);
        assert_eq!(status.bytes_wire(Kind::Slices), 13);
        assert_eq!(status.bytes(Kind::Slices), 45);
    }

    #[test]
    fn figures_are_kept_apart_by_kind_and_reason() {
        let (_, status) = status();
        status.failed(Kind::Slices, FailureReason::Expired);
        status.relisting(Kind::Slices, FailureReason::Undecodable);
        let last = status.last_failure(Kind::Slices);
        assert_eq!(last, Some(FailureReason::Expired));
        assert_eq!(status.last_failure(Kind::Nodes), None);
        assert_eq!(status.errors(Kind::Slices, FailureReason::Expired), 1);
        assert_eq!(status.errors(Kind::Slices, FailureReason::Undecodable), 0);
        assert_eq!(status.relists(Kind::Slices, FailureReason::Undecodable), 1);
        assert_eq!(status.errors(Kind::Nodes, FailureReason::Expired), 0);
    }
}
