// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handle that picks endpoints of one service from the newest snapshot.

use super::{
    Bound, Candidates, Pick, PickError, RoundRobin, candidates, first, keyed, p2c_ewma, p2c_with,
    weighted_random,
};
use crate::{
    clock,
    hash::HashKey,
    model::{ServiceName, WithoutKey},
    store::{Endpoint, Generation, Reader, ServiceView, Snapshot},
};
use std::sync::Arc;

/// Picks endpoints of one service. Clone one for each task.
///
/// A pick compares the snapshot with the one of the pick before and looks the service up by name only when it is another;
/// so it costs no lookup, no lock and no allocation.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{hash::HashKey, pick::{PickError, Picker}};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
/// match picker.keyed(HashKey::of(b"customer-17")) {
///     // In flight until it is dropped.
///     Ok(pick) => println!("{} at {:?}", pick.identity(), pick.socket(Some("http"))),
///     Err(error) => assert!(matches!(error, PickError::NotServing { .. }), "nothing was read yet"),
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Picker {
    reader: Reader,
    service: ServiceName,
    bound: Option<Bound>,
    without_key: Option<WithoutKey>,
    turns: RoundRobin,
    random: Random,
    seen: Seen,
}

/// The service as the last pick found it, if it was there, and in which generation.
type Seen = Option<(Generation, Option<Arc<ServiceView>>)>;

impl Picker {
    /// A picker of the service over the snapshots of the reader.
    ///
    /// Costs a lock, and for the first picker of a service in a process the build of its table: about 20 µs an endpoint for
    /// `ring/v1`. From then on the writer has the table ready before it publishes.
    pub fn new(reader: Reader, service: ServiceName) -> Self {
        reader.load().want(&service);
        Self {
            reader,
            service,
            bound: None,
            without_key: None,
            turns: RoundRobin::default(),
            random: Random::default(),
            seen: None,
        }
    }

    /// Bounds the load of keyed picks, whatever the service asks for; none leaves it to the service.
    #[must_use]
    pub fn bound(mut self, bound: Option<Bound>) -> Self {
        self.bound = bound;
        self
    }

    /// How to pick without a key, whatever the service asks for.
    #[must_use]
    pub fn without_key(mut self, way: WithoutKey) -> Self {
        self.without_key = Some(way);
        self
    }

    /// The service that it picks for.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Picks for the key: every caller with the same snapshot picks the same endpoint, load bound aside.
    ///
    /// # Errors
    /// [`PickError::UnknownPlacement`] where the service asks for a placement that this version does not know: another
    /// one would send the key elsewhere than callers that do know it.
    #[inline]
    pub fn keyed(&mut self, key: HashKey) -> Result<Pick<'_>, PickError> {
        let bound = self.bound;
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        let bound = bound.or_else(|| view.load_factor().map(Bound::from));
        keyed(view, key, bound).ok_or_else(|| none_eligible(view, true))
    }

    /// Picks without a key, in the way that the service asks for: of two the less busy, unless it says otherwise.
    #[inline]
    pub fn any(&mut self) -> Result<Pick<'_>, PickError> {
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        let random = &mut self.random.0;
        let pick = match self.without_key.unwrap_or(view.balancing().without_key) {
            WithoutKey::LeastRequests => p2c_with(view, random),
            WithoutKey::Ewma => p2c_ewma(view, clock::now(), random),
            WithoutKey::RoundRobin => self.turns.pick(view),
            WithoutKey::Random => weighted_random(view, random),
        };
        pick.ok_or_else(|| none_eligible(view, false))
    }

    /// The endpoints to try for the key, the owner first; at least one.
    ///
    /// # Errors
    /// As [`Picker::keyed`].
    #[inline]
    pub fn candidates(&mut self, key: HashKey) -> Result<Candidates<'_>, PickError> {
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        let candidates = candidates(view, key);
        if candidates.has_none() {
            return Err(none_eligible(view, true));
        }
        Ok(candidates)
    }

    /// The first `N` endpoints to try for the key, the owner first, which is always there; see [`first`].
    ///
    /// ```
    /// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
    /// use discovery_core::{hash::HashKey, pick::Picker};
    ///
    /// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
    /// # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
    /// if let Ok([owner, second]) = picker.first(HashKey::of(b"customer-17")) {
    ///     println!("{owner:?}, and should it fail {second:?}");
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Picker::keyed`].
    #[inline]
    pub fn first<const N: usize>(
        &mut self,
        key: HashKey,
    ) -> Result<[Option<&Arc<Endpoint>>; N], PickError> {
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        let found = first(view, key);
        match found.first() {
            Some(None) => Err(none_eligible(view, true)),
            _ => Ok(found),
        }
    }

    /// Waits for a snapshot that this handle has not seen; none once nothing is published any more. Safe to cancel.
    pub async fn changed(&mut self) -> Option<()> {
        self.reader.changed().await.map(drop)
    }

    /// The generation of the newest snapshot.
    pub fn generation(&mut self) -> Generation {
        self.reader.snapshot().generation()
    }

    /// The service in the newest snapshot.
    pub fn view(&mut self) -> Result<&Arc<ServiceView>, PickError> {
        newest(&mut self.reader, &self.service, &mut self.seen)
    }
}

#[inline]
fn newest<'s>(
    reader: &mut Reader,
    service: &ServiceName,
    seen: &'s mut Seen,
) -> Result<&'s Arc<ServiceView>, PickError> {
    let snapshot = reader.snapshot();
    if !matches!(seen, Some((generation, _)) if *generation == snapshot.generation()) {
        *seen = Some((snapshot.generation(), looked_up(snapshot, service)));
    }
    match seen {
        Some((_, Some(view))) => Ok(view),
        _ => Err(unknown(snapshot, service)),
    }
}

/// Once a generation: kept out of what every pick is built with.
#[cold]
fn looked_up(snapshot: &Snapshot, service: &ServiceName) -> Option<Arc<ServiceView>> {
    snapshot.service(service).cloned()
}

#[cold]
fn unknown(snapshot: &Snapshot, service: &ServiceName) -> PickError {
    if snapshot.is_authoritative() {
        PickError::UnknownService {
            service: service.clone(),
        }
    } else {
        PickError::NotServing {
            zone: snapshot.zone().clone(),
        }
    }
}

#[cold]
fn none_eligible(view: &ServiceView, is_keyed: bool) -> PickError {
    view.load().found_none();
    if let Some(tag) = view.unknown_placement().filter(|_| is_keyed) {
        return PickError::UnknownPlacement {
            service: view.name().clone(),
            tag: tag.into(),
        };
    }
    PickError::NoEligibleEndpoint {
        service: view.name().clone(),
        listed: view.listed(),
        policy: view.policy(),
    }
}

/// Random numbers of one handle; a clone draws others.
#[derive(Debug, Default)]
struct Random(fastrand::Rng);

impl Clone for Random {
    fn clone(&self) -> Self {
        Self::default()
    }
}
