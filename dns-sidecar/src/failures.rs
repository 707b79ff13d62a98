// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells of a failure that repeats, once a minute at most, with how often it came.

use std::{
    io,
    time::{Duration, Instant},
};

/// The failures of one loop.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    told: Option<Instant>,
    untold: u64,
}

impl Failures {
    /// Notes one more, and tells of all since the last telling when it is time.
    pub(crate) fn note(&mut self, what: &'static str, error: &io::Error) {
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::warn!(what, %error, failures = self.untold, "DNS socket failed");
            *self = Self {
                told: Some(Instant::now()),
                untold: 0,
            };
        }
    }
}

const TELL_EVERY: Duration = Duration::from_secs(60);
