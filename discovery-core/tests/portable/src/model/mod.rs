// SPDX-License-Identifier: MIT OR Apache-2.0
//! The values that placements need.

#[path = "../../../../src/model/placement.rs"]
mod placement;
#[path = "../../../../src/model/weight.rs"]
mod weight;

pub use placement::{Placement, PlacementWish};
pub use weight::{Weight, Weights};

/// Stands for the library's own.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} {text:?} is refused: {why}")]
pub struct ModelError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl ModelError {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self {
            what,
            text: text.to_owned(),
            why,
        }
    }
}
