// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong between a test and its servers.
//!
//! One enum for the package: a test hands it up with `?` and tells only [`Error::Unavailable`] (skip) from the rest
//! (fail). No I/O here.

use std::{
    fmt::Display,
    io,
    process::{ExitStatus, Output},
    time::Duration,
};

/// Why a server, or a step of the driver, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This machine cannot run it: no program and no way to build it, or not enough rights. A test skips.
    #[error("{what} is not available: {why}")]
    Unavailable {
        /// The program or facility.
        what: String,
        /// What is missing.
        why: String,
    },
    /// The toolchain is there and the build failed; `output` is the end of what it said.
    #[error("building {what} failed ({status}):\n{output}")]
    Build {
        /// The program.
        what: String,
        /// How the toolchain ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// A server ended although nobody asked it to.
    #[error("{what} ended ({status}); its log ends:\n{log}")]
    Ended {
        /// The server.
        what: String,
        /// Its status, as its guard reports it: 128 + n after signal n.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A server runs and does not answer.
    #[error("{what} is not ready after {after:?}; its log ends:\n{log}")]
    NotReady {
        /// The server.
        what: String,
        /// How long it was asked.
        after: Duration,
        /// The end of its log.
        log: String,
    },
    /// The test itself killed the server before, and has not started it again.
    #[error("{what} was killed and not started again")]
    Killed {
        /// The server.
        what: String,
    },
    /// A condition of [`wait_for`](crate::wait_for) did not come true.
    #[error("{what}: not within {after:?}")]
    Deadline {
        /// The condition, in the words of the caller.
        what: String,
        /// How long it was asked for.
        after: Duration,
    },
    /// A command ended with a failure.
    #[error("{command} failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote on its error stream.
        output: String,
    },
    /// A file, a socket or a process could not be used.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The API server refused, or could not be reached.
    #[error("{what}")]
    Kube {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A manifest, a kubeconfig or an answer cannot be read.
    #[error("{what}: {why}")]
    Manifest {
        /// Which one.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An HTTP exchange broke.
    #[error("{what}")]
    Exchange {
        /// The request.
        what: String,
        /// Why it broke.
        source: hyper::Error,
    },
    /// An HTTP server answered with something other than success.
    #[error("{what} answered {status}: {body}")]
    Answer {
        /// The request.
        what: String,
        /// The status of the answer.
        status: u16,
        /// Its body.
        body: String,
    },
}

impl Error {
    /// Whether the machine lacks something, as opposed to a failure: the one case in which a test may skip.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn unavailable(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unavailable {
            what: what.into(),
            why: why.into(),
        }
    }

    /// A build that failed, with the end of what it complained of: that stands behind the list of downloads.
    pub(crate) fn build(what: impl Into<String>, built: &Output) -> Self {
        let output = String::from_utf8_lossy(&built.stderr);
        let mut ends = output.char_indices().rev();
        let from = ends.nth(OUTPUT_TAIL_CHARS).map_or(0, |(at, _)| at);
        Self::Build {
            what: what.into(),
            status: built.status,
            output: output[from..].to_owned(),
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kube {
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn manifest(what: impl Into<String>, why: impl Display) -> Self {
        Self::Manifest {
            what: what.into(),
            why: format!("{why}"),
        }
    }
}

/// The end of what a failed build says.
const OUTPUT_TAIL_CHARS: usize = 4000;
