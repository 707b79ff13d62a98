// SPDX-License-Identifier: MIT OR Apache-2.0
//! Late words: an event about an object of which a later version is here already.
//!
//! A list may go back in time, since it is a new beginning; a single event may not. Of an object that is gone nobody can
//! tell a late word from a new beginning. Slices carry their version, which decides between two of them; that of a node or
//! a service is kept here, so that a heartbeat which changes nothing else is no change.

use super::State;
use crate::store::{Kind, Object, ObjectKey, SourceId};
use std::collections::BTreeMap;

/// The versions of nodes and services, as their sources stated them last. Costs about 60 bytes an object.
#[derive(Debug, Default)]
pub(super) struct Versions(BTreeMap<(ObjectKey, SourceId), u64>);

impl Versions {
    pub(super) fn forget(&mut self, source: SourceId, key: &ObjectKey) {
        if key.kind() != Kind::Slices {
            self.0.remove(&(key.clone(), source));
        }
    }
}

impl State {
    /// Whether a later version of the object is here already; takes the version of a node or service out of it otherwise.
    pub(super) fn is_late(
        &mut self,
        source: SourceId,
        key: &ObjectKey,
        object: &mut Object,
    ) -> bool {
        let version = match object {
            Object::OwnNode(node) | Object::Node(node) => std::mem::take(&mut node.version),
            Object::Service(service) => std::mem::take(&mut service.version),
            Object::Slice(slice) => return self.is_late_slice(source, slice),
        };
        if version == 0 {
            self.versions.forget(source, key);
            return false;
        }
        let is_listing = self.open_list(source, key.kind()).is_some();
        let known = self.versions.0.entry((key.clone(), source)).or_default();
        if !is_listing && *known > version {
            return true;
        }
        *known = version;
        false
    }

    fn is_late_slice(&self, source: SourceId, slice: &crate::model::Slice) -> bool {
        let list = self.lists.get(&(source, Kind::Slices));
        let is_listing = list.is_some_and(|list| list.open.is_some());
        let known = self.slices.get(&(slice.key.clone(), source));
        !is_listing && slice.version != 0 && known.is_some_and(|k| k.version > slice.version)
    }
}
