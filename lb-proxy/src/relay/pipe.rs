// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipes through which bulk data goes from socket to socket inside the kernel, bounded and pooled.
//!
//! In: wishes for a pipe. Out: a pipe of a useful size, or none, and then the bytes are copied. The kernel gives a user
//! 64 MiB of pipes (`fs.pipe-user-pages-soft`) and after that pipes of two pages, which are worse than copying. A pipe with
//! bytes in it is closed and never pooled, since another connection would be given them.

use discovery_core::telemetry::PipeMetrics;
use rustix::{
    pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with},
    process::{Resource, getrlimit},
};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

/// The pipes of a process. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Pipes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    idle_max: usize,
    metrics: PipeMetrics,
    /// Guards the pool; held for a push or a pop, and while a pipe is made.
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Ends>,
    lent: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

/// A pipe that one direction uses. Dropping it closes the pipe.
#[derive(Debug)]
pub(crate) struct Lent {
    ends: Option<Ends>,
    owner: Arc<Shared>,
}

impl Pipes {
    /// At most `max` pipes; none means the smaller of 192 and 1 % of the descriptor limit.
    pub(crate) fn new(max: Option<usize>, metrics: PipeMetrics) -> Self {
        let max = max.unwrap_or_else(|| of_descriptors(getrlimit(Resource::Nofile).current));
        Self(Arc::new(Shared {
            max,
            idle_max: max.min(IDLE_MAX),
            metrics,
            pool: Mutex::default(),
        }))
    }

    /// A pipe, empty; none when they are used up, or the kernel gives only small ones.
    pub(crate) fn take(&self) -> Option<Lent> {
        let shared = &self.0;
        let mut pool = shared.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = match pool.idle.pop() {
            Some(ends) => Some(ends),
            None if pool.lent < shared.max => make().ok().filter(|ends| ends.size >= BYTES_MIN),
            None => None,
        };
        if ends.is_none() {
            shared.metrics.denied();
        }
        pool.lent += usize::from(ends.is_some());
        shared.count(&pool);
        ends.map(|ends| Lent {
            ends: Some(ends),
            owner: shared.clone(),
        })
    }

    /// Takes back a pipe that is empty; keeps a few for the next burst.
    pub(crate) fn give_back(&self, mut lent: Lent) {
        let mut pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.idle.len() < self.0.idle_max {
            pool.idle.extend(lent.ends.take());
        }
        drop(pool);
    }
}

impl Shared {
    fn count(&self, pool: &Pool) {
        self.metrics.set(pool.lent, pool.idle.len());
    }
}

impl Lent {
    /// The end to read, the end to write, and the most bytes to put in at once.
    pub(crate) fn ends(&self) -> Option<(&OwnedFd, &OwnedFd, usize)> {
        let ends = self.ends.as_ref()?;
        Some((&ends.read, &ends.write, ends.size))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let pool = &self.owner.pool;
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.lent -= 1;
        self.owner.count(&pool);
    }
}

fn make() -> io::Result<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Refused when the user's budget is used up; what the pipe has then may still do.
    let _ = fcntl_setpipe_size(&write, BYTES);
    let size = fcntl_getpipe_size(&write)?;
    Ok(Ends { read, write, size })
}

fn of_descriptors(soft: Option<u64>) -> usize {
    let one_percent = soft.map_or(PIPES_MAX, |soft| {
        usize::try_from(soft / 100).unwrap_or(PIPES_MAX)
    });
    one_percent.min(PIPES_MAX)
}

/// Twice as fast as 64 KiB; 1 MiB gains nothing and takes four times the budget.
const BYTES: usize = 256 * 1_024;

/// Below that copying is faster.
const BYTES_MIN: usize = 64 * 1_024;

/// Three quarters of what the kernel gives a user, who may run other processes.
const PIPES_MAX: usize = 192;

/// Kept for the next bursts: 16 MiB that the kernel fills only with bytes that pass.
const IDLE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_come_back() {
        let metrics = PipeMetrics::default();
        let pipes = Pipes::new(Some(2), metrics.clone());
        let (one, two) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        assert_eq!(metrics.denials(), 1);
        pipes.give_back(one);
        drop(two);
        assert!(pipes.take().is_some() && pipes.take().is_some());
    }

    #[test]
    fn a_pipe_that_is_dropped_is_not_pooled() {
        let pipes = Pipes::new(Some(1), PipeMetrics::default());
        let pipe = pipes.take().unwrap();
        rustix::io::write(pipe.ends().unwrap().1, b"another's bytes").unwrap();
        drop(pipe);
        let pipe = pipes.take().unwrap();
        let read = rustix::io::read(pipe.ends().unwrap().0, &mut [0; 16]);
        assert_eq!(read.unwrap_err(), rustix::io::Errno::AGAIN);
    }

    #[test]
    fn pipes_take_a_small_part_of_the_descriptors() {
        assert_eq!(of_descriptors(Some(1_024)), 10);
        assert_eq!(of_descriptors(Some(1_000_000)), PIPES_MAX);
        assert_eq!(of_descriptors(None), PIPES_MAX);
    }
}
