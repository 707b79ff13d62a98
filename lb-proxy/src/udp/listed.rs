// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UDP sessions of one listener, for people who ask.
//!
//! In: sessions that begin. Out: a list at any moment. It keeps none alive, and forgets those that ended when as many have ended
//! as go on, so that it is bounded by twice the cap on sessions.

use super::session::{Session, Shared};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// The sessions of one listener. Clones share them.
///
/// The lock guards the list; held for one addition, or for a copy, never across an await and never for a datagram.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionTable(Arc<Mutex<Begun>>);

#[derive(Debug, Default)]
struct Begun {
    sessions: Vec<Weak<Shared>>,
    /// At this length those that ended are forgotten.
    full_at: usize,
}

/// One UDP session at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionStatus {
    /// Who sent datagrams.
    pub client: SocketAddr,
    /// The name of the endpoint.
    pub endpoint: String,
    /// Where the endpoint is reached.
    pub address: SocketAddr,
    /// Whether the endpoint is near.
    pub is_local: bool,
    /// Since the first datagram, or since this proxy took it over.
    pub age: Duration,
    /// Bytes from the client to the endpoint.
    pub up: u64,
    /// Bytes from the endpoint to the client.
    pub down: u64,
    /// Whether the endpoint has replied.
    pub is_answered: bool,
}

impl SessionTable {
    /// Lists a session as long as it goes on.
    pub(super) fn enter(&self, session: &Session) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.sessions.len() >= begun.full_at {
            begun.sessions.retain(|session| session.strong_count() > 0);
            begun.full_at = 2 * begun.sessions.len() + SLACK;
        }
        begun.sessions.push(session.listed());
    }

    /// All of them, in no order.
    pub(crate) fn list(&self) -> Vec<SessionStatus> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sessions: Vec<_> = begun.sessions.iter().filter_map(Weak::upgrade).collect();
        drop(begun);
        sessions.iter().map(|shared| shared.status()).collect()
    }
}

/// A few sessions are not worth a look.
const SLACK: usize = 64;
