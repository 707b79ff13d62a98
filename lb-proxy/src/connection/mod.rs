// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCP connection from accept to its one reason.
//!
//! ```text
//! accept ──permit, a view──► header ──client──► dial ──endpoint──► relay ──► journal
//! ```
//! In: a listening socket. Out: connections carried, or reset with a reason. [`Listening`] is what all of one listener share.

mod accept;
mod carry;
mod client;
mod dial;
mod header_in;
mod journal;
mod live;

pub(crate) use accept::Acceptor;
pub(crate) use carry::Listening;
pub(crate) use dial::Dialer;
pub(crate) use journal::Journal;
pub use live::{ConnectionState, ConnectionStatus};
pub(crate) use live::{Live, Table as LiveTable};
