// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the owner of a key changes: for whoever holds connections, and wants them back at the owner.
//!
//! Connections stay on the endpoint that took them over, also after the owner is well again. Who is told may drain them at
//! its own pace. Only shared facts count here: what one process ejects is no change of owner.

use super::{PickError, Picker};
use crate::{
    hash::HashKey,
    model::Identity,
    store::{Endpoint, Hop, ServiceView, Tier},
};
use std::sync::Arc;

/// The owner of the key by shared facts: the first usable on the walk, whatever this process thinks of it.
pub fn owner(view: &ServiceView, key: HashKey) -> Option<&Arc<Endpoint>> {
    let tier = view.tier_of(key)?;
    let mut slots = tier.walk(key);
    slots.find_map(|slot| tier.at_slot(slot)).map(Hop::endpoint)
}

/// A key has another owner than before.
#[derive(Clone, Debug)]
pub struct OwnerChange {
    /// Who owned it; none when nobody did.
    pub from: Option<Arc<Endpoint>>,
    /// Who owns it now; none when nobody does.
    pub to: Option<Arc<Endpoint>>,
    /// Why.
    pub cause: OwnerChangeCause,
}

/// Why a key has another owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OwnerChangeCause {
    /// The new owner was not there before, or had another weight.
    Joined,
    /// The new owner was there, and can serve again.
    UsableAgain,
    /// The old owner cannot serve, or has left.
    Lost,
    /// Another tier serves the key: the own zone gave it away, or took it back.
    Tier,
}

/// What a new view changes for the owner of a key; none when it stays, also under a new address.
pub fn owner_change(
    before: &ServiceView,
    after: &ServiceView,
    key: HashKey,
) -> Option<OwnerChange> {
    let (from, to) = (owner(before, key), owner(after, key));
    if from.map(|e| e.identity()) == to.map(|e| e.identity()) {
        return None;
    }
    let known = |identity: &Identity, view: &ServiceView| {
        let mut members = view.tiers().iter().flat_map(Tier::members);
        members.find(|e| e.identity() == identity).cloned()
    };
    let was = to.and_then(|to| known(to.identity(), before));
    let is = from.and_then(|from| known(from.identity(), after));
    let cause = match (from, &was) {
        (Some(from), _) if from.is_foreign() && !is_foreign(to) && to.is_some() => {
            OwnerChangeCause::Tier
        }
        (Some(_), _) if !is.is_some_and(|is| is.is_usable()) => OwnerChangeCause::Lost,
        (Some(from), _) if from.is_foreign() != is_foreign(to) => OwnerChangeCause::Tier,
        (_, Some(was)) if !was.is_usable() => OwnerChangeCause::UsableAgain,
        _ => OwnerChangeCause::Joined,
    };
    Some(OwnerChange {
        from: from.cloned(),
        to: to.cloned(),
        cause,
    })
}

fn is_foreign(endpoint: Option<&Arc<Endpoint>>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.is_foreign())
}

/// Follows the owner of one key.
#[derive(Debug)]
pub struct OwnerWatch {
    picker: Picker,
    key: HashKey,
    seen: Option<Arc<ServiceView>>,
}

impl OwnerWatch {
    /// Watches the owner of the key from what the picker sees now on.
    pub fn new(mut picker: Picker, key: HashKey) -> Self {
        let seen = picker.view().ok().cloned();
        Self { picker, key, seen }
    }

    /// Waits until the key has another owner; none once nothing is published any more. Snapshots in quick succession are
    /// seen as one. Safe to cancel.
    pub async fn changed(&mut self) -> Option<OwnerChange> {
        loop {
            if let Some(change) = self.look() {
                return Some(change);
            }
            self.picker.changed().await?;
        }
    }

    /// The change since the last look, if there is one.
    pub fn look(&mut self) -> Option<OwnerChange> {
        let now = match self.picker.view() {
            Ok(view) => view.clone(),
            // A service that is gone for good gives its keys to nobody; one that is not served now keeps them.
            Err(PickError::UnknownService { .. }) => {
                let before = self.seen.take()?;
                let from = owner(&before, self.key)?.clone();
                return Some(OwnerChange {
                    from: Some(from),
                    to: None,
                    cause: OwnerChangeCause::Lost,
                });
            }
            Err(_) => return None,
        };
        let before = self.seen.replace(now.clone());
        match before {
            Some(before) => owner_change(&before, &now, self.key),
            None => owner(&now, self.key).map(|to| OwnerChange {
                from: None,
                to: Some(to.clone()),
                cause: OwnerChangeCause::Joined,
            }),
        }
    }
}
