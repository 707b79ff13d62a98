// SPDX-License-Identifier: MIT OR Apache-2.0
//! Says aloud that a test did not run, and makes that a failure where everything must run.
//!
//! In: the test and the reason. Out: a line on the error stream, or a panic under `CI=true`.

use std::io::{self, Write as _};

use crate::Error;

/// Prints `SKIPPED <test>: <why>` on the error stream.
///
/// The line goes to the stream itself: `eprintln!` would be captured, and a skip that nobody sees is a test that
/// nobody runs.
///
/// # Panics
///
/// When the environment says `CI=true`: there, a skip is a failure.
pub fn skip(test: &str, why: &str) {
    say(&format!("SKIPPED {test}: {why}"));
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "{test} was skipped, and CI=true: {why}");
}

/// The value; or `None` after [`skip`] if the machine cannot run it.
///
/// # Panics
///
/// On any other error: the machine could run it and it failed.
pub(crate) fn or_skip<T>(test: &str, outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.is_unavailable() => {
            skip(test, &error.to_string());
            None
        }
        Err(error) => panic!("{test}: {}", chain(&error)),
    }
}

/// Writes one line to the error stream past the capture of the test harness; a closed stream is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
