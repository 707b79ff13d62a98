// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pods of other zones were counted while a view is built: one with two addresses is in two slices, and out once.
//!
//! In a big cluster nearly every endpoint comes by here, at each build. Pure.

use super::packed::EndpointRef;
use crate::hash::TableHashing;
use std::collections::HashSet;

/// The pods so far.
pub(super) struct FarPods<'s> {
    uids: HashSet<[u8; 16], TableHashing>,
    /// Those whose UID is none, or not of Kubernetes' form.
    names: HashSet<&'s str, TableHashing>,
}

impl<'s> FarPods<'s> {
    pub(super) fn with_capacity(pods: usize) -> Self {
        Self {
            uids: HashSet::with_capacity_and_hasher(pods, TableHashing::default()),
            names: HashSet::default(),
        }
    }

    /// Whether the pod is a new one; what is no pod always is.
    pub(super) fn insert(&mut self, endpoint: &EndpointRef<'s>) -> bool {
        match (endpoint.uid_bytes(), endpoint.pod()) {
            (Some(uid), _) => self.uids.insert(uid),
            (None, Some(pod)) => self.names.insert(pod),
            (None, None) => true,
        }
    }
}
