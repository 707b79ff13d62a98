// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much there may be: connections of the process, of a listener and of a source, and how fast a source may come.
//!
//! In: a source and the time. Out: a place that is given back when dropped, or the limit that was reached.

mod admission;
mod descriptors;
mod sources;

pub(crate) use admission::{Admission, Permit, SharedSources, SourcePermit};
pub(crate) use descriptors::connections_max;
pub(crate) use sources::{SourceLimits, Sources};
