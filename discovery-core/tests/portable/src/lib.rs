// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of the placements as they are, without the rest of the library, whose dependencies need a C compiler for
//! every target. Their tests are run by `run.sh` on 32-bit and big-endian CPUs.
#![allow(dead_code, unused_imports, reason = "only the tests use it")]

#[path = "../../../src/hash/mod.rs"]
pub mod hash;

/// The values that placements need.
pub mod model {
    #[path = "../../../../../src/model/placement.rs"]
    mod placement;
    #[path = "../../../../../src/model/weight.rs"]
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
}
