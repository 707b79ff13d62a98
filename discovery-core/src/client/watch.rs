// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service as it changes: what came, what went, what is different.
//!
//! There is no queue: a watch that is asked rarely is told of everything since it was last asked, at once.

use crate::{
    model::{Identity, ServiceName},
    store::{Endpoint, Generation, Reader, ServiceView, Snapshot, Tier},
};
use futures::{Stream, stream};
use std::{collections::HashMap, sync::Arc};

/// What changed of a service since the change before.
#[derive(Clone, Debug)]
pub struct ServiceChange {
    generation: Generation,
    view: Option<Arc<ServiceView>>,
    added: Vec<Arc<Endpoint>>,
    removed: Vec<Arc<Endpoint>>,
    changed: Vec<Arc<Endpoint>>,
}

impl ServiceChange {
    /// The snapshot that says it.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The service as it is now; none while there is no such service.
    pub fn view(&self) -> Option<&Arc<ServiceView>> {
        self.view.as_ref()
    }

    /// Endpoints that were not listed before, usable or not. A pod that was made anew under its name is one that changed.
    pub fn added(&self) -> &[Arc<Endpoint>] {
        &self.added
    }

    /// Endpoints that are no longer listed.
    pub fn removed(&self) -> &[Arc<Endpoint>] {
        &self.removed
    }

    /// Endpoints that are listed still, with another verdict, address, port, place, or pod behind the name.
    pub fn changed(&self) -> &[Arc<Endpoint>] {
        &self.changed
    }
}

/// Follows one service.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::client::ServiceClient;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let (writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// let web = ServiceClient::new(reader, "shop/web".parse().unwrap());
/// let mut watch = web.watch();
/// # drop(writer);
/// while let Some(change) = watch.changed().await {
///     for endpoint in change.removed() {
///         println!("{} is gone", endpoint.identity());
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServiceWatch {
    reader: Reader,
    service: ServiceName,
    has_told: bool,
    /// What was told last; none when there was no such service.
    told: Option<Arc<ServiceView>>,
}

impl ServiceWatch {
    pub(super) fn new(reader: Reader, service: ServiceName) -> Self {
        Self {
            reader,
            service,
            has_told: false,
            told: None,
        }
    }

    /// The service that it follows.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Waits for a change; the first is the state now, as soon as one is known. None once discovery has stopped. Safe to
    /// cancel: what was not returned is told by the next call.
    pub async fn changed(&mut self) -> Option<ServiceChange> {
        let mut snapshot = self.reader.load();
        loop {
            if let Some(change) = self.take(&snapshot) {
                return Some(change);
            }
            snapshot = self.reader.changed().await?;
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = ServiceChange> + Send {
        stream::unfold(self, async |mut watch| {
            let change = watch.changed().await?;
            Some((change, watch))
        })
    }

    fn take(&mut self, snapshot: &Snapshot) -> Option<ServiceChange> {
        let now = snapshot.service(&self.service).cloned();
        // That a service is missing means nothing before everything was read.
        if now.is_none() && !snapshot.is_authoritative() {
            return None;
        }
        let is_same = match (&self.told, &now) {
            (None, None) => true,
            (Some(told), Some(now)) => Arc::ptr_eq(told, now),
            _ => false,
        };
        if self.has_told && is_same {
            return None;
        }
        self.has_told = true;
        let before = std::mem::replace(&mut self.told, now.clone());
        Some(difference(snapshot.generation(), before.as_deref(), now))
    }
}

fn difference(
    generation: Generation,
    before: Option<&ServiceView>,
    view: Option<Arc<ServiceView>>,
) -> ServiceChange {
    let mut known: HashMap<&Identity, &Arc<Endpoint>> = members(before)
        .map(|endpoint| (endpoint.identity(), endpoint))
        .collect();
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for endpoint in members(view.as_deref()) {
        match known.remove(endpoint.identity()) {
            None => added.push(endpoint.clone()),
            Some(before) if !says_the_same(before, endpoint) => changed.push(endpoint.clone()),
            Some(_) => {}
        }
    }
    let mut removed: Vec<_> = known.into_values().cloned().collect();
    removed.sort_by(|a, b| a.identity().cmp(b.identity()));
    ServiceChange {
        generation,
        view,
        added,
        removed,
        changed,
    }
}

fn members(view: Option<&ServiceView>) -> impl Iterator<Item = &Arc<Endpoint>> {
    let tiers = view.into_iter().flat_map(ServiceView::tiers);
    tiers.flat_map(Tier::members)
}

fn says_the_same(a: &Arc<Endpoint>, b: &Arc<Endpoint>) -> bool {
    Arc::ptr_eq(a, b)
        // Counters hang on the pod, not on its name.
        || (Arc::ptr_eq(a.load(), b.load())
            && a.reason() == b.reason()
            && a.addresses() == b.addresses()
            && a.ports() == b.ports()
            && a.node() == b.node()
            && a.zone() == b.zone()
            && a.is_foreign() == b.is_foreign())
}
