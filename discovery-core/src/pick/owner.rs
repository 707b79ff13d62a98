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
use futures::{Stream, stream};
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
    /// Who owned it; none when nobody did, or nothing was told before.
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
    /// No change: who the owner was when the watch began.
    First,
    /// The new owner was not there before, or had another weight.
    Joined,
    /// The new owner was there, and can serve again.
    UsableAgain,
    /// The old owner cannot serve, or has left.
    Lost,
    /// Another pod has the name of the old owner: what was connected to that, or kept by it, is gone.
    Replaced,
    /// Another tier serves the key: the own zone gave it away, or took it back.
    Tier,
}

/// What a new view changes for the owner of a key; none when the same pod keeps it, also under a new address.
///
/// O(n) where the owner changed, two steps of the walk otherwise: to look through many keys after each change.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{hash::HashKey, pick::{Picker, owner_change}};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
/// let sessions = ["ann", "bob"];
/// if let Ok(before) = picker.view().cloned() {
///     // ... and once there is a newer one:
///     let now = picker.view().unwrap();
///     for session in sessions {
///         if let Some(change) = owner_change(&before, now, HashKey::of(session.as_bytes())) {
///             println!("{session} moves to {:?}: {:?}", change.to, change.cause);
///         }
///     }
/// }
/// ```
pub fn owner_change(
    before: &ServiceView,
    after: &ServiceView,
    key: HashKey,
) -> Option<OwnerChange> {
    let (from, to) = (owner(before, key), owner(after, key));
    let is_same = match (from, to) {
        (Some(from), Some(to)) => from.state_key() == to.state_key(),
        (None, None) => true,
        _ => false,
    };
    (!is_same).then(|| OwnerChange {
        from: from.cloned(),
        to: to.cloned(),
        cause: cause((before, from), (after, to)),
    })
}

/// A view, and the owner by it.
type Owned<'v> = (&'v ServiceView, Option<&'v Arc<Endpoint>>);

fn cause((before, from): Owned<'_>, (after, to): Owned<'_>) -> OwnerChangeCause {
    let known = |view: &ServiceView, identity: &Identity| {
        let mut members = view.tiers().iter().flat_map(Tier::members);
        members.find(|e| e.identity() == identity).cloned()
    };
    let was = to.and_then(|to| known(before, to.identity()));
    let is = from.and_then(|from| known(after, from.identity()));
    match (from, to) {
        (Some(from), Some(to)) if from.identity() == to.identity() => OwnerChangeCause::Replaced,
        (Some(from), Some(to)) if from.is_foreign() && !to.is_foreign() => OwnerChangeCause::Tier,
        (Some(_), _) if !is.is_some_and(|is| is.is_usable()) => OwnerChangeCause::Lost,
        (Some(from), _) if from.is_foreign() != is_foreign(to) => OwnerChangeCause::Tier,
        _ if was.is_some_and(|was| !was.is_usable()) => OwnerChangeCause::UsableAgain,
        _ => OwnerChangeCause::Joined,
    }
}

fn is_foreign(endpoint: Option<&Arc<Endpoint>>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.is_foreign())
}

/// Follows the owner of one key.
///
/// There is no queue: a watch that is asked rarely is told of the last owner at once.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{hash::HashKey, pick::{OwnerWatch, Picker}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let (writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// let picker = Picker::new(reader, "shop/web".parse().unwrap());
/// let mut watch = OwnerWatch::new(picker, HashKey::of(b"customer-17"));
/// # drop(writer);
/// while let Some(change) = watch.changed().await {
///     println!("{:?}: connections go to {:?}", change.cause, change.to);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OwnerWatch {
    picker: Picker,
    key: HashKey,
    has_told: bool,
    /// What was looked at last; none while there was no such service.
    seen: Option<Arc<ServiceView>>,
}

impl OwnerWatch {
    /// Watches the owner of the key in what the picker sees.
    pub fn new(picker: Picker, key: HashKey) -> Self {
        Self {
            picker,
            key,
            has_told: false,
            seen: None,
        }
    }

    /// Waits until the owner is another pod than was told last; the first call tells who it is now, as soon as that is
    /// known. None once nothing is published any more. Snapshots in quick succession are seen as one. Safe to cancel.
    pub async fn changed(&mut self) -> Option<OwnerChange> {
        loop {
            if let Some(change) = self.look() {
                return Some(change);
            }
            self.picker.changed().await?;
        }
    }

    /// The change since the last look, if there is one; the first tells who the owner is.
    pub fn look(&mut self) -> Option<OwnerChange> {
        let now = match self.picker.view() {
            Ok(view) => Some(view.clone()),
            // A service that is gone for good gives its keys to nobody; one that is not served now keeps them.
            Err(PickError::UnknownService { .. }) => None,
            Err(_) => return None,
        };
        let before = std::mem::replace(&mut self.seen, now.clone());
        let owner_in = |view: &Arc<ServiceView>| owner(view, self.key).cloned();
        let whole = |cause| OwnerChange {
            from: before.as_ref().and_then(owner_in),
            to: now.as_ref().and_then(owner_in),
            cause,
        };
        if !std::mem::replace(&mut self.has_told, true) {
            return Some(whole(OwnerChangeCause::First));
        }
        match (&before, &now) {
            (Some(before), Some(now)) => owner_change(before, now, self.key),
            (Some(_), None) => {
                Some(whole(OwnerChangeCause::Lost)).filter(|lost| lost.from.is_some())
            }
            (None, Some(_)) => Some(whole(OwnerChangeCause::Joined)).filter(|new| new.to.is_some()),
            (None, None) => None,
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
