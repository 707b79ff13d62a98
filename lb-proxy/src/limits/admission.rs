// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may have one more connection: the caps of the process, of a listener and of a source address, and a source's rate.
//!
//! In: a source and the time. Out: a permit that is given back when dropped, or the limit that was reached. A refused
//! connection is reset, so that its client tries another host instead of waiting.

use super::sources::Sources;
use crate::reason::Reason;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The doors of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) global: Arc<Semaphore>,
    pub(crate) listener: Arc<Semaphore>,
    pub(crate) sources: SharedSources,
}

/// The sources of a process. The lock guards the table and is held for one step of it, never across an await.
#[derive(Clone, Debug)]
pub(crate) struct SharedSources(Arc<Mutex<Sources>>);

/// A place below the caps of the process and of the listener.
#[derive(Debug)]
pub(crate) struct Permit {
    _global: OwnedSemaphorePermit,
    _listener: OwnedSemaphorePermit,
}

/// A place below the cap of a source.
#[derive(Debug)]
pub(crate) struct SourcePermit {
    sources: SharedSources,
    source: IpAddr,
}

impl Admission {
    /// A place for one more connection of whatever source.
    pub(crate) fn permit(&self) -> Result<Permit, Reason> {
        let global = self.global.clone().try_acquire_owned();
        let global = global.map_err(|_| Reason::LimitGlobal)?;
        let listener = self.listener.clone().try_acquire_owned();
        let listener = listener.map_err(|_| Reason::LimitListener)?;
        Ok(Permit {
            _global: global,
            _listener: listener,
        })
    }

    /// A place for one more connection of the source.
    pub(crate) fn source(&self, source: IpAddr) -> Result<SourcePermit, Reason> {
        self.sources.enter(source)
    }
}

impl SharedSources {
    pub(crate) fn new(sources: Sources) -> Self {
        Self(Arc::new(Mutex::new(sources)))
    }

    pub(crate) fn enter(&self, source: IpAddr) -> Result<SourcePermit, Reason> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.enter(Instant::now(), source) {
            return Err(Reason::LimitSource);
        }
        Ok(SourcePermit {
            sources: self.clone(),
            source,
        })
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let mut sources = self
            .sources
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sources.leave(self.source);
    }
}
