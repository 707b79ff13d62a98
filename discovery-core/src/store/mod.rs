// SPDX-License-Identifier: MIT OR Apache-2.0
//! From updates to snapshots: one writer, any number of readers.
//!
//! [`State::apply`] is pure; [`Writer`] owns the state and cannot be cloned; [`Reader`]s share the published
//! [`Snapshot`] behind one atomic pointer. Nothing here waits, and nothing but [`persist`] touches a disk.

mod admit;
mod build;
mod changes;
mod far;
mod grace;
mod hold;
mod levels;
mod load;
mod member;
mod merge;
mod near;
mod packed;
pub mod persist;
mod places;
mod reader;
mod refusals;
mod snapshot;
mod spill;
mod state;
mod tier;
mod tiers;
mod update;
mod view;
mod wanted;
mod writer;

pub use changes::Mark;
pub use grace::GraceCounts;
pub use hold::{Held, HoldReason, HoldRule};
pub use load::{EjectCause, Load, PickCounts, ServiceLoad};
pub(crate) use load::{Flag, RAMP_PENDING, WINDOW_SLOTS};
#[cfg(feature = "consul")]
pub(crate) use merge::fits_stars;
pub use merge::{Choice, MergePolicy, MergeRule, MergeRules, Overruled, ServicePattern};
pub use reader::Reader;
pub use snapshot::{Coverage, Generation, MissingList, Snapshot, ZoneStatus};
pub use state::{Change, State, StateConfig, Stated};
pub(crate) use tier::Hop;
pub use tier::Tier;
pub use update::{Kind, Object, ObjectKey, Problem, SourceId, Update};
pub use view::{Endpoint, EndpointPort, Refused, ServiceView};
pub use writer::{Writer, channel};
