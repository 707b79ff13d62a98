// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of a key as it changes, so that long connections go back to it when it returns.

use super::ServiceWatch;
use crate::{
    hash::HashKey,
    pick::candidates,
    store::{Endpoint, Generation},
};
use futures::{Stream, stream};
use std::sync::Arc;

/// The owner of a key is another one.
#[derive(Clone, Debug)]
pub struct OwnerChange {
    /// The snapshot that says it.
    pub generation: Generation,
    /// Who it was; none at first, or while there was nobody.
    pub before: Option<Arc<Endpoint>>,
    /// Who it is; none while no endpoint is usable.
    pub after: Option<Arc<Endpoint>>,
}

/// Follows the owner of one key.
#[derive(Clone, Debug)]
pub struct OwnerWatch {
    watch: ServiceWatch,
    key: HashKey,
    has_told: bool,
    told: Option<Arc<Endpoint>>,
}

impl OwnerWatch {
    pub(super) fn new(watch: ServiceWatch, key: HashKey) -> Self {
        Self {
            watch,
            key,
            has_told: false,
            told: None,
        }
    }

    /// Waits until the owner is another pod than was told last; the first call tells who it is now, as soon as that is
    /// known. None once discovery has stopped. Safe to cancel.
    pub async fn changed(&mut self) -> Option<OwnerChange> {
        loop {
            let change = self.watch.changed().await?;
            let view = change.view();
            let after = view.and_then(|view| candidates(view, self.key).next().cloned());
            let is_same = match (&self.told, &after) {
                (Some(told), Some(now)) => Arc::ptr_eq(told.load(), now.load()),
                (None, None) => true,
                _ => false,
            };
            let before = std::mem::replace(&mut self.told, after.clone());
            if !std::mem::replace(&mut self.has_told, true) || !is_same {
                return Some(OwnerChange {
                    generation: change.generation(),
                    before,
                    after,
                });
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = OwnerChange> + Send {
        stream::unfold(self, async |mut watch| {
            let change = watch.changed().await?;
            Some((change, watch))
        })
    }
}
