// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked for at once.

use crate::source::Selector;

/// A part of the cluster that is listed and watched as one.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) namespace: Option<String>,
    pub(super) selector: Option<Selector>,
}
