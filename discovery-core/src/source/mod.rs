// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where facts come from: a Kubernetes API server, a Consul agent, a manifest file, or the agent of the same node.
//!
//! In: watches and files that may fail, lie, stall or be half written. Out: [`Update`]s into a bounded queue, and a
//! [`SourceStatus`] that anybody can read. What is read is translated by pure functions; one bad object, endpoint or port
//! never costs another one. Losing a source changes ages and counters and never takes back what it has stated.
//!
//! Kubernetes and Consul are features. What they share is compiled without them too, and is then not called in part: a
//! condition on each of its functions would hide more than it saves.
#![cfg_attr(
    not(all(feature = "kube", feature = "consul")),
    allow(dead_code, unused_imports)
)]

mod agent;
mod backoff;
#[cfg(feature = "consul")]
mod consul;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "kube")]
mod kube;
mod manifest;
mod object;
mod permissions;
mod reason;
mod selector;
mod slice_api;
mod status;
mod watch_state;

pub use agent::{AgentConfig, AgentSource, Batch, BatchSender, OwnWatch, PeerUids, peer_uid};
pub(crate) use agent::{
    Beat, Bye, FrameKind, Hello, Open, VERSION, View, decode, encode, put_frame, take_frame,
};
pub use backoff::{Backoff, BackoffRule};
#[cfg(feature = "consul")]
pub use consul::{
    ConsulAddress, ConsulAddressError, ConsulAgent, ConsulCallError, ConsulConfig, ConsulHealth,
    ConsulInstance, ConsulSource, ConsulSourceError, Secret, Token, ZoneFrom,
};
#[cfg(feature = "kube")]
pub use kube::{KubeConfig, KubeSource, KubeSourceError};
pub use manifest::{Manifest, ManifestContent, ManifestError};
pub use permissions::{Permissions, Right, Verdict};
pub use reason::FailureReason;
pub use selector::{Selection, Selector, SelectorError};
pub use slice_api::{SliceApi, UnknownSliceApi};
pub use status::SourceStatus;
pub use watch_state::{SecondWatch, WatchState};

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
