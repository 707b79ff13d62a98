// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a build keeps of the endpoints that are far, which in a big cluster are nearly all: which pods were counted, since
//! one with two addresses is in two slices and out once, and which endpoints of each slice are not far. Pure.

use super::packed::EndpointRef;
use crate::hash::TableHashing;
use std::collections::HashSet;

/// Which endpoints of each slice of a service have to be looked at, in the order of the slices. It holds while the slices say
/// the same of their endpoints but for conditions, and nothing else changes that tells what is near.
#[derive(Debug, Default)]
pub(super) struct Sifted(pub(super) Vec<Box<[u32]>>);

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
