// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes to a 64-bit key by a named, frozen function, and the placements over it. Pure: no I/O, no clock, no lock.
//!
//! Everything here is the compatibility contract between callers: the same endpoints and key give the same owner in every
//! process, on every CPU and in every version that speaks the same [`Placement`] tag. The golden values in the tests are
//! that contract; changing one means a new tag.

mod circle;
mod envoy;
mod envoy_maglev;
mod key;
mod maglev;
mod rendezvous;
mod ring;
mod score;
mod secret;
mod slots;
mod table;

pub use crate::model::Placement;
pub use key::{HashKey, Position};
pub(crate) use key::{RAMP_SALT, TIER_SALT, identity_hash};
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;
pub use ring::{Ring, VNODES_PER_WEIGHT};
pub(crate) use secret::TableHashing;
pub use table::{MEMBERS_MAX, Member, Table, Walk};
