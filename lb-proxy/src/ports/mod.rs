// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ports of this host: which are open now, each with its life, and the health ports beside them.
//!
//! In: snapshots, and the words to stop and to kill. Out: a task for each port. No byte of a client passes here.

mod health;
mod port;
mod scout;
mod shown;
mod supervisor;

pub use supervisor::Proxy;
