// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words for how far a watch is, and for what became of a second one beside it: for metrics, the page and the command.

use std::fmt;

/// How far the watch of one kind is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum WatchState {
    /// Not begun: nothing was asked yet, or there is nothing to ask for (nodes of an unknown zone).
    Cold,
    /// Nothing was listed yet, and what the last run kept on disk is served meanwhile.
    Snapshot,
    /// A full list is being read.
    Listing,
    /// Listed, and changes arrive.
    Live,
    /// Listed, and there is a reason to doubt that changes arrive: a watch stands beyond its end, or a probe failed.
    Suspect,
    /// Listed once, and cut off from changes since.
    Stale,
}

impl WatchState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Cold,
        Self::Snapshot,
        Self::Listing,
        Self::Live,
        Self::Suspect,
        Self::Stale,
    ];

    /// The word for metrics and the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Snapshot => "snapshot",
            Self::Listing => "listing",
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Stale => "stale",
        }
    }

    pub(super) fn of_number(number: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|state| *state as u8 == number)
            .unwrap_or(Self::Cold)
    }
}

impl fmt::Display for WatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a second watch beside one that was overdue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum SecondWatch {
    /// It was the quicker one, or the first ended meanwhile: it is the one that is followed.
    TookOver,
    /// The first had something to say after all.
    NotNeeded,
    /// It was refused, or the server was not reached.
    Failed,
}

impl SecondWatch {
    /// All outcomes.
    pub const ALL: [Self; 3] = [Self::TookOver, Self::NotNeeded, Self::Failed];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TookOver => "took-over",
            Self::NotNeeded => "not-needed",
            Self::Failed => "failed",
        }
    }
}
