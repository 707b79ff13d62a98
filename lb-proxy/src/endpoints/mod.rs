// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a listener knows of its endpoints: which it can reach and in which order, which it passes over for a while, and which
//! have left, so that their connections have to end.
//!
//! In: views of a service, outcomes of connects and of connections. Out: candidates, and the ends of connections.

mod eject;
mod lives;
mod outlook;
mod reach;
mod silence;

pub(crate) use eject::{CONNECTS, SharedEjections};
pub(crate) use lives::{Life, Lives};
pub(crate) use outlook::{Outlook, Rounds, View};
pub(crate) use reach::Reach;
pub(crate) use silence::Silences;
