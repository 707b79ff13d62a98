// SPDX-License-Identifier: MIT OR Apache-2.0
//! How several watches of one kind stand together: as current as the one heard of longest ago. Pure.

use crate::source::WatchState;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The watches of one kind by what they watch.
#[derive(Debug, Default)]
pub(super) struct Pulse(BTreeMap<String, Beat>);

#[derive(Debug, Default)]
struct Beat {
    heard: Option<Instant>,
    is_failing: bool,
    lags: bool,
}

impl Pulse {
    /// A watch began; it was not heard of yet.
    pub(super) fn begin(&mut self, watch: &str) {
        self.0.entry(watch.to_owned()).or_default();
    }

    /// A watch ended.
    pub(super) fn end(&mut self, watch: &str) {
        self.0.remove(watch);
    }

    /// A watch was answered by a server that is current, or by one that lags.
    pub(super) fn answered(&mut self, watch: &str, now: Instant, is_fresh: bool) {
        if let Some(beat) = self.0.get_mut(watch) {
            (beat.is_failing, beat.lags) = (false, !is_fresh);
            if is_fresh {
                beat.heard = Some(now);
            }
        }
    }

    /// A watch got no answer.
    pub(super) fn failed(&mut self, watch: &str) {
        if let Some(beat) = self.0.get_mut(watch) {
            beat.is_failing = true;
        }
    }

    /// When the watch that was heard of longest ago was heard of; none while one never was.
    pub(super) fn contact(&self) -> Option<Instant> {
        let heard: Option<Vec<_>> = self.0.values().map(|beat| beat.heard).collect();
        heard?.into_iter().min()
    }

    /// Whether every watch was answered last.
    pub(super) fn is_connected(&self) -> bool {
        self.0.values().all(|beat| !beat.is_failing)
    }

    /// How far they are together.
    pub(super) fn state(&self, is_synced: bool) -> WatchState {
        match is_synced {
            _ if self.0.is_empty() => WatchState::Cold,
            false => WatchState::Listing,
            true if !self.is_connected() => WatchState::Stale,
            true if self.0.values().any(|beat| beat.lags) => WatchState::Suspect,
            true => WatchState::Live,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_watch_heard_of_longest_ago_speaks_for_all() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.state(true), WatchState::Cold);
        let start = Instant::now();
        pulse.begin("web");
        pulse.begin("api");
        pulse.answered("web", start, true);
        assert_eq!(
            (pulse.contact(), pulse.state(false)),
            (None, WatchState::Listing)
        );
        let later = start + Duration::from_secs(9);
        pulse.answered("api", later, true);
        assert_eq!(
            (pulse.contact(), pulse.state(true)),
            (Some(start), WatchState::Live)
        );
        pulse.answered("web", later, false);
        assert_eq!(
            (pulse.contact(), pulse.state(true)),
            (Some(start), WatchState::Suspect)
        );
        pulse.failed("web");
        assert_eq!(pulse.state(true), WatchState::Stale);
        assert!(!pulse.is_connected());
        pulse.end("web");
        assert_eq!(
            (pulse.contact(), pulse.state(true)),
            (Some(later), WatchState::Live)
        );
    }
}
