// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads that carry connections, a runtime each, so that a connection stays on one core.
//!
//! In: how many. Out: handles to start tasks on. Watches, pages and metrics stay on the caller's runtime: a storm of
//! connections does not hold them up, nor they the connections.

use std::{io, num::NonZeroUsize, thread};
use tokio::{
    runtime::{Builder, Handle},
    task::yield_now,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

/// The threads; they end some time after this is dropped, with what still runs on them.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<Handle>,
    _stop: DropGuard,
}

impl Workers {
    /// Starts so many threads; the caller's own runtime is the worker when there are none.
    ///
    /// # Panics
    /// Outside a runtime of tokio.
    pub(crate) fn start(threads: usize) -> Self {
        let stop = CancellationToken::new();
        let mut handles = Vec::with_capacity(threads.max(1));
        for number in 0..threads {
            match start(number, stop.clone()) {
                Ok(handle) => handles.push(handle),
                Err(error) => error!(%error, number, "A worker thread cannot be started"),
            }
        }
        if handles.is_empty() {
            handles.push(Handle::current());
        }
        Self {
            handles,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

fn start(number: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("zonal-proxy-{number}"))
        .spawn(move || {
            runtime.block_on(async {
                stop.cancelled().await;
                // Connections that are cut at the same moment still get their resets.
                for _ in 0..LAST_TURNS {
                    yield_now().await;
                }
            });
        })?;
    Ok(handle)
}

/// One for each core, at most [`THREADS_MAX`].
pub(crate) fn threads() -> usize {
    thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(THREADS_MAX)
}

/// A task needs a few turns to end.
const LAST_TURNS: u32 = 64;

/// Four cores fill a 10 Gbit/s card several times over; an edge host has other things to do.
const THREADS_MAX: usize = 4;
