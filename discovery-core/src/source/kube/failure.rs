// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a request to the API server failed: what was wrong, whom it speaks of, and who says when to ask again.

use crate::source::FailureReason;
use std::time::Duration;

/// How a request failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) reason: FailureReason,
    /// How long the server asks us to stay away.
    pub(super) retry_after: Option<Duration>,
    /// Whether it speaks of the server, whatever was asked for.
    pub(super) is_of_server: bool,
    /// Whether the gate says when to ask again.
    pub(super) is_governed: bool,
    /// Whether the server had the request: then asking again costs it something.
    pub(super) was_asked: bool,
    /// In words.
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(reason: FailureReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            retry_after: None,
            is_of_server: false,
            is_governed: false,
            was_asked: !matches!(
                reason,
                FailureReason::Connection | FailureReason::Certificate
            ),
            text: text.into(),
        }
    }

    /// Whether the way to the server broke, so that another server may be at its end next.
    pub(super) fn is_of_way(&self) -> bool {
        matches!(
            self.reason,
            FailureReason::Connection
                | FailureReason::Certificate
                | FailureReason::Silent
                | FailureReason::Deadline
        )
    }

    pub(super) fn asked(mut self) -> Self {
        self.was_asked = true;
        self
    }

    pub(super) fn of_server(mut self) -> Self {
        self.is_of_server = true;
        self
    }
}
