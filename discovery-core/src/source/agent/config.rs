// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a client follows the agent of its node: which socket, whom it believes, what it keeps, how long it waits.

use super::PeerUids;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How a client follows the agent of its node.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub(super) socket: PathBuf,
    pub(super) uids: PeerUids,
    pub(super) folder: Option<PathBuf>,
    pub(super) patience: Duration,
    pub(super) silence_max: Duration,
}

impl AgentConfig {
    /// Follows the agent that listens on this socket, run by root or by the user that we are; nothing on disk.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self {
            socket: socket.as_ref().to_owned(),
            uids: PeerUids::default(),
            folder: None,
            patience: PATIENCE,
            silence_max: SILENCE_MAX,
        }
    }

    /// The users whose agent is believed; another's is refused.
    #[must_use]
    pub fn uids(mut self, uids: PeerUids) -> Self {
        self.uids = uids;
        self
    }

    /// Keeps the last view in this folder; none unless set.
    #[must_use]
    pub fn folder(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
        self
    }

    /// How long the agent may be away before the client watches for itself, where it may; 10 s unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long the agent may be silent before the connection counts as lost; 15 s unless set. It speaks every 5 s.
    #[must_use]
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.silence_max = silence;
        self
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Longer than an agent takes to be restarted: its clients serve what they have meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Three beats.
const SILENCE_MAX: Duration = Duration::from_secs(15);
