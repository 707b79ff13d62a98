// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side: sockets that listen and that connect, which of them are our own, who has a port that we want, and which
//! ports outgoing connections may take.
//!
//! In: addresses. Out: sockets as the data path needs them, and facts about ports. It knows no service and no snapshot.

mod ephemeral;
mod holder;
mod open;
mod own;

pub use ephemeral::EphemeralPorts;
pub(crate) use holder::{Process, holder_of};
pub(crate) use open::{
    BindError, Bound, Opener, connect, give_up_after, keep_alive, plain_listener, reset, sent,
    session,
};
pub(crate) use own::OwnSockets;
