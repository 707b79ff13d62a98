// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's own `zonal agent` as a source: many services of a node, one watch.
//!
//! Over a unix socket the agent tells how it judges and what its sources state of the zone: everything once, then changes.
//! From the same statements under the same rules the client builds the same view, so that its keyed picks are the agent's
//! bit for bit. Each transaction is applied as one generation. What the agent has held back it has decided; the client does
//! not decide again.
//!
//! When the agent is away the client goes on with what it has; begun without an agent it starts from the last view on
//! disk; and where that is allowed, it watches for itself after a while, until the agent is back.

mod config;
mod file;
mod follow;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod message;
mod peer;
mod session;
mod view;

#[cfg(test)]
mod tests;

pub use config::AgentConfig;
pub use follow::{AgentSource, Batch, BatchSender, OwnWatch};
pub use peer::{PeerUids, peer_uid};

pub(crate) use frame::{FrameKind, put as put_frame, take as take_frame};
pub(crate) use message::{Beat, Bye, Hello, Open, VERSION, decode, encode};
pub(crate) use view::View;
