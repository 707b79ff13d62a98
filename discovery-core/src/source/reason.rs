// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a request failed or a list is read again: one closed list for metrics, the page and logs.

use std::fmt;

/// Why a request of a source failed, or why it reads a full list again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
#[non_exhaustive]
pub enum FailureReason {
    /// The server could not be reached, or the connection broke.
    Connection,
    /// A certificate was refused: the server's by us, or ours by the server.
    Certificate,
    /// The server did not begin to answer in time.
    Deadline,
    /// An answer came to a halt, or to less than the least throughput.
    TooSlow,
    /// A watch stayed silent beyond the time at which the server should have ended it.
    Silent,
    /// A watch ended within seconds of its start.
    ShortStream,
    /// The version that we know is too old (410).
    Expired,
    /// The version that we know is ahead of the server's: it was restored or replaced.
    VersionAhead,
    /// An answer or event carries no version to go on from.
    NoVersion,
    /// An object or event could not be decoded.
    Undecodable,
    /// A line ended before its JSON did.
    Truncated,
    /// A line or an answer was larger than the limit.
    TooLarge,
    /// The server reported an error inside a watch.
    InStream,
    /// Our credentials were refused (401).
    Unauthorized,
    /// Our credentials do not allow it (403).
    Forbidden,
    /// The server knows no such resource (404).
    NotFound,
    /// The server asked us to come later (429, 503).
    Throttled,
    /// The server refused the request for another reason (4xx).
    Refused,
    /// The server failed (5xx).
    ServerError,
    /// A refusal was lifted, so the list is read again to drop what was said of it.
    Recovered,
    /// A file could not be read.
    Unreadable,
    /// The servers have no leader at the moment (Consul).
    NoLeader,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: [Self; 22] = [
        Self::Connection,
        Self::Certificate,
        Self::Deadline,
        Self::TooSlow,
        Self::Silent,
        Self::ShortStream,
        Self::Expired,
        Self::VersionAhead,
        Self::NoVersion,
        Self::Undecodable,
        Self::Truncated,
        Self::TooLarge,
        Self::InStream,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Throttled,
        Self::Refused,
        Self::ServerError,
        Self::Recovered,
        Self::Unreadable,
        Self::NoLeader,
    ];

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Certificate => "certificate",
            Self::Deadline => "deadline",
            Self::TooSlow => "too-slow",
            Self::Silent => "silent",
            Self::ShortStream => "short-stream",
            Self::Expired => "expired",
            Self::VersionAhead => "version-ahead",
            Self::NoVersion => "no-version",
            Self::Undecodable => "undecodable",
            Self::Truncated => "truncated",
            Self::TooLarge => "too-large",
            Self::InStream => "in-stream",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::ServerError => "server-error",
            Self::Recovered => "recovered",
            Self::Unreadable => "unreadable",
            Self::NoLeader => "no-leader",
        }
    }

    /// The reason that an HTTP status of 400 and above stands for.
    pub(super) fn of_http_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            410 => Self::Expired,
            429 | 503 => Self::Throttled,
            400..=499 => Self::Refused,
            _ => Self::ServerError,
        }
    }

    /// Whether a person has to change something before it can go well.
    pub fn needs_person(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden | Self::NotFound)
    }

    pub(super) fn number(self) -> usize {
        self as usize
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_is_whole_and_in_order() {
        for (position, reason) in FailureReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.number(), position, "{reason}");
        }
        let words: HashSet<_> = FailureReason::ALL.map(FailureReason::as_str).into();
        assert_eq!(words.len(), FailureReason::ALL.len());
    }

    #[test]
    fn every_status_has_a_reason() {
        for (status, reason) in [
            (400, FailureReason::Refused),
            (401, FailureReason::Unauthorized),
            (403, FailureReason::Forbidden),
            (404, FailureReason::NotFound),
            (410, FailureReason::Expired),
            (429, FailureReason::Throttled),
            (500, FailureReason::ServerError),
            (503, FailureReason::Throttled),
            (504, FailureReason::ServerError),
        ] {
            assert_eq!(FailureReason::of_http_status(status), reason);
        }
    }
}
