// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where facts come from: a Kubernetes API server, a Consul agent, or a manifest file.
//!
//! In: watches and files that may fail, lie, stall or be half written. Out: [`Update`]s into a bounded queue, and a
//! [`SourceStatus`] that anybody can read. What is read is translated by pure functions; one bad object, endpoint or port
//! never costs another one. Losing a source changes ages and counters and never takes back what it has stated.

mod backoff;
mod consul;
mod kube;
mod manifest;
mod object;
mod reason;
mod status;

pub use backoff::{Backoff, BackoffRule};
pub use consul::{
    ConsulAddress, ConsulAddressError, ConsulAgent, ConsulCallError, ConsulConfig, ConsulHealth,
    ConsulInstance, ConsulSource, ConsulSourceError, Secret, Token, ZoneFrom,
};
pub use kube::{
    KubeConfig, KubeSource, KubeSourceError, Selection, Selector, SelectorError, SliceApi,
    UnknownSliceApi,
};
pub use manifest::{Manifest, ManifestContent, ManifestError};
pub use reason::FailureReason;
pub use status::{SourceStatus, WatchState};

use crate::store::Update;

/// Where a source sends what it has to say. Bounded: a source waits when the writer is behind.
pub type UpdateSender = tokio::sync::mpsc::Sender<Update>;

/// An error with its causes on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.chars().take(ERROR_CHARS_MAX).collect()
}

/// An error may quote a whole page of a proxy.
const ERROR_CHARS_MAX: usize = 400;
