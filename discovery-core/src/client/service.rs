// SPDX-License-Identifier: MIT OR Apache-2.0
//! One service as a caller uses it: picks, replica order, watches.

use super::{
    CallError, Guard, ServiceWatch,
    gate::{Gate, Ticket},
    terms::Terms,
};
use crate::{
    hash::HashKey,
    model::ServiceName,
    pick::{Bound, EjectRule, OwnerWatch, Picker},
    store::{Endpoint, Reader},
};
use std::sync::Arc;

/// One service of a [`Discovery`](super::Discovery). Clone one for each task: a clone shares everything that counts.
///
/// A pick costs what [`Picker::keyed`] does, two counters shared by all calls of the process, two reference counts, and a
/// look at the clock at its beginning and end.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{client::ServiceClient, hash::HashKey, pick::Bound};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// let mut web = ServiceClient::new(reader, "shop/web".parse().unwrap()).bound(Bound::new(150, Bound::FLOOR));
/// match web.pick(HashKey::of(b"customer-17")) {
///     Ok(guard) => {
///         println!("{} has {} in flight", guard.identity(), guard.load().in_flight());
///         guard.success();
///     }
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ServiceClient {
    pub(super) picker: Picker,
    reader: Reader,
    terms: Arc<Terms>,
}

impl ServiceClient {
    pub(super) fn of(reader: Reader, terms: Terms) -> Self {
        Self {
            picker: Picker::new(reader.clone(), terms.service.clone()),
            reader,
            terms: Arc::new(terms),
        }
    }

    /// A service over any reader, with no limit on calls and nothing that closes it; endpoints are ejected by
    /// [`EjectRule::default`].
    pub fn new(reader: Reader, service: ServiceName) -> Self {
        let terms = Terms {
            service,
            gate: Gate::new(usize::MAX),
            rule: Some(EjectRule::default()),
        };
        Self::of(reader, terms)
    }

    /// When endpoints of this service are ejected; as
    /// [`DiscoveryBuilder::eject`](super::DiscoveryBuilder::eject) says unless set. With none nobody is.
    ///
    /// Who is ejected is passed over by every pick of the process, whatever handle it is made by.
    #[must_use]
    pub fn eject(mut self, rule: Option<EjectRule>) -> Self {
        Arc::make_mut(&mut self.terms).rule = rule;
        self
    }

    /// Bounds the load of keyed picks; no bound unless set.
    #[must_use]
    pub fn bound(mut self, bound: Option<Bound>) -> Self {
        self.picker = self.picker.bound(bound);
        self
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        self.picker.service()
    }

    /// Picks the owner of the key. Every caller with the same snapshot picks the same endpoint, load bound aside.
    pub fn pick(&mut self, key: HashKey) -> Result<Guard, CallError> {
        let ticket = self.enter()?;
        let pick = self.picker.keyed(key)?;
        Ok(Guard::new(pick.into_owned(), ticket))
    }

    /// Picks without a key: the less busy of two.
    pub fn pick_any(&mut self) -> Result<Guard, CallError> {
        let ticket = self.enter()?;
        let pick = self.picker.any()?;
        Ok(Guard::new(pick.into_owned(), ticket))
    }

    /// The first `count` distinct endpoints of the key in the order in which to try them, which is also the order of its
    /// replicas and the same at every caller. Nothing is counted in flight. O(count), one allocation.
    ///
    /// ```
    /// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
    /// use discovery_core::{client::ServiceClient, hash::HashKey};
    ///
    /// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
    /// # let mut store = ServiceClient::new(reader, "shop/store".parse().unwrap());
    /// match store.pick_n(HashKey::of(b"object-17"), 3) {
    ///     Ok(replicas) => println!("written to {} replicas, the first the leader", replicas.len()),
    ///     Err(error) => assert!(error.is_retryable(), "nothing was read yet"),
    /// }
    /// ```
    pub fn pick_n(&mut self, key: HashKey, count: usize) -> Result<Vec<Arc<Endpoint>>, CallError> {
        Ok(self.picker.candidates(key)?.take(count).cloned().collect())
    }

    /// What the newest snapshot says of it now, and each change from then on.
    pub fn watch(&self) -> ServiceWatch {
        ServiceWatch::new(self.reader.clone(), self.name().clone())
    }

    /// The owner of the key now, and each change from then on: a member came or went, became usable or unusable. For
    /// whoever keeps connections or state by key and moves them to the owner at a pace of his own.
    pub fn watch_owner(&self, key: HashKey) -> OwnerWatch {
        OwnerWatch::new(self.picker.clone(), key)
    }

    pub(super) fn enter(&self) -> Result<Ticket, CallError> {
        Ticket::take(&self.terms)
    }
}
